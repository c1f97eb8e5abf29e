//! What a commit says of a checkpoint, and which one a restart uses.

use super::{Holds, Id, PartSet, Parts, may_pass};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use tidemark_model::metrics::Whole;
use tidemark_model::time::MINUTE_NANOS;
use tidemark_model::{Grain, Kind, Metric, Micros, Minute, Nanos};

/// Version of the parts' form and of the state in them; raised when either changes. A new metric alone does not: a manifest names those
/// that its shares have.
pub const VERSION: u32 = 7;

/// Versions that can be read. The steps of 4 tell the present count only; 5 has nothing of hours and days;
/// 6 lists the users of each hour and of each day.
pub const READ: RangeInclusive<u32> = 4..=VERSION;

/// A worker's word that its parts of a checkpoint are on the disk, or why they are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartNotice {
    /// The checkpoint's number in this run.
    pub number: u64,
    /// The worker.
    pub worker: usize,
    /// The parts.
    pub outcome: Result<Written, String>,
}

/// What a worker wrote for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its part of the state.
    pub state: Part,
    /// Its ids.
    pub ids: Part,
}

/// A part that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its length.
    pub bytes: u64,
    /// CRC-32 (IEEE) of all its bytes.
    pub checksum: u32,
}

/// How far a partition was read when the state was as it is in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadTo {
    /// Exclusive: all records below it are in the state.
    pub next_offset: i64,
    /// Highest event time that was neither undecodable nor `future`.
    pub highest: Option<Nanos>,
}

/// Ids of events that one checkpoint wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Increment {
    /// That checkpoint.
    pub id: Id,
    /// None of them is of a later window.
    pub newest: Minute,
    /// The parts; the index is the worker that wrote it.
    pub parts: Vec<Part>,
}

/// A checkpoint as `progress.checkpoints` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the parts.
    pub version: u32,
    /// Its name.
    pub id: Id,
    /// Worker 0's clock when its slice ended.
    pub taken_at: Micros,
    /// The pipeline's watermark as of that slice.
    pub watermark: Option<Micros>,
    /// Windows that were open.
    pub open: Vec<Minute>,
    /// Every partition.
    pub partitions: BTreeMap<i32, ReadTo>,
    /// The parts; the index is the worker that wrote it.
    pub parts: Vec<Part>,
    /// All ids of open windows, oldest first.
    pub increments: Vec<Increment>,
    /// The metrics in the order in which shares have them, each with the first window in which its values are whole.
    #[serde(default = "first_metrics")]
    pub metrics: Vec<(String, Minute)>,
    /// Hours that begin at or after the first minute are whole, and days at or after the second; none if it has no such rows.
    #[serde(default)]
    pub rolled_up: [Option<Minute>; Grain::ALL.len() - 1],
}

/// Those that every checkpoint has which does not name them.
fn first_metrics() -> Vec<(String, Minute)> {
    let first = Metric::ALL.into_iter().filter(|metric| metric.declared().first);
    first.map(|metric| (metric.name().to_owned(), Minute(0))).collect()
}

impl Manifest {
    /// The metrics of a checkpoint that is made now.
    pub fn metrics(whole: &Whole) -> Vec<(String, Minute)> {
        Metric::ALL.map(|metric| (metric.name().to_owned(), whole.metrics[metric as usize])).into()
    }

    /// The first window of which a run that goes on from here knows each metric in full. One that the checkpoint lacks is known after the
    /// last window that it had begun; one of presence only once every join before that has timed out.
    pub fn whole(&self, viewer_timeout_nanos: i64) -> Whole {
        let first_open = self.watermark.map_or(Minute(0), Minute::first_open);
        let after = self.open.last().map_or(first_open, |last| first_open.max(Minute(last.0 + 1)));
        let timed_out = (i64::from(after.0) * MINUTE_NANOS).saturating_add(viewer_timeout_nanos) / MINUTE_NANOS;
        let reached = Minute(u32::try_from(timed_out).unwrap_or(u32::MAX).saturating_add(1));
        let metrics = Metric::ALL.map(|metric| {
            let known = self.metrics.iter().find(|(name, _)| name == metric.name()).map(|(_, from)| *from);
            let of_presence = metric.declared().events.contains(&Kind::ViewerJoin);
            // Who is present was always known, and so is the most of them.
            known.unwrap_or(if of_presence && metric != Metric::PeakViewers { reached } else { after })
        });
        Whole { metrics, rolled_up: self.rolled_up.map(|from| from.or(Some(after))) }
    }

