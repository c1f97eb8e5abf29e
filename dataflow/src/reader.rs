//! One partition, as its owner reads it: poll → decode → admit, and the mark that says where it stands.
//!
//! A reader never blocks. What it may read is decided by its gate:
//!
//! ```text
//! Replaying ──reached emit-from──▶ AwaitingLife ──everybody has──▶ Reading ──stop_at──▶ Done (also from Quiet)
//!                                                                  ▲     │ at its end and idle, or never a valid event
//!                       the watermark of that slice is known       │     ▼
//!                                                     Announced ◀──── Quiet
//!                                                          has a backlog again
//! ```
//!
//! A partition that returns says so in a slice and reads on only once that slice's watermark is known: from then on the
//! pipeline's watermark cannot pass it, and what had been closed before is judged `closed`.

use crate::Slice;
use crate::admit::{Admission, Judge};
use crate::clock::MOST_APART;
use crate::decode::{Decoded, Decoder, Event, Rejected};
use crate::flow::{Admitted, Change, DeadLetter, PartitionMark, Standing, Tally};
use crate::keys::{Keys, StreamKey};
use crate::names::Names;
use crate::plan::PartitionPlan;
use crate::reading::{Monotonic, Reading};
use crate::rules::Rules;
use crate::sink::widest;
use crate::source::{Position, Record, Source, SourceError};
use crate::watermark::Known;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use tidemark_model::{Micros, Minute, Reason};

/// How old the newest word of a partition may be, a record or its leader's answer, before nobody can tell whether there is more to read.
/// In microseconds. A leader is asked twice a second, and may take three seconds to answer.
const STALE: i64 = 6_000_000;

/// What a reader may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Reads what the store has already.
    Replaying,
    /// Has read that; others have not.
    AwaitingLife,
    /// Reads.
    Reading,
    /// Does not hold the watermark. Must announce itself before it reads.
    Quiet,
    /// Has announced itself in this slice.
    Announced(Slice),
    /// Has reached the offset at which it was to end.
    Done,
}

/// Where a reader puts what it finds.
pub trait Outlet {
    /// An event that counts.
    fn event(&mut self, event: Admitted);
    /// Something for the sink.
    fn change(&mut self, change: Change);
}

/// What all readers of a worker share.
pub struct Desk {
    /// Hashes names.
    pub keys: Keys,
    /// Lateness and its companions.
    pub rules: Rules,
    /// Microseconds after which a silent partition is idle; `None`: never.
    pub idle_after: Option<i64>,
    /// Reads bytes.
    pub decoder: Decoder,
    /// Streams' names, and for which windows they were sent.
    pub names: Names,
    /// What was counted since it was last taken.
    pub tally: Tally,
}

/// The moment of the worker's loop in which something is read.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// The clocks.
    pub now: Reading,
    /// How far the monotonic clock is ahead of worker 0's, which may be in another process.
    pub ahead_of_worker_0: i64,
    /// What is known of the store's wall clock now.
    pub store: StoreTime,
    /// The open slice.
    pub slice: Slice,
    /// What is known of the pipeline's watermark.
    pub known: &'a Known,
    /// How far a partition may be ahead of it, in microseconds.
    pub max_ahead: i64,
}

/// What is known of the store's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreTime {
    /// Nothing yet.
    Unheard,
    /// It has none of its own, so nothing contradicts this machine's.
    None,
    /// What it shows now.
    At(Micros),
}

impl Turn<'_> {
    /// Whether a verdict on a record can be taken now. One in which the wall clock has a part waits until the store's clock agrees.
    fn can_judge(&self, record_time: Option<Micros>) -> bool {
        let wall = self.now.wall;
        match self.store {
            StoreTime::None => true,
            StoreTime::Unheard => false,
            StoreTime::At(store) if store.0.abs_diff(wall.0) <= MOST_APART.unsigned_abs() => true,
            StoreTime::At(store) => record_time.is_some_and(|time| time <= wall.min(store)),
        }
    }
}

/// Reads one partition.
pub struct Reader {
    partition: i32,
    plan: PartitionPlan,
    gate: Gate,
    admission: Admission,
    verdicts: BTreeMap<i64, Reason>,
    last_delivery: Monotonic,
    delivered: bool,
    /// [`PartitionMark::judged_by`] of this slice.
    judged_by: Option<(i64, i64)>,
    /// Windows of this slice's events, in order.
    touched: BTreeSet<Minute>,
    said: Option<PartitionMark>,
}

impl Reader {
    /// A reader that starts where the plan says. Until life has begun for all it reads only what the store holds already.
    pub fn new(partition: i32, plan: PartitionPlan, verdicts: BTreeMap<i64, Reason>, now: Monotonic) -> Reader {
        Reader {
            partition,
            plan,
            gate: Gate::Replaying,
            admission: Admission::resume(plan.highest),
            verdicts,
            last_delivery: now,
            delivered: false,
            judged_by: None,
            touched: BTreeSet::new(),
            said: None,
        }
    }

