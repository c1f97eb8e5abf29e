//! The in-memory twins of log, store and checkpoints, with faults; and the judge of every commit.

use crate::support;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::checkpoint::{Manifest, PartFile, PartSet, Parts};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::{MemoryStore, Tables};
use tidemark_dataflow::sink::retention::{Sweep, Swept};
use tidemark_dataflow::sink::{Begin, Commit, Decide, LastWord, Receipt, Store, StoreError, Stored};
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::source::{Asked, Description, Log, Position, Source, SourceError, Take};
use tidemark_model::{Micros, Minute, Reason};

/// A seeded chance that clones share.
#[derive(Clone)]
pub struct Chance {
    random: Arc<Mutex<Xoshiro256PlusPlus>>,
    /// No fault happens while it is false.
    pub faults: bool,
}

impl Chance {
    pub fn new(seed: u64, faults: bool) -> Chance {
        Chance { random: Arc::new(Mutex::new(Xoshiro256PlusPlus::seed_from_u64(seed))), faults }
    }

    /// True once in `n` times.
    pub fn one_in(&self, n: u32) -> bool {
        self.random.lock().unwrap().random_range(0..n) == 0
    }

    fn fault(&self, n: u32) -> bool {
        self.faults && self.one_in(n)
    }
}

/// What every commit must keep.
#[derive(Clone)]
pub struct Judge {
    pub log: MemoryLog,
    pub rules: Rules,
    pub written: Written,
    /// Partitions that had an event before anybody read.
    pub counted_partitions: i32,
    pub differences: Arc<Mutex<Vec<String>>>,
}

impl Judge {
    /// Compares the tables before and after a commit.
    fn commit(&self, before: &Tables, after: &Tables) {
        let mut wrong = Vec::new();
        if after.epoch != before.epoch + 1 {
            wrong.push(format!("epoch {} after {}", after.epoch, before.epoch));
        }
        if after.watermark < before.watermark {
            wrong.push(format!("watermark {:?} after {:?}", after.watermark, before.watermark));
        }
        for (partition, mark) in &before.partitions {
            if after.partitions[partition].next_offset < mark.next_offset {
                wrong.push(format!("partition {partition}: {:?} after {mark:?}", after.partitions[partition]));
            }
        }
        if let Some(watermark) = before.watermark {
            for (key, row) in after.rows.iter().filter(|((minute, _), _)| minute.is_closed_by(watermark)) {
                let was = before.rows.get(key);
                if was != Some(row) {
                    wrong.push(format!("final row {key:?}: {row:?} after {was:?}, watermark {watermark}"));
                }
            }
        }
        let is_final = |minute: &Minute| before.watermark.is_some_and(|watermark| minute.is_closed_by(watermark));
        for (minute, totals) in after.totals.iter().filter(|(minute, _)| is_final(minute)) {
            let was = before.totals.get(minute);
            if was != Some(totals) {
                wrong.push(format!("final totals {minute}: {totals:?} after {was:?}"));
            }
        }
        wrong.extend(lacking_letters(after));
        self.differences.lock().unwrap().extend(wrong);
    }

    /// Compares the tables before and after a sweep: what has gone is final, and by what the tables say it may be gone.
    fn sweep(&self, before: &Tables, after: &Tables) {
        let mut wrong = Vec::new();
        let may_go = |minute: &Minute| {
            before.watermark.is_some_and(|watermark| minute.is_closed_by(watermark)) && after.minutes_from > Some(*minute)
        };
        let rows = before.rows.keys().filter(|key| !after.rows.contains_key(*key)).map(|(minute, _)| minute);
        let totals = before.totals.keys().filter(|minute| !after.totals.contains_key(*minute));
        for minute in rows.chain(totals).filter(|minute| !may_go(minute)) {
            wrong.push(format!("{minute} was dropped, watermark {:?}, from {:?}", before.watermark, after.minutes_from));
        }
        wrong.extend(lacking_letters(after));
        self.differences.lock().unwrap().extend(wrong);
    }

