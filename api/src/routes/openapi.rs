//! `/openapi.json`, made from the types and routes, and `/docs`, a page that shows it and asks nobody else for anything.

use super::{dead_letters, health, live, metrics, stream, streams, totals};
use crate::error::Problem;
use actix_web::HttpResponse;
use actix_web::http::header;
use std::sync::LazyLock;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

/// What all of them have in common is added by `Common`.
#[derive(OpenApi)]
#[openapi(
    info(title = "Tidemark", description = "Metrics of live streams by minute, hour and day. Times are RFC 3339 in UTC, money has two exact \
        decimals, errors are problem+json. Unknown parameters are ignored; a known one is right or the request is refused."),
    paths(
        health::health, metrics::metrics, metrics::latest, totals::totals, streams::streams, streams::top, stream::stream, stream::by_name,
        dead_letters::dead_letters, live::live
    ),
    components(schemas(Problem)),
    modifiers(&Common)
)]
struct Api;

struct Common;

/// The document.
pub fn document() -> Document {
    Api::openapi()
}

/// The document as JSON.
pub async fn openapi() -> HttpResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_json().expect("the document always serializes"));
    file("application/json", TEXT.as_bytes())
}

/// The page.
pub async fn docs() -> HttpResponse {
    file("text/html; charset=utf-8", include_bytes!("docs/index.html"))
}

/// Its script.
pub async fn script() -> HttpResponse {
    file("text/javascript; charset=utf-8", include_bytes!("docs/docs.js"))
}

/// Its style.
pub async fn style() -> HttpResponse {
    file("text/css; charset=utf-8", include_bytes!("docs/docs.css"))
}

fn file(media_type: &'static str, content: &'static [u8]) -> HttpResponse {
    HttpResponse::Ok().content_type(media_type).insert_header((header::CACHE_CONTROL, "no-cache")).body(content)
}

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        for (path, item) in &mut document.paths.paths {
            let Some(operation) = &mut item.get else { continue };
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    let integer = ObjectBuilder::new().schema_type(Type::Integer).build();
                    let epoch =
                        HeaderBuilder::new().schema(Some(integer)).description(Some("The commit that the answer tells of"));
                    let text = ObjectBuilder::new().schema_type(Type::String).build();
                    let watermark =
                        HeaderBuilder::new().schema(Some(text)).description(Some("Rows that end at or before it are final"));
                    response.headers.insert("x-tidemark-epoch".to_owned(), epoch.build().into());
                    response.headers.insert("x-tidemark-watermark".to_owned(), watermark.build().into());
                }
            }
            if path == "/health" {
                continue;
            }
            problem(operation, "422", "A parameter cannot be used: which, its value, and what is allowed");
            problem(operation, "503", "The store is out of reach or did not answer in time");
            if path != "/live" {
                problem(operation, "504", "The store did not reach min_epoch in time");
                let integer = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
                let min_epoch = ParameterBuilder::new().name("min_epoch").parameter_in(ParameterIn::Query).schema(Some(integer));
                let min_epoch = min_epoch.description(Some("Wait until the store has this commit, as x-tidemark-epoch told it"));
                operation.parameters.get_or_insert_default().push(min_epoch.build().into());
            }
        }
    }
}

fn problem(operation: &mut Operation, status: &str, description: &str) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content("application/problem+json", content).build();
    operation.responses.responses.insert(status.to_owned(), response.into());
}
