//! `/streams/{stream_id}` and `/stream?stream_id=`: one stream's state, recent minutes and totals. The second takes every name: clients
//! never send `.` or `..` in a path, and `/streams/top` is the ranking.

use crate::amounts::{Amounts, Period};
use crate::error::{ApiError, Problem};
use crate::freshness::Freshness;
use crate::memory::{Clock, Written};
use crate::params::{self, Parameters};
use crate::queries::Store;
use crate::rows::{Epoch, MetricRow, StreamState, UtcTime};
use crate::value::Amount;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tidemark_model::metrics::RollUp;
use utoipa::ToSchema;

/// The answer of `/streams/{stream_id}`.
#[derive(Serialize, ToSchema)]
pub struct StreamAnswer {
    stream_id: String,
    /// Its newest minute row.
    state: Option<StreamState>,
    minutes: u32,
    /// Newest first.
    rows: Vec<MetricRow>,
    /// Of these rows.
    totals: Totals,
    epoch: Option<Epoch>,
    watermark: Option<UtcTime>,
    server_time_utc: UtcTime,
}

type Totals = Amounts<Period>;

/// One stream; a 404 if there never was a row of it.
#[utoipa::path(
    get,
    path = "/streams/{stream_id}",
    params(
        ("stream_id" = String, Path, description = "The stream, escaped as URLs are; /stream?stream_id= takes every name, also top, . and .."),
        ("minutes" = Option<u32>, Query, minimum = 1, maximum = 1440, description = "Rows of the last N minutes (60), and later ones")
    ),
    responses(
        (status = 200, description = "The answer", body = StreamAnswer),
        (status = 304, description = "The client has this answer already"),
        (status = 404, description = "There never was a row of this stream", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn stream(store: Data<Store>, freshness: Data<Freshness>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    // As it was sent: the router would undo escapes that a name may contain.
    let name = request.uri().path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    answer(&store, &freshness, &request, params::stream_id_in_path(name)?).await
}

/// One stream of any name; a 404 if there never was a row of it.
#[utoipa::path(
    get,
    path = "/stream",
    params(
        ("stream_id" = String, Query, description = "The stream, whatever its name"),
        ("minutes" = Option<u32>, Query, minimum = 1, maximum = 1440, description = "Rows of the last N minutes (60), and later ones")
    ),
    responses(
        (status = 200, description = "The answer", body = StreamAnswer),
        (status = 304, description = "The client has this answer already"),
        (status = 404, description = "There never was a row of this stream", body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn by_name(store: Data<Store>, freshness: Data<Freshness>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let stream_id = Parameters::of(request.query_string()).stream_id()?;
    answer(&store, &freshness, &request, stream_id.ok_or_else(params::no_stream_id)?).await
}

async fn answer(
    store: &Store,
    freshness: &Freshness,
    request: &HttpRequest,
    stream_id: String,
) -> Result<HttpResponse, ApiError> {
    let minutes = Parameters::of(request.query_string()).integer("minutes", 1..=1_440, 60)?;
    freshness.answer(request, &(&stream_id, minutes), Clock::Minutes, || ask(store, &stream_id, minutes)).await
}

async fn ask(store: &Store, stream_id: &str, minutes: u32) -> Result<Written, ApiError> {
    let answer = store.stream(stream_id, minutes).await?;
    let state = answer.rows.first().and_then(|line| line.state.clone());
    let rows: Vec<_> = answer.rows.into_iter().filter_map(|line| line.row).collect();
    if state.is_none() && rows.is_empty() {
        return Err(ApiError::NoStream);
    }
    let totals = Totals::try_of(|metric| {
        let known: Option<Vec<i128>> = rows.iter().map(|row| row.values.get(metric).map(Amount::units)).collect();
        let value = known.map(|values| match metric.declared().roll_up {
            RollUp::Sum => values.iter().sum(),
            RollUp::AtEnd | RollUp::Distinct => values.into_iter().max().unwrap_or(0),
        });
        Ok::<_, ApiError>(value.map(|value| Amount::of(metric, value)))
    })?;
    let (epoch, watermark, server_time_utc) = (answer.at.epoch, answer.at.watermark, answer.at.now);
    let stream_id = stream_id.to_owned();
    let answered = StreamAnswer { stream_id, state, minutes, rows, totals, epoch, watermark, server_time_utc };
    Ok(Written::new(answer.at, &answered))
}
