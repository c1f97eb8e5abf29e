//! `/streams` and `/streams/top`.

use crate::amounts::{documented, only};
use crate::error::ApiError;
use crate::freshness::Freshness;
use crate::memory::{Clock, Written};
use crate::params::{self, Choice, Parameters};
use crate::queries::Store;
use crate::rows::{StreamRow, TopRow, UtcTime};
use crate::windows::{Length, Recent};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tidemark_model::Metric;
use tidemark_model::metrics::RollUp;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

/// What streams score by if nothing is said.
const BY: Metric = Metric::DonationsUsd;
/// The rows by which streams are listed.
type Listed = Recent<120>;
/// The rows by which they score.
type Scored = Recent<10>;

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
    /// Left out for minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    grain: Option<&'static str>,
    minutes: u32,
    server_time_utc: UtcTime,
}

/// The streams that were seen lately.
#[utoipa::path(
    get,
    path = "/streams",
    params(
        Listed,
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 5000, description = "At most so many streams (200)")
    ),
    responses(
        (status = 200, description = "The answer", body = Streams),
        (status = 304, description = "The client has this answer already")
    )
)]
pub async fn streams(store: Data<Store>, freshness: Data<Freshness>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::of(request.query_string());
    let (grain, minutes) = Listed::read(&parameters)?;
    let limit = parameters.integer("limit", 1..=5_000, 200)?;
    let ask = || async {
        let answer = store.streams(grain, minutes, limit).await?;
        Ok(Written::new(answer.at, &Streams { rows: answer.rows, server_time_utc: answer.at.now }))
    };
    freshness.answer(&request, &(grain, minutes, limit), Clock::Minutes, ask).await
}

/// The streams that score highest.
#[utoipa::path(
    get,
    path = "/streams/top",
    params(
        Scored,
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
    let (grain, minutes) = Scored::read(&parameters)?;
    let n = parameters.integer("n", 1..=200, 10)?;
    let by = parameters.choice_if("by", |metric: Metric| Metric::of(grain).contains(&metric), BY)?;
    let ask = || async {
        let answer = store.top(grain, minutes, n, by).await?;
        let (rows, by, grain, server_time_utc) = (answer.rows, by.name(), Length::told(grain), answer.at.now);
        Ok(Written::new(answer.at, &Top { rows, by, grain, minutes, server_time_utc }))
    };
    freshness.answer(&request, &(grain, minutes, n, by.name()), Clock::Minutes, ask).await
}

/// The parameter `by` in the document.
struct By;

impl utoipa::IntoParams for By {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let score = |metric: Metric| {
            let score = match metric.declared().roll_up {
                RollUp::AtEnd | RollUp::Distinct | RollUp::Largest => "maximum",
                RollUp::Sum => "sum",
            };
            format!("{}: the {score}{}", metric.name(), only(metric))
        };
        let scores = Metric::all().map(score).collect::<Vec<_>>().join(", ");
        let known = "Over the values that are known: nulls are left out, and so is a stream that has nothing else";
        vec![documented("by", params::text(), &format!("{scores} ({} if not given). {known}", BY.name()))]
    }
}
