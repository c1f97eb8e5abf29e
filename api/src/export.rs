//! Large answers as CSV or one JSON object a line: sent as they are read, in pieces, never whole in memory.

use crate::amounts::{Row, Shape};
use crate::error::ApiError;
use crate::freshness::{Wanted, tell_moment};
use crate::params::Choice;
use crate::queries::{MetricsQuery, Store};
use crate::rows::MetricRow;
use crate::value::Amount;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Bytes;
use futures_util::{StreamExt, stream};
use std::borrow::Cow;
use std::fmt::Write;
use tidemark_model::{Grain, Metric};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Comma-separated values with a head line (RFC 4180).
    Csv,
    /// A JSON object a line.
    Ndjson,
}

impl Choice for Format {
    fn all() -> impl Iterator<Item = Format> {
        [Format::Json, Format::Csv, Format::Ndjson].into_iter()
    }

    fn as_str(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Ndjson => "ndjson",
        }
    }
}

/// All rows of the query, of one snapshot. An answer that breaks off in the middle ends without its last chunk, so no client
/// takes it for whole.
pub async fn export(store: &Store, query: &MetricsQuery, format: Format, wanted: &Wanted) -> Result<HttpResponse, ApiError> {
    let (at, rows) = store.export(query).await?;
    wanted.is_in(&at)?;
    let head = if format == Format::Csv { csv_head(query.grain) } else { String::new() };
    let pieces = rows.map(move |rows| Ok(write(&rows?, format)));
    let body = stream::iter([Ok(head.into())]).chain(pieces);
    // An empty piece would be the last chunk.
    let body = body.filter(|piece: &Result<Bytes, ApiError>| {
        let empty = piece.as_ref().is_ok_and(Bytes::is_empty);
        std::future::ready(!empty)
    });
    let mut response = HttpResponse::Ok();
    tell_moment(&mut response, &at);
    response.insert_header((header::CACHE_CONTROL, "no-cache"));
    response.content_type(match format {
        Format::Csv => "text/csv; charset=utf-8",
        Format::Json | Format::Ndjson => "application/x-ndjson",
    });
    Ok(response.streaming(body))
}

fn write(rows: &[MetricRow], format: Format) -> Bytes {
    let mut text = String::with_capacity(rows.len() * 128);
    for row in rows {
        match format {
            Format::Csv => csv_line(&mut text, row),
            Format::Json | Format::Ndjson => {
                text += &serde_json::to_string(row).expect("a row always serializes");
                text.push('\n');
            }
        }
    }
    text.into()
}

fn csv_head(grain: Grain) -> String {
    let names: Vec<_> = Row::metrics(grain).map(Metric::name).collect();
    format!("window_start,window_end,stream_id,{},final\r\n", names.join(","))
}

fn csv_line(text: &mut String, row: &MetricRow) {
    let (start, end, stream) = (row.window_start.0, row.window_end.0, csv_text(&disarm(&row.stream_id)));
    let cell = |amount: Option<&Amount>| amount.map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> = row.values.members().map(|(_, amount)| cell(amount)).collect();
    writeln!(text, "{start},{end},{stream},{},{}\r", values.join(","), row.is_final).expect("memory takes all text");
}

/// Spreadsheets run a cell that begins like a formula. Such a text, and one that only seems disarmed, gets a single quotation mark
/// before it, so the original is what remains without the first one. Only CSV does this: JSON is exact.
fn disarm(text: &str) -> Cow<'_, str> {
    let begins_a_formula =
        |character| matches!(character, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠');
    if text.trim_start_matches('\'').starts_with(begins_a_formula) { format!("'{text}").into() } else { text.into() }
}

/// Quoted if it holds a character that has a meaning.
fn csv_text(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{csv_text, disarm};

    #[test]
    fn text_with_a_meaning_is_quoted() {
        for (text, expected) in [("a b", "a b"), ("a,b", "\"a,b\""), ("a\"b", "\"a\"\"b\""), ("a\nb", "\"a\nb\""), ("", "")] {
            assert_eq!(csv_text(text), expected);
        }
    }

    #[test]
    fn no_text_begins_a_formula_and_each_can_be_had_back() {
        for armed in ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "'=1", "''=1", "＝1"] {
            assert_eq!(disarm(armed), format!("'{armed}"));
        }
        for plain in ["a=1", "'a", "", "1", " =1", "😀"] {
            assert_eq!(disarm(plain), plain);
        }
    }
}
