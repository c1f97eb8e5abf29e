//! Where the metrics are: Postgres, or SQLite under the data directory.

use crate::{SettingsError, non_empty, secret};
use std::path::{Path, PathBuf};

/// Flags and environment of the store.
#[derive(Clone, Debug, Default, clap::Args)]
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
}

/// Where the metrics are.
#[derive(Clone, PartialEq, Eq)]
pub enum Store {
    /// A Postgres database.
    Postgres {
        /// For the Postgres client; it may hold a password.
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
        if let Some(url) = url.or(other) {
            return Ok(Store::Postgres { shown: without_password(&url), connection: url });
        }
        let Some(host) = non_empty(&self.pg_host) else {
            return Ok(Store::Sqlite(data_dir.join("tidemark.db")));
        };
        let port = non_empty(&self.pg_port).unwrap_or("5432");
        if port.parse::<u16>().is_ok_and(|port| port > 0) {
            let mut text = format!("host={} port={port}", quote(host));
            text += &format!(" dbname={}", quote(non_empty(&self.pg_db).unwrap_or("realtime")));
            text += &format!(" user={}", quote(non_empty(&self.pg_user).unwrap_or("postgres")));
            let shown = text.replace('\'', "");
            if let Some(password) = secret::resolve("PG_PASS", &self.pg_pass, &self.pg_pass_file)? {
                text += &format!(" password={}", quote(&password));
            }
            return Ok(Store::Postgres { connection: text, shown });
        }
        Err(SettingsError::Invalid {
            name: "PG_PORT".to_owned(),
            value: port.to_owned(),
            allowed: "allowed: a port, 1 to 65535".to_owned(),
        })
    }
}

/// A value of a libpq connection string.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Host and database of a URL; a connection string of another form is not shown at all.
fn without_password(url: &str) -> String {
    let Some((_, rest)) = url.split_once("://") else {
        return "of DATABASE_URL".to_owned();
    };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    place.split('?').next().unwrap_or(place).to_owned()
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Store::Sqlite(path) => write!(f, "SQLite {}", path.display()),
            Store::Postgres { shown, .. } => write!(f, "Postgres {shown}"),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_connection_string_with_the_replaced_system_s_defaults() {
        let args = StoreArgs { pg_host: Some("db".into()), pg_pass: Some("it's".into()), ..StoreArgs::default() };
        let store = args.resolve(Path::new("d")).unwrap();
        let expected = "host='db' port=5432 dbname='realtime' user='postgres' password='it\\'s'";
        let Store::Postgres { connection, .. } = &store else { panic!("{store}") };
        assert_eq!(connection, expected);
        assert!(!store.to_string().contains("it"), "{store}");
    }

    #[test]
    fn nothing_set_is_sqlite_and_passwords_are_not_shown() {
        assert_eq!(StoreArgs::default().resolve(Path::new("d")).unwrap(), Store::Sqlite("d/tidemark.db".into()));
        let url = "postgres://me:secret@host:1/db?sslmode=disable".to_owned();
        let args = StoreArgs { database_url: Some(url), ..StoreArgs::default() };
        assert_eq!(args.resolve(Path::new("d")).unwrap().to_string(), "Postgres host:1/db");
    }

    #[test]
    fn urls_that_differ_are_refused() {
        let args = StoreArgs { database_url: Some("a".into()), pg_url: Some("b".into()), ..StoreArgs::default() };
        assert!(args.resolve(Path::new("d")).is_err());
    }
}