    /// Compares the tables with what the oracle says of the records below their offsets.
    pub fn tables(&self, tables: &Tables) {
        let mut records = self.log.records();
        for (partition, records) in &mut records {
            let next = tables.partitions.get(partition).map_or(0, |mark| mark.next_offset);
            records.retain(|record| record.offset < next);
        }
        records.retain(|partition, _| tables.partitions.contains_key(partition));
        let prefix = MemoryLog::new(records);
        let answer = support::expected(&prefix, &self.rules, support::random::NOW, tables);
        let mut differences = self.differences.lock().unwrap();
        differences.extend(support::differences(tables, &answer));
        differences.extend(self.written.wrongly_closed(tables, self.counted_partitions));
    }
}

/// Checkpoints that need letters which were dropped.
fn lacking_letters(tables: &Tables) -> Option<String> {
    let has = |checkpoint: &Manifest| {
        let starts = |partition: &i32| checkpoint.partitions.get(partition).map_or(0, |read_to| read_to.next_offset);
        tables.letters_from.iter().all(|(partition, from)| starts(partition) >= *from)
    };
    let lacking = tables.checkpoints.iter().find(|checkpoint| !has(checkpoint))?;
    Some(format!("{:?} needs letters that were dropped, below {:?}", lacking.partitions, tables.letters_from))
}

/// A store that fails before or after it has applied a commit.
pub struct FaultyStore {
    pub store: MemoryStore,
    pub chance: Chance,
    pub judge: Judge,
    /// The tables as they once were.
    pub backup: Arc<Mutex<Option<Tables>>>,
    /// The time of the world, which is its clock's.
    pub now: Box<dyn Fn() -> i64 + Send>,
    /// Crashes the run.
    pub crash: Arc<AtomicBool>,
    pub control: Arc<Control>,
}

impl FaultyStore {
    /// A backup of the tables is made, or restored, now and then.
    fn go_back(&self) {
        let mut backup = self.backup.lock().unwrap();
        if self.chance.fault(20) {
            *backup = Some(self.store.tables().clone());
        } else if self.chance.fault(60)
            && let Some(backup) = backup.take()
        {
            self.store.restore(backup);
        }
    }

    /// The outcome of a commit is not heard, perhaps because the process is killed just then: most often where a checkpoint is named,
    /// which is rarer than other commits.
    fn fails(&self, commit: &Commit, what: &str) -> Result<(), StoreError> {
        let names = commit.checkpoints.is_some();
        if !self.chance.fault(if names { 4 } else { 10 }) {
            return Ok(());
        }
        if self.chance.one_in(if names { 2 } else { 4 }) {
            self.crash.store(true, Ordering::Release);
            self.control.fail("a simulated crash while committing".to_owned());
        }
        Err(StoreError::Transient(format!("simulated: {what}")))
    }
}

