//! The in-memory twin of a directory of parts.

use super::{PartFile, PartSet, Parts};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};

type Files = BTreeMap<(PartSet, usize), Vec<u8>>;

/// Parts in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryParts {
    files: Arc<Mutex<Files>>,
}

impl MemoryParts {
    /// The parts, for a test that loses or damages some.
    pub fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().expect("nobody panics while holding the parts")
    }
}

impl Parts for MemoryParts {
    fn create(&self, set: PartSet, worker: usize) -> io::Result<Box<dyn PartFile>> {
        Ok(Box::new(PartInMemory { parts: self.clone(), name: (set, worker), bytes: Vec::new() }))
    }

    fn open(&self, set: PartSet, worker: usize) -> io::Result<Box<dyn Read>> {
        let bytes = self.files().get(&(set, worker)).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn list(&self) -> io::Result<Vec<PartSet>> {
        let mut sets: Vec<PartSet> = self.files().keys().map(|&(set, _)| set).collect();
        sets.dedup();
        Ok(sets)
    }

    fn remove(&self, set: PartSet) -> io::Result<()> {
        self.files().retain(|&(other, _), _| other != set);
        Ok(())
    }
}

struct PartInMemory {
    parts: MemoryParts,
    name: (PartSet, usize),
    bytes: Vec<u8>,
}

impl Write for PartInMemory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PartFile for PartInMemory {
    fn persist(self: Box<Self>) -> io::Result<()> {
        let PartInMemory { parts, name, bytes } = *self;
        parts.files().insert(name, bytes);
        Ok(())
    }
}
