//! The metrics of a window. Each is declared here, once: columns, upserts, comparisons, answers and documents follow from it.
//!
//! A new metric is a variant and a line here, the code that computes it in the dataflow, and its rule in the oracle.

use crate::{Cents, Kind};
use serde::{Deserialize, Serialize};
use std::ops::{Index, IndexMut};

/// A metric. The order of the variants is the order of the columns, and of [`Values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Viewers who are present.
    ActiveViewers,
    /// Chat messages.
    ChatMessages,
    /// Donations, in cents.
    DonationsUsd,
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, or people.
    Count,
    /// Dollars. A value is in cents, and is shown with two places.
    Usd,
}

/// How the value for several windows comes from theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollUp {
    /// The last one counts; a top list takes the largest.
    AtEnd,
    /// They are added.
    Sum,
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
}

/// How many there are.
pub const COUNT: usize = Metric::ALL.len();

impl Metric {
    /// All, in order.
    pub const ALL: [Metric; 3] = [Metric::ActiveViewers, Metric::ChatMessages, Metric::DonationsUsd];

    /// Everything that is declared about it.
    pub const fn declared(self) -> Declared {
        match self {
            Metric::ActiveViewers => Declared {
                name: "active_viewers",
                unit: Unit::Count,
                meaning: "users who are present at the end of the window",
                roll_up: RollUp::AtEnd,
                events: &[Kind::ViewerJoin, Kind::ViewerLeave],
            },
            Metric::ChatMessages => Declared {
                name: "chat_messages",
                unit: Unit::Count,
                meaning: "chat messages in the window",
                roll_up: RollUp::Sum,
                events: &[Kind::ChatMessage],
            },
            Metric::DonationsUsd => Declared {
                name: "donations_usd",
                unit: Unit::Usd,
                meaning: "sum of the donations in the window, exact to the cent",
                roll_up: RollUp::Sum,
                events: &[Kind::Donation],
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
            Unit::Count => self.name().to_owned(),
            Unit::Usd => format!("{}_cents", self.name().trim_end_matches("_usd")),
        }
    }

    /// A value as answers have it.
    pub fn shown(self, value: i64) -> String {
        match self.declared().unit {
            Unit::Count => value.to_string(),
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

/// `NAME VALUE, NAME VALUE, …`
impl std::fmt::Display for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<String> =
            self.iter().map(|(metric, value)| format!("{} {}", metric.name(), metric.shown(value))).collect();
        f.write_str(&shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn places_are_in_order_and_no_name_is_there_twice() {
        assert!(Metric::ALL.into_iter().enumerate().all(|(place, metric)| metric as usize == place));
        let names: BTreeSet<_> = Metric::ALL.into_iter().map(Metric::name).collect();
        let columns: BTreeSet<_> = Metric::ALL.into_iter().map(Metric::integer_column).collect();
        assert_eq!((names.len(), columns.len()), (COUNT, COUNT));
        // They stand in SQL as they are.
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(names.iter().all(|name| plain(name) && name.len() < 60));
        let reserved = ["window_start", "window_end", "stream_id", "epoch", "streams", "updated_at"];
        assert!(reserved.iter().all(|name| !names.contains(name)));
        let of_money = |metric: &Metric| (metric.declared().unit == Unit::Usd) == metric.name().ends_with("_usd");
        assert!(Metric::ALL.iter().all(of_money));
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
        assert_eq!(values.to_string(), "active_viewers 0, chat_messages 3, donations_usd 12.05");
        assert_eq!(Metric::DonationsUsd.integer_column(), "donations_cents");
        assert_eq!(Metric::named("chat_messages"), Some(Metric::ChatMessages));
    }
}
