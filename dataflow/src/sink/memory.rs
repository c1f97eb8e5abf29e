//! The in-memory twin of a store.

use super::own::{At, Held, Offsets, Own};
use super::retention::{Sweep, Swept};
use super::{Begin, Commit, Decide, Inexact, Receipt, Row, Store, StoreError, Stored, Total};
use crate::checkpoint::Manifest;
use crate::checkpoint::history::Entry;
use crate::flow::PartitionMark;
use crate::oracle::RolledUp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tidemark_model::metrics::RollUp;
use tidemark_model::{Grain, Metric, Micros, Minute, Nanos, Reason, Values};

/// A row of `stream_metrics_minute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// The metrics.
    pub values: Values,
    /// The commit that last changed the row.
    pub epoch: i64,
}

/// All tables.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// `stream_metrics_minute`.
    pub rows: BTreeMap<(Minute, String), StoredRow>,
    /// `stream_totals_minute`: streams and metrics.
    pub totals: BTreeMap<Minute, (i64, Values)>,
    /// Those of hours and days.
    pub rolled_up: RolledUp,
    /// `progress.hours_from` and `days_from`.
    pub rolled_up_from: [Option<Minute>; 2],
    /// `stream_state`: window and viewers.
    pub states: BTreeMap<String, (Minute, i64)>,
    /// `dead_letters`: reason, by partition and offset.
    pub dead_letters: BTreeMap<(i32, i64), Reason>,
    /// Letters that were dropped, for whoever compares the tables with the log.
    pub dropped_letters: BTreeMap<(i32, i64), Reason>,
    /// `progress.minutes_from`.
    pub minutes_from: Option<Minute>,
    /// `progress_partitions.letters_from`.
    pub letters_from: BTreeMap<i32, i64>,
    /// `progress_partitions`.
    pub partitions: BTreeMap<i32, PartitionMark>,
    /// `progress.epoch`.
    pub epoch: i64,
    /// `progress.watermark`.
    pub watermark: Option<Micros>,
    fence: i64,
    run: Option<String>,
    fingerprint: Option<String>,
    hash_key: [u8; 16],
    /// The hash key, where a test must have the same one each time.
    pub given_hash_key: Option<[u8; 16]>,
    starts: BTreeMap<i32, i64>,
    /// `progress.checkpoints`.
    pub checkpoints: Vec<Manifest>,
    /// `progress_history`, by watermark.
    pub history: BTreeMap<Micros, Entry>,
    /// `inexact_windows`.
    pub inexact: Vec<Inexact>,
}

/// Most rows that one sweep drops: few, so that tests see many.
const MOST: usize = 7;
/// In microseconds.
const DAY: i64 = 86_400_000_000;

/// Tables in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    own: Own,
}

impl MemoryStore {
    /// The tables.
    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().expect("nobody panics while holding the tables")
    }

    #[cfg(test)]
    pub(super) fn own(&self) -> &Own {
        &self.own
    }

    /// The tables as they were when they were cloned: a backup is restored, under whatever run there is.
    pub fn restore(&self, backup: Tables) {
        *self.tables() = backup;
    }
}

/// Stores new values; those that are not of a window's end only rise if `rises`. Whether anything changed.
fn put(stored: &mut Values, new: Values, rises: bool) -> bool {
    let before = *stored;
    for (metric, value) in new.iter() {
        let kept = if rises && metric.declared().roll_up != RollUp::AtEnd { stored[metric] } else { value };
        stored[metric] = value.max(kept);
    }
    *stored != before
}

impl Tables {
    /// Where the tables stand, if this run may write.
    fn compare(&self, own: &Own) -> Result<At, StoreError> {
        let at = own.compare(&Held { fence: self.fence, run: self.run.clone(), epoch: self.epoch })?;
        own.compare_offsets(at, &self.next_offsets())?;
        Ok(at)
    }

    /// The newest entry of the history that is old enough.
    pub fn newest_entry(&self, old_enough: Nanos) -> Option<&Entry> {
        self.history.values().rev().find(|entry| entry.highest().is_none_or(|highest| highest <= old_enough))
    }

