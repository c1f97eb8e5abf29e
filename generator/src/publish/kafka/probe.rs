//! Finds out what librdkafka does not say: what is wrong with a broker's certificate, and that a port speaks TLS or asks for a login.

use rdkafka::config::ClientConfig;
use std::io::{Read, Write};
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};
use tidemark_settings::bounded::Connection;
use tidemark_settings::kafka::remedy;

/// How long to connect, and how long to wait for an answer, may take each.
const PATIENCE: Duration = Duration::from_secs(1);
/// All questions about one fault together take at most this long once the name is looked up, however slowly the other side talks.
const LONGEST: Duration = Duration::from_secs(3);
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
    let until = Instant::now() + LONGEST;
    let better = if told.contains("certificate verify failed") {
        let address = told.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(address, _)| address);
        address.and_then(|address| fault_of_certificate(address, config, until))
    } else if remedy(told).is_none_or(|remedy| !remedy.lasting) {
        let protocol = config.get("security.protocol").unwrap_or("plaintext");
        let address = config.get("bootstrap.servers").and_then(|servers| servers.split(',').next()).map(str::trim);
        let certificate = |address| protocol.ends_with("ssl").then(|| fault_of_certificate(address, config, until)).flatten();
        address.and_then(|address| certificate(address).or_else(|| fault_of_protocol(address, protocol, told, until)))
    } else {
        None
    };
    better.unwrap_or_else(|| told.to_owned())
}

fn connect(address: &str, until: Instant) -> Option<Connection> {
    address.to_socket_addrs().ok()?.find_map(|address| Connection::open(address, PATIENCE, until).ok())
}

/// The start of the answer, none if the connection is ended instead.
fn ask(address: &str, question: &[u8], until: Instant) -> Option<Vec<u8>> {
    let (mut stream, mut answer) = (connect(address, until)?, vec![0; 8]);
    stream.write_all(question).ok()?;
    match stream.read(&mut answer) {
        Ok(read) => answer.truncate(read),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => answer.clear(),
        Err(_) => return None,
    }
    Some(answer)
}

/// A broker that is there, and ends the connection of a client that speaks another protocol.
fn fault_of_protocol(address: &str, protocol: &str, told: &str, until: Instant) -> Option<String> {
    let ask = |question| ask(address, question, until);
    let speaks_tls = ask(BROKEN_HELLO)?.first().is_some_and(|byte| ALERT_OR_HANDSHAKE.contains(byte));
    let ended =
        || ["brokers are down", "TransportFailure", "Broken pipe", "Disconnected"].iter().any(|words| told.contains(words));
    let asks_for_login = match (protocol.ends_with("ssl"), speaks_tls) {
        (false, true) => return Some(format!("{address} speaks TLS, and this client does not")),
        (true, false) if ask(API_VERSIONS)?.get(4..) == Some(&API_VERSIONS[8..12]) => {
            return Some(format!("{address} speaks no TLS, and this client does"));
        }
        (true, false) => false,
        (true, true) => protocol == "ssl" && ended(),
        (false, false) => protocol == "plaintext" && ask(METADATA)?.is_empty(),
    };
    asks_for_login.then(|| format!("{address} ends the connection: it may ask for a login"))
}

#[cfg(not(feature = "tls"))]
fn fault_of_certificate(_: &str, _: &ClientConfig, _: Instant) -> Option<String> {
    None
}

