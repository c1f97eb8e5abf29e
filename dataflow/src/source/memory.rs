//! The in-memory twin of a log: what tests and benchmarks run through the production loop.

use super::{Asked, Bounds, Description, Log, Position, Record, Source, SourceError, Take};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tidemark_model::Micros;

/// A record that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its own offset; rising, holes allowed.
    pub offset: i64,
    /// The log's time of it.
    pub time: Option<Micros>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub payload: Option<Vec<u8>>,
}

/// Partitions of records in memory. Clones share them, so a test can write while the pipeline reads.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    partitions: Arc<Mutex<BTreeMap<i32, Vec<Stored>>>>,
    /// Where partitions begin by now, if some of their records have expired.
    low: Arc<Mutex<BTreeMap<i32, i64>>>,
    /// Most records that one reading hands out; a test varies it to cut slices differently. 0: no limit.
    pub most_per_read: usize,
}

impl MemoryLog {
    /// A log of these records.
    pub fn new(partitions: BTreeMap<i32, Vec<Stored>>) -> MemoryLog {
        MemoryLog { partitions: Arc::new(Mutex::new(partitions)), ..MemoryLog::default() }
    }

    /// Appends a record to a partition, at the next offset.
    pub fn append(&self, partition: i32, time: Option<Micros>, payload: Option<&[u8]>) {
        let mut partitions = self.partitions.lock().expect("no reader panics while it holds the log");
        let records = partitions.entry(partition).or_default();
        let record = Stored { offset: end_of(records), time, key: None, payload: payload.map(<[u8]>::to_vec) };
        records.push(record);
    }

    /// Appends records to partitions; their offsets are moved behind what is there.
    pub fn extend(&self, more: BTreeMap<i32, Vec<Stored>>) {
        let mut partitions = self.partitions.lock().expect("no reader panics while it holds the log");
        for (partition, records) in more {
            let to = partitions.entry(partition).or_default();
            let base = end_of(to);
            to.extend(records.into_iter().map(|record| Stored { offset: base + record.offset, ..record }));
        }
    }

    /// Records below these offsets have expired: nobody can read them any more.
    pub fn expire(&self, low: BTreeMap<i32, i64>) {
        self.low.lock().expect("no reader panics while it holds the offsets").extend(low);
    }

    fn low(&self, partition: i32) -> i64 {
        let low = self.low.lock().expect("no reader panics while it holds the offsets");
        low.get(&partition).copied().unwrap_or(0)
    }

    /// A copy of all records, also of those that have expired.
    pub fn records(&self) -> BTreeMap<i32, Vec<Stored>> {
        self.partitions.lock().expect("no reader panics while it holds the log").clone()
    }
}

fn end_of(records: &[Stored]) -> i64 {
    records.last().map_or(0, |record| record.offset + 1)
}

impl Log for MemoryLog {
    fn describe(&self) -> Result<Description, SourceError> {
        let partitions = self.partitions.lock().expect("no reader panics while it holds the log");
        let bounds = |(&partition, records): (&i32, &Vec<Stored>)| {
            let bounds = Bounds { low: self.low(partition), high: end_of(records) };
            (partition, bounds)
        };
        let partitions = partitions.iter().map(bounds).collect();
        Ok(Description { id: "memory:".to_owned(), partitions })
    }

    fn open(&self, start: &BTreeMap<i32, i64>) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(MemorySource { log: self.clone(), next: start.clone(), now: None }))
    }

    fn topic(&self) -> &str {
        "memory"
    }

    fn committed(&self, _: &[(i32, i64)]) {}
}

struct MemorySource {
    log: MemoryLog,
    next: BTreeMap<i32, i64>,
    now: Option<Asked>,
}

impl Source for MemorySource {
    fn read(&mut self, partition: i32, before: Option<i64>, max: usize, take: Take<'_>) -> Result<(), SourceError> {
        let next = self.next.get_mut(&partition).expect("a partition that was opened");
        if *next < self.log.low(partition) {
            return Err(SourceError::Fatal(format!("partition {partition}: the record at {next} has expired")));
        }
        let partitions = self.log.partitions.lock().expect("no reader panics while it holds the log");
        let records = partitions.get(&partition).map_or(&[][..], Vec::as_slice);
        let first = records.partition_point(|record| record.offset < *next);
        let end = records.partition_point(|record| before.is_none_or(|before| record.offset < before)).max(first);
        let most = if self.log.most_per_read == 0 { max } else { max.min(self.log.most_per_read) };
        let batch = &records[first..end.min(first + most)];
        for record in batch {
            let (key, payload) = (record.key.as_deref(), record.payload.as_deref());
            if take(Record { offset: record.offset, time: record.time, key, payload }).is_break() {
                return Ok(());
            }
            *next = record.offset + 1;
        }
        if first + batch.len() == end {
            *next = (*next).max(before.unwrap_or(0).min(end_of(records)));
        }
        Ok(())
    }

    fn position(&mut self, partition: i32) -> Result<Position, SourceError> {
        let next_offset = self.next[&partition];
        let partitions = self.log.partitions.lock().expect("no reader panics while it holds the log");
        let end_offset = partitions.get(&partition).map_or(0, |records| end_of(records));
        let at_end = next_offset >= end_offset;
        let low_offset = self.log.low(partition);
        Ok(Position { next_offset, end_offset, at_end, confirmed: self.now.filter(|_| at_end), low_offset })
    }

    fn serve(&mut self, now: Asked) -> Result<(), SourceError> {
        self.now = Some(now);
        Ok(())
    }

    fn others(&mut self) -> Result<Vec<i32>, SourceError> {
        let partitions = self.log.partitions.lock().expect("no reader panics while it holds the log");
        Ok(partitions.keys().filter(|partition| !self.next.contains_key(partition)).copied().collect())
    }

    fn add(&mut self, partition: i32) -> Result<(), SourceError> {
        self.next.insert(partition, 0);
        Ok(())
    }
}
