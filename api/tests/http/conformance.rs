//! Every answer in JSON that any of these tests gets is checked against the OpenAPI document.

use crate::support::{Answer, TestStore};
use serde_json::{Value, json};
use std::sync::LazyLock;

pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(tidemark_api::routes::openapi::document()).unwrap());

/// Panics if the document does not say that this path answers so.
pub fn check(method: &str, path: &str, answer: &Answer) {
    let media_type = answer.header("content-type").split(';').next().unwrap();
    if method != "GET" || !["application/json", "application/problem+json"].contains(&media_type) {
        return;
    }
    let path = path.split('?').next().unwrap().trim_end_matches('/');
    let pattern = match path.strip_prefix("/streams/") {
        Some(name) if name != "top" && !name.contains('/') => "/streams/{stream_id}",
        _ => path,
    };
    let documented = &DOCUMENT["paths"][pattern]["get"]["responses"];
    let schema = &documented[answer.status.to_string()]["content"][media_type]["schema"];
    let general = [401, 404, 405, 413, 429, 500].contains(&answer.status);
    let schema = match schema {
        Value::Null if general => json!({"$ref": "#/components/schemas/Problem"}),
        Value::Null if documented.is_null() => return,
        Value::Null => panic!("{pattern} answers {} as {media_type}, which is not documented", answer.status),
        schema => schema.clone(),
    };
    let root = json!({"allOf": [schema], "components": DOCUMENT["components"]});
    let validator = jsonschema::draft202012::new(&root).unwrap();
    let body = answer.json();
    let faults: Vec<_> = validator.iter_errors(&body).map(|fault| format!("{fault} at {}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{path}: {faults:?}: {}", answer.body);
}

#[test]
fn the_document_is_served_and_names_every_path() {
    let store = TestStore::sqlite();
    let api = store.api();
    let document = api.json("/openapi.json");
    assert_eq!(document, *DOCUMENT);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "/dead-letters",
        "/health",
        "/live",
        "/metrics",
        "/metrics/latest",
        "/metrics/totals",
        "/stream",
        "/streams",
        "/streams/top",
        "/streams/{stream_id}",
    ];
    assert!(expected.iter().all(|path| paths.contains(path)), "{paths:?}");
}

#[test]
fn a_wrong_answer_would_be_found() {
    let headers = ureq::http::HeaderMap::from_iter([(ureq::http::header::CONTENT_TYPE, "application/json".parse().unwrap())]);
    let answer =
        |body: &str| Answer { status: 200, headers: headers.clone(), body: body.to_owned(), took: std::time::Duration::ZERO };
    let time = "\"server_time_utc\":\"2026-01-01T00:00:00Z\"";
    check("GET", "/streams", &answer(&format!("{{\"rows\":[],{time}}}")));
    for body in ["{\"rows\":[]}", &format!("{{\"rows\":[{{\"stream_id\":1}}],{time}}}"), &format!("{{\"rows\":null,{time}}}")] {
        let body = body.to_owned();
        let answer = answer(&body);
        assert!(std::panic::catch_unwind(|| check("GET", "/streams", &answer)).is_err(), "{body}");
    }
}

#[test]
fn the_page_of_the_docs_asks_nobody_else() {
    let api = TestStore::sqlite().api();
    let page = api.get("/docs");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let loaded: Vec<_> = page.body.split(['"', '\'']).filter(|part| part.starts_with('/') || part.contains("//")).collect();
    assert!(loaded.len() >= 3, "{loaded:?}");
    for path in loaded {
        assert!(path.starts_with('/') && !path.starts_with("//"), "{path}");
        let part = api.get(path);
        assert_eq!(part.status, 200, "{path}");
        assert!(!part.body.contains("http://") && !part.body.contains("https://"), "{path}");
    }
    assert!(!page.body.contains("style=") && !page.body.contains("<script>") && !page.body.contains("onclick"));
}
