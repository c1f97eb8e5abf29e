//! The thread that writes one worker's part of one checkpoint, so that no worker ever waits for a disk.

use super::manifest::Part;
use super::{Id, PartNotice, Parts, part};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes that may wait for the disk; `fold` saves no more until there is room.
const MOST_WAITING: usize = 64 << 20;

/// The worker's end of the thread.
pub struct PartWriter {
    sections: Sender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    failed: Arc<AtomicBool>,
}

impl PartWriter {
    /// Starts the thread. It gives notice when the writer is [finished](PartWriter::finish), and none if it is dropped before.
    pub fn start(parts: Arc<dyn Parts>, id: Id, worker: usize, notices: Sender<PartNotice>) -> PartWriter {
        let (sections, queue) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let failed = Arc::new(AtomicBool::new(false));
        let (taken, has_failed) = (Arc::clone(&waiting), Arc::clone(&failed));
        let run = move || {
            let outcome = write(parts.as_ref(), id, worker, &queue, &taken);
            has_failed.store(outcome.is_err(), Ordering::Release);
            let outcome = match outcome {
                Ok(None) => return,
                Ok(Some(part)) => Ok(part),
                Err(error) => Err(format!("part {worker} of checkpoint {id}: {error}")),
            };
            // Nobody to hear it means that the run is over.
            let _ = notices.send(PartNotice { number: id.number, worker, outcome });
        };
        std::thread::Builder::new().name("checkpoint".to_owned()).spawn(run).expect("the system can start a thread");
        PartWriter { sections, waiting, failed }
    }

    /// Whether more may be sent. A thread that has failed waits for nothing.
    pub fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Acquire) < MOST_WAITING || self.failed.load(Ordering::Acquire)
    }

    /// Hands over a section.
    pub fn send(&self, section: Vec<u8>) {
        self.waiting.fetch_add(section.len(), Ordering::AcqRel);
        // A thread that has failed takes nothing any more, and says so itself.
        let _ = self.sections.send(section);
    }

    /// No section follows.
    pub fn finish(self) {
        self.send(Vec::new());
    }
}

/// Writes what comes; nothing, if the sender goes away before the end.
fn write(
    parts: &dyn Parts,
    id: Id,
    worker: usize,
    queue: &Receiver<Vec<u8>>,
    waiting: &AtomicUsize,
) -> io::Result<Option<Part>> {
    let mut file = BufWriter::with_capacity(1 << 18, parts.create(id, worker)?);
    let mut hasher = crc32fast::Hasher::new();
    let mut bytes = 0;
    let mut put = |section: &[u8]| {
        hasher.update(section);
        bytes += section.len() as u64;
        file.write_all(section)
    };
    put(&part::head(id, worker))?;
    let mut sections = 0;
    loop {
        let Ok(section) = queue.recv() else { return Ok(None) };
        if section.is_empty() {
            break;
        }
        put(&section)?;
        sections += 1;
        waiting.fetch_sub(section.len(), Ordering::AcqRel);
    }
    put(&part::end(sections))?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.persist()?;
    Ok(Some(Part { bytes, checksum: hasher.finalize() }))
}
