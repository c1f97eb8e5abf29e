//! `/metrics/totals`: all streams together, window by window.

use crate::error::ApiError;
use crate::freshness::Freshness;
use crate::memory::{Clock, Written};
use crate::params::Parameters;
use crate::queries::{Since, Store, TotalsQuery};
use crate::rows::{Epoch, Present, TotalsRow, UtcTime};
use crate::windows;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

type Recent = windows::Recent<60>;

/// The answer of `/metrics/totals`.
#[derive(Serialize, ToSchema)]
pub struct TotalsAnswer {
    /// Newest first.
    rows: Vec<TotalsRow>,
    /// Of the streams whose newest minute is not before the range.
    present: Present,
    epoch: Option<Epoch>,
    watermark: Option<UtcTime>,
    server_time_utc: UtcTime,
}

/// All streams together, window by window.
#[utoipa::path(
    get,
    path = "/metrics/totals",
    params(
        Recent,
        ("from" = Option<String>, Query, description = "Windows that start at or after this time; takes the place of minutes"),
        ("to" = Option<String>, Query, description = "Windows that start before this time; takes the place of minutes"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 5000, description = "At most N windows, the newest ones (1500)")
    ),
    responses(
        (status = 200, description = "The answer", body = TotalsAnswer),
        (status = 304, description = "The client has this answer already")
    )
)]
pub async fn totals(store: Data<Store>, freshness: Data<Freshness>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::of(request.query_string());
    let (grain, minutes) = Recent::read(&parameters)?;
    let (from, to) = (parameters.instant("from")?, parameters.instant("to")?);
    let since = match (from, to) {
        (Some(from), _) => Since::Instant(from),
        (None, Some(_)) => Since::Ever,
        (None, None) => Since::Minutes(minutes),
    };
    let limit = parameters.integer("limit", 1..=5_000, 1_500)?;
    let clock = if matches!(since, Since::Minutes(_)) { Clock::Minutes } else { Clock::Unused };
    let question = (grain, minutes, from.map(UtcTime), to.map(UtcTime), limit);
    freshness.answer(&request, &question, clock, || ask(&store, TotalsQuery { grain, since, to, limit })).await
}

async fn ask(store: &Store, query: TotalsQuery) -> Result<Written, ApiError> {
    let answer = store.totals(query).await?;
    let present = answer.rows.first().map(|line| line.present.clone()).expect("it is in a line, and there is one at least");
    let rows = answer.rows.into_iter().filter_map(|line| line.row).collect();
    let (epoch, watermark, server_time_utc) = (answer.at.epoch, answer.at.watermark, answer.at.now);
    Ok(Written::new(answer.at, &TotalsAnswer { rows, present, epoch, watermark, server_time_utc }))
}
