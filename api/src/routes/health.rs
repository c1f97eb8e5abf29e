//! `/health`: whether the store is in reach, whether the pipeline gives signs of life, how far it is, and what holds it.
//!
//! The store's clock alone decides how old a sign of life is. An idle pipeline gives signs of life and is well. One whose writer is
//! silent, or that commits nothing while something holds it up, stands still: that is a 503.

use crate::freshness::tell_moment;
use crate::queries::{Store, StoreError};
use crate::rows::{Epoch, Partition, Progress, UtcTime};
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// Longest time without a sign of life of the pipeline's writer, if there is a bound.
#[derive(Clone, Copy, Debug)]
pub struct StaleAfter(pub Option<Duration>);

#[derive(Serialize, Default, ToSchema)]
struct Health {
    ok: bool,
    db: bool,
    epoch: Option<Epoch>,
    watermark: Option<UtcTime>,
    /// Null on a file log, whose offsets are bytes.
    lag_records: Option<i64>,
    /// The store's clock at the last commit.
    committed_at: Option<UtcTime>,
    holder: Option<Holder>,
    partitions: Vec<Standing>,
    /// The store's clock at the writer's last sign of life; null from a dataflow that gives none.
    heartbeat_at: Option<UtcTime>,
    /// What holds the pipeline up; null if nothing does.
    trouble: Option<String>,
    server_time_utc: Option<UtcTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
    /// Why this is a 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The store is out of reach.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OutOfReach {
    error: &'static str,
    ok: bool,
}

/// The two answers that are a 503.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the document's words for what `health` answers")]
enum Unhealthy {
    OutOfReach(OutOfReach),
    Standstill(Health),
}

/// The partition that holds the watermark.
#[derive(Serialize, Debug, PartialEq, ToSchema)]
struct Holder {
    topic: String,
    partition: i64,
    state: String,
    /// Null: no valid event yet, so it holds the watermark entirely.
    watermark: Option<UtcTime>,
    /// How far `watermark` is behind the store's clock; the lateness that the pipeline allows is part of it.
    behind_seconds: Option<i64>,
}

/// How far the pipeline is in one partition.
#[derive(Serialize, ToSchema)]
struct Standing {
    topic: String,
    partition: i64,
    /// `backlogged`, `at_end`, `idle` or `not_counting`.
    state: String,
    watermark: Option<UtcTime>,
    next_offset: i64,
    end_offset: i64,
    /// Null on a file log.
    lag_records: Option<i64>,
}

impl Standing {
    fn of(partition: &Partition, counts_records: bool) -> Standing {
        Standing {
            topic: partition.topic.clone(),
            partition: partition.partition,
            state: partition.state.clone(),
            watermark: partition.watermark,
            next_offset: partition.next_offset,
            end_offset: partition.end_offset,
            lag_records: counts_records.then(|| lag(partition)),
        }
    }
}

fn lag(partition: &Partition) -> i64 {
    partition.end_offset.saturating_sub(partition.next_offset).max(0)
}

/// Answers within a second, even if the store hangs.
#[utoipa::path(
    get,
    path = "/health",
    params(),
    responses(
        (status = 200, description = "The store is in reach and the pipeline does not stand still", body = Health),
        (status = 503, description = "The store is out of reach (`error` and `ok` only), or the pipeline stands still", body = Unhealthy)
    )
)]
pub async fn health(store: Data<Store>, stale_after: Data<StaleAfter>) -> impl Responder {
    match store.progress().await {
        Ok(Some(progress)) => {
            let error = stale_after.0.and_then(|longest| standstill(&progress, longest));
            let mut response = if error.is_some() { HttpResponse::ServiceUnavailable() } else { HttpResponse::Ok() };
            tell_moment(&mut response, &progress.moment());
            response.json(Health { ok: error.is_none(), error, ..of(progress) })
        }
        Ok(None) => HttpResponse::Ok().json(waiting("the pipeline has not committed yet")),
        Err(StoreError::NoTables) => HttpResponse::Ok().json(waiting("the pipeline has not created its tables yet")),
        Err(error) => {
            error.log();
            HttpResponse::ServiceUnavailable().json(OutOfReach { error: "the store is out of reach", ok: false })
        }
    }
}

fn waiting(detail: &'static str) -> Health {
    Health { ok: true, db: true, detail: Some(detail), ..Health::default() }
}

