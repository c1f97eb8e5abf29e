//! The certificate of a port of ours. It is read anew when its files change, so that renewing it needs no restart.

use crate::files;
use crate::postgres::anybody;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, ServerConfig, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tidemark_settings::SettingsError;
use tidemark_settings::bounded::Connection;

/// How often it is looked whether the files have changed.
const LOOK: Duration = Duration::from_millis(500);

/// A setting's name in the environment, and the file that it names.
pub type Named<'a> = (&'static str, Option<&'a Path>);

/// For the server, if both files are set; an error if only one is, or if they do not fit together.
pub fn config(cert: Named<'_>, key: Named<'_>) -> Result<Option<ServerConfig>, SettingsError> {
    let files = match (cert, key) {
        ((_, None), (_, None)) => return Ok(None),
        ((cert, Some(cert_path)), (key, Some(key_path))) => [(cert, cert_path.to_owned()), (key, key_path.to_owned())],
        ((cert, given), (key, _)) => {
            let (set, unset) = if given.is_some() { (cert, key) } else { (key, cert) };
            return Err(SettingsError::Conflict(format!("{set} is set without {unset}: HTTPS needs both, HTTP neither")));
        }
    };
    let stamp = stamp(&files);
    let renewed = Renewed { state: Mutex::new(State { pair: load(&files)?, stamp, looked: Instant::now() }), files };
    let builder = ServerConfig::builder_with_provider(crate::provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("ring has the default versions").with_no_client_auth();
    Ok(Some(builder.with_cert_resolver(Arc::new(renewed))))
}

type Files = [(&'static str, PathBuf); 2];
/// What changes with a file: its number, its length, and when it was written.
type Stamp = [Option<(u64, u64, i64, i64)>; 2];

/// The pair that was last found to be good.
#[derive(Debug)]
struct Renewed {
    files: Files,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pair: Arc<CertifiedKey>,
    stamp: Stamp,
    looked: Instant,
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK {
            state.looked = Instant::now();
            let found = stamp(&self.files);
            if found != state.stamp {
                state.stamp = found;
                match load(&self.files) {
                    Ok(pair) => {
                        state.pair = pair;
                        tracing::info!("{} was renewed", self.files[0].0);
                    }
                    Err(error) => tracing::warn!("the renewed certificate is not used, the one before is: {error}"),
                }
            }
        }
        Some(Arc::clone(&state.pair))
    }
}

fn stamp(files: &Files) -> Stamp {
    files.each_ref().map(|(_, path)| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    })
}

fn load([cert, key]: &Files) -> Result<Arc<CertifiedKey>, SettingsError> {
    files::pair((cert.0, &cert.1), (key.0, &key.1)).map(Arc::new)
}

/// What a port answered.
pub struct Answer {
    /// The server's certificate.
    pub certificate: Vec<u8>,
    /// Head and body.
    pub text: String,
}

/// Asks a port of this machine for a path. Its certificate is not verified: it need not be for this machine's own name.
pub fn ask(at: SocketAddr, path: &str, longest: Duration) -> io::Result<Answer> {
    let builder = ClientConfig::builder_with_provider(crate::provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("ring has the default versions").dangerous();
    let config = builder.with_custom_certificate_verifier(anybody()).with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let socket = Connection::open(at, longest, Instant::now() + longest)?;
    let mut stream = StreamOwned::new(connection, socket);
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    match stream.read_to_end(&mut text) {
        // The end without a farewell of TLS.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !text.is_empty() => {}
        read => drop(read?),
    }
    let certificate = stream.conn.peer_certificates().and_then(|chain| chain.first()).map(|first| first.to_vec());
    Ok(Answer { certificate: certificate.unwrap_or_default(), text: String::from_utf8_lossy(&text).into_owned() })
}

/// Whether an address of this machine answers with 200, for the health checks of containers. For an unspecified address (0.0.0.0, ::) it
/// asks loopback.
pub fn is_healthy(mut at: SocketAddr, path: &str) -> Result<(), String> {
    match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => at.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => at.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let answer = ask(at, path, Duration::from_secs(3)).map_err(|error| format!("{path} does not answer: {error}"))?;
    match answer.text.split(' ').nth(1) {
        Some("200") => Ok(()),
        status => Err(format!("{path} answers with status {}", status.unwrap_or("none"))),
    }
}
