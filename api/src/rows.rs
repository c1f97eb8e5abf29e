//! The answers, as they are written in JSON: money with the exact text of `numeric(20,2)`, times as RFC 3339 in UTC.

use crate::amounts::{Amounts, Presence, Row};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;
use tidemark_model::metrics::Unit;
use tidemark_model::{Cents, Metric, Micros};
use utoipa::ToSchema;

/// Length of a window.
const WINDOW_MICROS: i64 = 60_000_000;

/// An instant that is written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct UtcTime(pub Micros);

impl UtcTime {
    /// This instant plus that many seconds, held at the ends of what 64 bits can say.
    pub fn plus_seconds(self, seconds: i64) -> UtcTime {
        UtcTime(Micros(self.0.0.saturating_add(seconds.saturating_mul(1_000_000))))
    }
}

impl Serialize for UtcTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An exact amount of dollars: digits, a point, two digits. A sum may be larger than [`Cents`] can hold, so it is text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money(String);

impl Money {
    /// `None` if this is not the text of a `numeric` of scale 2, as `NaN` is not.
    pub fn from_text(text: String) -> Option<Money> {
        let (whole, cents) = text.strip_prefix('-').unwrap_or(&text).split_once('.')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        let fits = !whole.is_empty() && cents.len() == 2 && !leading_zero && digits(whole) && digits(cents);
        fits.then_some(Money(text))
    }

    /// The amount in cents, held at the ends of what 64 bits can say.
    pub fn cents(&self) -> i64 {
        let negative = self.0.starts_with('-');
        self.0.replace('.', "").parse().unwrap_or(if negative { i64::MIN } else { i64::MAX })
    }

    /// The amount in hundredths of a dollar, exact: 20 digits fit.
    pub fn hundredths(&self) -> i128 {
        self.0.replace('.', "").parse().unwrap_or(0)
    }

    /// The inverse of [`Money::hundredths`].
    pub fn from_hundredths(hundredths: i128) -> Money {
        let (sign, amount) = (if hundredths < 0 { "-" } else { "" }, hundredths.unsigned_abs());
        Money(format!("{sign}{}.{:02}", amount / 100, amount % 100))
    }
}

impl From<Cents> for Money {
    fn from(cents: Cents) -> Money {
        Money(cents.to_string())
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A JSON number with every digit: never through a float.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.clone()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// A value of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Amount {
    /// So many.
    Count(i64),
    /// Dollars.
    Money(Money),
}

impl Amount {
    /// So many, or so many cents, as the metric has it. A count is held at the end of what 64 bits can say.
    pub fn of(metric: Metric, units: i128) -> Amount {
        match metric.declared().unit {
            Unit::Count => Amount::Count(units.try_into().unwrap_or(i64::MAX)),
            Unit::Usd => Amount::Money(Money::from_hundredths(units)),
        }
    }

    /// Whether it is a value of this metric's unit.
    pub fn is_of(&self, metric: Metric) -> bool {
        matches!((self, metric.declared().unit), (Amount::Count(_), Unit::Count) | (Amount::Money(_), Unit::Usd))
    }

    /// The inverse of [`Amount::of`].
    pub fn units(&self) -> i128 {
        match self {
            Amount::Count(count) => (*count).into(),
            Amount::Money(money) => money.hundredths(),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(count) => count.fmt(f),
            Amount::Money(money) => money.fmt(f),
        }
    }
}

/// Of each metric.
pub type Values = Amounts<Row>;
/// Of what the newest minutes alone say.
pub type PresentValues = Amounts<Presence>;

/// One row of `/metrics`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MetricRow {
    /// Inclusive.
    pub window_start: UtcTime,
    /// Exclusive.
    pub window_end: UtcTime,
    /// The stream.
    pub stream_id: String,
    /// Its values.
    #[serde(flatten)]
    pub values: Values,
    /// Whether the row never changes again: the pipeline's watermark has passed its end.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// One row of `/metrics/totals`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TotalsRow {
    /// Inclusive.
    pub window_start: UtcTime,
    /// Exclusive.
    pub window_end: UtcTime,
    /// Streams with a row of this minute; the others are not in the sums.
    pub streams: i64,
    /// Their sums.
    #[serde(flatten)]
    pub values: Values,
    /// Whether the row never changes again.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// What the newest minutes of some streams say together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Present {
    /// How many streams.
    pub streams: i64,
    /// Their sums, each stream's value as of its newest minute.
    #[serde(flatten)]
    pub values: PresentValues,
}