impl Store for FaultyStore {
    fn begin(&mut self, begin: &Begin, decide: &mut Decide<'_>) -> Result<Stored, StoreError> {
        self.store.begin(begin, decide)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Receipt, StoreError> {
        self.go_back();
        self.fails(commit, "it was not applied")?;
        let before = self.store.tables().clone();
        let receipt = Receipt { clock: Some(Micros((self.now)())), ..self.store.commit(commit)? };
        let after = self.store.tables().clone();
        if after.epoch != before.epoch {
            self.judge.commit(&before, &after);
            if self.chance.one_in(6) {
                self.judge.tables(&after);
            }
        }
        self.fails(commit, "it was applied")?;
        Ok(receipt)
    }

    fn commit_if(&mut self, commit: &Commit, last_word: LastWord<'_>) -> Result<Receipt, StoreError> {
        last_word(Some(Micros((self.now)())))?;
        self.commit(commit)
    }

    fn sweep(&mut self, sweep: &Sweep) -> Result<Swept, StoreError> {
        self.fails(&Commit::default(), "it was not applied")?;
        let before = self.store.tables().clone();
        let swept = self.store.sweep(sweep)?;
        let after = self.store.tables().clone();
        self.judge.sweep(&before, &after);
        if self.chance.one_in(6) {
            self.judge.tables(&after);
        }
        self.fails(&Commit::default(), "it was applied")?;
        Ok(swept)
    }

    fn heartbeat(&mut self, trouble: Option<&str>) -> Result<Option<Micros>, StoreError> {
        self.store.heartbeat(trouble)?;
        Ok(Some(Micros((self.now)())))
    }
}

/// Checkpoints that fail to be written.
pub struct FaultyParts {
    pub parts: MemoryParts,
    pub chance: Chance,
}

impl Parts for FaultyParts {
    fn create(&self, set: PartSet, worker: usize) -> io::Result<Box<dyn PartFile>> {
        // Number 0 is the sign that a run leaves at its start: without it there is no run.
        let checkpoint = set.id.number > 0;
        if checkpoint && self.chance.fault(30) {
            return Err(io::Error::other("simulated: no room"));
        }
        Ok(Box::new(FaultyPart { part: self.parts.create(set, worker)?, fails: checkpoint && self.chance.fault(30) }))
    }

    fn open(&self, set: PartSet, worker: usize) -> io::Result<Box<dyn Read>> {
        self.parts.open(set, worker)
    }

    fn list(&self) -> io::Result<Vec<PartSet>> {
        self.parts.list()
    }

    fn remove(&self, set: PartSet) -> io::Result<()> {
        self.parts.remove(set)
    }
}

struct FaultyPart {
    part: Box<dyn PartFile>,
    fails: bool,
}

impl Write for FaultyPart {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.part.flush()
    }
}

impl PartFile for FaultyPart {
    fn persist(self: Box<Self>) -> io::Result<()> {
        if self.fails { Err(io::Error::other("simulated: the disk failed")) } else { self.part.persist() }
    }
}

