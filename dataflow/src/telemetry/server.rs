//! The port on which Prometheus finds the metrics.
//!
//! actix-web, as the api has it: it goes on after the process had no descriptors left, and bounds connections and slow clients.

use actix_web::http::KeepAlive;
use actix_web::http::header::ContentType;
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer};
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

/// Connections at one time; more wait in the system's queue. The run needs descriptors too.
const MOST_CONNECTIONS: usize = 16;
/// How long a client may take to say what it wants.
const REQUEST: Duration = Duration::from_secs(2);

const INDEX: &str = "tidemark-dataflow: the metrics are at /metrics\n";
const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the registry as text at `/metrics` of `host:port`, on a thread of its own, for as long as the process lives; by
/// HTTPS if there is a certificate. Returns where it listens.
pub fn serve(address: &str, registry: Registry, tls: Option<ServerConfig>) -> Result<Vec<SocketAddr>, String> {
    let listeners = listen(address).map_err(|error| format!("METRICS_ADDR={address}: {error}; set another, or off"))?;
    let places = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let registry = Data::new(registry);
    let run = move || {
        let served = actix_web::rt::System::new().block_on(async {
            let app = move || {
                let metrics =
                    || web::resource(["/metrics", "/metrics/"]).route(web::get().to(metrics)).route(web::head().to(metrics));
                App::new().app_data(Data::clone(&registry)).service(metrics()).default_service(web::to(elsewhere))
            };
            let mut server = HttpServer::new(app).workers(1).max_connections(MOST_CONNECTIONS).disable_signals();
            // Each may be in its TLS handshake.
            server = server.max_connection_rate(MOST_CONNECTIONS);
            server = server.keep_alive(KeepAlive::Disabled).client_request_timeout(REQUEST).tls_handshake_timeout(REQUEST);
            for listener in listeners {
                server = match &tls {
                    None => server.listen(listener)?,
                    Some(tls) => server.listen_rustls_0_23(listener, tls.clone())?,
                };
            }
            server.run().await
        });
        // A panic of any thread ends the process.
        panic!("the metrics are no longer served: {served:?}");
    };
    std::thread::Builder::new().name("metrics".to_owned()).spawn(run).map_err(|error| error.to_string())?;
    Ok(places)
}

/// Listens at each address of the name. One is enough: a machine without IPv6 has a `localhost` with two.
fn listen(address: &str) -> std::io::Result<Vec<TcpListener>> {
    let (mut listeners, mut last) = (Vec::new(), None);
    for place in address.to_socket_addrs()? {
        match TcpListener::bind(place) {
            Ok(listener) => listeners.push(listener),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if listeners.is_empty() => Err(error),
        _ if listeners.is_empty() => Err(std::io::Error::other("it is no address of this machine")),
        _ => Ok(listeners),
    }
}

async fn metrics(registry: Data<Registry>) -> HttpResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => HttpResponse::Ok().content_type(KIND).body(text),
        Err(_) => HttpResponse::InternalServerError().body("the metrics cannot be written"),
    }
}

async fn elsewhere(request: actix_web::HttpRequest) -> HttpResponse {
    let mut answer = if request.path() == "/" { HttpResponse::Ok() } else { HttpResponse::NotFound() };
    answer.content_type(ContentType::plaintext()).body(INDEX)
}
