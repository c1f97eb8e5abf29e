//! Writes one worker's part of one checkpoint beside the worker, so that it never waits for a disk.

use super::manifest::Part;
use super::{Id, PartFile, PartNotice, Parts, part};
use crate::background::{Background, Step};
use crate::fail_points::fail_point;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

/// Bytes that may wait for the disk; `fold` saves no more until there is room.
const MOST_WAITING: usize = 64 << 20;

/// The worker's end of it.
pub struct PartWriter {
    sections: Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    failed: Arc<AtomicBool>,
}

impl PartWriter {
    /// Starts to write. Notice is given once the writer is [finished](PartWriter::finish), and none if it is dropped before.
    pub fn start(
        parts: &Arc<dyn Parts>,
        id: Id,
        worker: usize,
        notices: Sender<PartNotice>,
        background: &Background,
    ) -> PartWriter {
        let (sections, queue) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        let (taken, has_failed) = (Arc::clone(&waiting), Arc::clone(&failed));
        let parts = Arc::clone(parts);
        let mut writing: Option<Writing> = None;
        let step = move |wait| {
            let section: Vec<u8> = match queue.recv_timeout(wait) {
                Ok(section) => section,
                Err(RecvTimeoutError::Timeout) => return Step::Again,
                Err(RecvTimeoutError::Disconnected) => return Step::Done,
            };
            let outcome = match &mut writing {
                Some(writing) => Ok(writing),
                None => Writing::begin(parts.as_ref(), id, worker).map(|begun| writing.insert(begun)),
            };
            let outcome = match outcome {
                Ok(writing) if !section.is_empty() => writing.put(&section).map(|()| None),
                Ok(_) => writing.take().expect("it was just looked at").end().map(Some),
                Err(error) => Err(error),
            };
            taken.fetch_sub(section.len(), Ordering::AcqRel);
            let outcome = match outcome {
                Ok(None) => return Step::Again,
                Ok(Some(part)) => Ok(part),
                Err(error) => {
                    has_failed.store(true, Ordering::Release);
                    Err(format!("part {worker} of checkpoint {id}: {error}"))
                }
            };
            fail_point!("part-persisted");
            // Nobody to hear it means that the run is over.
            let _ = notices.send(PartNotice { number: id.number, worker, outcome });
            Step::Done
        };
        background.start("checkpoint", Box::new(step));
        PartWriter { sections, waiting, failed }
    }

    /// Whether more may be sent. Who has failed waits for nothing.
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < MOST_WAITING || self.failed.load(Ordering::Acquire)
    }

    /// Hands over a section.
    pub fn send(&self, section: Vec<u8>) {
        self.waiting.fetch_add(section.len(), Ordering::AcqRel);
        // Who has failed takes nothing any more, and has said so.
        let _ = self.sections.send(section);
    }

    /// No section follows.
    pub fn finish(self) {
        self.send(Vec::new());
    }
}

/// A part that is being written.
struct Writing {
    file: BufWriter<Box<dyn PartFile>>,
    hasher: crc32fast::Hasher,
    bytes: u64,
    sections: u64,
}

impl Writing {
    fn begin(parts: &dyn Parts, id: Id, worker: usize) -> io::Result<Writing> {
        let file = BufWriter::with_capacity(1 << 18, parts.create(id, worker)?);
        fail_point!("part-created");
        let mut writing = Writing { file, hasher: crc32fast::Hasher::new(), bytes: 0, sections: 0 };
        writing.write(&part::head(id, worker))?;
        Ok(writing)
    }

    fn put(&mut self, section: &[u8]) -> io::Result<()> {
        self.sections += 1;
        fail_point!("part-half-written");
        self.write(section)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn end(mut self) -> io::Result<Part> {
        self.write(&part::end(self.sections))?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        fail_point!("part-not-persisted");
        file.persist()?;
        Ok(Part { bytes: self.bytes, checksum: self.hasher.finalize() })
    }
}
