//! Saves the state of `fold` as of a slice, and takes it up again.
//!
//! What is known of streams, and which ids were counted since an earlier checkpoint, is saved before the next slice is begun, so that
//! nothing of it can change meanwhile. Streams are few, and ids are not copied but for the newest: the thread that writes takes them as
//! they are. It takes the users' tables likewise; one that changes before it is written is copied then. Viewers are saved while slices go
//! on, some at the end of each activation; [`presence`](super::presence) remembers how those had moved who move again meanwhile.

use super::movements::{Moved, Step};
use super::streams::MinuteKey;
use super::{Fold, Stint, streams};
use crate::background::Background;
use crate::checkpoint::part::{self, Key, Section};
use crate::checkpoint::writer::{PartWriter, Spare};
use crate::checkpoint::{Holds, Id, Manifest, PartNotice, Parts};
use crate::fail_points::fail_point;
use crate::flow::{Request, RowKey, Totals};
use crate::keys::{EventKey, RANGES, StreamKey, ViewerKey, owner};
use crate::rollups::{self, RollUps};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tidemark_model::metrics::COUNT;
use tidemark_model::{Grain, Metric, Minute, Window};

/// Begins snapshots: what a worker needs for its part of a checkpoint.
pub struct Saver {
    /// Where parts go.
    pub parts: Arc<dyn Parts>,
    /// Tells pipelines apart.
    pub pipeline: u32,
    /// The run's fence token.
    pub fence: i64,
    /// The worker.
    pub worker: usize,
    /// Where notice is given of parts that are on the disk.
    pub notices: Sender<PartNotice>,
    /// Memory for what is to be written.
    pub spare: Spare,
    /// Where they are written.
    pub background: Background,
    /// What the worker has of hours and days, as of a checkpoint.
    pub rollups: rollups::Saved,
}

impl Saver {
    /// Begins to save the state as it is now. It must not change as long as the snapshot [holds it up](Snapshot::holds_up). What is left
    /// of an earlier snapshot is given up.
    pub fn begin(&self, state: &mut Fold, request: &Request) -> Snapshot {
        let id = Id { pipeline: self.pipeline, fence: self.fence, number: request.number };
        let writer = PartWriter::start(&self.parts, id, self.worker, self.notices.clone(), &self.spare, &self.background);
        let viewers = state.presence.begin_snapshot().into_iter().map(Key::Viewers);
        let ids = state.firsts.begin_snapshot(id, request.ids_since);
        let ids = ids.into_iter().map(|(minute, range)| Key::Ids(minute, range));
        let users = state.users.keys().map(|(grain, window, range)| Key::Users(grain, window, range));
        let gone = state.presence.gone().keys().map(|(grain, window, range)| Key::Gone(grain, window, range));
        fail_point!("snapshot-begun");
        let streams = [Key::Shares, Key::Steps, Key::Firsts, Key::Bases];
        let left = [Key::RollUps].into_iter().chain(viewers).chain(ids).chain(users).chain(gone).chain(streams).collect();
        Snapshot { writer, left, places: 0, number: request.number, rollups: Rc::clone(&self.rollups) }
    }
}

/// A snapshot that is being saved.
pub struct Snapshot {
    writer: PartWriter,
    /// What is still to be saved, the last of it first.
    left: Vec<Key>,
    /// Places of streams that are done of the last of them.
    places: usize,
    number: u64,
    rollups: rollups::Saved,
}

/// Streams that one section takes: about a millisecond's work.
const MOST_STREAMS: usize = 2_048;

/// Open rows of them that it takes, likewise, but for those of the last one.
const MOST_ROWS: usize = 1 << 15;

/// Bytes of copied rows that may wait for the disk before more viewers are saved: nothing waits for them.
const VIEWERS_WAITING: usize = 8 << 20;

/// The same for what slices wait for, so that they hardly ever wait for the disk too.
const MOST_WAITING: usize = 32 << 20;

