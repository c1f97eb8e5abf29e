//! libpq's TLS options. The Postgres client does not know them, so they are taken out of a connection string.

use super::quote;
use crate::SettingsError;
use std::ops::Range;
use std::path::PathBuf;

/// Whether a connection is encrypted, and what the server has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server refuses anything else.
    Allow,
    /// Encrypted if the server can.
    Prefer,
    /// Always encrypted. With a root certificate, the server's must be signed by it.
    Require,
    /// Always encrypted, and the server's certificate is signed by a root certificate.
    VerifyCa,
    /// The same, and the certificate is for the name that was connected to.
    VerifyFull,
}

impl SslMode {
    /// All of them, by the names that libpq gives them.
    pub const NAMES: [(&str, SslMode); 6] = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
}

impl std::fmt::Display for SslMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = SslMode::NAMES.iter().find(|(_, mode)| mode == self).map(|(name, _)| *name);
        f.write_str(name.expect("each has a name"))
    }
}

/// Which certificates may sign the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Those in this file.
    File(PathBuf),
    /// Those that this system trusts.
    System,
    /// The server's certificate is not looked at.
    Unchecked,
}

/// The TLS options of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssl {
    /// `sslmode`.
    pub mode: SslMode,
    /// `sslrootcert`.
    pub roots: Roots,
    /// `sslcert` and `sslkey`, for servers that ask their clients for a certificate.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// What is taken out.
const OPTIONS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// Splits a connection string into what the client knows, and the TLS options with the defaults that libpq gives them.
pub fn take_out(connection: &str) -> Result<(String, Ssl), SettingsError> {
    let home = std::env::home_dir().map(|home| home.join(".postgresql"));
    take_out_with(connection, home)
}

/// Files that are not named are looked for in `defaults`. One that is named must be there, although libpq goes on without it.
fn take_out_with(connection: &str, defaults: Option<PathBuf>) -> Result<(String, Ssl), SettingsError> {
    let mut rest = connection.to_owned();
    let mut values = [const { None }; OPTIONS.len()];
    for option in options(connection).into_iter().rev() {
        if let Some(at) = OPTIONS.iter().position(|name| *name == option.key) {
            rest.replace_range(option.range, "");
            // The last one counts, and it comes first here.
            values[at].get_or_insert(option.value);
        }
    }
    let [mode, root, cert, key] = values.map(|value| value.filter(|value| !value.is_empty()));
    let default = |name: &str| defaults.as_ref().map(|dir| dir.join(name)).filter(|path| path.exists());
    let mode = mode.map(|mode| parse_mode(&mode)).transpose()?;
    let (mode, roots) = match root {
        Some(root) if root == "system" => match mode {
            None | Some(SslMode::VerifyFull) => (SslMode::VerifyFull, Roots::System),
            Some(mode) => {
                let why = format!(
                    "sslrootcert=system needs sslmode=verify-full, and it is {mode}: anybody can get a certificate there"
                );
                return Err(SettingsError::Conflict(why));
            }
        },
        root => {
            let file = root.map(PathBuf::from).or_else(|| default("root.crt"));
            (mode.unwrap_or(SslMode::Prefer), file.map_or(Roots::Unchecked, Roots::File))
        }
    };
    if roots == Roots::Unchecked && [SslMode::VerifyCa, SslMode::VerifyFull].contains(&mode) {
        let why = format!(
            "sslmode={mode} needs sslrootcert: the file of the CA that signed the server's certificate, or system for the CAs that \
             this system trusts"
        );
        return Err(SettingsError::Conflict(why));
    }
    let cert = cert.map(PathBuf::from).or_else(|| default("postgresql.crt"));
    let client = match (cert, key.map(PathBuf::from)) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(cert), None) => match default("postgresql.key") {
            Some(key) => Some((cert, key)),
            None => return Err(SettingsError::Conflict("sslcert is set without sslkey: set the file of its key too".to_owned())),
        },
        (None, Some(_)) => {
            return Err(SettingsError::Conflict("sslkey is set without sslcert: set the file of its certificate too".to_owned()));
        }
    };
    Ok((rest, Ssl { mode, roots, client }))
}

fn parse_mode(text: &str) -> Result<SslMode, SettingsError> {
    let found = SslMode::NAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, mode)| *mode).ok_or_else(|| SettingsError::Hidden {
        name: "sslmode".to_owned(),
        allowed: format!("allowed: {}", SslMode::NAMES.map(|(name, _)| name).join(", ")),
    })
}

/// The connection string with one more option, unless it has it already.
pub(super) fn add(connection: String, key: &str, value: &str) -> String {
    let options = options(&connection);
    // An empty one says nothing: the variable counts.
    if options.iter().any(|option| option.key == key && !option.value.is_empty()) {
        return connection;
    }
    match query_at(&connection) {
        None => format!("{connection} {key}={}", quote(value)),
        Some(at) => {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let separator = if connection.len() < at {
                "?"
            } else if connection.len() == at {
                ""
            } else {
                "&"
            };
            format!("{connection}{separator}{key}={encoded}")
        }
    }
}

/// An option of a connection string.
struct Setting {
    key: String,
    value: String,
    /// Where it stands, with what separates it from the next one.
    range: Range<usize>,
}

/// The options of a connection string, split as the client splits them. What cannot be read ends them: the client says so.
fn options(connection: &str) -> Vec<Setting> {
    match query_at(connection) {
        None => pairs(connection),
        Some(at) => parameters(connection, at),
    }
}