    /// Drops some of what is old enough.
    fn sweep(&mut self, sweep: &Sweep) -> Swept {
        let mut swept = Swept::default();
        if let Some(from) = sweep.minutes_from() {
            let from = from.max(self.minutes_from.unwrap_or(from));
            self.minutes_from = Some(from);
            let gone = self.rows.range(..(from, String::new())).take(MOST).map(|(key, _)| key.clone()).collect::<Vec<_>>();
            self.rows.retain(|key, _| !gone.contains(key));
            let gone_totals = self.totals.range(..from).take(MOST).map(|(&minute, _)| minute).collect::<Vec<_>>();
            self.totals.retain(|minute, _| !gone_totals.contains(minute));
            swept.rows = (gone.len() + gone_totals.len()) as u64;
        }
        let history: Vec<Entry> = self.history.values().cloned().collect();
        let checkpoints = serde_json::to_value(&self.checkpoints).expect("manifests are plain data");
        for (partition, from) in sweep.letters_from(&history, &checkpoints) {
            let first = self.letters_from.entry(partition).or_insert(from);
            *first = from.max(*first);
        }
        let is_gone = |(partition, offset): &(i32, i64)| self.letters_from.get(partition).is_some_and(|from| offset < from);
        let gone: Vec<_> = self.dead_letters.keys().copied().filter(is_gone).take(MOST).collect();
        for at in &gone {
            self.dropped_letters.extend(self.dead_letters.remove_entry(at));
        }
        swept.letters = gone.len() as u64;
        swept.left = swept.rows >= MOST as u64 || gone.len() == MOST;
        swept
    }

    fn next_offsets(&self) -> Offsets {
        let next = |(&partition, &start)| (partition, self.partitions.get(&partition).map_or(start, |mark| mark.next_offset));
        let mut offsets: Offsets = self.starts.iter().map(next).collect();
        offsets.extend(self.partitions.values().map(|mark| (mark.partition, mark.next_offset)));
        offsets
    }
}