/// Viewers who may move before they are saved: of each it is remembered how they had moved, in some hundred bytes.
const MOST_REMEMBERED: usize = 1 << 20;

/// Joins and leaves that may be taken up while viewers are saved, because nobody is forgotten meanwhile.
const MOST_MEANWHILE: usize = 1 << 22;

/// How far a snapshot is.
pub enum Saved {
    /// All of it went to the thread that writes.
    All,
    /// The time was over.
    Some(Snapshot),
    /// The disk is behind.
    Full(Snapshot),
}

impl Snapshot {
    /// Whether the next slice has to wait: for streams and ids, and if the disk is so slow that too much has happened meanwhile.
    pub fn holds_up(&self, state: &Fold) -> bool {
        let Some(next) = self.left.last() else { return false };
        let too_much = state.presence.remembered() > MOST_REMEMBERED || state.presence.meanwhile() > MOST_MEANWHILE;
        !matches!(next, Key::Viewers(_) | Key::RollUps) || too_much
    }

    /// Saves on, a section at least, until the stint is over.
    pub fn save(mut self, state: &mut Fold, stint: &mut Stint) -> Saved {
        while let Some(&key) = self.left.last() {
            let viewers = matches!(key, Key::Viewers(_));
            if key == Key::RollUps {
                let mut saved = self.rollups.borrow_mut();
                let Some((_, rows)) = saved.take_if(|(number, _)| *number == self.number) else {
                    drop(saved);
                    // They are a moment behind.
                    return Saved::Full(self);
                };
                let section = part::section(Vec::new(), key, rows.len(), rows.into_iter().map(rolled_row));
                drop(saved);
                self.writer.send(section);
                self.left.pop();
                continue;
            }
            if !self.writer.has_room(if viewers { VIEWERS_WAITING } else { MOST_WAITING }) {
                return Saved::Full(self);
            }
            let by_place = matches!(key, Key::Shares | Key::Steps | Key::Firsts | Key::Bases);
            let places = if by_place { state.streams.some_places(self.places, MOST_STREAMS, MOST_ROWS) } else { 0..0 };
            self.places = places.end;
            if !by_place || places.end == state.streams.places() {
                self.left.pop();
                self.places = 0;
            }
            let buffer = if viewers { self.writer.buffer() } else { Vec::new() };
            self.writer.send(state.section(key, places, buffer));
            if let Key::Viewers(range) = key {
                state.presence.saved(range);
            }
            if stint.is_over() {
                return Saved::Some(self);
            }
        }
        self.writer.finish();
        Saved::All
    }
}

impl Fold {
    /// A section's rows; of what is kept by stream, those of the streams in some places.
    fn section(&self, key: Key, places: Range<usize>, buffer: Vec<u8>) -> Section {
        let words = |(StreamKey(a, b), minute): MinuteKey| [a, b, u64::from(minute.0)];
        match key {
            Key::Viewers(range) => {
                let row = |(ViewerKey(a, b), Moved(moved))| [a, b, moved];
                let about = self.presence.about_as_many_movements(range);
                part::section(buffer, key, about, self.presence.movements(range).map(row))
            }
            Key::Ids(minute, range) => {
                let (others, shared) = self.firsts.news(minute, range);
                part::ids(buffer, key, others, shared)
            }
            Key::Shares => {
                let row = |(key, Totals { events, values })| {
                    let mut row = [0; 4 + COUNT];
                    row[..3].copy_from_slice(&words(key));
                    row[3] = events.cast_unsigned();
                    row[4..].copy_from_slice(&values.0.map(i64::cast_unsigned));
                    row
                };
                let about = self.streams.open_rows(places.clone());
                part::section(buffer, key, about, self.streams.shares(places).map(row))
            }
            Key::Steps => {
                let row = |(key, Step { present, fresh, watched }): (MinuteKey, Step)| {
                    let [a, b, minute] = words(key);
                    let [present, of_minute, of_hour, of_day] =
                        [present, fresh[0], fresh[1], fresh[2]].map(|count| i64::from(count).cast_unsigned());
                    [a, b, minute, present, of_minute, watched.cast_unsigned(), of_hour, of_day]
                };
                part::section(buffer, key, 0, self.streams.steps(places).map(row))
            }
            Key::Bases => {
                let row = |(StreamKey(a, b), count): (StreamKey, i64)| [a, b, count.cast_unsigned()];
                part::section(buffer, key, 0, self.streams.bases(places).map(row))
            }
            Key::Users(grain, window, range) | Key::Gone(grain, window, range) => {
                let users = if matches!(key, Key::Users(..)) { &self.users } else { self.presence.gone() };
                part::ids(buffer, key, std::iter::empty(), std::slice::from_ref(users.places(grain, window, range)))
            }
            Key::Firsts => {
                let row = |(key, streams::Firsts { chatters, donors }): (MinuteKey, streams::Firsts)| {
                    let [a, b, minute] = words(key);
                    let [c, d] = chatters.map(|count| i64::from(count).cast_unsigned());
                    let [e, f] = donors.map(|count| i64::from(count).cast_unsigned());
                    [a, b, minute, c, d, e, f]
                };
                part::section(buffer, key, 0, self.streams.firsts(places).map(row))
            }
            Key::RollUps => unreachable!("the fold does not have them"),
        }
    }

