//! Connections to Postgres: the hosts of a connection string, and TLS as libpq does it.
//!
//! Files are read anew for each connection, so that what is renewed on disk is taken up. Over a unix socket there is no TLS.
//! `prefer` and `allow` try a second time, with or without TLS, where the first try failed because of it.

mod hosts;
mod trust;

use crate::files;
pub use hosts::{Place, places};
use rustls::{AlertDescription, CertificateError, ClientConfig};
use std::error::Error as StdError;
use tidemark_settings::SettingsError;
pub use tidemark_settings::store::ssl::SslMode;
use tidemark_settings::store::ssl::{self, Roots, Ssl};
use tokio_postgres::config::{ChannelBinding, Host, SslMode as Wanted, SslNegotiation};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use trust::Trust;
pub(crate) use trust::anybody;

/// What moves the bytes of a connection.
pub type Wire = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Where Postgres is and how it is reached.
#[derive(Clone)]
pub struct Server {
    /// What the client knows itself.
    pub config: Config,
    /// The TLS options.
    pub ssl: Ssl,
}

/// How a connection begins with TLS.
struct Tls<'a>(&'a Server);

impl MakeTlsConnect<Socket> for Tls<'_> {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = SettingsError;

    fn make_tls_connect(&mut self, name: &str) -> Result<Self::TlsConnect, SettingsError> {
        let mut rustls = self.0.tls()?;
        Ok(MakeTlsConnect::<Socket>::make_tls_connect(&mut rustls, name).unwrap_or_else(|never| match never {}))
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// TLS or the login did not come about. The text says what to do.
    #[error("{told}")]
    Refused {
        /// For people.
        told: String,
        /// What the client said; the text has it already.
        said: tokio_postgres::Error,
    },
    /// Anything else.
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
}

impl Error {
    /// What the server said, if it said something.
    pub fn as_db_error(&self) -> Option<&DbError> {
        match self {
            Error::Refused { said, .. } | Error::Postgres(said) => said.as_db_error(),
        }
    }

    /// Whether only a person can mend it: a file, a certificate, or a server without TLS.
    pub fn is_about_tls(&self) -> bool {
        matches!(self, Error::Refused { .. }) && self.as_db_error().is_none()
    }
}

impl Server {
    /// Reads a connection string, and looks at the files that it names.
    pub fn parse(connection: &str) -> Result<Server, SettingsError> {
        let (rest, ssl) = ssl::take_out(connection)?;
        let config: Config = rest.parse().map_err(|error| tidemark_settings::store::unusable(&error))?;
        let server = Server { config, ssl };
        if places(&server.config).is_none() {
            let why = "the connection string needs a host, and as many ports as hosts, or one for all".to_owned();
            return Err(SettingsError::Conflict(why));
        }
        server.tls()?;
        Ok(server)
    }

    /// Connects to the first of its hosts that will do.
    pub async fn connect(&self) -> Result<(Client, Wire), tokio_postgres::Error> {
        let mut last = None;
        for place in places(&self.config).expect("it was looked at when the connection string was read") {
            match self.at(&place, None).connect_here().await {
                Ok(connected) => return Ok(connected),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there is at least one place"))
    }

    /// Connects to the only host that it has, as libpq does with its `sslmode`.
    pub async fn connect_here(&self) -> Result<(Client, Wire), tokio_postgres::Error> {
        let is_local = matches!(self.config.get_hosts(), [Host::Unix(_)]) && self.config.get_hostaddrs().is_empty();
        match self.ssl.mode {
            _ if is_local => self.attempt(Wanted::Disable).await,
            SslMode::Disable => self.attempt(Wanted::Disable).await,
            SslMode::Allow => match self.attempt(Wanted::Disable).await {
                Err(error) if is_refused(&error) => self.attempt(Wanted::Require).await,
                outcome => outcome,
            },
            SslMode::Prefer => match self.attempt(Wanted::Prefer).await {
                Err(error) if is_refused(&error) || is_tls(&error) => {
                    let plain = self.attempt(Wanted::Disable).await;
                    if plain.is_ok() && is_tls(&error) {
                        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                        tracing::warn!(
                            why,
                            "the connection to Postgres is in plain text, because TLS failed; sslmode=require forbids that"
                        );
                    }
                    // What came of TLS says more than that plain text is not allowed.
                    plain.map_err(|plain| if is_refused(&plain) || plain.as_db_error().is_none() { error } else { plain })
                }
                outcome => outcome,
            },
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => self.attempt(Wanted::Require).await,
        }
    }

    async fn attempt(&self, mode: Wanted) -> Result<(Client, Wire), tokio_postgres::Error> {
        let mut config = self.config.clone();
        config.ssl_mode(mode).connect(Tls(self)).await
    }

    /// Ends what the server does for a connection, in a connection like that one.
    pub async fn cancel(&self, token: &CancelToken) -> Result<(), tokio_postgres::Error> {
        token.cancel_query(Tls(self)).await
    }

    fn tls(&self) -> Result<MakeRustlsConnect, SettingsError> {
        let trust = Trust::of(&self.ssl, self.config.get_channel_binding() == ChannelBinding::Require)?;
        let builder = ClientConfig::builder_with_provider(crate::provider()).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has the default versions").dangerous();
        let builder = builder.with_custom_certificate_verifier(trust);
        let mut config = match &self.ssl.client {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                files::refuse_shared_key("sslkey", key)?;
                let pair = files::pair(("sslcert", cert), ("sslkey", key))?;
                builder.with_client_cert_resolver(std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(pair)))
            }
        };
        if self.config.get_ssl_negotiation() == SslNegotiation::Direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(MakeRustlsConnect::new(config))
    }

