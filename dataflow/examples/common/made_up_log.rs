//! A log whose events are made while they are read.

use std::collections::BTreeMap;
use tidemark_dataflow::source::{Asked, Bounds, Description, Log, Position, Record, Source, SourceError, Take};

/// Partitions of such a log; event n is in partition n mod this.
const PARTITIONS: i64 = 4;

/// What the log holds. Each reader has a copy of its own.
pub trait Script: Clone + Send + Sync + 'static {
    /// Events that are there now, numbered from 0.
    fn end(&self) -> i64;

    /// Writes an event.
    fn event(&self, number: i64, text: &mut String);

    /// Called once per turn of the worker's loop.
    fn turn(&mut self) {}
}

/// The log of a script.
pub struct MadeUpLog<S>(pub S);

impl<S: Script> Log for MadeUpLog<S> {
    fn describe(&self) -> Result<Description, SourceError> {
        let bounds = |partition| Bounds { low: 0, high: end(&self.0, partition) };
        let partitions = (0..i32::try_from(PARTITIONS).expect("few")).map(|partition| (partition, bounds(partition))).collect();
        Ok(Description { id: "made up".to_owned(), partitions })
    }

    fn open(&self, start: &BTreeMap<i32, i64>) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(MadeUpSource { script: self.0.clone(), next: start.clone(), text: String::new() }))
    }

    fn topic(&self) -> &str {
        "made.up"
    }

    fn committed(&self, _: &[(i32, i64)]) {}
}

/// The end of a partition: how many of the events are in it.
fn end(script: &impl Script, partition: i32) -> i64 {
    (script.end() - i64::from(partition) + PARTITIONS - 1).div_euclid(PARTITIONS)
}

struct MadeUpSource<S> {
    script: S,
    next: BTreeMap<i32, i64>,
    text: String,
}

impl<S: Script> Source for MadeUpSource<S> {
    fn read(&mut self, partition: i32, before: Option<i64>, max: usize, take: Take<'_>) -> Result<(), SourceError> {
        let next = self.next.get_mut(&partition).expect("a partition that was opened");
        let end = end(&self.script, partition).min(before.unwrap_or(i64::MAX));
        let end = end.min(next.saturating_add(i64::try_from(max).unwrap_or(i64::MAX)));
        while *next < end {
            self.text.clear();
            self.script.event(*next * PARTITIONS + i64::from(partition), &mut self.text);
            if take(Record { offset: *next, time: None, key: None, payload: Some(self.text.as_bytes()) }).is_break() {
                break;
            }
            *next += 1;
        }
        Ok(())
    }

    fn position(&mut self, partition: i32) -> Result<Position, SourceError> {
        let (next_offset, end_offset) = (self.next[&partition], end(&self.script, partition));
        Ok(Position { next_offset, end_offset, at_end: next_offset >= end_offset, confirmed: None, low_offset: 0 })
    }

    fn serve(&mut self, _: Asked) -> Result<(), SourceError> {
        self.script.turn();
        Ok(())
    }

    fn others(&mut self) -> Result<Vec<i32>, SourceError> {
        Ok(Vec::new())
    }

    fn add(&mut self, partition: i32) -> Result<(), SourceError> {
        Err(SourceError::Fatal(format!("there is no partition {partition}")))
    }
}