    /// Takes up a worker's share of a checkpoint: the ranges that it owns now, and of what adds the parts that fall to it. With it the hours
    /// and days of its streams.
    pub fn restore(
        &mut self,
        rollups: &mut RollUps,
        manifest: &Manifest,
        parts: &dyn Parts,
        worker: usize,
        workers: usize,
    ) -> io::Result<()> {
        self.watermark = manifest.watermark;
        let metrics = manifest.columns()?;
        let first_open = manifest.watermark.map_or(Minute(0), Minute::first_open);
        self.users.close(first_open);
        self.presence.restore_first_open(first_open);
        self.streams.restore_open(first_open, manifest.open.clone());
        rollups.restore_first_open(first_open);
        let owns = |stream: StreamKey| owner(stream.range(), workers) == worker;
        for (set, written) in manifest.sets() {
            let writers = written.len();
            for written_by in (0..writers).filter(|&by| part_matters(set.holds, by, writers, worker, workers)) {
                let mine = |key| match key {
                    Key::Viewers(range) => owner(range, workers) == worker,
                    Key::Ids(minute, range) => minute >= first_open && owner(range, workers) == worker,
                    Key::Users(grain, window, range) | Key::Gone(grain, window, range) => {
                        grain.end_of(window) > first_open && owner(range, workers) == worker
                    }
                    Key::Shares | Key::Steps | Key::Bases | Key::Firsts => written_by % workers == worker,
                    Key::RollUps => true,
                };
                let part = io::BufReader::with_capacity(1 << 18, parts.open(set, written_by)?);
                part::read(part, set.id, written_by, mine, |key, rows| match key {
                    Key::RollUps => take_up_rolled(rows, &metrics, rollups, owns),
                    key => self.take_up(key, rows, manifest, &metrics),
                })?;
            }
        }
        self.firsts.resumed(manifest.id);
        Ok(())
    }

