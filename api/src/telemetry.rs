//! The log: its form, and one line per request. The query string is never logged: it may hold names of people.

use crate::config::LogFormat;
use crate::scrape::Metrics;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tidemark_settings::process::Process;
use tracing_subscriber::EnvFilter;

/// Names a request in the log and to its client.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Starts the log on standard error. Without `RUST_LOG` its level is `info`.
pub fn start_log(process: &Process, format: LogFormat) {
    let writer = process.log_writer();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer);
    let log = log.with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    process.log_is_ready();
}

/// Logs one line per answer, and gives it the request's id: the client's own if it sent a usable one.
pub async fn log_request(
    metrics: Data<Metrics>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let started = Instant::now();
    let id = request_id(&request);
    let (method, path) = (request.method().clone(), request.path().to_owned());
    let mut response = next.call(request).await?;
    let (status, took) = (response.status().as_u16(), started.elapsed());
    let ms = took.as_micros() as f64 / 1e3;
    let route = response.request().match_pattern().unwrap_or_else(|| "none".to_owned());
    metrics.answered(&route, status, took);
    let shown = id.to_str().unwrap_or_default();
    if path == "/health" {
        tracing::debug!(%method, path, route, status, ms, request_id = shown, "request");
    } else {
        tracing::info!(%method, path, route, status, ms, request_id = shown, "request");
    }
    response.headers_mut().insert(REQUEST_ID, id);
    Ok(response)
}

/// At most 128 visible characters of the client's, or a number that is unique in this process.
fn request_id(request: &ServiceRequest) -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let usable = |id: &&HeaderValue| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    match request.headers().get(REQUEST_ID).filter(usable) {
        Some(id) => id.clone(),
        None => HeaderValue::from(NEXT.fetch_add(1, Ordering::Relaxed)),
    }
}
