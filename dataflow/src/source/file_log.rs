//! The file log: a file per partition, a line per record, offsets in bytes. Several processes may read while one writes.
//!
//! A file is only appended to. One that was cut, written anew or replaced is noticed by its length, by the bytes before the next
//! offset, and by what stands under its name: reading on would take other bytes for the records at these offsets.

use super::{Asked, Bounds, Description, Log, Position, Record, Source, SourceError, Take};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidemark_model::{Micros, file_log};

/// Bytes that are read at once; a longer line grows the buffer for as long as it is needed.
const READ_BYTES: usize = 1 << 20;
/// The longest id of a topic.
const MOST_ID_BYTES: usize = 64;
/// How often the directory is looked at for new partitions.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether a name still stands for the file that is read.
const SAME_EVERY: Duration = Duration::from_secs(1);
/// How many of the bytes that were read last must still be there.
const TAIL_BYTES: usize = 64;
/// The longest line: what a record of Kafka could not exceed either by default settings, with room.
const MAX_LINE_BYTES: usize = 64 << 20;

/// A topic of the file log.
#[derive(Clone, Debug)]
pub struct FileLog {
    dir: PathBuf,
    topic: String,
}

impl FileLog {
    /// The topic in a directory of topics.
    pub fn new(dir: PathBuf, topic: String) -> FileLog {
        FileLog { dir, topic }
    }

    /// What tells the topic from another one of the same name, if whoever made it said so.
    fn id(&self) -> Result<String, SourceError> {
        let path = file_log::id_path(&self.dir, &self.topic);
        match std::fs::read_to_string(&path) {
            Ok(id) if id.trim().is_empty() || id.len() > MOST_ID_BYTES || id.trim().contains(char::is_whitespace) => {
                Err(SourceError::Fatal(format!("{}: it must hold one word of at most {MOST_ID_BYTES} bytes", path.display())))
            }
            Ok(id) => Ok(format!("file:{}#{}", self.topic, id.trim())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(format!("file:{}", self.topic)),
            Err(error) => Err(fatal(&path, &error)),
        }
    }

    fn partitions(&self) -> Result<Vec<i32>, SourceError> {
        let dir = file_log::topic_dir(&self.dir, &self.topic);
        let missing = || {
            SourceError::NotYet(format!("{}: no such topic; tidemark-generator makes it, or set KAFKA_BOOTSTRAP", dir.display()))
        };
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
            Err(error) => return Err(fatal(&dir, &error)),
        };
        let mut partitions = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| fatal(&dir, &error))?.file_name();
            partitions.extend(name.to_str().and_then(file_log::partition_of));
        }
        partitions.sort_unstable();
        if partitions.is_empty() { Err(missing()) } else { Ok(partitions) }
    }
}

fn fatal(path: &Path, error: &std::io::Error) -> SourceError {
    SourceError::Fatal(format!("{}: {error}", path.display()))
}

impl Log for FileLog {
    fn describe(&self) -> Result<Description, SourceError> {
        let mut partitions = BTreeMap::new();
        for partition in self.partitions()? {
            let path = file_log::partition_path(&self.dir, &self.topic, partition);
            let high = end_of_last_line(&path).map_err(|error| fatal(&path, &error))?;
            partitions.insert(partition, Bounds { low: 0, high });
        }
        Ok(Description { id: self.id()?, partitions })
    }

    fn open(&self, start: &BTreeMap<i32, i64>) -> Result<Box<dyn Source>, SourceError> {
        let mut readers = BTreeMap::new();
        for (&partition, &offset) in start {
            let path = file_log::partition_path(&self.dir, &self.topic, partition);
            readers.insert(partition, Reader::open(path, offset)?);
        }
        let looked = Instant::now();
        Ok(Box::new(FileSource { log: self.clone(), readers, looked, same: looked, now: None }))
    }

    fn topic(&self) -> &str {
        &self.topic
    }

    fn committed(&self, _: &[(i32, i64)]) {}
}