    /// Takes up a section's rows. Shares have a value of each of these metrics.
    fn take_up(&mut self, key: Key, rows: part::Rows<'_>, manifest: &Manifest, metrics: &[Metric]) -> io::Result<()> {
        let row_key = |[a, b, minute]: [u64; 3]| {
            let minute =
                u32::try_from(minute).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a minute out of range"))?;
            io::Result::Ok((StreamKey(a, b), Minute(minute)))
        };
        match key {
            Key::Viewers(range) => {
                let movement = |[a, b, moved]: [u64; 3]| (ViewerKey(a, b), Moved(moved));
                self.presence.restore_movements(range, rows.of()?.map(movement));
            }
            Key::Ids(minute, range) => {
                self.firsts.restore(minute, range, rows.of::<EventKey>()?);
            }
            Key::Shares => {
                for row in rows.words(4 + metrics.len())? {
                    let mut share = Totals { events: row[3].cast_signed(), ..Totals::default() };
                    metrics.iter().zip(&row[4..]).for_each(|(&metric, value)| share.values[metric] = value.cast_signed());
                    self.streams.restore_share(row_key([row[0], row[1], row[2]])?, share);
                }
            }
            Key::Steps => {
                let counted = manifest.rolled_up.map(|from| from.is_some());
                // Version 4 has the present count only, version 5 nothing of hours and days.
                let words = rows.width() / size_of::<u64>();
                for row in rows.words(if [4, 6].contains(&words) { words } else { 8 })? {
                    let word = |at: usize| row.get(at).map_or(0, |word| word.cast_signed());
                    let (stream, minute) = row_key([row[0], row[1], row[2]])?;
                    let [present, of_minute, of_hour, of_day] = counts([3, 4, 6, 7].map(|at| word(at).cast_unsigned()))?;
                    // Of an hour that was not counted so far only the first minute can have users: those that the minute itself has.
                    let fresh = |grain: Grain, saved: i32| match counted[grain as usize - 1] {
                        true => saved,
                        false if grain.window_of(minute) == minute => of_minute,
                        false => 0,
                    };
                    let fresh = [of_minute, fresh(Grain::Hour, of_hour), fresh(Grain::Day, of_day)];
                    self.streams.restore_step((stream, minute), Step { present, fresh, watched: word(5) });
                }
            }
            Key::Bases => {
                for [a, b, count] in rows.of::<[u64; 3]>()? {
                    self.streams.restore_base(StreamKey(a, b), count.cast_signed());
                }
            }
            Key::Users(grain, window, range) | Key::Gone(grain, window, range) => {
                let users = if matches!(key, Key::Users(..)) { &mut self.users } else { self.presence.restore_gone() };
                match manifest.version {
                    6 => users.restore_list(grain, window, range, rows.of()?),
                    _ => users.restore(grain, window, range, rows.of()?),
                }
            }
            Key::Firsts => {
                for [a, b, minute, c, d, e, f] in rows.of::<[u64; 7]>()? {
                    let [chatters, donors] = [[c, d], [e, f]];
                    let change = streams::Firsts { chatters: counts(chatters)?, donors: counts(donors)? };
                    self.streams.restore_firsts(row_key([a, b, minute])?, change);
                }
            }
            Key::RollUps => unreachable!("the fold does not take them up"),
        }
        Ok(())
    }
}

/// Counts of viewers as they were saved.
fn counts<const N: usize>(words: [u64; N]) -> io::Result<[i32; N]> {
    let mut counts = [0; N];
    for (count, word) in counts.iter_mut().zip(words) {
        *count = i32::try_from(word.cast_signed())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "more viewers than 32 bits count"))?;
    }
    Ok(counts)
}

/// A row of an hour or a day, as it is saved.
fn rolled_row(((StreamKey(a, b), window), totals): (RowKey, Totals)) -> [u64; 5 + COUNT] {
    let Totals { events, values } = totals;
    let mut row = [0; 5 + COUNT];
    row[..5].copy_from_slice(&[a, b, window.grain as u64, window.first.0.into(), events.cast_unsigned()]);
    row[5..].copy_from_slice(&values.0.map(i64::cast_unsigned));
    row
}

