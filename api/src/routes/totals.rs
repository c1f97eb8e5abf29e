//! `/metrics/totals`: the sums over all streams, minute by minute.

use crate::error::ApiError;
use crate::params::Parameters;
use crate::queries::{Since, Store, TotalsQuery};
use crate::rows::{Epoch, Present, TotalsRow, UtcTime};
use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use serde::Serialize;

/// The answer of `/metrics/totals`.
#[derive(Serialize)]
pub struct TotalsAnswer {
    /// Newest first.
    rows: Vec<TotalsRow>,
    /// Of the streams whose newest minute is not before the range.
    present: Present,
    epoch: Option<Epoch>,
    watermark: Option<UtcTime>,
    server_time_utc: UtcTime,
}

/// The newest minutes of a range.
pub async fn totals(store: Data<Store>, request: HttpRequest) -> Result<Json<TotalsAnswer>, ApiError> {
    let parameters = Parameters::of(request.query_string());
    let minutes = parameters.integer("minutes", 1..=1_440, 60)?;
    let (from, to) = (parameters.instant("from")?, parameters.instant("to")?);
    let since = match (from, to) {
        (Some(from), _) => Since::Instant(from),
        (None, Some(_)) => Since::Ever,
        (None, None) => Since::Minutes(minutes),
    };
    let limit = parameters.integer("limit", 1..=5_000, 1_500)?;
    let answer = store.totals(TotalsQuery { since, to, limit }).await?;
    let present = answer.rows.first().map(|line| line.present).unwrap_or_default();
    Ok(Json(TotalsAnswer {
        rows: answer.rows.into_iter().filter_map(|line| line.row).collect(),
        present,
        epoch: answer.at.epoch,
        watermark: answer.at.watermark,
        server_time_utc: answer.at.now,
    }))
}
