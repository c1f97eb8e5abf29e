//! Everything that can go wrong, as a response. Errors are problem+json (RFC 9457); none carries the store's own words.

use crate::queries::StoreError;
use crate::rows::Epoch;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde_json::{Map, Value, json};

/// The methods that every resource answers.
const ALLOWED_METHODS: &str = "GET, HEAD";
/// Longest part of a bad value that is sent back.
const SHOWN_CHARACTERS: usize = 300;

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The client's fault.
    #[error(transparent)]
    Parameter(#[from] BadParameter),
    /// No such resource.
    #[error("there is nothing at this path")]
    NotFound,
    /// No row ever was of that stream.
    #[error("there is no stream of this name")]
    NoStream,
    /// A bound is reached; it passes.
    #[error("{0}; try again later")]
    Busy(&'static str),
    /// The store did not reach the epoch that was asked for.
    #[error("the store has not reached epoch {} in time", wanted.0)]
    NotYet {
        /// What was asked for.
        wanted: Epoch,
        /// What the store has.
        has: Option<Epoch>,
    },
    /// The resource exists, the method does not.
    #[error("this path answers {ALLOWED_METHODS} only")]
    MethodNotAllowed,
    /// The store's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A query parameter that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{parameter} must be {allowed}")]
pub struct BadParameter {
    parameter: &'static str,
    value: String,
    allowed: String,
}

impl BadParameter {
    /// Parameter `name` was `value`, and should be `allowed`.
    pub fn new(name: &'static str, value: &str, allowed: String) -> BadParameter {
        BadParameter { parameter: name, value: value.chars().take(SHOWN_CHARACTERS).collect(), allowed }
    }
}

/// The answer to a path that there is not.
pub async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound)
}

/// The answer to a method that a path does not have.
pub async fn method_not_allowed() -> Result<HttpResponse, ApiError> {
    Err(ApiError::MethodNotAllowed)
}

impl ApiError {
    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        let status = self.status_code();
        members.insert("title".to_owned(), json!(status.canonical_reason()));
        members.insert("status".to_owned(), json!(status.as_u16()));
        members.insert("detail".to_owned(), json!(self.to_string()));
        if let ApiError::Parameter(BadParameter { parameter, value, allowed }) = self {
            members.insert("parameter".to_owned(), json!(parameter));
            members.insert("value".to_owned(), json!(value));
            members.insert("allowed".to_owned(), json!(allowed));
        }
        if let ApiError::NotYet { has, .. } = self {
            members.insert("epoch".to_owned(), json!(has));
        }
        members
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            ApiError::Parameter(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ApiError::NotFound | ApiError::NoStream => StatusCode::NOT_FOUND,
            ApiError::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::NotYet { .. } => StatusCode::GATEWAY_TIMEOUT,
            ApiError::Store(StoreError::Refused(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            ApiError::Busy(_) | ApiError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            ApiError::MethodNotAllowed => drop(response.insert_header((header::ALLOW, ALLOWED_METHODS))),
            ApiError::Store(error) => {
                error.log();
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            ApiError::Busy(_) => drop(response.insert_header((header::RETRY_AFTER, "1"))),
            _ => {}
        }
        response.content_type("application/problem+json").body(Value::Object(self.members()).to_string())
    }
}