/// Why the certificate of this broker is not accepted, as OpenSSL says it to the client that asks. What librdkafka is set not to look at
/// is not looked at.
#[cfg(feature = "tls")]
fn fault_of_certificate(address: &str, config: &ClientConfig, until: Instant) -> Option<String> {
    use openssl::ssl::{HandshakeError, Ssl, SslContext, SslMethod, SslVerifyMode};
    use openssl::x509::{X509, X509VerifyResult};

    let is_one_of = |name: &str, words: &[&str]| {
        config.get(name).is_some_and(|value| words.iter().any(|word| value.eq_ignore_ascii_case(word)))
    };
    if is_one_of("enable.ssl.certificate.verification", &["false", "f", "0"]) {
        return None;
    }
    let any_name = is_one_of("ssl.endpoint.identification.algorithm", &["none"]);
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
        Ok(_) if any_name => {}
        Ok(ip) => ssl.param_mut().set_ip(ip).ok()?,
        Err(_) => {
            ssl.set_hostname(host).ok()?;
            if !any_name {
                ssl.param_mut().set_host(host).ok()?;
            }
        }
    }
    match ssl.connect(connect(address, until)?) {
        Err(HandshakeError::Failure(broken)) if broken.ssl().verify_result() != X509VerifyResult::OK => {
            let why = broken.ssl().verify_result().error_string();
            Some(format!("the certificate of {address} is not accepted: {why}"))
        }
        _ => None,
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::{PKey, Private};
    use openssl::rsa::Rsa;
    use openssl::ssl::{SslAcceptor, SslMethod};
    use openssl::x509::{X509, X509Name};
    use std::net::TcpListener;
    use std::net::TcpStream;

    /// A server that does this with each connection; its address.
    fn server(each: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let each = each.clone();
                std::thread::spawn(move || each(stream));
            }
        });
        address
    }

    fn config(address: &str, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in [("bootstrap.servers", address), ("security.protocol", "ssl")].iter().chain(more) {
            config.set(*name, *value);
        }
        config
    }

    /// One for no name at all, signed by itself.
    fn certificate() -> (X509, PKey<Private>) {
        let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
        let mut name = X509Name::builder().expect("a name");
        name.append_entry_by_text("CN", "nobody").expect("a name");
        let (name, mut certificate) = (name.build(), X509::builder().expect("a certificate"));
        certificate.set_subject_name(&name).expect("a subject");
        certificate.set_issuer_name(&name).expect("an issuer");
        certificate.set_not_before(&Asn1Time::days_from_now(0).expect("a time")).expect("a start");
        certificate.set_not_after(&Asn1Time::days_from_now(2).expect("a time")).expect("an end");
        certificate.set_pubkey(&key).expect("a key");
        certificate.sign(&key, MessageDigest::sha256()).expect("a signature");
        (certificate.build(), key)
    }

    /// A broker that ends each connection after the handshake: librdkafka tells only that.
    #[test]
    fn only_what_librdkafka_looks_at_in_a_certificate_is_told() {
        let (certificate, key) = certificate();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("a server");
        acceptor.set_private_key(&key).expect("a key");
        acceptor.set_certificate(&certificate).expect("a certificate");
        let acceptor = std::sync::Arc::new(acceptor.build());
        let address = server(move |stream| drop(acceptor.accept(stream)));
        let ca = String::from_utf8(certificate.to_pem().expect("it can be written")).expect("it is text");
        let (known, no_name) = (("ssl.ca.pem", ca.as_str()), ("ssl.endpoint.identification.algorithm", "None"));
        let unchecked = ("enable.ssl.certificate.verification", "false");
        for (settings, says) in [
            (&[][..], "is not accepted: self-signed certificate"),
            (&[known], "is not accepted: IP address mismatch"),
            (&[no_name], "is not accepted: self-signed certificate"),
            (&[known, no_name], "may ask for a login"),
            (&[unchecked], "may ask for a login"),
        ] {
            let told = explain("ssl://broker/bootstrap: Disconnected (after 3ms in state UP)", &config(&address, settings));
            assert!(told.contains(says), "{settings:?}: {told}");
        }
    }

    #[test]
    fn a_server_that_drips_holds_nobody_up() {
        let address = server(|mut stream| {
            // The start of a long handshake message.
            let start = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb";
            for byte in start.iter().copied().chain(std::iter::repeat(0)) {
                if stream.write_all(&[byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let (started, told) = (Instant::now(), "ssl://broker/bootstrap: Disconnected");
        assert_eq!(explain(told, &config(&address, &[])), told);
        assert!(started.elapsed() < LONGEST + PATIENCE, "{:?}", started.elapsed());
    }
}
