//! Writes one worker's parts of one checkpoint beside the worker, so that it never waits for a disk.

use super::manifest::{Part, Written};
use super::part::Section;
use super::{Holds, Id, PartFile, PartNotice, PartSet, Parts, part};
use crate::background::{Background, Haste, Step};
use crate::fail_points::fail_point;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of memory that are kept.
const MOST_SPARE: usize = 8 << 20;
/// Smaller pieces are not worth it.
const LEAST_SPARE: usize = 64 << 10;

/// Memory of large sections that are written, for the next ones and for the next checkpoint: taken from the system anew it would cost more
/// than what is done with it.
#[derive(Clone, Debug, Default)]
pub struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    /// An empty buffer. It does not wait for the thread that writes, which may have no core.
    fn take(&self) -> Vec<u8> {
        self.0.try_lock().ok().and_then(|mut buffers| buffers.pop()).unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: usize = buffers.iter().map(Vec::capacity).sum();
        if buffer.capacity() >= LEAST_SPARE && bytes + buffer.capacity() <= MOST_SPARE {
            buffer.clear();
            buffers.push(buffer);
        }
    }
}

/// The worker's end of it.
pub struct PartWriter {
    sections: Sender<Option<Section>>,
    spare: Spare,
    waiting: Arc<AtomicUsize>,
    failed: Arc<AtomicBool>,
    given_up: Arc<AtomicBool>,
    finished: bool,
}

impl PartWriter {
    /// Starts to write. Notice is given once the writer is [finished](PartWriter::finish), and none if it is dropped before.
    pub fn start(
        parts: &Arc<dyn Parts>,
        id: Id,
        worker: usize,
        notices: Sender<PartNotice>,
        spare: &Spare,
        background: &Background,
    ) -> PartWriter {
        let (sections, queue) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        let given_up = Arc::new(AtomicBool::new(false));
        let (taken, has_failed, is_given_up) = (Arc::clone(&waiting), Arc::clone(&failed), Arc::clone(&given_up));
        let (parts, written) = (Arc::clone(parts), spare.clone());
        let mut writing: Option<Writing> = None;
        let step = move |wait| {
            let section: Option<Section> = match queue.recv_timeout(wait) {
                Ok(_) if is_given_up.load(Ordering::Acquire) => return Step::Done,
                Ok(section) => section,
                Err(RecvTimeoutError::Timeout) => return Step::Again,
                Err(RecvTimeoutError::Disconnected) => return Step::Done,
            };
            let outcome = match &mut writing {
                Some(writing) => Ok(writing),
                None => Writing::begin(parts.as_ref(), id, worker).map(|begun| writing.insert(begun)),
            };
            let outcome = match (outcome, &section) {
                (Ok(writing), Some(section)) => writing.put(section).map(|()| None),
                (Ok(_), None) => writing.take().expect("it was just looked at").end().map(Some),
                (Err(error), _) => Err(error),
            };
            if let Some(Section { copied, .. }) = section {
                taken.fetch_sub(copied.len(), Ordering::AcqRel);
                written.give_back(copied);
            }
            let outcome = match outcome {
                Ok(None) => return Step::Again,
                Ok(Some(part)) => Ok(part),
                Err(error) => {
                    has_failed.store(true, Ordering::Release);
                    Err(format!("the parts of worker {worker} of checkpoint {id}: {error}"))
                }
            };
            fail_point!("part-persisted");
            // Nobody to hear it means that the run is over.
            let _ = notices.send(PartNotice { number: id.number, worker, outcome });
            Step::Done
        };
        background.start("checkpoint", Haste::Leisurely, Box::new(step));
        PartWriter { sections, spare: spare.clone(), waiting, failed, given_up, finished: false }
    }

    /// Whether less than so many bytes of copied rows wait for the disk. Who has failed waits for nothing. Rows that are shared were in
    /// memory when the snapshot was begun, and stay there for no longer than it is written; a users' table that changes meanwhile is
    /// there twice.
    pub fn has_room(&self, most: usize) -> bool {
        self.waiting.load(Ordering::Acquire) < most || self.failed.load(Ordering::Acquire)
    }

    /// An empty buffer for a large section.
    pub fn buffer(&self) -> Vec<u8> {
        self.spare.take()
    }

    /// Hands over a section.
    pub fn send(&self, section: Section) {
        self.waiting.fetch_add(section.copied.len(), Ordering::AcqRel);
        if self.sections.send(Some(section)).is_err() {
            // Who has failed takes nothing any more.
            self.failed.store(true, Ordering::Release);
        }
    }

    /// No section follows.
    pub fn finish(mut self) {
        self.finished = true;
        let _ = self.sections.send(None);
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.given_up.store(true, Ordering::Release);
        }
    }
}

/// Parts that are being written.
struct Writing {
    state: Growing,
    ids: Growing,
}

impl Writing {
    fn begin(parts: &dyn Parts, id: Id, worker: usize) -> io::Result<Writing> {
        let state = Growing::begin(parts, id.set(Holds::State), worker)?;
        fail_point!("part-created");
        Ok(Writing { state, ids: Growing::begin(parts, id.set(Holds::Ids), worker)? })
    }

    fn put(&mut self, section: &Section) -> io::Result<()> {
        match section.holds {
            Holds::State => self.state.put(section),
            Holds::Ids => self.ids.put(section),
        }
    }

    fn end(self) -> io::Result<Written> {
        Ok(Written { ids: self.ids.end()?, state: self.state.end()? })
    }
}

/// One of them.
struct Growing {
    file: BufWriter<Box<dyn PartFile>>,
    hasher: crc32fast::Hasher,
    bytes: u64,
    sections: u64,
}

impl Growing {
    fn begin(parts: &dyn Parts, set: PartSet, worker: usize) -> io::Result<Growing> {
        let file = BufWriter::with_capacity(1 << 18, parts.create(set, worker)?);
        let mut part = Growing { file, hasher: crc32fast::Hasher::new(), bytes: 0, sections: 0 };
        part.write(&part::head(set.id, worker))?;
        Ok(part)
    }

    fn put(&mut self, section: &Section) -> io::Result<()> {
        self.sections += 1;
        fail_point!("part-half-written");
        self.write(&section.copied)?;
        section.shared.iter().try_for_each(|chunk| self.write(bytemuck::cast_slice(chunk)))
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
