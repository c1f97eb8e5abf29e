//! `/dead-letters`: what the pipeline rejected, by reason.

use crate::error::ApiError;
use crate::freshness::{Freshness, tell_moment};
use crate::params::Parameters;
use crate::queries::Store;
use crate::rows::{DeadLetterRow, Epoch, UtcTime};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

/// The answer of `/dead-letters`.
#[derive(Serialize, ToSchema)]
pub struct DeadLetters {
    /// Most frequent first.
    rows: Vec<DeadLetterRow>,
    /// All of them.
    records: i64,
    epoch: Option<Epoch>,
    watermark: Option<UtcTime>,
    server_time_utc: UtcTime,
}

/// Rejected records by reason. Always asked of the store: a record that is published again is marked without a commit.
#[utoipa::path(
    get,
    path = "/dead-letters",
    params(),
    responses(
        (status = 200, description = "The answer", body = DeadLetters)
    )
)]
pub async fn dead_letters(
    store: Data<Store>,
    freshness: Data<Freshness>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let wanted = freshness.wait(&Parameters::of(request.query_string())).await?;
    let answer = store.dead_letters().await?;
    wanted.is_in(&answer.at)?;
    let mut response = HttpResponse::Ok();
    tell_moment(&mut response, &answer.at);
    Ok(response.json(DeadLetters {
        records: answer.rows.iter().map(|row| row.records).sum(),
        rows: answer.rows,
        epoch: answer.at.epoch,
        watermark: answer.at.watermark,
        server_time_utc: answer.at.now,
    }))
}
