//! What is not there, what is not allowed, and the marks on every answer.

use crate::support::on_every_store;
use std::io::{Read, Write};
use std::net::TcpStream;

const PATHS: [&str; 5] = ["/health", "/metrics", "/metrics/latest", "/streams", "/streams/top"];

#[test]
fn paths_that_there_are_not() {
    on_every_store(|store| {
        let api = store.api();
        for path in ["/nothing", "/metrics/a", "/Metrics", "/streams/top/1", "/%00", "/metrics%2Flatest", "/..", "/healthz"] {
            api.get(path).problem(404);
        }
        api.request("DELETE", "/nothing").problem(404);
        for path in PATHS {
            assert_eq!(api.get(&format!("{path}/")).status, 200);
        }
    });
}

#[test]
fn methods_that_paths_do_not_have() {
    on_every_store(|store| {
        let api = store.api();
        for path in PATHS {
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                let answer = api.request(method, path);
                answer.problem(405);
                assert_eq!(answer.header("allow"), "GET, HEAD");
            }
            let head = api.request("HEAD", path);
            assert_eq!((head.status, head.body.as_str()), (200, ""));
        }
    });
}

#[test]
fn every_answer_carries_a_request_id() {
    on_every_store(|store| {
        let api = store.api();
        let ids = ["/metrics", "/nothing", "/metrics?limit=0"].map(|path| api.get(path).header("x-request-id").to_owned());
        assert!(ids.iter().all(|id| !id.is_empty()) && ids[0] != ids[1], "{ids:?}");
        let answer = raw(api.port(), b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-request-id: mine-7\r\nconnection: close\r\n\r\n");
        assert!(answer.contains("x-request-id: mine-7\r\n"), "{answer}");
    });
}

#[test]
fn stray_bytes_are_no_server_error() {
    on_every_store(|store| {
        let api = store.api();
        for line in [
            &b"GET /metrics?stream_id=\xff HTTP/1.1"[..],
            b"GET /metrics?stream_id=\0 HTTP/1.1",
            b"GET /metrics?stream_id=%FF%FE HTTP/1.1",
            b"GET /metrics?stream_id={}|^ HTTP/1.1",
            b"GET http://else.where/metrics?limit= HTTP/1.1",
            b"NONSENSE",
        ] {
            let answer = raw(api.port(), &[line, b"\r\nhost: x\r\nconnection: close\r\n\r\n"].concat());
            assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 200"), "{line:?}: {answer}");
        }
        api.json("/health");
    });
}

fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}