/// Where the parameters of a URL begin, behind its `?`; one more than its length if there is none. None for pairs of key=value.
fn query_at(connection: &str) -> Option<usize> {
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| connection.strip_prefix(scheme))?;
    let place = rest.split_once('@').map_or(rest, |(_, place)| place);
    let from = connection.len() - place.len();
    Some(place.find('?').map_or(connection.len() + 1, |at| from + at + 1))
}

fn parameters(url: &str, mut at: usize) -> Vec<Setting> {
    let mut found = Vec::new();
    while let Some(rest) = url.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((key, value)) = rest.split_once('=') else { break };
        let value = value.split('&').next().unwrap_or_default();
        let end = (at + key.len() + 1 + value.len() + 1).min(url.len());
        found.push(Setting { key: decode(key), value: decode(value), range: at..end });
        at = end;
    }
    found
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        let code = code.filter(|_| *first == b'%');
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn pairs(text: &str) -> Vec<Setting> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let rest = text[at..].trim_start();
        let from = text.len() - rest.len();
        let Some((key, rest)) = rest.split_once('=') else { break };
        let rest = rest.trim_start();
        let (value, length) = value(rest);
        at = text.len() - rest.len() + length;
        found.push(Setting { key: key.trim_end().to_owned(), value, range: from..at });
    }
    found
}

/// The value at the beginning of a text, perhaps in quotes, and its length there.
fn value(text: &str) -> (String, usize) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\'' if quoted => return (value, at + 1),
            _ if !quoted && letter.is_whitespace() => return (value, at),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            _ => value.push(letter),
        }
    }
    (value, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssl(connection: &str) -> (String, Ssl) {
        take_out_with(connection, None).expect(connection)
    }

    #[test]
    fn options_are_taken_out_of_urls_and_of_pairs() {
        for (connection, rest, mode, root) in [
            ("postgres://h/d?sslmode=require", "postgres://h/d?", "require", None),
            (
                "postgres://h/d?a=b&sslmode=verify-ca&sslrootcert=%2Fa%20b&c=d",
                "postgres://h/d?a=b&c=d",
                "verify-ca",
                Some("/a b"),
            ),
            ("postgres://u:p?sslmode=x@h?sslmode=allow", "postgres://u:p?sslmode=x@h?", "allow", None),
            ("postgres://h/d?sslmode=disable&sslmode=require", "postgres://h/d?", "require", None),
            ("host=h sslmode = 'verify-full' sslrootcert='it\\'s' user=u", "host=h   user=u", "verify-full", Some("it's")),
            ("host=h password='sslmode=disable' sslrootcert=a\\ b", "host=h password='sslmode=disable' ", "prefer", Some("a b")),
            ("postgres://h/d", "postgres://h/d", "prefer", None),
            ("host=h", "host=h", "prefer", None),
        ] {
            let (found, ssl) = ssl(connection);
            assert_eq!((found.as_str(), ssl.mode.to_string().as_str()), (rest, mode), "{connection}");
            assert_eq!(ssl.roots, root.map_or(Roots::Unchecked, |root| Roots::File(root.into())), "{connection}");
        }
        let (_, with) = ssl("host=h sslcert=c sslkey=k");
        assert_eq!(with.client, Some(("c".into(), "k".into())));
    }

    #[test]
    fn an_option_is_added_unless_it_is_there() {
        for (connection, expected) in [
            ("postgres://u@h/d", "postgres://u@h/d?sslrootcert=%61%20%26"),
            ("postgres://h?", "postgres://h?sslrootcert=%61%20%26"),
            ("postgres://h?a=b", "postgres://h?a=b&sslrootcert=%61%20%26"),
            ("postgres://h?sslrootcert=b", "postgres://h?sslrootcert=b"),
            ("host=h", "host=h sslrootcert='a &'"),
        ] {
            let added = add(connection.to_owned(), "sslrootcert", "a &");
            assert_eq!(added, expected);
        }
    }

    #[test]
    fn the_system_s_roots_mean_that_everything_is_verified() {
        let (_, system) = ssl("host=h sslrootcert=system");
        assert_eq!((system.mode, system.roots), (SslMode::VerifyFull, Roots::System));
    }

    #[test]
    fn defaults_are_where_libpq_has_them() {
        let dir = std::env::temp_dir().join(format!("tidemark-ssl-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["root.crt", "postgresql.crt", "postgresql.key"] {
            std::fs::write(dir.join(name), "").unwrap();
        }
        let (_, found) = take_out_with("host=h sslmode=verify-ca", Some(dir.clone())).unwrap();
        assert_eq!(found.roots, Roots::File(dir.join("root.crt")));
        assert_eq!(found.client, Some((dir.join("postgresql.crt"), dir.join("postgresql.key"))));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_in_one_line() {
        for (connection, word) in [
            ("host=h sslmode=verify_full", "disable, allow, prefer, require, verify-ca, verify-full"),
            ("host=h sslmode=verify-full", "needs sslrootcert"),
            ("host=h sslmode=require sslrootcert=system", "needs sslmode=verify-full"),
            ("host=h sslcert=c", "sslkey"),
            ("host=h sslkey=c", "sslcert"),
        ] {
            let told = take_out_with(connection, None).unwrap_err().to_string();
            assert!(told.contains(word) && !told.contains('\n') && !told.contains("verify_full"), "{told}");
        }
    }
}