    /// A reader of a partition that came into being while the pipeline runs: from its beginning, and it announces itself before it
    /// reads, so that no window closes past it unseen.
    pub fn of_new_partition(partition: i32, now: Monotonic) -> Reader {
        let plan = PartitionPlan { start_offset: 0, replay_from: 0, highest: None, emit_from: 0, stop_at: None };
        let reader = Reader::new(partition, plan, BTreeMap::new(), now);
        Reader { gate: Gate::Quiet, ..reader }
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Its own watermark.
    pub fn watermark(&self, rules: &Rules) -> Option<Micros> {
        self.admission.watermark(rules)
    }

    /// Whether it has read all that it was to read.
    pub fn done(&self) -> bool {
        self.gate == Gate::Done
    }

    /// Whether it has not yet read what the store has.
    pub fn replaying(&self) -> bool {
        self.gate == Gate::Replaying
    }

    /// Reads at most `max` records, if it may read at all and is not too far ahead of the others.
    pub fn read(
        &mut self,
        source: &mut dyn Source,
        max: usize,
        turn: Turn<'_>,
        desk: &mut Desk,
        outlet: &mut dyn Outlet,
    ) -> Result<(), SourceError> {
        let Turn { now, slice, known, max_ahead, .. } = turn;
        let gate = self.pass_gate(source, now.at, slice, known)?;
        let before = match gate {
            Gate::Replaying => Some(self.plan.emit_from),
            Gate::Reading => self.plan.stop_at,
            _ => return Ok(()),
        };
        if known.too_far_ahead(self.partition, self.watermark(&desk.rules), max_ahead) {
            return Ok(());
        }
        let records = desk.tally.records;
        source.read(self.partition, before, max, &mut |record| {
            // What is replayed was judged before.
            if gate == Gate::Reading && !turn.can_judge(record.time) {
                return ControlFlow::Break(());
            }
            self.record(record, turn, desk, outlet);
            ControlFlow::Continue(())
        })?;
        if desk.tally.records > records {
            self.delivered = true;
            self.last_delivery = now.at;
        }
        Ok(())
    }

    /// Moves on to the gate that is open now.
    fn pass_gate(&mut self, source: &mut dyn Source, now: Monotonic, slice: Slice, known: &Known) -> Result<Gate, SourceError> {
        let position = source.position(self.partition)?;
        let next_offset = position.next_offset;
        if self.gate == Gate::Replaying && next_offset >= self.plan.emit_from {
            self.gate = Gate::AwaitingLife;
        }
        if self.gate == Gate::AwaitingLife && known.live() {
            self.admission.returned(known.watermark());
            self.verdicts = BTreeMap::new();
            self.gate = Gate::Reading;
        }
        if self.gate == Gate::Quiet && !self.is_at_end(&position, now) {
            self.gate = Gate::Announced(slice);
        }
        if let Gate::Announced(slice) = self.gate
            && let Some(watermark) = known.as_of(slice)
        {
            self.admission.returned(watermark);
            self.gate = Gate::Reading;
        }
        if matches!(self.gate, Gate::Reading | Gate::Quiet) && self.plan.stop_at.is_some_and(|stop| next_offset >= stop) {
            self.gate = Gate::Done;
        }
        Ok(self.gate)
    }

    fn record(&mut self, record: Record<'_>, turn: Turn<'_>, desk: &mut Desk, outlet: &mut dyn Outlet) {
        desk.tally.records += 1;
        let outcome = match desk.decoder.decode(record.payload) {
            Ok(Decoded::Event(event)) => self.admit(&event, &record, turn, desk, outlet),
            Ok(Decoded::Other(_)) => {
                desk.tally.other_types += 1;
                Ok(())
            }
            Err(rejected) => Err(rejected),
        };
        if let Err(Rejected { reason, error }) = outcome {
            *desk.tally.rejected.entry(reason).or_default() += 1;
            let bytes = [record.key, record.payload].iter().flatten().map(|part| part.len()).sum::<usize>();
            desk.tally.rejected_bytes += (bytes + error.len() + size_of::<DeadLetter>()) as u64;
            let letter = DeadLetter {
                partition: self.partition,
                offset: record.offset,
                reason,
                error,
                key: record.key.map(<[u8]>::to_vec),
                payload: record.payload.map(<[u8]>::to_vec),
                record_time: record.time,
            };
            outlet.change(Change::DeadLetter(Box::new(letter)));
        }
    }

    fn admit(
        &mut self,
        event: &Event<'_>,
        record: &Record<'_>,
        turn: Turn<'_>,
        desk: &mut Desk,
        outlet: &mut dyn Outlet,
    ) -> Result<(), Rejected> {
        let judge = match self.gate {
            Gate::Replaying => Judge::Replay(self.verdicts.get(&record.offset).copied()),
            _ => {
                let Turn { now, .. } = turn;
                if record.time.is_none_or(|time| time > now.wall) {
                    let ahead = now.wall_ahead().saturating_add(turn.ahead_of_worker_0);
                    self.judged_by = widest(self.judged_by, Some((ahead, ahead)));
                }
                Judge::Live(now.wall)
            }
        };
        let minute = self.admission.judge(event.ts, record.time, judge, &desk.rules).inspect_err(|rejected| {
            if let (Reason::Late, Some(watermark)) = (rejected.reason, self.admission.watermark(&desk.rules)) {
                desk.tally.late_by.push(watermark.0.saturating_sub(Minute::of(event.ts).end().0));
            }
        })?;
        desk.tally.admitted += 1;
        self.touched.insert(minute);
        let (stream, first) = desk.names.meet(&event.stream_id, minute, &desk.keys);
        if first {
            outlet.change(Change::Name(stream, minute, event.stream_id.as_ref().into()));
        }
        outlet.event(desk.address(stream, event));
        Ok(())
    }

    /// What is to be said of the partition at the end of a slice, if anything has changed.
    pub fn mark(&mut self, source: &mut dyn Source, now: Monotonic, desk: &Desk) -> Result<Option<PartitionMark>, SourceError> {
        let position = source.position(self.partition)?;
        let standing = self.stand(&position, now, desk);
        // While it is quiet and has more to read already, what it said last still holds.
        let silent_until = match position.confirmed {
            _ if standing != Standing::Idle => None,
            Some(asked) => asked.worker_0,
            None => self.said.as_ref().and_then(|said| said.silent_until),
        };
        let mark = PartitionMark {
            partition: self.partition,
            start_offset: self.plan.start_offset,
            next_offset: position.next_offset,
            end_offset: position.end_offset,
            low_offset: position.low_offset,
            highest: self.admission.highest(),
            watermark: self.admission.watermark(&desk.rules),
            standing,
            silent_until,
            judged_by: self.judged_by.take(),
            delivered: std::mem::take(&mut self.delivered),
            replayed: self.gate != Gate::Replaying && position.next_offset >= self.plan.emit_from,
            touched: std::mem::take(&mut self.touched).into_iter().collect(),
        };
        if self.said.as_ref() == Some(&mark) {
            return Ok(None);
        }
        self.said = Some(PartitionMark { touched: Vec::new(), judged_by: None, ..mark.clone() });
        Ok(Some(mark))
    }

    /// Whether all that the log has was read, as far as its newest word tells.
    fn is_at_end(&self, position: &Position, now: Monotonic) -> bool {
        let newest_word = position.confirmed.map_or(self.last_delivery, |asked| asked.at.max(self.last_delivery));
        position.at_end && now.since(newest_word) < STALE
    }

    /// Where the partition stands; a partition that stops holding the watermark falls quiet.
    fn stand(&mut self, position: &Position, now: Monotonic, desk: &Desk) -> Standing {
        let never_valid = self.admission.highest().is_none();
        match self.gate {
            Gate::Done if never_valid => return Standing::NotCounting,
            Gate::Done => return Standing::AtEnd,
            Gate::Reading | Gate::Quiet if self.is_at_end(position, now) => {}
            Gate::Quiet => return self.said.as_ref().map_or(Standing::NotCounting, |mark| mark.standing),
            _ => return Standing::Backlogged,
        }
        // Silence is what the leader has confirmed, and not what the clock says.
        let confirmed = position.confirmed.filter(|asked| asked.worker_0.is_some());
        let silent = confirmed.map(|asked| asked.at.since(self.last_delivery)).filter(|&silent| silent >= 0);
        let idle = |silent| desk.idle_after.is_some_and(|idle_after| silent >= idle_after);
        let standing = match silent {
            Some(_) if never_valid => Standing::NotCounting,
            Some(silent) if idle(silent) => Standing::Idle,
            _ if never_valid => return Standing::Backlogged,
            _ => Standing::AtEnd,
        };
        if standing != Standing::AtEnd {
            self.gate = Gate::Quiet;
        }
        standing
    }
}

impl Desk {
    /// An event with hashes in place of names.
    fn address(&self, stream: StreamKey, event: &Event<'_>) -> Admitted {
        let user = event.user_id.as_deref().map(|user| self.keys.viewer(stream, user));
        let viewer = user.unwrap_or_else(|| self.keys.anonymous(stream, event.event_id.as_deref()));
        let id = event.event_id.as_deref().map(|id| self.keys.event(stream, user, id));
        Admitted { viewer, by_user: user.is_some(), stream, id, ts: event.ts, amount: event.amount, kind: event.kind }
    }
}
