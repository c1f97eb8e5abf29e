//! `/metrics` and `/metrics/latest`.

use crate::amounts::{Amounts, Minimum, Shape, documented, only};
use crate::cursor::{self, Cursor, SortKey};
use crate::error::ApiError;
use crate::export::{Format, export};
use crate::freshness::Freshness;
use crate::memory::{Clock, Written};
use crate::params::{self, BadParameter, Choice, Parameters};
use crate::queries::{Direction, MetricsQuery, OrderBy, Since, Store};
use crate::rows::{MetricRow, UtcTime};
use crate::windows::{self, Length};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tidemark_model::Micros;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

/// Most rows of a page.
const MAX_PAGE: u32 = 5_000;
/// Most rows of an answer in pieces.
const MAX_EXPORT: u32 = 10_000_000;

type Recent = windows::Recent<60>;

/// The answer of `/metrics`.
#[derive(Serialize, ToSchema)]
pub struct Metrics<'a> {
    rows: Vec<MetricRow>,
    /// The newest window of these rows.
    latest_window_start: Option<UtcTime>,
    #[schema(value_type = Filters)]
    filters: &'a Filters,
    /// Null at the end.
    next_cursor: Option<String>,
    server_time_utc: UtcTime,
}

/// The answer of `/metrics/latest`.
#[derive(Serialize, ToSchema)]
pub struct Latest {
    row: Option<MetricRow>,
    server_time_utc: UtcTime,
}

type Minima = Amounts<Minimum>;

/// The filters that were applied, as they are told to the client.
#[derive(Serialize, ToSchema)]
struct Filters {
    stream_id: StreamFilter,
    /// Left out for minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    grain: Option<&'static str>,
    /// Null if `from` or `to` took its place.
    minutes: Option<u32>,
    limit: u32,
    order_by: &'static str,
    direction: &'static str,
    from: Option<UtcTime>,
    to: Option<UtcTime>,
    #[serde(flatten)]
    at_least: Minima,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    is_final: Option<bool>,
}

/// Null, one name, or several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum StreamFilter {
    AtMostOne(Option<String>),
    Several(Vec<String>),
}

impl StreamFilter {
    fn of(streams: &[String]) -> StreamFilter {
        match streams {
            [] => StreamFilter::AtMostOne(None),
            [one] => StreamFilter::AtMostOne(Some(one.clone())),
            several => StreamFilter::Several(several.to_vec()),
        }
    }
}

/// A page of rows, or all of them in another format.
#[utoipa::path(
    get,
    path = "/metrics",
    params(
        ("stream_id" = Option<Vec<String>>, Query, description = "Of these streams only (repeat it, at most 100 times); empty is no filter"),
        Recent,
        ("from" = Option<String>, Query, description = "Windows that start at or after this time; takes the place of minutes"),
        ("to" = Option<String>, Query, description = "Windows that start before this time; takes the place of minutes"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 10_000_000, description = "Rows of a page, at most 5000 (200); in other formats than json of the whole answer"),
        OrderBy,
        ("direction" = Option<String>, Query, description = "desc (default) or asc"),
        ("cursor" = Option<String>, Query, description = "next_cursor of an answer to the same filters"),
        Minima,
        ("final" = Option<bool>, Query, description = "Rows that never change again, or only those that may"),
        ("format" = Option<String>, Query, description = "json (default); csv or ndjson: all rows, sent as they are read")
    ),
    responses(
        (status = 200, description = "A page of rows; or all rows in another format", content((Metrics = "application/json"), (String = "text/csv"), (String = "application/x-ndjson"))),
        (status = 304, description = "The client has this answer already")
    )
)]
pub async fn metrics(store: Data<Store>, freshness: Data<Freshness>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::of(request.query_string());
    let format: Format = parameters.choice("format", Format::Json)?;
    let (mut query, filters) = read(&parameters, format)?;
    let hash = filters.hash();
    if let Some(cursor) = read_cursor(&parameters, hash, query.order_by)? {
        query.since = cursor.lower.map_or(Since::Ever, Since::Instant);
        query.after = Some(cursor.after);
    }
    if format != Format::Json {
        let wanted = freshness.wait(&parameters).await?;
        return export(&store, &query, format, &wanted).await;
    }
    let clock = if matches!(query.since, Since::Minutes(_)) { Clock::Minutes } else { Clock::Unused };
    let question = (filters, parameters.given("cursor"));
    freshness.answer(&request, &question, clock, || page(&store, query, &question.0, hash)).await
}

async fn page(store: &Store, mut query: MetricsQuery, filters: &Filters, hash: u64) -> Result<Written, ApiError> {
    // One row more than the page holds tells whether there is a next page.
    query.limit = filters.limit.saturating_add(1);
    let mut answer = store.metrics(&query).await?;
    let page = usize::try_from(filters.limit).unwrap_or(usize::MAX);
    let more = answer.rows.len() > page;
    answer.rows.truncate(page);
    let after = answer.rows.last().filter(|_| more).map(|row| sort_key(row, query.order_by));
    let lower = lower_bound(query.since, answer.at.now);
    let next_cursor = after.map(|after| Cursor { after, lower: lower.map(|lower| lower.0), filters: hash }.encode());
    let metrics = Metrics {
        latest_window_start: answer.rows.iter().map(|row| row.window_start).max(),
        rows: answer.rows,
        filters,
        next_cursor,
        server_time_utc: answer.at.now,
    };
    Ok(Written::new(answer.at, &metrics))
}

