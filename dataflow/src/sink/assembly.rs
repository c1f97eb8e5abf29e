//! From the changes of slices to commits, slice by slice in order.

use super::publication::Publication;
use super::retention::{Retention, Sweep};
use super::{Commit, Resume, Row, Total, widest};
use crate::checkpoint::history::{self, Entry};
use crate::checkpoint::reach::Reach;
use crate::flow::{Change, PartitionMark, Totals};
use crate::keys::{KeyMap, StreamKey, give_back_room};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemark_model::metrics::Whole;
use tidemark_model::{Grain, Micros, Minute, Nanos, Window};

/// Makes commits.
pub struct Assembly {
    live: bool,
    watermark: Option<Micros>,
    whole: Whole,
    inexact_until: Option<Minute>,
    viewer_timeout_nanos: i64,
    retention: Retention,
    /// The longest windows that rows are of.
    longest: Grain,
    names: KeyMap<StreamKey, Named>,
    /// Totals that no commit has taken along yet. Replayed ones are kept too: at the end of a replay the watermark may be past the stored one,
    /// and the version before may not have written any. One for each window that is not final.
    totals: BTreeMap<Window, Total>,
    /// Rows of hours and days that no commit has taken along yet, replayed ones too. Two for each stream.
    rolled: BTreeMap<(Window, StreamKey), Totals>,
    /// Marks that no commit has taken along yet.
    partitions: BTreeMap<i32, PartitionMark>,
    publication: Publication,
    reach: Reach,
}

/// The name of a stream.
struct Named {
    name: Arc<str>,
    /// The newest minute in which it was told. Once the longest window that it lies in is over no row needs it.
    newest: Minute,
}

impl Assembly {
    /// Goes on from what is stored.
    pub fn new(mut resume: Resume) -> Assembly {
        let mut names = KeyMap::default();
        for (minute, stream, name) in &resume.names {
            told(&mut names, *stream, *minute, name);
        }
        let is_made = |grain: &Grain| *grain == Grain::Minute || resume.whole.rolled_up[*grain as usize - 1].is_some();
        let longest = Grain::ALL.into_iter().rev().find(is_made);
        Assembly {
            longest: longest.unwrap_or(Grain::Minute),
            live: false,
            watermark: resume.watermark,
            whole: resume.whole,
            inexact_until: resume.inexact_until,
            viewer_timeout_nanos: resume.viewer_timeout_nanos,
            retention: resume.retention,
            names,
            totals: BTreeMap::new(),
            rolled: BTreeMap::new(),
            partitions: BTreeMap::new(),
            reach: Reach::new(std::mem::take(&mut resume.history)),
            publication: Publication::new(resume),
        }
    }

    /// What the slice must write, if anything is worth a transaction of its own.
    pub fn slice(&mut self, changes: Vec<Change>) -> Option<Commit> {
        let mut rows = Vec::new();
        let mut commit = Commit { whole: self.whole, inexact_until: self.inexact_until, ..Commit::default() };
        let mut live = self.live;
        let mut request = None;
        for change in changes {
            match change {
                // What is final already is stored, and a replay may not have read all of it.
                Change::Row(_, window, _) | Change::Total(window, ..)
                    if self.watermark.is_some_and(|stored| window.end() <= stored) => {}
                Change::Row(stream, window, totals) if window.grain == Grain::Minute => rows.push((stream, window, totals)),
                Change::Row(stream, window, totals) => {
                    self.rolled.insert((window, stream), totals);
                }
                Change::Total(window, streams, totals) => {
                    self.totals.insert(window, Total { window, streams, totals });
                }
                Change::Name(stream, minute, name) => told(&mut self.names, stream, minute, &name),
                Change::DeadLetter(letter) => commit.dead_letters.push(*letter),
                Change::Partition(mut mark) => {
                    commit.judged_by = widest(commit.judged_by, mark.judged_by.take());
                    self.publication.stands(&mark);
                    self.reach.partition(mark.partition, mark.start_offset, mark.low_offset);
                    self.partitions.insert(mark.partition, *mark);
                }
                Change::Watermark(watermark) => {
                    commit.watermark = commit.watermark.max(watermark.at);
                    live |= watermark.live;
                    request = watermark.checkpoint;
                }
                Change::Part(notice) => commit.checkpoints = self.publication.part(*notice).or(commit.checkpoints.take()),
            }
        }
        if let Some(request) = request {
            self.publication.begin(request, commit.watermark);
        }
        let replay = !std::mem::replace(&mut self.live, live);
        if replay {
            // What was replayed in this slice is in the store already.
            self.partitions.values_mut().for_each(|mark| mark.delivered = false);
            return None;
        }
        commit.totals = std::mem::take(&mut self.totals).into_values().collect();
        commit.rows.reserve(rows.len() + self.rolled.len());
        let rolled = std::mem::take(&mut self.rolled).into_iter().map(|((window, stream), totals)| (stream, window, totals));
        for (stream, window, totals) in rows.into_iter().chain(rolled) {
            // The name of a stream goes before its rows, or is stored with them.
            let Some(Named { name, newest }) = self.names.get(&stream) else {
                let (start, length) = (window.first, window.grain);
                tracing::error!(%start, ?length, "a row is not written, because the stream's rows that were not final were deleted");
                continue;
            };
            commit.corrections += u64::from(window.grain == Grain::Minute && *newest > window.first);
            commit.rows.push(Row { window, stream, stream_id: Arc::clone(name), totals });
        }
        commit.rows.sort_unstable_by_key(Row::key);
        self.finish(commit)
    }

