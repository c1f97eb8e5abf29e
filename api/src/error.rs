//! Everything that can go wrong, as a response. Errors are problem+json (RFC 9457); none carries the store's own words.

use crate::params::BadParameter;
use crate::queries::StoreError;
use crate::rows::Epoch;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// The methods that every resource answers.
const ALLOWED_METHODS: &str = "GET, HEAD";
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
    /// The body is larger than any that is read.
    #[error("no path of this service takes a body of this size")]
    TooLarge,
    /// No token, or another.
    #[error("a token is required: send Authorization: Bearer TOKEN")]
    Unauthorized,
    /// More requests than are allowed; there is none for so long.
    #[error("there are too many requests from this address; try again later")]
    TooMany(Duration),
    /// The resource exists, the method does not.
    #[error("this path answers {ALLOWED_METHODS} only")]
    MethodNotAllowed,
    /// The store's fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The answer to a path that there is not.
pub async fn not_found() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound)
}

/// The answer to a method that a path does not have.
pub async fn method_not_allowed() -> Result<HttpResponse, ApiError> {
    Err(ApiError::MethodNotAllowed)
}

/// The body of every error (RFC 9457).
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// The status in words.
    title: Option<&'static str>,
    status: u16,
    /// What is wrong.
    detail: String,
    /// The parameter that cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    /// What it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// What it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed: Option<String>,
    /// The commit that the store has, if it is not the one that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    epoch: Option<Option<Epoch>>,
}

impl ApiError {
    fn problem(&self) -> Problem {
        let status = self.status_code();
        let bad = if let ApiError::Parameter(bad) = self { Some(bad) } else { None };
        Problem {
            title: status.canonical_reason(),
            status: status.as_u16(),
            detail: self.to_string(),
            parameter: bad.map(|bad| bad.parameter.clone()),
            value: bad.map(|bad| bad.value.clone()),
            allowed: bad.map(|bad| bad.allowed.clone()),
            epoch: if let ApiError::NotYet { has, .. } = self { Some(*has) } else { None },
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            ApiError::Parameter(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ApiError::NotFound | ApiError::NoStream => StatusCode::NOT_FOUND,
            ApiError::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::Unauthorized => StatusCode::UNAUTHORIZED,
            ApiError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            ApiError::NotYet { .. } => StatusCode::GATEWAY_TIMEOUT,
            ApiError::Store(StoreError::Refused(_) | StoreError::Pooler(_)) => StatusCode::INTERNAL_SERVER_ERROR,
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
            ApiError::Unauthorized => drop(response.insert_header((header::WWW_AUTHENTICATE, "Bearer"))),
            ApiError::TooMany(wait) => drop(response.insert_header((header::RETRY_AFTER, wait.as_secs() + 1))),
            ApiError::Busy(_) => drop(response.insert_header((header::RETRY_AFTER, "1"))),
            _ => {}
        }
        response
            .content_type("application/problem+json")
            .body(serde_json::to_string(&self.problem()).expect("a problem always serializes"))
    }
}
