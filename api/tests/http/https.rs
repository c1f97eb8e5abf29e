//! The service with a certificate of its own.

use crate::support::{Api, TestStore};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tidemark_tls::https::{self, Answer};

const LONGEST: Duration = Duration::from_secs(20);

/// A certificate as bytes, written with its key.
fn write(cert: &Path, key: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(cert, made.cert.pem()).unwrap();
    made.cert.der().to_vec()
}

fn ask(api: &Api) -> Answer {
    https::ask(([127, 0, 0, 1], api.port()).into(), "/health", LONGEST).unwrap()
}

#[test]
fn a_renewed_certificate_is_taken_up_and_a_bad_one_is_not() {
    let mut store = TestStore::sqlite();
    store.create_tables();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let first = write(&cert, &key);
    let api = store.api_with(&["--api-tls-cert", cert.to_str().unwrap(), "--api-tls-key", key.to_str().unwrap()]);
    let answer = ask(&api);
    assert!(answer.text.starts_with("HTTP/1."), "{}", answer.text);
    assert_eq!(answer.certificate, first);

    let second = write(&cert, &key);
    let until = Instant::now() + LONGEST;
    while ask(&api).certificate != second {
        assert!(Instant::now() < until, "it is taken up");
        std::thread::sleep(Duration::from_millis(50));
    }
    // A key of another certificate, and then none.
    let good = std::fs::read(&key).unwrap();
    for bad in [rcgen::KeyPair::generate().unwrap().serialize_pem(), "no key".to_owned()] {
        std::fs::write(&key, bad).unwrap();
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(ask(&api).certificate, second);
    }
    std::fs::write(&key, good).unwrap();
    let third = write(&cert, &key);
    while ask(&api).certificate != third {
        assert!(Instant::now() < until, "it is taken up");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn one_of_two_files_and_files_that_do_not_fit_are_one_line_and_status_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    write(&file("a.crt"), &file("a.key"));
    write(&file("b.crt"), &file("b.key"));
    for (cert, key, words) in [
        ("a.crt", "", ["API_TLS_CERT", "API_TLS_KEY"]),
        ("", "a.key", ["API_TLS_CERT", "API_TLS_KEY"]),
        ("a.crt", "b.key", ["API_TLS_KEY", "a.crt"]),
        ("a.crt", "c.key", ["API_TLS_KEY", "c.key"]),
        ("a.key", "a.key", ["API_TLS_CERT", "no certificate"]),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-api"));
        command.env_clear().current_dir(&dir).env("API_ADDR", "127.0.0.1:0").env("DATA_DIR", dir.path());
        for (name, value) in [("API_TLS_CERT", cert), ("API_TLS_KEY", key)] {
            if !value.is_empty() {
                command.env(name, file(value));
            }
        }
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<_> = said.lines().filter(|line| line.starts_with("tidemark-api: ")).collect();
        assert_eq!((output.status.code(), lines.len()), (Some(2), 1), "{said}");
        assert!(words.iter().all(|word| lines[0].contains(word)) && !said.contains("PRIVATE"), "{said}");
    }
}

#[test]
fn a_client_that_begins_no_tls_is_cut() {
    let mut store = TestStore::sqlite();
    store.create_tables();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    write(&cert, &key);
    let api = store.api_with(&["--api-tls-cert", cert.to_str().unwrap(), "--api-tls-key", key.to_str().unwrap()]);
    let mut silent = TcpStream::connect(("127.0.0.1", api.port())).unwrap();
    silent.set_read_timeout(Some(LONGEST)).unwrap();
    // It ends, in whatever way; a read that times out is an error of another kind.
    match std::io::Read::read(&mut silent, &mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}
