//! The log up to stored offsets, read once.

use super::OpsError;
use crate::clock::Clock;
use crate::source::{Asked, Description, Log, Record, Source};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

/// Records that one reading takes.
const BATCH: usize = 4_096;
/// A log that delivers nothing for this long does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause when nothing is at hand.
const NAP: Duration = Duration::from_millis(2);
/// Between two lines about how far the reading is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Receives the records.
pub trait Reader {
    /// The partitions to read on, of those whose end has not been told. At least one, as long as there are any.
    fn behind(&mut self) -> Vec<i32>;

    /// The next record of a partition.
    fn take(&mut self, partition: i32, record: Record<'_>) -> Result<(), OpsError>;

    /// All records of a partition have been taken.
    fn end_of(&mut self, partition: i32);

    /// Now and then, and once at the end.
    fn pause(&mut self) -> Result<(), OpsError>;
}

/// Reads each partition's range of offsets, and answers how many records that were. Refuses a log that no longer has all of them.
pub fn read(log: &dyn Log, ranges: &BTreeMap<i32, Range<i64>>, reader: &mut dyn Reader) -> Result<u64, OpsError> {
    refuse_what_is_gone(&log.describe()?, ranges, log.topic())?;
    let starts = ranges.iter().map(|(&partition, range)| (partition, range.start)).collect();
    let mut source = log.open(&starts)?;
    let mut progress = Reading::new(ranges);
    let mut last_delivery = Instant::now();
    loop {
        let (before, mut waiting) = (progress.records, None);
        for partition in reader.behind() {
            let (end, next_offset) = (ranges[&partition].end, source.position(partition)?.next_offset);
            if next_offset >= end {
                reader.end_of(partition);
                continue;
            }
            waiting = Some((partition, next_offset));
            progress.records += read_some(source.as_mut(), partition, end, reader)?;
        }
        reader.pause()?;
        progress.tell();
        source.serve(Asked { at: Clock::System.now().at, worker_0: None })?;
        if progress.records > before {
            last_delivery = Instant::now();
            continue;
        }
        let Some((partition, next_offset)) = waiting else {
            if reader.behind().is_empty() {
                return Ok(progress.records);
            }
            continue;
        };
        if last_delivery.elapsed() > PATIENCE {
            let topic = log.topic();
            return Err(OpsError::Refused(format!(
                "topic {topic} partition {partition} delivers nothing at offset {next_offset} for {PATIENCE:?}: check the log, then \
                 try again"
            )));
        }
        std::thread::sleep(NAP);
    }
}

/// Reads what is available of a partition now, and answers how many records that were.
fn read_some(source: &mut dyn Source, partition: i32, end: i64, reader: &mut dyn Reader) -> Result<u64, OpsError> {
    let (mut records, mut fault) = (0, None);
    source.read(partition, Some(end), BATCH, &mut |record| match reader.take(partition, record) {
        Ok(()) => {
            records += 1;
            ControlFlow::Continue(())
        }
        Err(error) => {
            fault = Some(error);
            ControlFlow::Break(())
        }
    })?;
    fault.map_or(Ok(records), Err)
}

/// How far it is.
struct Reading {
    records: u64,
    /// Offsets in the ranges; some may have no record.
    offsets: i64,
    began: Instant,
    told: Instant,
}

impl Reading {
    fn new(ranges: &BTreeMap<i32, Range<i64>>) -> Reading {
        let offsets = ranges.values().map(|range| range.end - range.start).sum();
        Reading { records: 0, offsets, began: Instant::now(), told: Instant::now() }
    }

    fn tell(&mut self) {
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            let Reading { records, offsets, began, .. } = self;
            let a_second = *records / began.elapsed().as_secs().max(1);
            tracing::info!(records, of_at_most = offsets, a_second, "reading the log");
        }
    }
}

/// Refuses a range that the log no longer has in full.
fn refuse_what_is_gone(description: &Description, ranges: &BTreeMap<i32, Range<i64>>, topic: &str) -> Result<(), OpsError> {
    for (partition, range) in ranges {
        let place = format!("topic {topic} partition {partition}");
        let Some(bounds) = description.partitions.get(partition) else {
            return Err(OpsError::Refused(format!("{place} is not there any more: the topic was made anew")));
        };
        if bounds.high < range.end {
            let (high, end) = (bounds.high, range.end);
            let what = format!("{place} ends at offset {high}, but the store holds records up to {end}");
            return Err(OpsError::Refused(format!("{what}: the topic was cut or made anew")));
        }
        if bounds.low > range.start && !range.is_empty() {
            let (low, start) = (bounds.low, range.start);
            return Err(OpsError::Refused(format!(
                "{place} begins at offset {low} now, but the rows come from records since offset {start}: they have expired, so \
                 nothing can be recomputed from them; keep records for longer, or replace all rows by what is left with: \
                 tidemark-dataflow rebuild --drop-history"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::memory::MemoryLog;

    /// Payloads of each partition that has not ended.
    #[derive(Default)]
    struct Payloads(BTreeMap<i32, Vec<Vec<u8>>>, Vec<i32>);

    impl Reader for Payloads {
        fn behind(&mut self) -> Vec<i32> {
            self.0.keys().filter(|partition| !self.1.contains(partition)).copied().collect()
        }

        fn take(&mut self, partition: i32, record: Record<'_>) -> Result<(), OpsError> {
            self.0.get_mut(&partition).unwrap().push(record.payload.unwrap().to_vec());
            Ok(())
        }

        fn end_of(&mut self, partition: i32) {
            self.1.push(partition);
        }

        fn pause(&mut self) -> Result<(), OpsError> {
            Ok(())
        }
    }

    #[test]
    fn reads_up_to_the_offsets_and_refuses_what_is_gone() {
        let log = MemoryLog::default();
        for payload in [&b"a"[..], b"b", b"c"] {
            log.append(0, None, Some(payload));
        }
        let mut payloads = Payloads(BTreeMap::from([(0, Vec::new())]), Vec::new());
        assert_eq!(read(&log, &BTreeMap::from([(0, 0..2)]), &mut payloads).unwrap(), 2);
        assert_eq!(payloads.0[&0], [b"a", b"b"]);
        let error = |ranges| read(&log, &BTreeMap::from([ranges]), &mut Payloads::default()).unwrap_err().to_string();
        assert!(error((0, 0..4)).contains("ends at offset 3"));
        assert!(error((1, 0..1)).contains("partition 1 is not there"));
        let description =
            Description { id: String::new(), partitions: BTreeMap::from([(0, crate::source::Bounds { low: 5, high: 9 })]) };
        let refusal = refuse_what_is_gone(&description, &BTreeMap::from([(0, 0..9)]), "t").unwrap_err().to_string();
        assert!(refusal.contains("begins at offset 5 now") && refusal.contains("rebuild"), "{refusal}");
        assert!(refuse_what_is_gone(&description, &BTreeMap::from([(0, 0..0)]), "t").is_ok());
    }
}
