//! Where the metrics are: Postgres, or SQLite under the data directory.

pub mod ssl;

use crate::{SettingsError, non_empty, secret};
use std::path::{Path, PathBuf};

/// Flags and environment of the store.
#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "Store")]
pub struct StoreArgs {
    /// Postgres, as postgres://user:password@host:port/database; PG_URL is another name of the variable, and
    /// DATABASE_URL_FILE names a file that holds it. Nothing of Postgres set: SQLite at DATA_DIR/tidemark.db
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    #[arg(long, env = "DATABASE_URL_FILE", hide = true)]
    database_url_file: Option<PathBuf>,
    #[arg(long, env = "PG_URL", hide = true, hide_env_values = true)]
    pg_url: Option<String>,
    #[arg(long, env = "PG_URL_FILE", hide = true)]
    pg_url_file: Option<PathBuf>,
    /// Postgres host, if there is no URL
    #[arg(long, env = "PG_HOST", value_name = "HOST")]
    pub pg_host: Option<String>,
    /// Postgres port [default: 5432]
    #[arg(long, env = "PG_PORT", value_name = "PORT")]
    pub pg_port: Option<String>,
    /// Postgres database [default: realtime]
    #[arg(long, env = "PG_DB", value_name = "NAME")]
    pub pg_db: Option<String>,
    /// Postgres role [default: postgres]
    #[arg(long, env = "PG_USER", value_name = "NAME")]
    pub pg_user: Option<String>,
    /// Its password; PG_PASS_FILE names a file that holds it
    #[arg(long, env = "PG_PASS", value_name = "PASSWORD", hide_env_values = true)]
    pub pg_pass: Option<String>,
    #[arg(long, env = "PG_PASS_FILE", hide = true)]
    pg_pass_file: Option<PathBuf>,
    /// TLS to Postgres, as in libpq: disable, allow, prefer, require, verify-ca or verify-full; this and what follows may stand in the
    /// URL instead [default: prefer]
    #[arg(long, env = "PGSSLMODE", value_name = "MODE")]
    pub sslmode: Option<String>,
    /// File of the CA that signs the server's certificate; system: the CAs that this system trusts, with verify-full
    #[arg(long, env = "PGSSLROOTCERT", value_name = "FILE", hide_env_values = true)]
    pub sslrootcert: Option<String>,
    /// File of a client certificate, if the server asks for one
    #[arg(long, env = "PGSSLCERT", value_name = "FILE", hide_env_values = true)]
    pub sslcert: Option<String>,
    /// File of its key, which only its owner may read
    #[arg(long, env = "PGSSLKEY", value_name = "FILE", hide_env_values = true)]
    pub sslkey: Option<String>,
    /// Whether the password is bound to the TLS connection: disable, prefer or require [default: prefer]
    #[arg(long, env = "PGCHANNELBINDING", value_name = "WHETHER")]
    pub channel_binding: Option<String>,
    /// Of several hosts the one to take: any, read-write or read-only [default: any]
    #[arg(long, env = "PGTARGETSESSIONATTRS", value_name = "WHICH")]
    pub target_session_attrs: Option<String>,
}

/// Where the metrics are.
#[derive(Clone, PartialEq, Eq)]
pub enum Store {
    /// A Postgres database.
    Postgres {
        /// Options as libpq has them; it may hold a password.
        connection: String,
        /// For people; it holds no password.
        shown: String,
    },
    /// The database file.
    Sqlite(PathBuf),
}

impl StoreArgs {
    /// Decides where the store is.
    pub fn resolve(&self, data_dir: &Path) -> Result<Store, SettingsError> {
        let url = secret::resolve("DATABASE_URL", &self.database_url, &self.database_url_file)?;
        let other = secret::resolve("PG_URL", &self.pg_url, &self.pg_url_file)?;
        if let (Some(one), Some(other)) = (&url, &other)
            && one != other
        {
            return Err(SettingsError::Conflict("DATABASE_URL and PG_URL differ: set one of them".to_owned()));
        }
        let name = if url.is_some() { "DATABASE_URL" } else { "PG_URL" };
        if let Some(url) = url.or(other) {
            let hidden = |allowed: &str| SettingsError::Hidden { name: name.to_owned(), allowed: allowed.to_owned() };
            return self.postgres(url.clone(), place_of(&url).map_err(hidden)?);
        }
        let Some(host) = non_empty(&self.pg_host) else {
            return Ok(Store::Sqlite(data_dir.join("tidemark.db")));
        };
        if host.contains("://") || host.contains('@') {
            let allowed = "it must be a host's name; set DATABASE_URL to a URL".to_owned();
            return Err(SettingsError::Hidden { name: "PG_HOST".to_owned(), allowed });
        }
        let port = non_empty(&self.pg_port).unwrap_or("5432");
        if port.parse::<u16>().is_ok_and(|port| port > 0) {
            let mut text = format!("host={} port={port}", quote(host));
            text += &format!(" dbname={}", quote(non_empty(&self.pg_db).unwrap_or("realtime")));
            text += &format!(" user={}", quote(non_empty(&self.pg_user).unwrap_or("postgres")));
            let shown = text.replace('\'', "");
            if let Some(password) = secret::resolve("PG_PASS", &self.pg_pass, &self.pg_pass_file)? {
                text += &format!(" password={}", quote(&password));
            }
            return self.postgres(text, shown);
        }
        Err(SettingsError::Invalid {
            name: "PG_PORT".to_owned(),
            value: port.to_owned(),
            allowed: "allowed: a port, 1 to 65535".to_owned(),
        })
    }

