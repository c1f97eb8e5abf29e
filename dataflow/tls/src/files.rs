//! Certificates and keys in PEM files. An error says which setting, which file, and what is wrong with it.

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use tidemark_settings::SettingsError;

pub(crate) fn wrong(name: &str, path: &Path, what: impl Into<String>) -> SettingsError {
    SettingsError::Invalid { name: name.to_owned(), value: path.display().to_string(), allowed: what.into() }
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>, SettingsError> {
    std::fs::read(path).map_err(|error| wrong(name, path, format!("cannot be read: {error}")))
}

/// All certificates of a file, at least one.
pub(crate) fn certificates(name: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let text = read(name, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(wrong(name, path, "holds no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----")),
        Err(error) => Err(wrong(name, path, format!("holds damaged PEM: {error}"))),
    }
}

/// A certificate with those that link it to its CA, and the key that belongs to it.
pub(crate) fn pair(cert: (&str, &Path), key: (&str, &Path)) -> Result<CertifiedKey, SettingsError> {
    let (key_name, key_path) = key;
    let chain = certificates(cert.0, cert.1)?;
    let text = read(key_name, key_path)?;
    let parsed = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound if text.windows(9).any(|part| part == b"ENCRYPTED") => {
            wrong(key_name, key_path, "is encrypted: give a key without a passphrase, as `openssl pkey` writes it")
        }
        PemError::NoItemsFound => {
            wrong(key_name, key_path, "holds no key in PEM form, which begins with -----BEGIN PRIVATE KEY-----")
        }
        error => wrong(key_name, key_path, format!("holds damaged PEM: {error}")),
    })?;
    CertifiedKey::from_der(chain, parsed, &crate::provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            wrong(key_name, key_path, format!("is not the key of the certificate {}={:?}", cert.0, cert.1.display().to_string()))
        }
        error => wrong(key_name, key_path, format!("cannot be used: {error}")),
    })
}

/// As libpq: a key that others can read is not used. One of root's may be read by the group, as secrets that are mounted are.
pub(crate) fn refuse_shared_key(name: &str, path: &Path) -> Result<(), SettingsError> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).map_err(|error| wrong(name, path, format!("cannot be read: {error}")))?;
    let (allowed, command) = if found.uid() == 0 { (0o640, "0640") } else { (0o600, "0600") };
    if found.mode() & 0o777 & !allowed != 0 {
        let what = format!("others may read it (its mode is {:04o}): chmod {command} it", found.mode() & 0o777);
        return Err(wrong(name, path, what));
    }
    Ok(())
}
