//! The metrics port under what is done to ports.

use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tidemark_dataflow::telemetry;
use tidemark_tls::https;

fn answer(address: SocketAddr, method: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn it_answers_what_is_asked_and_goes_on_after_a_flood() {
    let mut registry = Registry::default();
    registry.register("cups", "of tea", prometheus_client::metrics::gauge::Gauge::<i64>::default());
    let address = telemetry::serve("localhost:0", registry, None).expect("a port is free")[0];

    for path in ["/metrics", "/metrics?name[]=cups", "/metrics/"] {
        let text = answer(address, "GET", path).expect(path);
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("cups 0"), "{path}: {text}");
    }
    let head = answer(address, "HEAD", "/metrics").expect("it answers");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(answer(address, "GET", "/").expect("it answers").ends_with("at /metrics\n"));
    let none = answer(address, "GET", "/health").expect("it answers");
    assert!(none.starts_with("HTTP/1.1 404") && none.ends_with("at /metrics\n"), "{none}");

    // Clients that connect and say nothing, more than there are places: the others come after them.
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(address).expect("it is queued")).collect();
    let started = Instant::now();
    assert!(answer(address, "GET", "/metrics").expect("it answers").contains("cups 0"));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    drop(silent);

    // The client has the last descriptor, so that the server has none to accept it with.
    let before = getrlimit(Resource::Nofile);
    let used = std::fs::read_dir("/proc/self/fd").expect("Linux").count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(used + 8), ..before }).expect("a lower soft limit is allowed");
    let mut files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    drop(files.pop());
    let starving = TcpStream::connect(address).expect("one descriptor is left");
    std::thread::sleep(Duration::from_secs(1));
    setrlimit(Resource::Nofile, before).expect("the old limit is allowed");
    drop((files, starving));
    assert!(answer(address, "GET", "/metrics").expect("it answers again").contains("cups 0"));
}

#[test]
fn with_a_certificate_it_speaks_https_and_a_silent_client_keeps_no_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&cert, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let tls = https::config(("METRICS_TLS_CERT", Some(&cert)), ("METRICS_TLS_KEY", Some(&key))).expect("they fit together");
    let mut registry = Registry::default();
    registry.register("cups", "of tea", prometheus_client::metrics::gauge::Gauge::<i64>::default());
    let address = telemetry::serve("127.0.0.1:0", registry, tls).expect("a port is free")[0];
    let ask = || https::ask(address, "/metrics", Duration::from_secs(20)).expect("it answers");
    let answer = ask();
    assert!(answer.text.contains("cups 0") && answer.certificate == made.cert.der().to_vec(), "{}", answer.text);
    assert!(https::is_healthy(address, "/metrics").is_ok());
    let plain = self::answer(address, "GET", "/metrics");
    assert!(plain.as_ref().is_ok_and(|text| !text.contains("cups")) || plain.is_err(), "{plain:?}");
    // More than there are places.
    let silent: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(address).expect("it is queued")).collect();
    let started = Instant::now();
    assert!(ask().text.contains("cups 0"));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    drop(silent);
}