/// The byte after the last `\n`: what stands behind it is not yet there.
fn end_of_last_line(path: &Path) -> std::io::Result<i64> {
    let mut file = File::open(path)?;
    let mut end = file.metadata()?.len();
    let mut chunk = vec![0; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        let chunk = &mut chunk[..usize::try_from(end - start).expect("at most a chunk")];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(chunk)?;
        if let Some(at) = memchr::memrchr(b'\n', chunk) {
            return Ok((start + at as u64 + 1).cast_signed());
        }
        end = start;
    }
    Ok(0)
}

struct FileSource {
    log: FileLog,
    readers: BTreeMap<i32, Reader>,
    /// When the directory was last looked at.
    looked: Instant,
    /// When the names were last looked at.
    same: Instant,
    /// When the worker's present turn began.
    now: Option<Asked>,
}

/// Reads one partition's file. `buffer[taken..filled]` are the bytes from `next_offset` on that were read already.
struct Reader {
    path: PathBuf,
    file: File,
    next_offset: i64,
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
    /// Bytes of the file when it was last looked at.
    length: i64,
    /// The last bytes that were read: those before the end of what is in the buffer.
    tail: Vec<u8>,
}

impl Reader {
    fn open(path: PathBuf, offset: i64) -> Result<Reader, SourceError> {
        let open = || {
            let file = File::open(&path)?;
            let length = file.metadata()?.len().cast_signed();
            let mut tail = vec![0; TAIL_BYTES.min(usize::try_from(offset.min(length)).unwrap_or(0))];
            let from = offset.min(length).cast_unsigned() - tail.len() as u64;
            file.read_exact_at(&mut tail, from)?;
            Ok((file, length, tail))
        };
        let (file, length, tail) = open().map_err(|error| fatal(&path, &error))?;
        let reader = Reader { path, file, next_offset: offset, buffer: vec![0; READ_BYTES], taken: 0, filled: 0, length, tail };
        if length < offset {
            return Err(reader.not_the_same(&format!("it has {length} bytes, and is to be read from byte {offset}")));
        }
        if offset > 0 && reader.tail.last() != Some(&b'\n') {
            return Err(reader.not_the_same(&format!("byte {offset}, from which it is to be read, is in the midst of a line")));
        }
        Ok(reader)
    }

    /// The offset behind what is in the buffer.
    fn buffered_to(&self) -> i64 {
        self.next_offset + i64::try_from(self.filled - self.taken).expect("a buffer fits memory")
    }

    fn not_the_same(&self, how: &str) -> SourceError {
        let path = self.path.display();
        SourceError::Fatal(format!(
            "{path} is not the file that was read: {how}; a log is only appended to: put the file back, or replace all rows by \
             what is there with: tidemark-dataflow rebuild --drop-history"
        ))
    }

    /// Whether the file still has the bytes that were read last.
    fn check_tail(&self) -> Result<(), SourceError> {
        let mut there = vec![0; self.tail.len()];
        let before = self.buffered_to().cast_unsigned() - there.len() as u64;
        match self.file.read_exact_at(&mut there, before) {
            Ok(()) if there == self.tail => Ok(()),
            Ok(()) => Err(self.not_the_same(&format!("it was written anew before byte {}", self.buffered_to()))),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(self.shrunk()),
            Err(error) => Err(fatal(&self.path, &error)),
        }
    }

    fn shrunk(&self) -> SourceError {
        let length = self.file.metadata().map_or(0, |file| file.len());
        self.not_the_same(&format!("it shrank to {length} bytes, below {}, which were read already", self.buffered_to()))
    }