/// One row of `/streams`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StreamRow {
    /// The stream.
    pub stream_id: String,
    /// The start of its newest window.
    pub last_seen: UtcTime,
}

/// One row of `/streams/top`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TopRow {
    /// The stream.
    pub stream_id: String,
    /// Its score.
    #[schema(value_type = f64)]
    pub value: Amount,
}

/// One row of `/dead-letters`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadLetterRow {
    /// Why these records were rejected.
    pub reason: String,
    /// How many there are.
    pub records: i64,
    /// The last commit that brought one.
    pub newest_epoch: Epoch,
    /// The latest of their record times, if any has one.
    pub newest_record_time: Option<UtcTime>,
    /// How many of them were published again.
    pub replayed: i64,
}

/// A stream's newest minute row, as it was last changed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StreamState {
    /// What that minute says.
    #[serde(flatten)]
    pub values: PresentValues,
    /// That minute.
    pub window_start: UtcTime,
    /// The store's clock at the commit that changed it.
    pub updated_at: UtcTime,
}

/// The number of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
pub struct Epoch(pub i64);

/// The state of the store that an answer tells of: all of it was read in one snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The store's clock.
    pub now: UtcTime,
    /// The last commit; none before the first.
    pub epoch: Option<Epoch>,
    /// Rows that end at or before it are final.
    pub watermark: Option<UtcTime>,
    /// Changes when the tables are made anew and when another run takes over: only within a life does an epoch name the same rows. 0
    /// before the first commit.
    pub life: u64,
}

impl Moment {
    /// A row that a later commit changes is not final now, so it starts after this. `None` while there is no watermark: any row
    /// can change.
    pub fn changes_start_after(&self) -> Option<Micros> {
        self.watermark.map(|UtcTime(Micros(watermark))| Micros(watermark.saturating_sub(WINDOW_MICROS)))
    }
}

/// Rows, and when they were chosen.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The rows, in the order that was asked for.
    pub rows: Vec<T>,
    /// The snapshot that they are from.
    pub at: Moment,
}

/// How far the pipeline is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Number of its last commit.
    pub epoch: Epoch,
    /// Rows that end at or before it are final.
    pub watermark: Option<UtcTime>,
    /// What must not change between its runs; begins with the kind of its log.
    pub fingerprint: String,
    /// The store's clock at its last commit.
    pub committed_at: UtcTime,
    /// The store's clock at the writer's last sign of life; none from a dataflow that gives none.
    pub heartbeat_at: Option<UtcTime>,
    /// What holds the pipeline up.
    pub trouble: Option<String>,
    /// Its partitions, by topic and number.
    pub partitions: Vec<Partition>,
    /// The store's clock.
    pub now: UtcTime,
}

impl Progress {
    /// When this was read.
    pub fn moment(&self) -> Moment {
        Moment { now: self.now, epoch: Some(self.epoch), watermark: self.watermark, life: 0 }
    }
}

/// How far the pipeline is in one partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i64,
    /// Records below it are in the tables.
    pub next_offset: i64,
    /// The log's end as last seen.
    pub end_offset: i64,
    /// Its own watermark; none before its first valid event.
    pub watermark: Option<UtcTime>,
    /// `backlogged`, `at_end`, `idle` or `not_counting`.
    pub state: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_keeps_every_digit() {
        for text in ["0.10", "25.00", "92233720368547758.07", "999999999999999999.99", "-0.01"] {
            let money = Money::from_text(text.to_owned()).unwrap();
            assert_eq!(serde_json::to_string(&money).unwrap(), text);
        }
        assert_eq!(Money::from(Cents(i64::MAX)).cents(), i64::MAX);
        assert_eq!(Money::from_text("999999999999999999.99".to_owned()).unwrap().cents(), i64::MAX);
        for text in ["NaN", "1", "1.5", "1e3.00", "+1.00", "01.00", ".50", "1.000", "", "--1.00"] {
            assert_eq!(Money::from_text(text.to_owned()), None, "{text}");
        }
    }
}
