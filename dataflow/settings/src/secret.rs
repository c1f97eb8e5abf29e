//! Values that may stand in a file: `NAME` or `NAME_FILE`, not both.

use crate::{SettingsError, file, non_empty};
use std::path::PathBuf;

/// The value of a setting that may be given itself or as the path of a file that holds it. A line end after it is dropped.
pub fn resolve(name: &str, value: &Option<String>, of_file: &Option<PathBuf>) -> Result<Option<String>, SettingsError> {
    let of_file = of_file.as_ref().filter(|path| !path.as_os_str().is_empty());
    match (non_empty(value), of_file) {
        (Some(_), Some(_)) => Err(SettingsError::Conflict(format!("{name} and {name}_FILE are both set: set one of them"))),
        (Some(value), None) => Ok(Some(value.to_owned())),
        (None, None) => Ok(None),
        (None, Some(path)) => match file::read_text(path) {
            Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            // Not its path: it may be the secret itself, under the wrong name.
            Err(error) => {
                Err(SettingsError::Hidden { name: format!("{name}_FILE"), allowed: format!("its file cannot be read: {error}") })
            }
        },
    }
}

/// Whether this, where a path or an address should be, may be a secret or hold one. Then no message shows it.
pub fn may_be(value: &str) -> bool {
    value.contains(['\n', '=', '@']) || value.contains("-----BEGIN") || value.len() > 500
}