/// The newest row whose window has ended.
#[utoipa::path(
    get,
    path = "/metrics/latest",
    params(
        ("stream_id" = Option<String>, Query, description = "Of this stream only; empty is no filter"),
        Length
    ),
    responses(
        (status = 200, description = "The answer", body = Latest),
        (status = 304, description = "The client has this answer already")
    )
)]
pub async fn latest(store: Data<Store>, freshness: Data<Freshness>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::of(request.query_string());
    let (grain, stream_id) = (Length::read(&parameters)?, parameters.stream_id()?);
    let ask = || async {
        let answer = store.latest(grain, stream_id.clone()).await?;
        let latest = Latest { row: answer.rows.into_iter().next(), server_time_utc: answer.at.now };
        Ok(Written::new(answer.at, &latest))
    };
    freshness.answer(&request, &(grain, &stream_id), Clock::Minutes, ask).await
}

fn read(parameters: &Parameters<'_>, format: Format) -> Result<(MetricsQuery, Filters), BadParameter> {
    let (grain, minutes) = Recent::read(parameters)?;
    let (from, to) = (parameters.instant("from")?, parameters.instant("to")?);
    let since = match (from, to) {
        (Some(from), _) => Since::Instant(from),
        (None, Some(_)) => Since::Ever,
        (None, None) => Since::Minutes(minutes),
    };
    let query = MetricsQuery {
        grain,
        streams: parameters.stream_ids()?,
        since,
        to,
        order_by: parameters.choice_if("order_by", |by: OrderBy| by.is_of(grain), OrderBy::WindowStart)?,
        direction: parameters.choice("direction", Direction::Descending)?,
        at_least: Minima::try_of(grain, |metric| parameters.amount(&Minimum::member(metric), metric, grain))?,
        is_final: parameters.boolean("final")?,
        after: None,
        // What is sent in pieces needs no pages.
        limit: match format {
            Format::Json => parameters.integer("limit", 1..=MAX_PAGE, 200)?,
            Format::Csv | Format::Ndjson => parameters.integer("limit", 1..=MAX_EXPORT, MAX_EXPORT)?,
        },
    };
    let filters = Filters {
        stream_id: StreamFilter::of(&query.streams),
        grain: Length::told(grain),
        minutes: matches!(since, Since::Minutes(_)).then_some(minutes),
        limit: query.limit,
        order_by: query.order_by.as_str(),
        direction: query.direction.as_str(),
        from: from.map(UtcTime),
        to: to.map(UtcTime),
        at_least: query.at_least.clone(),
        is_final: query.is_final,
    };
    Ok((query, filters))
}

impl Filters {
    /// Of all that decides which rows come in which order; the size of a page may change during a walk.
    fn hash(&self) -> u64 {
        let Filters { stream_id, grain, minutes, limit: _, order_by, direction, from, to, at_least, is_final } = self;
        let filters = (stream_id, minutes, order_by, direction, from, to, at_least, is_final);
        // A walk through minutes goes on after an upgrade from a version that had nothing else.
        if grain.is_none() { cursor::hash(&filters) } else { cursor::hash(&(grain, filters)) }
    }
}

fn read_cursor(parameters: &Parameters<'_>, filters: u64, order_by: OrderBy) -> Result<Option<Cursor>, BadParameter> {
    let allowed = || "a next_cursor of an answer to the same filters".to_owned();
    let Some(text) = parameters.text("cursor", allowed)? else {
        return Ok(None);
    };
    let fits = |cursor: &Cursor| {
        cursor.filters == filters
            && match (order_by, &cursor.after.value) {
                (OrderBy::WindowStart, value) => value.is_none(),
                (OrderBy::Metric(metric), Some(value)) => value.is_of(metric),
                (OrderBy::Metric(metric), None) => !metric.declared().first,
            }
    };
    let cursor = Cursor::decode(&text).filter(fits);
    cursor.map(Some).ok_or_else(|| BadParameter::new("cursor", &text, allowed()))
}

/// Inclusive; "more than so many minutes ago" is a microsecond later.
fn lower_bound(since: Since, now: UtcTime) -> Option<UtcTime> {
    match since {
        Since::Ever => None,
        Since::Instant(instant) => Some(UtcTime(instant)),
        Since::Minutes(minutes) => {
            let UtcTime(start) = now.plus_seconds(-60 * i64::from(minutes));
            Some(UtcTime(Micros(start.0.saturating_add(1))))
        }
    }
}

fn sort_key(row: &MetricRow, order_by: OrderBy) -> SortKey {
    let value = match order_by {
        OrderBy::WindowStart => None,
        OrderBy::Metric(metric) => row.values.get(metric).cloned(),
    };
    SortKey { value, window_start: row.window_start.0, stream_id: row.stream_id.clone() }
}

impl utoipa::IntoParams for OrderBy {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let word = |by: OrderBy| match by {
            OrderBy::WindowStart => by.as_str().to_owned(),
            OrderBy::Metric(metric) => format!("{}{}", metric.name(), only(metric)),
        };
        let words = OrderBy::all().map(word).collect::<Vec<_>>().join(", ");
        vec![documented(
            "order_by",
            params::text(),
            &format!("One of {words}; the first one if not given. Null is the smallest value"),
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_through_minutes_survives_an_upgrade_and_no_other_is_taken_for_it() {
        let hash = |query: &str| read(&Parameters::of(query), Format::Json).unwrap().1.hash();
        // Of a version that had minutes only.
        assert_eq!((hash(""), hash("grain=minute")), (2_572_917_170_317_445_171, 2_572_917_170_317_445_171));
        let hashes = ["minute", "hour", "day"].map(|grain| hash(&format!("grain={grain}&from=2026-01-01T00:00:00Z")));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[2] != hashes[0], "{hashes:?}");
    }
}