    /// Whether its name still stands for the file that is open here.
    fn check_name(&self) -> Result<(), SourceError> {
        let open = self.file.metadata().map_err(|error| fatal(&self.path, &error))?;
        match std::fs::metadata(&self.path) {
            Ok(named) if (named.dev(), named.ino()) == (open.dev(), open.ino()) => Ok(()),
            Ok(_) => Err(self.not_the_same("another file has its name now")),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.not_the_same("it was removed or renamed")),
            Err(error) => Err(fatal(&self.path, &error)),
        }
    }

    /// Reads on; `false` at the end of the file.
    fn fill(&mut self) -> Result<bool, SourceError> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        if self.filled == self.buffer.len() {
            if self.filled >= MAX_LINE_BYTES {
                let place = format!("{} at byte {}", self.path.display(), self.next_offset);
                return Err(SourceError::Fatal(format!("{place}: a line of more than {MAX_LINE_BYTES} bytes")));
            }
            self.buffer.resize(self.filled * 2, 0);
        }
        let from = self.buffered_to().cast_unsigned();
        let read = self.file.read_at(&mut self.buffer[self.filled..], from).map_err(|error| fatal(&self.path, &error))?;
        if read == 0 {
            return Ok(false);
        }
        // After the reading: what was cut before it is seen.
        self.check_tail()?;
        self.filled += read;
        self.tail.extend_from_slice(&self.buffer[self.filled - read.min(TAIL_BYTES)..self.filled]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL_BYTES));
        Ok(true)
    }

    fn read(&mut self, before: Option<i64>, max: usize, take: Take<'_>) -> Result<(), SourceError> {
        let mut records = 0;
        while records < max && before.is_none_or(|before| self.next_offset < before) {
            let unread = &self.buffer[self.taken..self.filled];
            let Some(length) = memchr::memchr(b'\n', unread) else {
                // One reading per call: a partition with much to read must not hold up the others.
                if records > 0 || !self.fill()? {
                    return Ok(());
                }
                continue;
            };
            let (time, payload) = file_log::parse_line(&unread[..length]);
            let time = time.map(|millis| Micros(millis * 1_000));
            if take(Record { offset: self.next_offset, time, key: None, payload: Some(payload) }).is_break() {
                return Ok(());
            }
            self.taken += length + 1;
            self.next_offset += i64::try_from(length + 1).expect("a line fits memory");
            records += 1;
        }
        Ok(())
    }

    /// The file's length is looked at now, so the end is evidence as of `now`.
    fn position(&mut self, now: Option<Asked>) -> Result<Position, SourceError> {
        let buffered_to = self.buffered_to();
        let whole_line = memchr::memchr(b'\n', &self.buffer[self.taken..self.filled]).is_some();
        if !whole_line {
            self.length = self.file.metadata().map_err(|error| fatal(&self.path, &error))?.len().cast_signed();
            if self.length < buffered_to {
                return Err(self.shrunk());
            }
        }
        let at_end = !whole_line && buffered_to >= self.length;
        let end_offset = if at_end { self.next_offset } else { self.length.max(self.next_offset) };
        Ok(Position { next_offset: self.next_offset, end_offset, at_end, confirmed: now.filter(|_| at_end), low_offset: 0 })
    }
}

impl Source for FileSource {
    fn read(&mut self, partition: i32, before: Option<i64>, max: usize, take: Take<'_>) -> Result<(), SourceError> {
        self.readers.get_mut(&partition).expect("a partition that was opened").read(before, max, take)
    }

    fn position(&mut self, partition: i32) -> Result<Position, SourceError> {
        self.readers.get_mut(&partition).expect("a partition that was opened").position(self.now)
    }

    fn serve(&mut self, now: Asked) -> Result<(), SourceError> {
        self.now = Some(now);
        if self.same.elapsed() < SAME_EVERY {
            return Ok(());
        }
        self.same = Instant::now();
        self.readers.values().try_for_each(Reader::check_name)
    }

    fn others(&mut self) -> Result<Vec<i32>, SourceError> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(Vec::new());
        }
        self.looked = Instant::now();
        let mut partitions = self.log.partitions()?;
        partitions.retain(|partition| !self.readers.contains_key(partition));
        Ok(partitions)
    }

    fn add(&mut self, partition: i32) -> Result<(), SourceError> {
        let path = file_log::partition_path(&self.log.dir, &self.log.topic, partition);
        self.readers.insert(partition, Reader::open(path, 0)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