    /// The metric of each value of a share. An error names one that is not known.
    pub fn columns(&self) -> io::Result<Vec<Metric>> {
        let unknown = |name: &str| {
            let what = format!("it has values of a metric that this program does not know: {name}");
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        self.metrics.iter().map(|(name, _)| Metric::named(name).ok_or_else(|| unknown(name))).collect()
    }

    /// Length of all parts.
    pub fn bytes(&self) -> u64 {
        self.sets().flat_map(|(_, parts)| parts).map(|part| part.bytes).sum()
    }

    /// All that a restart reads.
    pub fn sets(&self) -> impl Iterator<Item = (PartSet, &[Part])> {
        let increments = self.increments.iter().map(|increment| (increment.id.set(Holds::Ids), &increment.parts[..]));
        std::iter::once((self.id.set(Holds::State), &self.parts[..])).chain(increments)
    }

    /// Whether a restart reads this.
    pub fn needs(&self, set: PartSet) -> bool {
        self.sets().any(|(needed, _)| needed == set)
    }

    /// Why it cannot be used, if so. `next_offsets` are those of the store: a checkpoint that is ahead of them belongs to another
    /// past of the database, from before it was restored.
    pub fn check(&self, parts: &dyn Parts, next_offsets: &BTreeMap<i32, i64>) -> Result<(), Unusable> {
        let invalid = |why: String| Err(Unusable::Invalid(why));
        if !READ.contains(&self.version) {
            let (theirs, [oldest, newest]) = (self.version, [READ.start(), READ.end()]);
            return invalid(format!("it is of version {theirs}, and this program reads versions {oldest} to {newest}"));
        }
        if let Err(error) = self.columns() {
            return invalid(error.to_string());
        }
        for (partition, read_to) in &self.partitions {
            let stored = next_offsets.get(partition).copied().unwrap_or(0);
            if read_to.next_offset > stored {
                let ahead = read_to.next_offset;
                return invalid(format!("it is ahead of the tables (partition {partition}: offset {ahead}, tables: {stored})"));
            }
        }
        for (set, written) in self.sets() {
            for (worker, expected) in written.iter().enumerate() {
                match parts.open(set, worker).and_then(measure) {
                    Ok(found) if found == *expected => {}
                    Ok(found) => {
                        let (bytes, checksum) = (found.bytes, found.checksum);
                        return invalid(format!(
                            "part {worker} of {set} has {bytes} bytes of CRC {checksum:08x}, not {expected:?}"
                        ));
                    }
                    Err(error) if may_pass(&error) => return Err(Unusable::Unread(format!("part {worker} of {set}: {error}"))),
                    Err(error) => return invalid(format!("part {worker} of {set}: {error}")),
                }
            }
        }
        Ok(())
    }
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It never can.
    #[error("{0}")]
    Invalid(String),
    /// The system lacks what it takes to read it, for now.
    #[error("{0}")]
    Unread(String),
}

fn measure(mut part: Box<dyn Read>) -> io::Result<Part> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let read = part.read(&mut buffer)?;
        if read == 0 {
            return Ok(Part { bytes, checksum: hasher.finalize() });
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of windows that it has begun, and of those that a viewer of then can reach, a checkpoint of three metrics says too little.
    #[test]
    fn a_metric_that_a_checkpoint_lacks_is_known_after_all_that_it_had_begun() {
        let manifest = |open: &[u32], watermark: Option<u32>| Manifest {
            version: 4,
            id: Id { pipeline: 1, fence: 1, number: 1 },
            taken_at: Micros(0),
            watermark: watermark.map(|minute| Minute(minute).start()),
            open: open.iter().copied().map(Minute).collect(),
            partitions: BTreeMap::new(),
            parts: Vec::new(),
            increments: Vec::new(),
            metrics: first_metrics(),
            rolled_up: [None; 2],
        };
        let timeout = 10 * MINUTE_NANOS;
        for (manifest, after) in [
            (manifest(&[100, 105], Some(100)), 106),
            // A quiet pipeline has closed all windows, but viewers are there.
            (manifest(&[], Some(200)), 200),
            (manifest(&[], None), 0),
        ] {
            let whole = manifest.whole(timeout);
            let from = |metric: Metric| whole.metrics[metric as usize].0;
            assert_eq!((from(Metric::ActiveViewers), from(Metric::ChatMessages)), (0, 0));
            assert_eq!((from(Metric::Donors), from(Metric::WatchMs)), (after, after + 11));
            // Today's checkpoint remembers it.
            let later = Manifest {
                version: VERSION,
                metrics: Manifest::metrics(&whole),
                rolled_up: whole.rolled_up,
                open: vec![Minute(500)],
                ..manifest
            };
            assert_eq!(later.whole(timeout), whole);
        }
    }
}