/// Damages a part, or loses it.
pub fn damage(parts: &MemoryParts, chance: &Chance) {
    let mut files = parts.files();
    // One of the newest, mostly: state or ids.
    let filled = files.iter().rev().filter(|(_, bytes)| !bytes.is_empty()).map(|(&name, _)| name);
    let filled: Vec<_> = filled.collect();
    let Some(&name) = filled.iter().find(|_| chance.one_in(3)).or(filled.first()) else { return };
    if chance.one_in(2) {
        files.remove(&name);
    } else if let Some(bytes) = files.get_mut(&name) {
        if chance.one_in(2) {
            bytes.truncate(bytes.len() / 2);
        } else {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    }
}

/// When each record was written, by the time of the world.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Times>>);

/// Of each partition: the offset of each record, and when it was written.
type Times = BTreeMap<i32, Vec<(i64, i64)>>;

impl Written {
    /// A record was written behind those that the log has in this partition.
    pub fn note(&self, log: &MemoryLog, partition: i32, now: i64) {
        let offset = log.records()[&partition].last().map_or(0, |record| record.offset);
        self.0.lock().unwrap().entry(partition).or_default().push((offset, now));
    }

    /// Letters `closed` of partitions that were never silent for long enough to be idle. `partitions` are those that had an event
    /// before anybody read: they always counted.
    fn wrongly_closed(&self, tables: &Tables, partitions: i32) -> Vec<String> {
        let written = self.0.lock().unwrap();
        let closed = tables
            .dead_letters
            .iter()
            .chain(&tables.dropped_letters)
            .filter(|&(&(partition, _), &reason)| partition < partitions && reason == Reason::Closed);
        let mut wrong = Vec::new();
        for (&(partition, offset), _) in closed {
            let times = &written[&partition][..written[&partition].partition_point(|&(of, _)| of <= offset)];
            let longest = times.windows(2).map(|pair| pair[1].1 - pair[0].1).max().unwrap_or(0);
            if longest < IDLE_AFTER {
                wrong.push(format!(
                    "partition {partition}: the record at {offset} is closed, but nothing was silent for {longest} µs"
                ));
            }
        }
        wrong
    }
}

/// As the options of the tests have it.
const IDLE_AFTER: i64 = 30_000_000;

/// A log whose readers see old ends, and whose partitions are without a leader now and then.
pub struct FaultyLog {
    pub log: MemoryLog,
    pub chance: Chance,
}

impl Log for FaultyLog {
    fn describe(&self) -> Result<Description, SourceError> {
        self.log.describe()
    }

    fn open(&self, start: &BTreeMap<i32, i64>) -> Result<Box<dyn Source>, SourceError> {
        let source = self.log.open(start)?;
        if !self.chance.faults {
            return Ok(source);
        }
        let mut partitions = BTreeMap::new();
        for &partition in start.keys() {
            partitions.insert(partition, Partition::default());
        }
        // In some runs fetches are rare, so that what the last one told is old, and what was written during a pause is not at hand.
        let fetches = if self.chance.one_in(2) { 100 } else { 2 };
        Ok(Box::new(FaultySource { source, chance: self.chance.clone(), partitions, question: None, fetches }))
    }

    fn topic(&self) -> &str {
        self.log.topic()
    }

    fn committed(&self, next_offsets: &[(i32, i64)]) {
        self.log.committed(next_offsets);
    }
}

struct FaultySource {
    source: Box<dyn Source>,
    chance: Chance,
    partitions: BTreeMap<i32, Partition>,
    /// When the leaders were asked, and after how many more turns they answer.
    question: Option<(Asked, u32)>,
    /// A fetch happens in one turn of this many.
    fetches: u32,
}

#[derive(Clone, Copy, Default)]
struct Partition {
    /// The end as the last fetch told it: nothing behind it is at hand, however long ago that was.
    fetched: i64,
    /// The end as the leader told it, and when it was asked.
    told: Option<(i64, Asked)>,
    /// For how many more turns it has no leader.
    leaderless: u32,
}

impl Source for FaultySource {
    fn read(&mut self, partition: i32, before: Option<i64>, max: usize, take: Take<'_>) -> Result<(), SourceError> {
        let fetched = self.partitions[&partition].fetched;
        self.source.read(partition, Some(before.map_or(fetched, |before| before.min(fetched))), max, take)
    }

    fn position(&mut self, partition: i32) -> Result<Position, SourceError> {
        let Partition { fetched, told, .. } = self.partitions[&partition];
        let position = self.source.position(partition)?;
        let at_end = position.next_offset >= fetched;
        let confirmed = told.and_then(|(end, asked)| (position.next_offset >= end).then_some(asked));
        Ok(Position { end_offset: fetched.max(position.next_offset), at_end, confirmed, ..position })
    }

    fn serve(&mut self, now: Asked) -> Result<(), SourceError> {
        self.source.serve(now)?;
        let answered = match &mut self.question {
            Some((_, left)) if *left > 0 => {
                *left -= 1;
                None
            }
            _ => self.question.take(),
        };
        for (&partition, state) in &mut self.partitions {
            state.leaderless = state.leaderless.saturating_sub(1);
            if self.chance.fault(200) {
                state.leaderless = 20;
            }
            if state.leaderless > 0 {
                continue;
            }
            let end = self.source.position(partition)?.end_offset;
            if self.chance.one_in(self.fetches) {
                state.fetched = end;
            }
            if let Some((asked, _)) = answered {
                state.told = Some((end, asked));
            }
        }
        if self.question.is_none() && self.chance.one_in(2) {
            self.question = Some((now, if self.chance.one_in(2) { 0 } else { 3 }));
        }
        Ok(())
    }

    fn others(&mut self) -> Result<Vec<i32>, SourceError> {
        self.source.others()
    }

    fn add(&mut self, partition: i32) -> Result<(), SourceError> {
        self.partitions.insert(partition, Partition::default());
        self.source.add(partition)
    }
}