    fn finish(&mut self, mut commit: Commit) -> Option<Commit> {
        let first_open = |watermark: Option<Micros>| watermark.map(Minute::first_open);
        let closes = first_open(commit.watermark) > first_open(self.watermark);
        let delivered = self.partitions.values().any(|mark| mark.delivered);
        let nothing =
            commit.rows.is_empty() && commit.totals.is_empty() && commit.dead_letters.is_empty() && commit.checkpoints.is_none();
        if nothing && !delivered && !closes {
            return None;
        }
        self.watermark = self.watermark.max(commit.watermark);
        if let Some(watermark) = self.watermark.filter(|_| closes) {
            let first_open = Minute::first_open(watermark);
            let entry = Entry { watermark, partitions: self.publication.partitions().clone() };
            self.reach.push(entry.clone());
            commit.history = vec![entry];
            // Those that were needed before a `recover` stay for longer.
            commit.old_enough = Some(self.old_enough(watermark, None));
            commit.sweep = self.sweep(watermark);
            let longest = self.longest;
            self.names.retain(|_, named| longest.end_of(longest.window_of(named.newest)) > first_open);
            give_back_room(&mut self.names);
        }
        if let Some(watermark) = self.watermark {
            commit.reach = self.reach.news(watermark, self.old_enough(watermark, self.inexact_until));
        }
        commit.partitions = std::mem::take(&mut self.partitions);
        Some(commit)
    }

    fn sweep(&self, watermark: Micros) -> Option<Sweep> {
        let &Assembly { retention, viewer_timeout_nanos, whole, .. } = self;
        let pending = self.publication.pending().cloned();
        let sweep = Sweep { retention, watermark, viewer_timeout_nanos, rolled_up: whole.rolled_up, pending };
        (!retention.is_off()).then_some(sweep)
    }

    fn old_enough(&self, watermark: Micros, inexact_until: Option<Minute>) -> Nanos {
        history::old_enough(Some(watermark), self.whole.rolled_up, self.viewer_timeout_nanos, inexact_until)
    }
}

/// Takes up a stream's name. Each worker tells it when it meets a newer window.
fn told(names: &mut KeyMap<StreamKey, Named>, stream: StreamKey, minute: Minute, name: &str) {
    let named = names.entry(stream).or_insert_with(|| Named { name: name.into(), newest: minute });
    named.newest = named.newest.max(minute);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::schedule::Settled;
    use crate::flow::Watermark;
    use tidemark_model::{Metric, Nanos, Values};

    const STREAM: StreamKey = StreamKey(1, 1);
    const NOON: Minute = Minute(12 * 60);

    /// The tables are final up to half past eleven, and the run makes rows of hours and days.
    fn assembly() -> Assembly {
        Assembly::new(Resume {
            watermark: Some(Minute(NOON.0 - 30).start()),
            names: vec![(NOON, STREAM, "s".to_owned())],
            partitions: vec![PartitionMark::at_end(0, 5)],
            checkpoints: Vec::new(),
            history: Vec::new(),
            inexact_until: None,
            whole: Whole { rolled_up: [Some(Minute(0)); 2], ..Whole::default() },
            viewer_timeout_nanos: 60_000_000_000,
            retention: Retention::default(),
            pipeline: 1,
            fence: 1,
            workers: 1,
            settled: Arc::new(Settled::resumed(None, 1)),
        })
    }

    fn watermark(at: Minute, live: bool) -> Change {
        let at = Some(at.start());
        Change::Watermark(Box::new(Watermark {
            clock: None,
            at,
            opened: Vec::new(),
            live,
            alignment: None,
            checkpoint: None,
            ended: false,
        }))
    }

    fn chats(count: i64) -> Totals {
        Totals { events: count, values: Values::of([(Metric::ChatMessages, count)]) }
    }

    /// The run before died when it had not yet committed that the watermark had gone on: what has closed since is not in the tables.
    #[test]
    fn what_closes_only_at_the_end_of_the_replay_is_committed() {
        let mut assembly = assembly();
        let hour = Window { grain: Grain::Hour, first: Minute(NOON.0 - 60) };
        let final_minute = Window { grain: Grain::Minute, first: Minute(NOON.0 - 31) };
        let last_of_replay = vec![
            Change::Row(STREAM, hour, chats(7)),
            Change::Total(hour, 1, chats(7)),
            // Only a part of it was replayed.
            Change::Total(final_minute, 1, chats(1)),
            watermark(NOON, true),
        ];
        assert_eq!(assembly.slice(last_of_replay), None, "what was replayed is in the tables");
        let mark =
            Change::Partition(Box::new(PartitionMark { highest: Some(NOON.start().to_nanos()), ..PartitionMark::at_end(0, 6) }));
        let commit = assembly.slice(vec![mark, watermark(NOON, true)]).expect("a record was read");
        assert_eq!(commit.rows.iter().map(|row| (row.window, row.totals)).collect::<Vec<_>>(), [(hour, chats(7))]);
        assert_eq!(commit.totals.iter().map(|total| total.window).collect::<Vec<_>>(), [hour]);
        let [entry] = &commit.history[..] else { panic!("a minute closes: {:?}", commit.history) };
        assert_eq!((entry.watermark, entry.partitions[&0].next_offset), (NOON.start(), 6));
        // Nothing of the day is final before it is over.
        assert_eq!(commit.old_enough, Some(Nanos(-60_000_000_000)));
    }
}
