//! One file per resource. A route reads its parameters, asks the store, and says how the answer looks.

mod dead_letters;
mod health;
mod live;
mod metrics;
pub mod openapi;
mod stream;
mod streams;
mod totals;

use crate::{dashboard, error, gate};
use actix_web::dev::HttpServiceFactory;
use actix_web::middleware::from_fn;
use actix_web::{FromRequest, Handler, Responder, guard, web};
pub use health::StaleAfter;
pub use live::LiveLimit;

/// All resources; anything else is a 404.
pub fn configure(service: &mut web::ServiceConfig) {
    service
        .service(get("/", dashboard::page))
        .service(get("/assets/{version}/{name}", dashboard::asset))
        .service(get("/health", health::health))
        .service(get("/metrics", metrics::metrics))
        .service(get("/metrics/latest", metrics::latest))
        .service(get("/metrics/totals", totals::totals))
        .service(get("/streams", streams::streams))
        .service(get("/stream", stream::by_name))
        .service(get("/streams/top", streams::top))
        .service(get("/streams/{stream_id}", stream::stream))
        .service(get("/dead-letters", dead_letters::dead_letters))
        .service(get("/live", live::live))
        .service(get("/openapi.json", openapi::openapi))
        .service(get("/docs", openapi::docs))
        .service(get("/docs/docs.js", openapi::script))
        .service(get("/docs/docs.css", openapi::style))
        .service(get("/prometheus", crate::scrape::scrape))
        .default_service(web::to(error::not_found));
}

/// A resource that answers GET and HEAD, and any other method with 405.
fn get<F, Args>(path: &'static str, handler: F) -> impl HttpServiceFactory + 'static
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let route = web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler);
    let resource = web::resource(path).route(route).default_service(web::to(error::method_not_allowed));
    resource.wrap(from_fn(gate::deadline))
}