    /// What the connection string says counts before these variables, as in libpq.
    fn postgres(&self, mut connection: String, shown: String) -> Result<Store, SettingsError> {
        for (key, value) in [
            ("sslmode", &self.sslmode),
            ("sslrootcert", &self.sslrootcert),
            ("sslcert", &self.sslcert),
            ("sslkey", &self.sslkey),
            ("channel_binding", &self.channel_binding),
            ("target_session_attrs", &self.target_session_attrs),
        ] {
            if let Some(value) = non_empty(value) {
                connection = ssl::add(connection, key, value);
            }
        }
        ssl::take_out(&connection)?;
        Ok(Store::Postgres { connection, shown })
    }
}

/// A value of a libpq connection string.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Hosts and database of a URL as the client reads it, which ends the password at the first `@`. An error if the password may be
/// where the client does not look for it: then nothing of the URL may be shown.
fn place_of(url: &str) -> Result<String, &'static str> {
    const ENCODE: &str = "write % @ : / ? # in a user or password as %25 %40 %3A %2F %3F %23";
    let Some((scheme, rest)) = url.split_once("://") else {
        // Pairs of key=value; they may be in quotes, and are not taken apart here.
        return if url.contains('=') { Ok("of DATABASE_URL".to_owned()) } else { Err(FORM) };
    };
    if !["postgres", "postgresql"].contains(&scheme) {
        return Err(FORM);
    }
    let place = match rest.split_once('@') {
        None => rest,
        Some((user, place)) if !place.contains('@') && !has_parameter(user) => place,
        Some(_) => return Err(ENCODE),
    };
    let place = place.split(['?', '#']).next().unwrap_or(place);
    let hosts = place.split('/').next().unwrap_or(place);
    if hosts.split(',').all(has_legal_port) { Ok(place.to_owned()) } else { Err(ENCODE) }
}

/// What a connection string must be.
const FORM: &str = "allowed: postgres://user:password@host:port/database, or pairs of key=value as libpq has them";

/// Whether it holds something like `?password=`.
fn has_parameter(text: &str) -> bool {
    let is_key = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    text.split(['?', '&']).skip(1).any(|pair| pair.split_once('=').is_some_and(|(key, _)| is_key(key)))
}

/// `host`, `host:port`, `[::1]:port`; what is no port may be a password.
fn has_legal_port(host: &str) -> bool {
    let of_bracketed = || host.strip_prefix('[').and_then(|host| host.split_once(']'));
    let after = of_bracketed().map_or(host, |(_, after)| after);
    after.split_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Why a connection string cannot be used, by what its parser says, whose words may hold parts of a password.
pub fn unusable(parser: &(dyn std::error::Error + 'static)) -> SettingsError {
    let causes = std::iter::successors(Some(parser), |error| error.source());
    let said = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let option = OPTIONS_OF_LIBPQ.iter().find(|option| said.contains(&format!("`{option}`")));
    let allowed = match option {
        Some(option) if said.contains("unknown option") => format!("the option {option} is not known here: remove it"),
        Some(option) => match VALUES.iter().find(|(of, _)| of == option) {
            Some((_, values)) => format!("the value of {option} is not allowed: it must be one of {values}"),
            None => format!("the value of {option} is not allowed"),
        },
        None => format!("it cannot be read as a connection string; {FORM}"),
    };
    SettingsError::Hidden { name: "DATABASE_URL".to_owned(), allowed }
}

/// Options that have few values, of which libpq may know more.
const VALUES: &[(&str, &str)] = &[
    ("target_session_attrs", "any, read-write, read-only"),
    ("channel_binding", "disable, prefer, require"),
    ("sslnegotiation", "postgres, direct"),
    ("load_balance_hosts", "disable, random"),
];

/// Options that people bring from libpq. Only these names are told: what else stands before a `=` may be a part of a password.
#[rustfmt::skip]
const OPTIONS_OF_LIBPQ: &[&str] = &[
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "fallback_application_name",
    "gssencmode", "host", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval",
    "keepalives_retries", "krbsrvname", "load_balance_hosts", "options", "passfile", "port", "replication", "require_auth",
    "service", "sslcert", "sslcertmode", "sslcompression", "sslcrl", "sslcrldir", "sslkey", "sslmode", "sslnegotiation",
    "sslpassword", "sslrootcert", "sslsni", "target_session_attrs", "tcp_user_timeout", "user",
];

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Store::Sqlite(path) => write!(f, "SQLite {}", path.display()),
            Store::Postgres { shown, .. } => write!(f, "Postgres {shown}"),
        }
    }
}

impl std::fmt::Debug for StoreArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It holds passwords.
        f.debug_struct("StoreArgs").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests;
