//! `/dead-letters`: what the pipeline rejected, by reason.

use crate::error::ApiError;
use crate::queries::Store;
use crate::rows::{DeadLetterRow, Epoch, UtcTime};
use actix_web::web::{Data, Json};
use serde::Serialize;

/// The answer of `/dead-letters`.
#[derive(Serialize)]
pub struct DeadLetters {
    /// Most frequent first.
    rows: Vec<DeadLetterRow>,
    /// All of them.
    records: i64,
    epoch: Option<Epoch>,
    watermark: Option<UtcTime>,
    server_time_utc: UtcTime,
}

/// Rejected records by reason.
pub async fn dead_letters(store: Data<Store>) -> Result<Json<DeadLetters>, ApiError> {
    let answer = store.dead_letters().await?;
    Ok(Json(DeadLetters {
        records: answer.rows.iter().map(|row| row.records).sum(),
        rows: answer.rows,
        epoch: answer.at.epoch,
        watermark: answer.at.watermark,
        server_time_utc: answer.at.now,
    }))
}