impl Store for MemoryStore {
    fn begin(&mut self, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, StoreError> {
        let mut tables = self.tables.lock().expect("nobody panics while holding the tables");
        if tables.fingerprint.as_ref().is_some_and(|stored| *stored != begin.fingerprint) {
            return Err(StoreError::Fatal("the fingerprint changed".to_owned()));
        }
        let mut changed = tables.clone();
        let first = changed.fingerprint.is_none();
        if first {
            changed.hash_key = changed.given_hash_key.unwrap_or(begin.hash_key);
            changed.fingerprint = Some(begin.fingerprint.clone());
        }
        for (&partition, &start) in begin.starts(first) {
            changed.starts.entry(partition).or_insert(start);
        }
        let first_open = changed.watermark.map_or(Minute(0), Minute::first_open);
        let start =
            |partition| changed.starts.get(&partition).copied().unwrap_or_else(|| changed.partitions[&partition].start_offset);
        let minutes = changed.rows.keys().filter(|(minute, _)| *minute >= first_open).cloned();
        let longer = changed.rolled_up.rows.keys().filter(|(grain, first, _)| grain.end_of(*first) > first_open);
        let open_rows = longer.map(|(_, first, stream)| (*first, stream.clone())).chain(minutes);
        let mut stored = Stored {
            fence: changed.fence,
            epoch: changed.epoch,
            hash_key: changed.hash_key,
            watermark: changed.watermark,
            partitions: changed
                .next_offsets()
                .into_iter()
                .map(|(partition, next)| (partition, (start(partition), next)))
                .collect(),
            letters_from: changed.letters_from.clone(),
            watermarks: changed.partitions.values().filter_map(|mark| Some((mark.partition, mark.watermark?))).collect(),
            verdicts: BTreeMap::new(),
            open_rows: open_rows.collect(),
            checkpoints: serde_json::to_value(&changed.checkpoints).expect("manifests are plain data"),
            history: changed.history.values().cloned().collect(),
            inexact_until: changed.inexact.iter().map(|inexact| inexact.until).max(),
            rolled_up: changed.rolled_up_from,
            clock: None,
        };
        let decision = decide(&stored)?;
        let by_clock = |reason: Reason| matches!(reason, Reason::Future | Reason::Closed);
        let replayed =
            |&(partition, offset): &(i32, i64)| decision.replay_from.get(&partition).is_some_and(|&from| offset >= from);
        let letters = changed.dead_letters.iter().filter(|&(at, &reason)| by_clock(reason) && replayed(at));
        stored.verdicts = letters.map(|(&at, &reason)| (at, reason)).collect();
        changed.fence = changed.fence.max(decision.above_fence) + 1;
        changed.run = Some(begin.run.clone());
        stored.fence = changed.fence;
        for given_up in begin.given_up(&mut stored.rolled_up) {
            let is_kept = |grain: Grain, first: Minute| grain != given_up || grain.end_of(first) <= first_open;
            changed.rolled_up.rows.retain(|&(grain, first, _), _| is_kept(grain, first));
            changed.rolled_up.totals.retain(|&(grain, first), _| is_kept(grain, first));
        }
        changed.rolled_up_from = stored.rolled_up;
        self.own = Own::new(begin, &stored);
        *tables = changed;
        Ok(stored)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Receipt, StoreError> {
        let mut tables = self.tables.lock().expect("nobody panics while holding the tables");
        if tables.compare(&self.own)? == At::Attempted {
            // An earlier attempt was applied after all, although its outcome was not heard.
            self.own.applied();
            return Ok(Receipt { epoch: self.own.epoch, clock: None });
        }
        self.own.attempt(commit);
        let epoch = tables.epoch + 1;
        for Row { window, stream_id, totals, .. } in &commit.rows {
            let rises = !commit.is_exact(*window);
            if window.grain > Grain::Minute {
                let row = tables.rolled_up.rows.entry((window.grain, window.first, stream_id.to_string()));
                put(row.or_insert(totals.values), totals.values, rises);
                continue;
            }
            let row = tables.rows.entry((window.first, stream_id.to_string()));
            let row = row.or_insert(StoredRow { values: totals.values, epoch });
            if put(&mut row.values, totals.values, rises) {
                row.epoch = epoch;
            }
        }
        for Total { window, streams, totals } in &commit.totals {
            let rises = !commit.is_exact(*window);
            let total = match window.grain {
                Grain::Minute => tables.totals.entry(window.first).or_insert((*streams, totals.values)),
                _ => tables.rolled_up.totals.entry((window.grain, window.first)).or_insert((*streams, totals.values)),
            };
            total.0 = if rises { total.0.max(*streams) } else { *streams };
            put(&mut total.1, totals.values, rises);
        }
        for Row { window, stream_id, totals, .. } in commit.newest_rows() {
            let state = tables.states.entry(stream_id.to_string()).or_insert((window.first, 0));
            if state.0 <= window.first {
                *state = (window.first, totals.values[Metric::ActiveViewers]);
            }
        }
        for letter in &commit.dead_letters {
            tables.dead_letters.insert((letter.partition, letter.offset), letter.reason);
        }
        tables.partitions.extend(commit.partitions.clone());
        tables.watermark = tables.watermark.max(commit.watermark);
        tables.rolled_up_from = commit.whole.rolled_up;
        tables.history.extend(commit.history.iter().map(|entry| (entry.watermark, entry.clone())));
        let needed = commit.old_enough.and_then(|old_enough| tables.newest_entry(old_enough)).map(|entry| entry.watermark);
        if let Some(needed) = needed {
            let first_of = |at: Micros| {
                let unit = if needed.0 - at.0 > 8 * DAY { DAY } else { DAY / 24 };
                tables.history.range(Micros(at.0 - at.0.rem_euclid(unit))..).next().map(|(first, _)| *first)
            };
            let is_kept = |at: Micros| at >= needed || (needed.0 - at.0 <= 400 * DAY && first_of(at) == Some(at));
            let kept: Vec<Micros> = tables.history.keys().copied().filter(|&at| is_kept(at)).collect();
            tables.history.retain(|at, _| kept.binary_search(at).is_ok());
        }
        tables.inexact.extend(commit.inexact.clone());
        tables.checkpoints = commit.checkpoints.clone().unwrap_or(std::mem::take(&mut tables.checkpoints));
        tables.epoch = epoch;
        drop(tables);
        self.own.applied();
        Ok(Receipt { epoch, clock: None })
    }

    fn sweep(&mut self, sweep: &Sweep) -> Result<Swept, StoreError> {
        let mut tables = self.tables.lock().expect("nobody panics while holding the tables");
        if tables.compare(&self.own)? == At::Attempted {
            self.own.applied();
            return Ok(Swept { left: true, ..Swept::default() });
        }
        self.own.attempt(&Commit::default());
        let swept = tables.sweep(sweep);
        tables.epoch += 1;
        self.own.applied();
        Ok(swept)
    }

    fn heartbeat(&mut self, _: Option<&str>) -> Result<Option<Micros>, StoreError> {
        self.tables.lock().expect("nobody panics while holding the tables").compare(&self.own)?;
        Ok(None)
    }
}
