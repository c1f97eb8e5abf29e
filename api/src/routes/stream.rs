//! `/streams/{stream_id}` and `/stream?stream_id=`: one stream's state, recent rows and totals. The second takes every name: clients
//! never send `.` or `..` in a path, and `/streams/top` is the ranking.

use crate::amounts::{Amounts, Period};
use crate::error::{ApiError, Problem};
use crate::freshness::Freshness;
use crate::memory::{Clock, Written};
use crate::params::{self, Parameters};
use crate::queries::Store;
use crate::rows::{Epoch, MetricRow, StreamState, UtcTime};
use crate::value::Amount;
use crate::windows::{self, Length};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tidemark_model::Grain;
use tidemark_model::metrics::RollUp;
use utoipa::ToSchema;

type Recent = windows::Recent<60>;

/// The answer of `/streams/{stream_id}`.
#[derive(Serialize, ToSchema)]
pub struct StreamAnswer {
    stream_id: String,
    /// Its newest minute row.
    state: Option<StreamState>,
    /// Left out for minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    grain: Option<&'static str>,
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
        Recent
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
        Recent
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
    let (grain, minutes) = Recent::read(&Parameters::of(request.query_string()))?;
    let question = (&stream_id, grain, minutes);
    freshness.answer(request, &question, Clock::Minutes, || ask(store, &stream_id, grain, minutes)).await
}

async fn ask(store: &Store, stream_id: &str, grain: Grain, minutes: u32) -> Result<Written, ApiError> {
    let answer = store.stream(stream_id, grain, minutes).await?;
    let state = answer.rows.first().and_then(|line| line.state.clone());
    let rows: Vec<_> = answer.rows.into_iter().filter_map(|line| line.row).collect();
    if state.is_none() && rows.is_empty() {
        return Err(ApiError::NoStream);
    }
    let totals = Totals::try_of(grain, |metric| {
        let known: Option<Vec<i128>> = rows.iter().map(|row| row.values.get(metric).map(Amount::units)).collect();
        let value = known.map(|values| match metric.declared().roll_up {
            RollUp::Sum => values.iter().sum(),
            RollUp::AtEnd | RollUp::Distinct | RollUp::Largest => values.into_iter().max().unwrap_or(0),
        });
        Ok::<_, ApiError>(value.map(|value| Amount::of(metric, value)))
    })?;
    let (epoch, watermark, server_time_utc) = (answer.at.epoch, answer.at.watermark, answer.at.now);
    let (stream_id, grain) = (stream_id.to_owned(), Length::told(grain));
    let answered = StreamAnswer { stream_id, state, grain, minutes, rows, totals, epoch, watermark, server_time_utc };
    Ok(Written::new(answer.at, &answered))
}
