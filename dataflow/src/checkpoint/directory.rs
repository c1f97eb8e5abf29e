//! Parts as files: `CHECKPOINT_DIR/SET/WORKER.part`.

use super::{PartFile, PartSet, Parts};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A directory of checkpoints.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// This directory; it is made if it is not there.
    pub fn open(path: &Path) -> io::Result<Directory> {
        fs::create_dir_all(path)?;
        Ok(Directory { path: path.to_owned() })
    }

    fn of(&self, set: PartSet) -> PathBuf {
        self.path.join(set.to_string())
    }

    fn part(&self, set: PartSet, worker: usize) -> PathBuf {
        self.of(set).join(format!("{worker}.part"))
    }
}

impl Parts for Directory {
    fn create(&self, set: PartSet, worker: usize) -> io::Result<Box<dyn PartFile>> {
        fs::create_dir_all(self.of(set))?;
        let path = self.part(set, worker);
        let directories = [self.of(set), self.path.clone()];
        Ok(Box::new(PartOnDisk { file: File::create(&path)?, not_on_disk: 0, directories }))
    }

    fn open(&self, set: PartSet, worker: usize) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(File::open(self.part(set, worker))?))
    }

    fn list(&self) -> io::Result<Vec<PartSet>> {
        let mut sets = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            sets.extend(entry?.file_name().to_str().and_then(PartSet::parse));
        }
        Ok(sets)
    }

    fn remove(&self, set: PartSet) -> io::Result<()> {
        fs::remove_dir_all(self.of(set))
    }
}

/// Bytes that go to the disk together. A database on the same disk that has its log flushed meanwhile waits for no more than these,
/// and not for a whole part.
const TOGETHER: usize = 8 << 20;

struct PartOnDisk {
    file: File,
    not_on_disk: usize,
    /// Those that must have the new name on the disk too.
    directories: [PathBuf; 2],
}

impl Write for PartOnDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(&bytes[..bytes.len().min(TOGETHER - self.not_on_disk)])?;
        self.not_on_disk += written;
        if self.not_on_disk >= TOGETHER {
            self.file.sync_data()?;
            self.not_on_disk = 0;
        }
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl PartFile for PartOnDisk {
    fn persist(self: Box<Self>) -> io::Result<()> {
        self.file.sync_all()?;
        self.directories.iter().try_for_each(|directory| File::open(directory)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Holds, Id};
    use super::*;

    #[test]
    fn parts_are_found_by_their_names_and_strangers_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let parts = Directory::open(&dir.path().join("a/b")).unwrap();
        let id = Id { pipeline: 0xbeef, fence: 7, number: 12 };
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        let sets = [id.set(Holds::State), id.set(Holds::Ids)];
        assert_eq!(sets.map(|set| PartSet::parse(&set.to_string())), sets.map(Some));
        assert_eq!(PartSet::parse("0000beef-7-12-id"), None);
        for (set, bytes) in sets.into_iter().zip([b"state", b"event"]) {
            let mut file = parts.create(set, 3).unwrap();
            file.write_all(bytes).unwrap();
            file.persist().unwrap();
        }
        fs::create_dir(dir.path().join("a/b/lost+found")).unwrap();
        let mut text = String::new();
        parts.open(sets[0], 3).unwrap().read_to_string(&mut text).unwrap();
        let mut listed = parts.list().unwrap();
        listed.sort_unstable();
        assert_eq!((text.as_str(), listed), ("state", sets.to_vec()));
        assert!(parts.open(sets[0], 4).is_err());
        parts.remove(sets[0]).unwrap();
        assert_eq!(parts.list().unwrap(), [sets[1]]);
        parts.remove(sets[1]).unwrap();
        assert!(parts.list().unwrap().is_empty() && dir.path().join("a/b/lost+found").exists());
    }
}
