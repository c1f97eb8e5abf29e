//! The port on which Prometheus finds the metrics.

use prometheus_client::registry::Registry;
use std::net::SocketAddr;

/// Serves the registry as text at `/metrics`, on a thread of its own, for as long as the process lives.
pub fn serve(address: SocketAddr, registry: Registry) -> Result<(), String> {
    let server =
        tiny_http::Server::http(address).map_err(|error| format!("METRICS_ADDR={address}: {error}; set another, or off"))?;
    let answer = move || {
        for request in server.incoming_requests() {
            let mut text = String::new();
            let response = match (request.url(), prometheus_client::encoding::text::encode(&mut text, &registry)) {
                ("/metrics", Ok(())) => tiny_http::Response::from_string(text).with_header(text_header()),
                ("/metrics", Err(_)) => tiny_http::Response::from_string("the metrics cannot be written").with_status_code(500),
                _ => tiny_http::Response::from_string("not found: there is only /metrics").with_status_code(404),
            };
            // Who went away does not need the answer.
            let _ = request.respond(response);
        }
    };
    std::thread::Builder::new().name("metrics".to_owned()).spawn(answer).map(drop).map_err(|error| error.to_string())
}

fn text_header() -> tiny_http::Header {
    let kind = b"application/openmetrics-text; version=1.0.0; charset=utf-8";
    tiny_http::Header::from_bytes(b"Content-Type", kind).expect("a constant header is well-formed")
}