/// Why the pipeline is thought to stand still, if it is.
fn standstill(progress: &Progress, longest: Duration) -> Option<String> {
    let is_past = |UtcTime(then): UtcTime| {
        let age = progress.now.0.0.saturating_sub(then.0);
        u64::try_from(age).is_ok_and(|age| Duration::from_micros(age) > longest)
    };
    let (since, committed) = (progress.heartbeat_at.filter(|at| is_past(*at)), progress.committed_at);
    match (since, &progress.trouble) {
        (Some(UtcTime(since)), _) => Some(format!("the pipeline's writer has given no sign of life since {since}")),
        (None, Some(trouble)) if is_past(committed) => {
            Some(format!("the pipeline stands still since {}: {trouble}", committed.0))
        }
        (None, _) => None,
    }
}

fn of(progress: Progress) -> Health {
    let lags = progress.partitions.iter().map(lag);
    let counts_records = progress.fingerprint.starts_with("kafka:");
    Health {
        ok: true,
        db: true,
        epoch: Some(progress.epoch),
        watermark: progress.watermark,
        lag_records: counts_records.then(|| lags.fold(0, i64::saturating_add)),
        committed_at: Some(progress.committed_at),
        holder: holder(&progress),
        partitions: progress.partitions.iter().map(|partition| Standing::of(partition, counts_records)).collect(),
        heartbeat_at: progress.heartbeat_at,
        trouble: progress.trouble,
        server_time_utc: Some(progress.now),
        detail: None,
        error: None,
    }
}

/// The counting partition with the smallest watermark. One that is backlogged without a valid event counts as −∞. An idle one
/// counts with no less than the pipeline's watermark, though its own is older; between equals it is not the one to blame.
fn holder(progress: &Progress) -> Option<Holder> {
    let counting = progress.partitions.iter().filter_map(|partition| {
        let watermark = match partition.state.as_str() {
            "backlogged" => partition.watermark,
            "at_end" => Some(partition.watermark?),
            "idle" => Some(partition.watermark.max(progress.watermark)?),
            _ => return None,
        };
        Some((watermark, partition.state == "idle", partition))
    });
    // `None` is less than any instant.
    let (watermark, _, partition) = counting.min_by_key(|&(watermark, idle, _)| (watermark, idle))?;
    Some(Holder {
        topic: partition.topic.clone(),
        partition: partition.partition,
        state: partition.state.clone(),
        watermark,
        behind_seconds: watermark.map(|UtcTime(watermark)| progress.now.0.0.saturating_sub(watermark.0).div_euclid(1_000_000)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemark_model::Micros;

    fn held_by(watermark: i64, partitions: &[(&str, Option<i64>)]) -> Option<(i64, Option<i64>)> {
        let time = |seconds| UtcTime(Micros(seconds * 1_000_000));
        let partition = |(number, (state, watermark)): (usize, &(&str, Option<i64>))| Partition {
            topic: "t".to_owned(),
            partition: number.try_into().unwrap(),
            next_offset: 0,
            end_offset: 0,
            watermark: watermark.map(time),
            state: (*state).to_owned(),
        };
        let partitions = partitions.iter().enumerate().map(partition).collect();
        let (watermark, fingerprint, now) = (Some(time(watermark)), "kafka:".to_owned(), time(1_000));
        let (committed_at, heartbeat_at, trouble) = (now, Some(now), None);
        let held_by =
            holder(&Progress { epoch: Epoch(1), watermark, fingerprint, committed_at, heartbeat_at, trouble, partitions, now })?;
        Some((held_by.partition, held_by.behind_seconds))
    }

    #[test]
    fn the_smallest_counting_watermark_holds() {
        assert_eq!(held_by(0, &[]), None);
        assert_eq!(held_by(0, &[("not_counting", None), ("at_end", None)]), None);
        assert_eq!(held_by(500, &[("at_end", Some(600)), ("backlogged", Some(500))]), Some((1, Some(500))));
        assert_eq!(held_by(500, &[("at_end", Some(500)), ("backlogged", None)]), Some((1, None)));
        assert_eq!(held_by(500, &[("idle", Some(100)), ("at_end", Some(500))]), Some((1, Some(500))));
        assert_eq!(held_by(500, &[("idle", Some(100)), ("at_end", Some(600))]), Some((0, Some(500))));
        assert_eq!(held_by(500, &[("at_end", Some(700)), ("at_end", Some(700))]), Some((0, Some(300))));
    }
}
