//! `/streams` and `/streams/top`.

use crate::error::ApiError;
use crate::freshness::{Clock, Freshness, Written};
use crate::params::{Choice, Parameters};
use crate::queries::{By, Store};
use crate::rows::{StreamRow, TopRow, UtcTime};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

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
        ("by" = Option<String>, Query, description = "donations_usd (default) or chat_messages: sums; active_viewers: the maximum")
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
    let by: By = parameters.choice("by")?;
    let ask = || async {
        let answer = store.top(minutes, n, by).await?;
        Ok(Written::new(answer.at, &Top { rows: answer.rows, by: by.as_str(), minutes, server_time_utc: answer.at.now }))
    };
    freshness.answer(&request, &(minutes, n, by.as_str()), Clock::Minutes, ask).await
}