/// Takes up the hours and days of the streams that a worker owns now.
fn take_up_rolled(
    rows: part::Rows<'_>,
    metrics: &[Metric],
    rollups: &mut RollUps,
    owns: impl Fn(StreamKey) -> bool,
) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "a window out of range");
    for row in rows.words(5 + metrics.len())? {
        let stream = StreamKey(row[0], row[1]);
        let grain = usize::try_from(row[2]).ok().and_then(|grain| Grain::ALL.get(grain)).ok_or_else(invalid)?;
        let first = Minute(u32::try_from(row[3]).map_err(|_| invalid())?);
        if owns(stream) {
            let mut totals = Totals { events: row[4].cast_signed(), ..Totals::default() };
            metrics.iter().zip(&row[5..]).for_each(|(&metric, value)| totals.values[metric] = value.cast_signed());
            rollups.restore((stream, Window { grain: *grain, first }), totals);
        }
    }
    Ok(())
}

/// Whether a part has anything for a worker: ranges that it owns now, or what adds.
fn part_matters(holds: Holds, written_by: usize, writers: usize, worker: usize, workers: usize) -> bool {
    let owned_then_and_now = |range| owner(range, writers) == written_by && owner(range, workers) == worker;
    (holds == Holds::State && written_by % workers == worker) || (0..RANGES).any(owned_then_and_now)
}

#[cfg(test)]
mod tests {
    use super::super::Stints;
    use super::super::movements::Movement;
    use super::*;
    use crate::checkpoint::manifest::{Increment, ReadTo, VERSION};
    use crate::checkpoint::memory::MemoryParts;
    use crate::flow::Admitted;
    use crate::telemetry::Metrics;
    use std::collections::BTreeMap;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::{Duration, Instant};
    use tidemark_model::metrics::Whole;
    use tidemark_model::{Cents, Grain, Kind, Micros, Nanos};

    /// More than one section takes.
    const STREAMS: u64 = 2 * MOST_STREAMS as u64 + 3;

    fn fold() -> Fold {
        Fold::new(i64::MAX / 4, &Grain::ALL, Metrics::new().0.of_worker(0))
    }

    const REQUEST: Request = Request { number: 1, taken_at: Micros(0), open: Vec::new(), ids_since: None };

    fn saver() -> (Arc<dyn Parts>, Saver, Receiver<PartNotice>) {
        let (notices, notice) = channel();
        let parts: Arc<dyn Parts> = Arc::new(MemoryParts::default());
        let background = Background::Threads;
        (
            Arc::clone(&parts),
            Saver {
                parts,
                pipeline: 1,
                fence: 1,
                worker: 0,
                notices,
                spare: Spare::default(),
                background,
                rollups: no_rollups(),
            },
            notice,
        )
    }

    /// What there is of hours and days at the first request: nothing.
    fn no_rollups() -> rollups::Saved {
        Rc::new(std::cell::RefCell::new(Some((REQUEST.number, Vec::new()))))
    }

    #[test]
    fn slices_wait_while_streams_are_saved_and_when_too_much_has_happened() {
        let mut state = fold();
        let join = |state: &mut Fold, range, number| {
            state.presence.steps_of(ViewerKey::in_range(range, number), Nanos(0), Movement::Join);
        };
        (0..3).for_each(|range| join(&mut state, range, 0));
        let (_parts, saver, _notice) = saver();
        let mut snapshot = saver.begin(&mut state, &REQUEST);
        let one_more = |snapshot: Snapshot, state: &mut Fold| match snapshot.save(state, &mut Stint::Steps(1)) {
            Saved::Some(left) => left,
            Saved::All | Saved::Full(_) => panic!("a few viewers are left, and the disk is quick"),
        };
        for _ in [Key::Bases, Key::Firsts, Key::Steps, Key::Shares] {
            assert!(snapshot.holds_up(&state));
            snapshot = one_more(snapshot, &mut state);
        }
        let moving = ViewerKey::in_range(1, 0).0;
        (0..MOST_REMEMBERED as u64).for_each(|number| {
            for _ in 0..2 {
                state.presence.steps_of(ViewerKey(moving, number), Nanos(0), Movement::Join);
            }
        });
        assert!(!snapshot.holds_up(&state));
        join(&mut state, 0, 0);
        assert!(snapshot.holds_up(&state));
        assert_eq!(state.presence.remembered(), MOST_REMEMBERED + 1);
        // The next one begins to count anew. Of one who moves again and again little is remembered, but nobody is forgotten meanwhile.
        snapshot = saver.begin(&mut state, &REQUEST);
        assert!(snapshot.left.len() == 8 && state.presence.remembered() == 0);
        assert_eq!(state.presence.meanwhile(), 0);
        for _ in [Key::Bases, Key::Firsts, Key::Steps, Key::Shares] {
            snapshot = one_more(snapshot, &mut state);
        }
        (0..MOST_MEANWHILE).for_each(|_| join(&mut state, 0, 0));
        assert!(!snapshot.holds_up(&state));
        join(&mut state, 0, 0);
        assert!(snapshot.holds_up(&state) && state.presence.remembered() == 1);
    }

