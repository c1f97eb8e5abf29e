//! What becomes of every record: decoded, then `future`, `late` and `closed` by its partition's prefix, then duplicates.

use super::decode::{Decoded, Event, decode};
use super::{Clock, Highest, Position, Record, Rules};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
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
#[derive(Clone)]
pub(super) struct Judged {
    pub(super) at: Position,
    pub(super) event: Event,
    pub(super) fate: Fate,
}

/// What a record is.
pub(super) enum Verdict {
    Event(Judged),
    OtherType,
    /// It is no event.
    Undecodable(Reason),
}

/// How far, in nanoseconds of event time, a partition may be ahead of the slowest one: what is between them is held in memory.
const SIDE_BY_SIDE: i128 = 60_000_000_000;

/// Records go in, of each partition in the order of their offsets; verdicts come out.
pub(super) struct Judge {
    rules: Rules,
    clock: Clock,
    /// Of each partition the highest `ts` that passed decode and `future`: late and closed events have passed those, other types have no ts.
    highest: BTreeMap<i32, Option<Nanos>>,
    /// Partitions that are not read to their end.
    unread: Vec<i32>,
    /// Where the first copy of each id stands, of minutes that are not completed.
    first_copies: BTreeMap<Minute, HashMap<u128, Position>>,
    /// Hashes ids. Its key is random, so nobody can make two that collide.
    ids: SipHasher13,
}

impl Judge {
    /// Of these partitions. `before`: of each the highest event time below the first offset that is read.
    pub(super) fn new(
        partitions: impl IntoIterator<Item = i32>,
        before: &Highest,
        rules: &Rules,
        clock: Clock,
        key: (u64, u64),
    ) -> Judge {
        let highest: BTreeMap<i32, _> =
            partitions.into_iter().map(|partition| (partition, before.get(&partition).copied())).collect();
        Judge {
            rules: *rules,
            clock,
            unread: highest.keys().copied().collect(),
            highest,
            first_copies: BTreeMap::new(),
            ids: SipHasher13::new_with_keys(key.0, key.1),
        }
    }

    /// `stored`: the reason of the dead letter that the record is, if it is one.
    pub(super) fn judge(&mut self, at: Position, record: Record<'_>, stored: Option<Reason>) -> Verdict {
        let event = match decode(record.payload) {
            Ok(Decoded::Event(event)) => event,
            Ok(Decoded::OtherType) => return Verdict::OtherType,
            Err(reason) => return Verdict::Undecodable(reason),
        };
        let fate = self.reason(at.0, &event, record, stored).map_or_else(|| self.count(at, &event), Fate::Rejected);
        Verdict::Event(Judged { at, event, fate })
    }

    fn reason(&mut self, partition: i32, event: &Event, record: Record<'_>, stored: Option<Reason>) -> Option<Reason> {
        if self.is_future(event.ts, record, stored) {
            return Some(Reason::Future);
        }
        let highest = self.highest.get_mut(&partition).expect("only these partitions are read");
        let before = highest.map(|highest| watermark_nanos(highest, &self.rules));
        *highest = (*highest).max(Some(event.ts));
        if before.is_some_and(|watermark| window_end_nanos(event.ts) <= watermark) {
            return Some(Reason::Late);
        }
        stored.filter(|reason| *reason == Reason::Closed)
    }

    /// Ahead of the record time, or of the clock if the record time is later than that or missing: ahead of the earlier one.
    fn is_future(&self, ts: Nanos, record: Record<'_>, stored: Option<Reason>) -> bool {
        let is_ahead_of = |nanos: i128| i128::from(ts.0) > nanos + i128::from(self.rules.max_future_skew) * 1_000;
        let by_record_time = record.record_time.is_some_and(|millis| is_ahead_of(i128::from(millis) * 1_000_000));
        let by_clock = match self.clock {
            Clock::At(now) => is_ahead_of(i128::from(now.0) * 1_000),
            Clock::Stored => stored == Some(Reason::Future),
        };
        by_record_time || by_clock
    }

    /// Of the admitted copies of an event the first counts. Rejected ones were taken out before and leave no trace.
    fn count(&mut self, at: Position, event: &Event) -> Fate {
        let Some(event_id) = &event.event_id else { return Fate::Counted };
        let mut hasher = self.ids;
        (&event.stream, &event.user, event_id).hash(&mut hasher);
        let copies = self.first_copies.entry(Minute::of(event.ts)).or_default();
        let first = *copies.entry(hasher.finish128().as_u128()).or_insert(at);
        if first == at { Fate::Counted } else { Fate::Duplicate { first } }
    }

    /// All of a partition has been read.
    pub(super) fn end_of(&mut self, partition: i32) {
        self.unread.retain(|unread| *unread != partition);
    }

    /// The partitions to read on: those that are not ahead of others.
    pub(super) fn behind(&self) -> Vec<i32> {
        let highest = |partition: &i32| self.highest[partition].map_or(i128::MIN, |highest| i128::from(highest.0));
        let lowest = self.unread.iter().map(highest).min().unwrap_or(i128::MIN);
        self.unread.iter().copied().filter(|partition| highest(partition) <= lowest.saturating_add(SIDE_BY_SIDE)).collect()
    }

    /// Events of minutes before this one are late from now on, wherever they come; none if no more records come. Forgets their ids.
    pub(super) fn completed_before(&mut self) -> Option<Minute> {
        let watermarks = self.unread.iter().map(|partition| self.watermark(*partition));
        let minute = watermarks.min()?.map_or(Minute(0), Minute::first_open);
        self.first_copies = self.first_copies.split_off(&minute);
        Some(minute)
    }

    fn watermark(&self, partition: i32) -> Option<Micros> {
        self.highest[&partition].map(|highest| cut(watermark_nanos(highest, &self.rules)))
    }

    /// Each partition's own watermark after its last record; none if it never had a valid event.
    pub(super) fn watermarks(&self) -> BTreeMap<i32, Option<Micros>> {
        self.highest.keys().map(|&partition| (partition, self.watermark(partition))).collect()
    }
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
