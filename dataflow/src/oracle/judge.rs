//! What becomes of every record: decoded, then `future`, `late` and `closed` by its partition's prefix, then duplicates.

use super::decode::{Decoded, Event, decode};
use super::{Clock, Highest, Log, LogRecord, Position, Rules, Verdicts};
use std::collections::{BTreeMap, HashMap};
use tidemark_model::{Micros, Minute, Nanos, Reason};

/// What becomes of an event of the six types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It counts.
    Counted,
    /// It repeats a counted one, which stands here.
    Duplicate {
        /// The copy that counts.
        first: Position,
    },
    /// It is a dead letter: `future`, `late` or `closed`.
    Rejected(Reason),
}

/// A record that decoded to an event of the six types, and what became of it.
pub(super) struct Judged {
    pub(super) at: Position,
    pub(super) event: Event,
    pub(super) fate: Fate,
}

pub(super) struct Judgement {
    /// By partition, then offset.
    pub(super) events: Vec<Judged>,
    pub(super) dead_letters: BTreeMap<Position, Reason>,
    pub(super) watermarks: BTreeMap<i32, Option<Micros>>,
    pub(super) other_types: u64,
}

pub(super) fn judge(log: &Log, before: &Highest, rules: &Rules, clock: Clock, verdicts: &Verdicts) -> Judgement {
    let mut judgement =
        Judgement { events: Vec::new(), dead_letters: BTreeMap::new(), watermarks: BTreeMap::new(), other_types: 0 };
    for (&partition, records) in log {
        // The highest `ts` that passed decode and `future`: late and closed events have passed those, other types have no ts.
        let mut highest: Option<Nanos> = before.get(&partition).copied();
        for record in records {
            let at = (partition, record.offset);
            let event = match decode(record.payload.as_deref()) {
                Ok(Decoded::Event(event)) => event,
                Ok(Decoded::OtherType) => {
                    judgement.other_types += 1;
                    continue;
                }
                Err(reason) => {
                    judgement.dead_letters.insert(at, reason);
                    continue;
                }
            };
            let stored = verdicts.get(&at).copied();
            let reason = if is_future(event.ts, record, rules, clock, stored) {
                Some(Reason::Future)
            } else {
                let before = highest.map(|highest| watermark_nanos(highest, rules));
                highest = highest.max(Some(event.ts));
                if before.is_some_and(|watermark| window_end_nanos(event.ts) <= watermark) {
                    Some(Reason::Late)
                } else {
                    stored.filter(|reason| *reason == Reason::Closed)
                }
            };
            if let Some(reason) = reason {
                judgement.dead_letters.insert(at, reason);
            }
            let fate = reason.map_or(Fate::Counted, Fate::Rejected);
            judgement.events.push(Judged { at, event, fate });
        }
        judgement.watermarks.insert(partition, highest.map(|highest| cut(watermark_nanos(highest, rules))));
    }
    mark_duplicates(&mut judgement.events);
    judgement
}

/// Ahead of the record time, or of the clock if the record time is later than that or missing: ahead of the earlier one.
fn is_future(ts: Nanos, record: &LogRecord, rules: &Rules, clock: Clock, stored: Option<Reason>) -> bool {
    let is_ahead_of = |nanos: i128| i128::from(ts.0) > nanos + i128::from(rules.max_future_skew) * 1_000;
    let by_record_time = record.record_time.is_some_and(|millis| is_ahead_of(i128::from(millis) * 1_000_000));
    let by_clock = match clock {
        Clock::At(now) => is_ahead_of(i128::from(now.0) * 1_000),
        Clock::Stored => stored == Some(Reason::Future),
    };
    by_record_time || by_clock
}

/// Not yet cut to microseconds. That makes no difference to what is late: window ends and lateness are whole microseconds.
///
/// Nor does it matter whether a record's own `ts` is in the watermark that judges it: were it the highest, then
/// `window_end > ts ≥ ts − lateness`, so it would not be late by itself.
fn watermark_nanos(highest: Nanos, rules: &Rules) -> i128 {
    i128::from(highest.0) - i128::from(rules.lateness) * 1_000
}

/// The exclusive end of the window that `ts` is in.
fn window_end_nanos(ts: Nanos) -> i128 {
    const MINUTE: i128 = 60_000_000_000;
    (i128::from(ts.0) / MINUTE + 1) * MINUTE
}

/// To microseconds as the store keeps them; what lies before 64 bits is held at their end.
fn cut(nanos: i128) -> Micros {
    Micros(i64::try_from(nanos.div_euclid(1_000)).unwrap_or(i64::MIN))
}

/// Of the admitted copies of an event the first counts. Rejected ones were taken out before and leave no trace.
fn mark_duplicates(events: &mut [Judged]) {
    let mut first_copies: HashMap<(&str, Option<&str>, Minute, &str), Position> = HashMap::new();
    for Judged { at, event, fate } in events {
        if *fate != Fate::Counted {
            continue;
        }
        let Some(event_id) = &event.event_id else { continue };
        let key = (event.stream.as_str(), event.user.as_deref(), Minute::of(event.ts), event_id.as_str());
        let first = *first_copies.entry(key).or_insert(*at);
        if first != *at {
            *fate = Fate::Duplicate { first };
        }
    }
}
