//! `/streams` and `/streams/top`.

use crate::amounts::documented;
use crate::error::ApiError;
use crate::freshness::Freshness;
use crate::memory::{Clock, Written};
use crate::params::{self, Choice, Parameters};
use crate::queries::Store;
use crate::rows::{StreamRow, TopRow, UtcTime};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tidemark_model::Metric;
use tidemark_model::metrics::RollUp;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

/// What streams score by if nothing is said.
const BY: Metric = Metric::DonationsUsd;

/// The answer of `/streams`.
#[derive(Serialize, ToSchema)]
pub struct Streams {
    rows: Vec<StreamRow>,
    server_time_utc: UtcTime,
}

/// The answer of `/streams/top`.
#[derive(Serialize, ToSchema)]
pub struct Top {
    rows: Vec<TopRow>,
    by: &'static str,
    minutes: u32,
    server_time_utc: UtcTime,
}

/// The streams that were seen lately.
#[utoipa::path(
    get,
    path = "/streams",
    params(
        ("minutes" = Option<u32>, Query, minimum = 1, maximum = 1440, description = "Rows of the last so many minutes (120), and later ones"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 5000, description = "At most so many streams (200)")
    ),
    responses(
        (status = 200, description = "The answer", body = Streams),
        (status = 304, description = "The client has this answer already")
    )
)]
pub async fn streams(store: Data<Store>, freshness: Data<Freshness>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::of(request.query_string());
    let minutes = parameters.integer("minutes", 1..=1_440, 120)?;
    let limit = parameters.integer("limit", 1..=5_000, 200)?;
    let ask = || async {
        let answer = store.streams(minutes, limit).await?;
        Ok(Written::new(answer.at, &Streams { rows: answer.rows, server_time_utc: answer.at.now }))
    };
    freshness.answer(&request, &(minutes, limit), Clock::Minutes, ask).await
}

/// The streams that score highest.
#[utoipa::path(
    get,
    path = "/streams/top",
    params(
        ("minutes" = Option<u32>, Query, minimum = 1, maximum = 1440, description = "Rows of the last so many minutes (10), and later ones"),
        ("n" = Option<u32>, Query, minimum = 1, maximum = 200, description = "So many streams (10)"),
        By
    ),
    responses(
        (status = 200, description = "The answer", body = Top),
        (status = 304, description = "The client has this answer already")
    )
)]
pub async fn top(store: Data<Store>, freshness: Data<Freshness>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    // Escaped, as `/streams/%74op`, the word is a stream's name.
    if !request.uri().path().ends_with("/top") {
        return super::stream::stream(store, freshness, request).await;
    }
    let parameters = Parameters::of(request.query_string());
    let minutes = parameters.integer("minutes", 1..=1_440, 10)?;
    let n = parameters.integer("n", 1..=200, 10)?;
    let by = parameters.choice("by", BY)?;
    let ask = || async {
        let answer = store.top(minutes, n, by).await?;
        Ok(Written::new(answer.at, &Top { rows: answer.rows, by: by.name(), minutes, server_time_utc: answer.at.now }))
    };
    freshness.answer(&request, &(minutes, n, by.name()), Clock::Minutes, ask).await
}

/// The parameter `by` in the document.
struct By;

impl utoipa::IntoParams for By {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let score = |metric: Metric| match metric.declared().roll_up {
            RollUp::AtEnd | RollUp::Distinct => format!("{}: the maximum", metric.name()),
            RollUp::Sum => format!("{}: the sum", metric.name()),
        };
        let scores = Metric::all().map(score).collect::<Vec<_>>().join(", ");
        let known = "Over the values that are known: nulls are left out, and so is a stream that has nothing else";
        vec![documented("by", params::text(), &format!("{scores} ({} if not given). {known}", BY.name()))]
    }
}