    /// Says what an error of TLS or of the login means, and what to do.
    pub fn explain(&self, error: tokio_postgres::Error) -> Error {
        let named = self.config.get_hosts().iter().filter_map(|host| match host {
            Host::Tcp(name) => Some(name.as_str()),
            Host::Unix(_) => None,
        });
        let host = named.collect::<Vec<_>>().join(", ");
        let told = if let Some(said) = error.as_db_error() {
            self.explain_login(said)
        } else if let Some(wrong) = error.source().and_then(|why| why.downcast_ref::<SettingsError>()) {
            Some(wrong.to_string())
        } else if let Some(fault) = rustls_error(&error) {
            Some(self.explain_tls(fault, &host))
        } else if is_tls(&error) && self.config.get_ssl_negotiation() == SslNegotiation::Direct {
            Some(format!(
                "{host} ends the connection: sslnegotiation=direct needs Postgres 17 or newer; remove it for an older one"
            ))
        } else if lacks_tls(&error) {
            let mode = self.ssl.mode;
            Some(format!(
                "{host} does not offer TLS, and sslmode={mode} demands it: switch it on there (ssl = on), or set sslmode=prefer"
            ))
        } else if error.to_string() == "authentication error" {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            Some(format!("the login at {host} failed: {why}: look at channel_binding and at the server's pg_hba.conf"))
        } else {
            None
        };
        match told {
            Some(told) => Error::Refused { told, said: error },
            None => Error::Postgres(error),
        }
    }

    fn explain_login(&self, said: &DbError) -> Option<String> {
        let message = said.message();
        let what_to_do = match *said.code() {
            SqlState::INVALID_PASSWORD => "correct the user or the password",
            // The name of the file is the same in all languages of the server.
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION
                if message.contains("pg_hba.conf") && self.ssl.mode == SslMode::Disable =>
            {
                "if the server demands TLS, set sslmode=require or verify-full"
            }
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.contains("certificate") => match self.ssl.client {
                None => "set sslcert and sslkey to a certificate for this user",
                Some(_) => "give sslcert a certificate for this user",
            },
            _ => return None,
        };
        Some(format!("{message} (SQLSTATE {}): {what_to_do}", said.code().code()))
    }

    fn explain_tls(&self, fault: &rustls::Error, host: &str) -> String {
        use rustls::Error::{AlertReceived, InvalidCertificate};
        let certificate = format!("the certificate of {host}");
        match fault {
            InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => match &self.ssl.roots {
                Roots::File(path) => format!(
                    "{certificate} is not signed by a CA in sslrootcert={:?}: give the file of the CA that signed it",
                    path.display().to_string()
                ),
                _ => {
                    format!("{certificate} is not signed by a CA that this system trusts: set sslrootcert to the file of its CA")
                }
            },
            InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                format!("{certificate} has expired, or that of its CA: renew it there, or correct this machine's clock")
            }
            InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
                format!("{certificate} is not valid yet: correct the clock of this machine or of the one that made it")
            }
            InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
                let names = if presented.is_empty() {
                    "no name (subjectAltName)".to_owned()
                } else {
                    // They come as DnsName("db") and IpAddress(0::1).
                    let name = |name: &String| {
                        let bare = name.split_once('(').and_then(|(_, name)| name.strip_suffix(')')).unwrap_or(name);
                        let bare = bare.trim_matches('"');
                        bare.parse().map_or_else(|_| bare.to_owned(), |address: std::net::IpAddr| address.to_string())
                    };
                    presented.iter().map(name).collect::<Vec<_>>().join(", ")
                };
                format!("{certificate} is for {names}: connect by a name that it has, or set sslmode=verify-ca")
            }
            InvalidCertificate(why) => {
                format!("{certificate} cannot be used ({why}): make one of version 3 for a server, or ask who runs it")
            }
            AlertReceived(alert) if is_about_client(*alert) => match &self.ssl.client {
                Some((cert, _)) => format!(
                    "{host} refuses the client certificate sslcert={:?} ({alert:?}): give one that a CA of the server signed and that is valid",
                    cert.display().to_string()
                ),
                None => format!("{host} demands a client certificate ({alert:?}): set sslcert and sslkey"),
            },
            _ => format!("TLS with {host} failed: {fault}: it must be a Postgres with TLS 1.2 or 1.3"),
        }
    }
}

fn is_about_client(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    [
        Alert::UnknownCA,
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateExpired,
        Alert::CertificateRevoked,
        Alert::CertificateUnknown,
        Alert::CertificateRequired,
        Alert::DecryptError,
        Alert::AccessDenied,
    ]
    .contains(&alert)
}

/// Whether the server lets nobody in this way, with or without TLS.
fn is_refused(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|said| *said.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// Whether TLS did not come about, or ended at once because the server did not like our certificate.
fn is_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string() == "error performing TLS handshake" || rustls_error(error).is_some()
}

fn lacks_tls(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|why| why.to_string() == "server does not support TLS")
}

/// The fault of TLS among the causes of an error.
fn rustls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(fault) = inner.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref()) {
            return Some(fault);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_that_do_not_fit_are_a_setting_that_cannot_work() {
        for (connection, fits) in [
            ("host=a,b port=1,2 user=me", true),
            ("host=a,b port=1 user=me", true),
            ("host=a,b port=1,2,3 user=me", false),
            ("user=me", false),
        ] {
            assert_eq!(Server::parse(connection).is_ok(), fits, "{connection}");
        }
    }
}