    /// All that is kept, of all of them together.
    #[derive(Default, PartialEq)]
    struct Kept {
        shares: BTreeMap<MinuteKey, Totals>,
        present: BTreeMap<StreamKey, i64>,
        viewers: usize,
    }

    fn kept(folds: &mut [Fold]) -> Kept {
        let mut kept = Kept::default();
        for fold in folds {
            fold.changes(|_, _| ());
            let places = 0..fold.streams.places();
            kept.shares.extend(fold.streams.shares(places.clone()));
            let steps = fold.streams.steps(places.clone()).map(|((stream, _), step)| (stream, i64::from(step.present)));
            for (stream, change) in steps.chain(fold.streams.bases(places)) {
                *kept.present.entry(stream).or_default() += change;
            }
            kept.viewers += fold.presence.viewers();
        }
        kept
    }

    #[test]
    fn more_streams_than_a_section_takes_are_saved_and_taken_up_by_others() {
        let mut state = fold();
        for minute in [1, 2] {
            state.changes(|_, _| ());
            state.streams.open(&[Minute(minute)]);
            for number in 0..STREAMS {
                let event = Admitted {
                    viewer: ViewerKey(number << 56 | number, number),
                    by_user: true,
                    stream: StreamKey(number, number),
                    id: None,
                    ts: Nanos(i64::from(minute) * 60_000_000_000),
                    amount: Cents(0),
                    kind: Kind::ViewerJoin,
                };
                assert!(state.event(&event));
            }
        }
        state.changes(|_, _| ());
        // The first window is closed, so the base has counts too.
        state.watermark = Some(Minute(1).end());
        state.close(|_, _| (), |_, _, _| ());

        let (parts, saver, notice) = saver();
        let mut snapshot = saver.begin(&mut state, &REQUEST);
        let stints = Stints::Steps(1);
        while let Saved::Some(left) | Saved::Full(left) = snapshot.save(&mut state, &mut Stint::new(stints, Instant::now())) {
            snapshot = left;
        }
        let written = notice.recv_timeout(Duration::from_secs(30)).unwrap().outcome.unwrap();
        let id = Id { pipeline: 1, fence: 1, number: 1 };
        let manifest = Manifest {
            version: VERSION,
            id,
            taken_at: Micros(0),
            watermark: state.watermark,
            open: vec![Minute(2)],
            partitions: BTreeMap::<i32, ReadTo>::new(),
            parts: vec![written.state],
            increments: vec![Increment { id, newest: Minute(2), parts: vec![written.ids] }],
            metrics: Manifest::metrics(&Whole::default()),
            rolled_up: Whole::default().rolled_up,
        };
        let mut others: Vec<Fold> = std::iter::repeat_with(fold).take(3).collect();
        for (worker, other) in others.iter_mut().enumerate() {
            other
                .restore(&mut RollUps::new(&Grain::ALL, Whole::default().rolled_up), &manifest, parts.as_ref(), worker, 3)
                .unwrap();
        }
        let expected = kept(std::slice::from_mut(&mut state));
        assert_eq!((expected.shares.len() as u64, expected.present.len() as u64), (STREAMS, STREAMS));
        assert!(kept(&mut others) == expected);
    }
}
