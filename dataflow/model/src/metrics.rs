//! The metrics of a window. Each is declared here, once: columns, upserts, comparisons, answers and documents follow from it.
//!
//! `docs/new_metric.md` adds one, step by step.

use crate::{Cents, Grain, Kind, Minute};
use serde::{Deserialize, Serialize};
use std::ops::{Index, IndexMut};

/// A metric. The order of the variants is the order of the columns, and of [`Values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Viewers who are present at the end.
    ActiveViewers,
    /// Viewers who are present at any time.
    UniqueViewers,
    /// The time that viewers are present, in all.
    WatchMs,
    /// Chat messages.
    ChatMessages,
    /// Users with a chat message.
    UniqueChatters,
    /// Donations.
    Donations,
    /// Their sum, in cents.
    DonationsUsd,
    /// Users with a donation.
    Donors,
    /// The most viewers who are present at the end of one of its minutes.
    PeakViewers,
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, or people.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// Dollars. A value is in cents, and is shown with two places.
    Usd,
}

impl Unit {
    /// As a label of Prometheus.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Count => "count",
            Unit::Milliseconds => "milliseconds",
            Unit::Usd => "usd",
        }
    }
}

/// How the value for several windows comes from theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollUp {
    /// The last one counts; a top list takes the largest.
    AtEnd,
    /// Users who are counted in any of them, each once: it does not follow from their values. A top list takes the largest.
    Distinct,
    /// They are added.
    Sum,
    /// The largest counts.
    Largest,
}

/// Everything that is declared about a metric.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// Column, JSON member, CSV header, value of `order_by` and `by`.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// One sentence for people.
    pub meaning: &'static str,
    /// How it rolls up.
    pub roll_up: RollUp,
    /// The events that change it.
    pub events: &'static [Kind],
    /// The windows that have it.
    pub grains: &'static [Grain],
    /// Whether the first tables had it. The column of another one is null in rows that were written before it was there.
    pub first: bool,
}

/// How many there are.
pub const COUNT: usize = Metric::ALL.len();

/// How many of them minutes have.
const OF_MINUTES: usize = {
    let mut count = 0;
    while count < COUNT && Metric::ALL[count].declared().grains.len() == Grain::ALL.len() {
        count += 1;
    }
    count
};

impl Metric {
    /// All, in order.
    pub const ALL: [Metric; 9] = [
        Metric::ActiveViewers,
        Metric::UniqueViewers,
        Metric::WatchMs,
        Metric::ChatMessages,
        Metric::UniqueChatters,
        Metric::Donations,
        Metric::DonationsUsd,
        Metric::Donors,
        Metric::PeakViewers,
    ];

    /// Those of minutes, in order. Others stand behind them.
    pub const MINUTE: [Metric; OF_MINUTES] = {
        let mut metrics = [Metric::ALL[0]; OF_MINUTES];
        let mut at = 0;
        while at < metrics.len() {
            metrics[at] = Metric::ALL[at];
            at += 1;
        }
        metrics
    };

    /// Those of windows of a length, in order.
    pub const fn of(grain: Grain) -> &'static [Metric] {
        match grain {
            Grain::Minute => &Metric::MINUTE,
            Grain::Hour | Grain::Day => &Metric::ALL,
        }
    }

    /// Everything that is declared about it.
    pub const fn declared(self) -> Declared {
        const MOVEMENTS: &[Kind] = &[Kind::ViewerJoin, Kind::ViewerLeave];
        match self {
            Metric::ActiveViewers => Declared {
                name: "active_viewers",
                unit: Unit::Count,
                meaning: "users who are present at the end of the window",
                roll_up: RollUp::AtEnd,
                events: MOVEMENTS,
                grains: &Grain::ALL,
                first: true,
            },
            Metric::UniqueViewers => Declared {
                name: "unique_viewers",
                unit: Unit::Count,
                meaning: "users who are present at any instant of the window",
                roll_up: RollUp::Distinct,
                events: MOVEMENTS,
                grains: &Grain::ALL,
                first: false,
            },
            Metric::WatchMs => Declared {
                name: "watch_ms",
                unit: Unit::Milliseconds,
                meaning: "time that users are present in the window, summed",
                roll_up: RollUp::Sum,
                events: MOVEMENTS,
                grains: &Grain::ALL,
                first: false,
            },
            Metric::ChatMessages => Declared {
                name: "chat_messages",
                unit: Unit::Count,
                meaning: "chat messages in the window",
                roll_up: RollUp::Sum,
                events: &[Kind::ChatMessage],
                grains: &Grain::ALL,
                first: true,
            },
            Metric::UniqueChatters => Declared {
                name: "unique_chatters",
                unit: Unit::Count,
                meaning: "users with a chat message in the window",
                roll_up: RollUp::Distinct,
                events: &[Kind::ChatMessage],
                grains: &Grain::ALL,
                first: false,
            },
            Metric::Donations => Declared {
                name: "donations",
                unit: Unit::Count,
                meaning: "donations in the window",
                roll_up: RollUp::Sum,
                events: &[Kind::Donation],
                grains: &Grain::ALL,
                first: false,
            },
            Metric::DonationsUsd => Declared {
                name: "donations_usd",
                unit: Unit::Usd,
                meaning: "sum of the donations in the window, exact to the cent",
                roll_up: RollUp::Sum,
                events: &[Kind::Donation],
                grains: &Grain::ALL,
                first: true,
            },
            Metric::Donors => Declared {
                name: "donors",
                unit: Unit::Count,
                meaning: "users with a donation in the window",
                roll_up: RollUp::Distinct,
                events: &[Kind::Donation],
                grains: &Grain::ALL,
                first: false,
            },
            Metric::PeakViewers => Declared {
                name: "peak_viewers",
                unit: Unit::Count,
                meaning: "most users who are present at the end of one of the window's minutes",
                roll_up: RollUp::Largest,
                events: MOVEMENTS,
                grains: &[Grain::Hour, Grain::Day],
                first: false,
            },
        }
    }

    /// [`Declared::name`].
    pub const fn name(self) -> &'static str {
        self.declared().name
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// The column in a store without decimals, where money is in cents: `donations_cents`.
    pub fn integer_column(self) -> String {
        match self.declared().unit {
            Unit::Count | Unit::Milliseconds => self.name().to_owned(),
            Unit::Usd => format!("{}_cents", self.name().trim_end_matches("_usd")),
        }
    }

    /// A value in its unit: as answers have it, but a floating-point number.
    pub fn number(self, value: i64) -> f64 {
        value as f64 / if self.declared().unit == Unit::Usd { 100.0 } else { 1.0 }
    }

    /// A value as answers have it.
    pub fn shown(self, value: i64) -> String {
        match self.declared().unit {
            Unit::Count | Unit::Milliseconds => value.to_string(),
            Unit::Usd => Cents(value).to_string(),
        }
    }
}

