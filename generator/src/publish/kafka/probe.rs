//! Finds out what librdkafka does not say: what is wrong with a broker's certificate, and that a port speaks TLS or asks for a login.

use rdkafka::config::ClientConfig;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;
use tidemark_settings::kafka::remedy;

/// How long to connect, and how long to wait for an answer, may take each.
const PATIENCE: Duration = Duration::from_secs(1);
/// The start of a TLS handshake that breaks off: whoever speaks TLS answers it by an alert, or by a handshake.
const BROKEN_HELLO: &[u8] = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
const ALERT_OR_HANDSHAKE: std::ops::RangeInclusive<u8> = 0x15..=0x16;
/// Questions of Kafka's protocol (length, key, version, the number that the answer bears, no client id): which versions, which is answered
/// before a login too; and which topics, of none.
const API_VERSIONS: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff";
const METADATA: &[u8] = b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x01\xff\xff\0\0\0\0";

/// What librdkafka has told of the brokers that it does not reach, in better words if there are any: a connection of our own may find them.
/// Not for a thread that must not wait.
pub fn explain(told: &str, config: &ClientConfig) -> String {
    // Behind it librdkafka counts milliseconds and repetitions.
    let told = told.split_once(" (after ").map_or(told, |(told, _)| told);
    let better = if told.contains("certificate verify failed") {
        let address = told.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(address, _)| address);
        address.and_then(|address| fault_of_certificate(address, config))
    } else if remedy(told).is_none_or(|remedy| !remedy.lasting) {
        let protocol = config.get("security.protocol").unwrap_or("plaintext");
        let address = config.get("bootstrap.servers").and_then(|servers| servers.split(',').next()).map(str::trim);
        let certificate = |address| protocol.ends_with("ssl").then(|| fault_of_certificate(address, config)).flatten();
        address.and_then(|address| certificate(address).or_else(|| fault_of_protocol(address, protocol, told)))
    } else {
        None
    };
    better.unwrap_or_else(|| told.to_owned())
}

fn connect(address: &str) -> Option<TcpStream> {
    let connect = |address| TcpStream::connect_timeout(&address, PATIENCE).ok();
    let stream = address.to_socket_addrs().ok()?.find_map(connect)?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// The start of the answer, none if the connection is ended instead.
fn ask(address: &str, question: &[u8]) -> Option<Vec<u8>> {
    let (mut stream, mut answer) = (connect(address)?, vec![0; 8]);
    stream.write_all(question).ok()?;
    match stream.read(&mut answer) {
        Ok(read) => answer.truncate(read),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => answer.clear(),
        Err(_) => return None,
    }
    Some(answer)
}

/// A broker that is there, and ends the connection of a client that speaks another protocol.
fn fault_of_protocol(address: &str, protocol: &str, told: &str) -> Option<String> {
    let speaks_tls = ask(address, BROKEN_HELLO)?.first().is_some_and(|byte| ALERT_OR_HANDSHAKE.contains(byte));
    let ended =
        || ["brokers are down", "TransportFailure", "Broken pipe", "Disconnected"].iter().any(|words| told.contains(words));
    let asks_for_login = match (protocol.ends_with("ssl"), speaks_tls) {
        (false, true) => return Some(format!("{address} speaks TLS, and this client does not")),
        (true, false) if ask(address, API_VERSIONS)?.get(4..) == Some(&API_VERSIONS[8..12]) => {
            return Some(format!("{address} speaks no TLS, and this client does"));
        }
        (true, false) => false,
        (true, true) => protocol == "ssl" && ended(),
        (false, false) => protocol == "plaintext" && ask(address, METADATA)?.is_empty(),
    };
    asks_for_login.then(|| format!("{address} ends the connection: it may ask for a login"))
}

#[cfg(not(feature = "tls"))]
fn fault_of_certificate(_: &str, _: &ClientConfig) -> Option<String> {
    None
}

/// Why the certificate of this broker is not accepted, as OpenSSL says it to the client that asks.
#[cfg(feature = "tls")]
fn fault_of_certificate(address: &str, config: &ClientConfig) -> Option<String> {
    use openssl::ssl::{HandshakeError, Ssl, SslContext, SslMethod, SslVerifyMode};
    use openssl::x509::{X509, X509VerifyResult};

    let mut context = SslContext::builder(SslMethod::tls_client()).ok()?;
    context.set_verify(SslVerifyMode::PEER);
    match (config.get("ssl.ca.location"), config.get("ssl.ca.pem")) {
        (None | Some("probe"), None) => context.set_default_verify_paths().ok()?,
        (_, Some(pem)) => {
            let authorities = X509::stack_from_pem(pem.as_bytes()).ok()?;
            authorities.into_iter().try_for_each(|authority| context.cert_store_mut().add_cert(authority)).ok()?;
        }
        (Some(path), None) if std::path::Path::new(path).is_dir() => {
            context.load_verify_locations(None, Some(path.as_ref())).ok()?;
        }
        (Some(path), None) => context.set_ca_file(path).ok()?,
    }
    let host = address.rsplit_once(':')?.0.trim_matches(['[', ']']);
    let mut ssl = Ssl::new(&context.build()).ok()?;
    match host.parse() {
        Ok(ip) => ssl.param_mut().set_ip(ip).ok()?,
        Err(_) => {
            ssl.set_hostname(host).ok()?;
            ssl.param_mut().set_host(host).ok()?;
        }
    }
    match ssl.connect(connect(address)?) {
        Err(HandshakeError::Failure(broken)) if broken.ssl().verify_result() != X509VerifyResult::OK => {
            let why = broken.ssl().verify_result().error_string();
            Some(format!("the certificate of {address} is not accepted: {why}"))
        }
        _ => None,
    }
}
