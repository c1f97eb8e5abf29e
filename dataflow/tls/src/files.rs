//! Certificates and keys in PEM files. An error says which setting, which file, and what is wrong with it.

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use tidemark_settings::{SettingsError, file, secret};

/// The path is told, unless it may be a secret: a key itself, where the path of its file was to stand, or the rest of a URL.
pub(crate) fn wrong(name: &str, path: &Path, what: impl Into<String>) -> SettingsError {
    let (name, value) = (name.to_owned(), path.display().to_string());
    match secret::may_be(&value) {
        false => SettingsError::Invalid { name, value, allowed: what.into() },
        true => SettingsError::Hidden { name, allowed: format!("it must be the path of a file; this {}", what.into()) },
    }
}

fn read(name: &str, path: &Path) -> Result<Vec<u8>, SettingsError> {
    let mut text = file::read(path).map_err(|error| wrong(name, path, format!("cannot be read: {error}")))?;
    // Editors of Windows write it.
    if text.starts_with(b"\xef\xbb\xbf") {
        text.drain(..3);
    }
    Ok(text)
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
        _ if text.windows(9).any(|part| part == b"ENCRYPTED") => {
            wrong(key_name, key_path, "is encrypted: give a key without a passphrase, as `openssl pkey` writes it")
        }
        PemError::NoItemsFound => {
            wrong(key_name, key_path, "holds no key in PEM form, which begins with -----BEGIN PRIVATE KEY-----")
        }
        error => wrong(key_name, key_path, format!("holds damaged PEM: {error}")),
    })?;
    CertifiedKey::from_der(chain, parsed, &crate::provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let of = format!("{}={:?}", cert.0, cert.1.display().to_string());
            wrong(key_name, key_path, format!("is not the key of the certificate {of}, whose file must begin with the key's own"))
        }
        error => {
            let allowed = "allowed: RSA of 2048 to 4096 bits, ECDSA of P-256 or P-384, Ed25519";
            wrong(key_name, key_path, format!("cannot be used: {error}; {allowed}"))
        }
    })
}

/// As libpq: a key that others can read is not used. One of root's may be read by the group, as secrets that are mounted are.
pub(crate) fn refuse_shared_key(name: &str, path: &Path) -> Result<(), SettingsError> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).map_err(|error| wrong(name, path, format!("cannot be read: {error}")))?;
    if !found.is_file() {
        return Err(wrong(name, path, "is no regular file"));
    }
    let (allowed, command) = if found.uid() == 0 { (0o640, "0640") } else { (0o600, "0600") };
    if found.mode() & 0o777 & !allowed != 0 {
        let what = format!("others may read it (its mode is {:04o}): chmod {command} it", found.mode() & 0o777);
        return Err(wrong(name, path, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_where_a_path_was_to_stand_is_not_told() {
        let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        for secret in [key.as_str(), "/etc/ca.pem?password=secret", "secret=1"] {
            let told = certificates("API_TLS_KEY", Path::new(secret)).expect_err("no such file").to_string();
            assert!(told.starts_with("API_TLS_KEY") && told.contains("path of a file"), "{told}");
            assert!(!told.contains("secret") && !told.contains(&key[40..60]), "{told}");
        }
        let told = certificates("API_TLS_KEY", Path::new("/nowhere/key.pem")).expect_err("no such file").to_string();
        assert!(told.contains("/nowhere/key.pem"), "{told}");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("coreutils has it");
        assert!(made.success());
        for path in [fifo.as_path(), dir.path()] {
            let told = certificates("sslrootcert", path).expect_err("no file").to_string();
            assert!(told.contains("it is not a regular file") || told.contains("it is a directory"), "{told}");
        }
    }
}