/// A value of each metric: counts, and cents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Values(pub [i64; COUNT]);

impl Values {
    /// These; zero for all others.
    pub fn of<const N: usize>(values: [(Metric, i64); N]) -> Values {
        let mut all = Values::default();
        values.into_iter().for_each(|(metric, value)| all[metric] = value);
        all
    }

    /// The values of these metrics: `NAME VALUE, NAME VALUE, …`
    pub fn shown(&self, metrics: &[Metric]) -> String {
        metrics.iter().map(|&metric| format!("{} {}", metric.name(), metric.shown(self[metric]))).collect::<Vec<_>>().join(", ")
    }

    /// Each metric with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Metric, i64)> {
        Metric::ALL.into_iter().zip(self.0)
    }
}

impl Index<Metric> for Values {
    type Output = i64;

    fn index(&self, metric: Metric) -> &i64 {
        &self.0[metric as usize]
    }
}

impl IndexMut<Metric> for Values {
    fn index_mut(&mut self, metric: Metric) -> &mut i64 {
        &mut self.0[metric as usize]
    }
}

/// From where on values are known in full. Before, a version that did not know them took part in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// The first minute of each metric.
    pub metrics: [Minute; COUNT],
    /// Hours begin at or after the first, days at or after the second; none, if there are no such rows.
    pub rolled_up: [Option<Minute>; Grain::ALL.len() - 1],
}

/// All are, always.
impl Default for Whole {
    fn default() -> Whole {
        Whole { metrics: [Minute(0); COUNT], rolled_up: [Some(Minute(0)); 2] }
    }
}

impl Whole {
    /// The same for hours and days that begin at these minutes at the earliest.
    pub fn from(mut self, first: [Minute; Grain::ALL.len() - 1]) -> Whole {
        for (from, first) in self.rolled_up.iter_mut().zip(first) {
            *from = from.map(|from| from.max(first));
        }
        self
    }

    /// The same for rows of windows of these lengths only.
    pub fn only(mut self, grains: &[Grain]) -> Whole {
        for (from, grain) in self.rolled_up.iter_mut().zip(&Grain::ALL[1..]) {
            *from = from.filter(|_| grains.contains(grain));
        }
        self
    }

    /// The values of the row of a window that begins with this minute; none of a metric that is not whole in it.
    pub fn of(&self, first: Minute, values: &Values) -> [Option<i64>; COUNT] {
        Metric::ALL.map(|metric| (first >= self.metrics[metric as usize]).then_some(values[metric]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn places_are_in_order_and_no_name_is_there_twice() {
        assert!(Metric::ALL.into_iter().enumerate().all(|(place, metric)| metric as usize == place));
        for grain in Grain::ALL {
            let has = |metric: &Metric| metric.declared().grains.contains(&grain);
            assert!(Metric::ALL.into_iter().filter(has).eq(Metric::of(grain).iter().copied()));
        }
        let names: BTreeSet<_> = Metric::ALL.into_iter().map(Metric::name).collect();
        let columns: BTreeSet<_> = Metric::ALL.into_iter().map(Metric::integer_column).collect();
        assert_eq!((names.len(), columns.len()), (COUNT, COUNT));
        // They stand in SQL as they are.
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(names.iter().all(|name| plain(name) && name.len() < 60));
        let reserved = ["window_start", "window_end", "stream_id", "epoch", "streams", "updated_at"];
        assert!(reserved.iter().all(|name| !names.contains(name)));
        for metric in Metric::ALL {
            let Declared { name, unit, .. } = metric.declared();
            assert_eq!(
                (name.ends_with("_usd"), name.ends_with("_ms")),
                (unit == Unit::Usd, unit == Unit::Milliseconds),
                "{name}"
            );
        }
    }

    #[test]
    fn each_is_explained() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md")).expect("it is there");
        assert!(Metric::ALL.iter().all(|metric| page.contains(&format!("| `{}` |", metric.name()))));
    }

    #[test]
    fn values_are_found_by_metric_and_shown_in_their_unit() {
        let values = Values::of([(Metric::ChatMessages, 3), (Metric::DonationsUsd, 1_205)]);
        assert_eq!((values[Metric::ActiveViewers], values[Metric::ChatMessages]), (0, 3));
        let shown = values.shown(&[Metric::ActiveViewers, Metric::ChatMessages, Metric::DonationsUsd]);
        assert_eq!(shown, "active_viewers 0, chat_messages 3, donations_usd 12.05");
        assert_eq!(Metric::DonationsUsd.integer_column(), "donations_cents");
        assert_eq!(Metric::named("chat_messages"), Some(Metric::ChatMessages));
    }
}
