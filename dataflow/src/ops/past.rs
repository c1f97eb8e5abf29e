//! The log up to stored offsets, in memory: what the oracle recomputes from.

use super::OpsError;
use crate::clock::Clock;
use crate::oracle::{self, LogRecord};
use crate::source::{Asked, Description, Log};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::time::{Duration, Instant};

/// Records that one reading takes.
const BATCH: usize = 4_096;
/// A log that delivers nothing for this long does not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause when nothing is at hand.
const NAP: Duration = Duration::from_millis(2);

/// The records of each partition's range of offsets. Refuses a log that no longer has all of them.
///
/// Everything is held in memory: each record's bytes and about a hundred more.
pub fn read(log: &dyn Log, ranges: &BTreeMap<i32, Range<i64>>) -> Result<oracle::Log, OpsError> {
    refuse_what_is_gone(&log.describe()?, ranges, log.topic())?;
    let starts = ranges.iter().map(|(&partition, range)| (partition, range.start)).collect();
    let mut source = log.open(&starts)?;
    let mut past: oracle::Log = ranges.keys().map(|&partition| (partition, Vec::new())).collect();
    let mut last_delivery = Instant::now();
    loop {
        let (mut delivered, mut waiting) = (false, None);
        for (&partition, range) in ranges {
            let next_offset = source.position(partition)?.next_offset;
            if next_offset >= range.end {
                continue;
            }
            waiting = Some((partition, next_offset));
            let records = past.get_mut(&partition).expect("every partition has its list");
            let before = records.len();
            source.read(partition, Some(range.end), BATCH, &mut |record| {
                records.push(LogRecord {
                    offset: record.offset,
                    record_time: record.time.map(|time| time.0.div_euclid(1_000)),
                    key: record.key.map(<[u8]>::to_vec),
                    payload: record.payload.map(<[u8]>::to_vec),
                });
                ControlFlow::Continue(())
            })?;
            delivered |= records.len() > before;
        }
        source.serve(Asked { at: Clock::System.now().at, worker_0: None })?;
        let Some((partition, next_offset)) = waiting else { return Ok(past) };
        if delivered {
            last_delivery = Instant::now();
        } else if last_delivery.elapsed() > PATIENCE {
            let topic = log.topic();
            return Err(OpsError::Refused(format!(
                "topic {topic} partition {partition} delivers nothing at offset {next_offset} for {PATIENCE:?}: check the log, then \
                 try again"
            )));
        } else {
            std::thread::sleep(NAP);
        }
    }
}

/// Only the whole past can be recomputed.
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

    #[test]
    fn reads_up_to_the_offsets_and_refuses_what_is_gone() {
        let log = MemoryLog::default();
        for payload in [&b"a"[..], b"b", b"c"] {
            log.append(0, None, Some(payload));
        }
        let past = read(&log, &BTreeMap::from([(0, 0..2)])).unwrap();
        let payloads: Vec<_> = past[&0].iter().map(|record| record.payload.as_deref().unwrap()).collect();
        assert_eq!(payloads, [b"a", b"b"]);
        let error = |ranges| read(&log, &BTreeMap::from([ranges])).unwrap_err().to_string();
        assert!(error((0, 0..4)).contains("ends at offset 3"));
        assert!(error((1, 0..1)).contains("partition 1 is not there"));
        let description =
            Description { id: String::new(), partitions: BTreeMap::from([(0, crate::source::Bounds { low: 5, high: 9 })]) };
        let refusal = refuse_what_is_gone(&description, &BTreeMap::from([(0, 0..9)]), "t").unwrap_err().to_string();
        assert!(refusal.contains("begins at offset 5 now") && refusal.contains("rebuild"), "{refusal}");
        assert!(refuse_what_is_gone(&description, &BTreeMap::from([(0, 0..0)]), "t").is_ok());
    }
}
