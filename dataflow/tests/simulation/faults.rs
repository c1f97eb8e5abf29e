//! The in-memory twins of log, store and checkpoints, with faults; and the judge of every commit.

use crate::support;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::checkpoint::{PartFile, PartSet, Parts};
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::run::Control;
use tidemark_dataflow::sink::memory::{MemoryStore, Tables};
use tidemark_dataflow::sink::{Begin, Commit, Decide, Receipt, Store, StoreError, Stored};
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_dataflow::source::{Description, Log, Position, Record, Source, SourceError};

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
        self.differences.lock().unwrap().extend(support::differences(tables, &answer));
    }
}

/// A store that fails before or after it has applied a commit.
pub struct FaultyStore {
    pub store: MemoryStore,
    pub chance: Chance,
    pub judge: Judge,
    /// Crashes the run.
    pub crash: Arc<AtomicBool>,
    pub control: Arc<Control>,
}

impl FaultyStore {
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
        self.fails(commit, "it was not applied")?;
        let before = self.store.tables().clone();
        let receipt = self.store.commit(commit)?;
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

    fn heartbeat(&mut self, trouble: Option<&str>) -> Result<Option<Micros>, StoreError> {
        self.store.heartbeat(trouble)
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

/// A log whose partitions are without a leader now and then.
pub struct FaultyLog {
    pub log: MemoryLog,
    pub chance: Chance,
}

impl Log for FaultyLog {
    fn describe(&self) -> Result<Description, SourceError> {
        self.log.describe()
    }

    fn open(&self, start: &BTreeMap<i32, i64>) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(FaultySource { source: self.log.open(start)?, chance: self.chance.clone(), leaderless: BTreeMap::new() }))
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
    /// For how many more looks at its position a partition has no leader.
    leaderless: BTreeMap<i32, u32>,
}

impl Source for FaultySource {
    fn read(
        &mut self,
        partition: i32,
        before: Option<i64>,
        max: usize,
        take: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), SourceError> {
        if self.leaderless.contains_key(&partition) {
            return Ok(());
        }
        self.source.read(partition, before, max, take)
    }

    fn position(&mut self, partition: i32) -> Result<Position, SourceError> {
        if self.chance.fault(200) {
            self.leaderless.insert(partition, 20);
        }
        let position = self.source.position(partition)?;
        if let Some(left) = self.leaderless.get_mut(&partition) {
            *left -= 1;
            if *left == 0 {
                self.leaderless.remove(&partition);
            }
            return Ok(Position { at_end: false, ..position });
        }
        Ok(position)
    }

    fn serve(&mut self) -> Result<(), SourceError> {
        self.source.serve()
    }

    fn others(&mut self) -> Result<Vec<i32>, SourceError> {
        self.source.others()
    }

    fn add(&mut self, partition: i32) -> Result<(), SourceError> {
        self.source.add(partition)
    }
}
