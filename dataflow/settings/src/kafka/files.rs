//! Files that properties name, looked at before librdkafka does: it says neither which file it is, nor what is wrong with it.

use super::{Properties, variable};
use crate::file::read;
use std::path::Path;

/// Properties that name a file: the property, whether a directory is allowed, and how the first line of its PEM block ends.
const FILES: &[(&str, bool, &str)] = &[
    ("ssl.ca.location", true, CERTIFICATE),
    ("ssl.certificate.location", false, CERTIFICATE),
    ("ssl.key.location", false, KEY),
    ("ssl.keystore.location", false, ""),
    ("ssl.crl.location", false, " CRL-----"),
    ("https.ca.location", true, CERTIFICATE),
    ("sasl.oauthbearer.assertion.file", false, ""),
    ("sasl.oauthbearer.assertion.private.key.file", false, ""),
    ("sasl.oauthbearer.assertion.jwt.template.file", false, ""),
];
const BEGIN: &str = "-----BEGIN ";
const CERTIFICATE: &str = "CERTIFICATE-----";
const KEY: &str = "PRIVATE KEY-----";

/// The path for messages, if this property is one of a file, and it is there. Any other value is not shown: it may be a password.
pub(super) fn shown<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    FILES.iter().any(|(of_file, ..)| *of_file == name && Path::new(value).exists()).then_some(value)
}

/// What is wrong with the file that this property names, or with the key that it is.
pub(super) fn fault(properties: &Properties, name: &str, value: &str) -> Option<String> {
    if is_encrypted(value) && name == "ssl.key.pem" {
        return needs_password(properties, "its key");
    }
    let &(_, may_be_directory, ending) = FILES.iter().find(|(of_file, ..)| *of_file == name)?;
    let path = Path::new(value);
    // `probe` is librdkafka's word for the CAs of the system.
    if may_be_directory && (value == "probe" || path.is_dir()) {
        return None;
    }
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let path = shown(name, value).map_or(String::new(), |path| format!("{path}: "));
            return Some(format!("its file cannot be read: {path}{error}"));
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    if bytes.is_empty() {
        Some(format!("its file is empty: {value}"))
    } else if begin(&text, ending).is_none() && !ending.is_empty() {
        let what = match ending {
            KEY => "private key",
            CERTIFICATE => "certificate",
            _ => "revocation list",
        };
        Some(format!("its file holds no {what} in the form PEM: {value}"))
    } else if ending == KEY && is_encrypted(&text) {
        needs_password(properties, value)
    } else {
        None
    }
}

/// Whether the key is encrypted that this property holds, or its file.
pub(super) fn has_encrypted_key(name: &str, value: &str) -> bool {
    match name {
        "ssl.key.pem" => is_encrypted(value),
        "ssl.key.location" => read(Path::new(value)).is_ok_and(|bytes| is_encrypted(&String::from_utf8_lossy(&bytes))),
        _ => false,
    }
}

fn needs_password(properties: &Properties, what: &str) -> Option<String> {
    let set = properties.get("ssl.key.password").is_some_and(|password| !password.is_empty());
    (!set).then(|| format!("{what} is encrypted: set {} too", variable("ssl.key.password")))
}

/// The first line that begins what has this ending, and the line after it.
fn begin<'a>(text: &'a str, ending: &str) -> Option<(&'a str, &'a str)> {
    let mut lines = text.lines();
    let first = lines.find(|line| line.starts_with(BEGIN) && line.trim_end().ends_with(ending))?;
    Some((first, lines.next().unwrap_or_default()))
}

/// Whether the first private key of this text is encrypted, as PKCS#8 says it or in the older way.
fn is_encrypted(pem: &str) -> bool {
    begin(pem, KEY)
        .is_some_and(|(first, next)| first.contains("ENCRYPTED") || next.starts_with("Proc-Type:") && next.contains("ENCRYPTED"))
}
