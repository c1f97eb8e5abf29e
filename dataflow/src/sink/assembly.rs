//! From the changes of slices to commits, slice by slice in order.

use super::publication::Publication;
use super::{Commit, Resume, Row, Total, widest};
use crate::flow::{Change, PartitionMark, Totals};
use crate::keys::{KeyMap, StreamKey, give_back_room};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemark_model::metrics::Whole;
use tidemark_model::{Grain, Micros, Minute, Window};

/// Makes commits.
pub struct Assembly {
    live: bool,
    watermark: Option<Micros>,
    whole: Whole,
    /// The longest windows that rows are of.
    longest: Grain,
    names: KeyMap<StreamKey, Named>,
    /// Totals that no commit has taken along yet. Replayed ones are kept too, because the version before may not have written any: one for
    /// each minute that is replayed.
    totals: BTreeMap<Window, Total>,
    /// Rows of hours and days that no commit has taken along yet. Replayed ones are kept too: at the end of a replay the watermark may be past
    /// the stored one. Two for each stream.
    rolled: BTreeMap<(Window, StreamKey), Totals>,
    /// Marks that no commit has taken along yet.
    partitions: BTreeMap<i32, PartitionMark>,
    publication: Publication,
}

/// The name of a stream.
struct Named {
    name: Arc<str>,
    /// The newest minute in which it was told. Once the longest window that it lies in is over no row needs it.
    newest: Minute,
}

impl Assembly {
    /// Goes on from what is stored.
    pub fn new(resume: Resume) -> Assembly {
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
            names,
            totals: BTreeMap::new(),
            rolled: BTreeMap::new(),
            partitions: BTreeMap::new(),
            publication: Publication::new(resume),
        }
    }

    /// What the slice must write, if anything is worth a transaction of its own.
    pub fn slice(&mut self, changes: Vec<Change>) -> Option<Commit> {
        let mut rows = Vec::new();
        let mut commit = Commit { whole: self.whole, ..Commit::default() };
        let mut live = self.live;
        let mut request = None;
        for change in changes {
            match change {
                Change::Row(stream, window, totals) if window.grain == Grain::Minute => rows.push((stream, window, totals)),
                // What is final already is stored.
                Change::Row(stream, window, totals) if self.watermark.is_none_or(|stored| window.end() > stored) => {
                    self.rolled.insert((window, stream), totals);
                }
                Change::Row(..) => {}
                Change::Total(window, streams, totals) => {
                    self.totals.insert(window, Total { window, streams, totals });
                }
                Change::Name(stream, minute, name) => told(&mut self.names, stream, minute, &name),
                Change::DeadLetter(letter) => commit.dead_letters.push(*letter),
                Change::Partition(mut mark) => {
                    commit.judged_by = widest(commit.judged_by, mark.judged_by.take());
                    self.publication.stands(&mark);
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
        if let Some(first_open) = first_open(self.watermark).filter(|_| closes) {
            let longest = self.longest;
            self.names.retain(|_, named| longest.end_of(longest.window_of(named.newest)) > first_open);
            give_back_room(&mut self.names);
        }
        commit.partitions = std::mem::take(&mut self.partitions);
        Some(commit)
    }
}

/// Takes up a stream's name. Each worker tells it when it meets a newer window.
fn told(names: &mut KeyMap<StreamKey, Named>, stream: StreamKey, minute: Minute, name: &str) {
    let named = names.entry(stream).or_insert_with(|| Named { name: name.into(), newest: minute });
    named.newest = named.newest.max(minute);
}
