//! The file log: a file per partition, a line per record, offsets in bytes. Several processes may read while one writes.

use super::{Asked, Bounds, Description, Log, Position, Record, Source, SourceError, Take};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidemark_model::{Micros, file_log};

/// Bytes that are read at once; a longer line grows the buffer for as long as it is needed.
const READ_BYTES: usize = 1 << 20;
/// The longest id of a topic.
const MOST_ID_BYTES: usize = 64;
/// How often the directory is looked at for new partitions.
const LOOK_EVERY: Duration = Duration::from_secs(10);
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
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(format!("file:{}", self.topic)),
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
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
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
            let reader = Reader::open(path.clone(), offset).map_err(|error| fatal(&path, &error))?;
            readers.insert(partition, reader);
        }
        Ok(Box::new(FileSource { log: self.clone(), readers, looked: Instant::now(), now: None }))
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
}

impl Reader {
    fn open(path: PathBuf, offset: i64) -> std::io::Result<Reader> {
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(offset.cast_unsigned()))?;
        let length = file.metadata()?.len().cast_signed();
        Ok(Reader { path, file, next_offset: offset, buffer: vec![0; READ_BYTES], taken: 0, filled: 0, length })
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
        let read = self.file.read(&mut self.buffer[self.filled..]).map_err(|error| fatal(&self.path, &error))?;
        self.filled += read;
        Ok(read > 0)
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
        let unread = &self.buffer[self.taken..self.filled];
        let buffered_to = self.next_offset + i64::try_from(unread.len()).expect("a buffer fits memory");
        let whole_line = memchr::memchr(b'\n', unread).is_some();
        if !whole_line && buffered_to >= self.length {
            self.length = self.file.metadata().map_err(|error| fatal(&self.path, &error))?.len().cast_signed();
            if self.length < buffered_to {
                let (path, length) = (self.path.display(), self.length);
                let what = format!("{path}: shrank to {length} bytes, below {buffered_to}, which were read already");
                return Err(SourceError::Fatal(format!("{what}; a log is only appended to: rebuild from it, or reset")));
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
        Ok(())
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
        let reader = Reader::open(path.clone(), 0).map_err(|error| fatal(&path, &error))?;
        self.readers.insert(partition, reader);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::ops::ControlFlow;

    fn read_all(source: &mut dyn Source, before: Option<i64>) -> Vec<(i64, Option<i64>, String)> {
        let mut records = Vec::new();
        for _ in 0..10 {
            source
                .read(0, before, 2, &mut |record| {
                    let payload = String::from_utf8(record.payload.unwrap().to_vec()).unwrap();
                    records.push((record.offset, record.time.map(|time| time.0), payload));
                    ControlFlow::Continue(())
                })
                .unwrap();
        }
        records
    }

    #[test]
    fn a_line_without_its_end_is_not_yet_there() {
        let dir = tempfile::tempdir().unwrap();
        let topic = dir.path().join("t");
        std::fs::create_dir(&topic).unwrap();
        let mut file = File::create(topic.join("0.log")).unwrap();
        file.write_all(b"5 a\n6 bb\nplain\n7 unfinished").unwrap();
        let log = FileLog::new(dir.path().to_owned(), "t".to_owned());
        assert_eq!(log.describe().unwrap().partitions[&0], Bounds { low: 0, high: 15 });
        let mut source = log.open(&BTreeMap::from([(0, 0)])).unwrap();
        assert!(!source.position(0).unwrap().at_end);
        let expected = [(0, Some(5_000), "a"), (4, Some(6_000), "bb"), (9, None, "plain")];
        let expected = expected.map(|(offset, time, payload)| (offset, time, payload.to_owned()));
        assert_eq!(read_all(source.as_mut(), None), expected);
        assert!(source.position(0).unwrap().at_end);
        assert_eq!(read_all(log.open(&BTreeMap::from([(0, 4)])).unwrap().as_mut(), Some(9)), expected[1..2]);
        file.write_all(b"!\n").unwrap();
        assert!(!source.position(0).unwrap().at_end);
        assert_eq!(read_all(source.as_mut(), None), [(15, Some(7_000), "unfinished!".to_owned())]);
        assert_eq!(
            source.position(0).unwrap(),
            Position { next_offset: 29, end_offset: 29, at_end: true, confirmed: None, low_offset: 0 }
        );
    }

    #[test]
    fn a_topic_that_was_made_anew_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let log = FileLog::new(dir.path().to_owned(), "t".to_owned());
        std::fs::create_dir(dir.path().join("t")).unwrap();
        std::fs::write(dir.path().join("t/0.log"), "").unwrap();
        assert_eq!(log.describe().unwrap().id, "file:t");
        std::fs::write(dir.path().join("t/topic.id"), "ab12\n").unwrap();
        assert_eq!(log.describe().unwrap().id, "file:t#ab12");
        std::fs::write(dir.path().join("t/topic.id"), " \n").unwrap();
        assert!(matches!(log.describe(), Err(SourceError::Fatal(_))));
    }

    #[test]
    fn a_partition_that_comes_is_found_and_read_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("t")).unwrap();
        for partition in [0, 1] {
            std::fs::write(dir.path().join(format!("t/{partition}.log")), "1 a\n").unwrap();
        }
        let log = FileLog::new(dir.path().to_owned(), "t".to_owned());
        let reader = Reader::open(dir.path().join("t/1.log"), 4).unwrap();
        let just_now = Instant::now();
        let mut source = FileSource { log, readers: BTreeMap::from([(1, reader)]), looked: just_now, now: None };
        assert!(source.others().unwrap().is_empty(), "it does not look all the time");
        source.looked = just_now.checked_sub(LOOK_EVERY).unwrap();
        assert_eq!(source.others().unwrap(), [0]);
        source.add(0).unwrap();
        assert_eq!(read_all(&mut source, None), [(0, Some(1_000), "a".to_owned())]);
        source.looked = just_now.checked_sub(LOOK_EVERY).unwrap();
        assert!(source.others().unwrap().is_empty());
    }

    #[test]
    fn a_missing_topic_may_come_and_a_shrunken_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = FileLog::new(dir.path().to_owned(), "t".to_owned());
        assert!(matches!(log.describe(), Err(SourceError::NotYet(_))));
        std::fs::create_dir(dir.path().join("t")).unwrap();
        std::fs::write(dir.path().join("t/0.log"), "1 a\n2 b\n").unwrap();
        let mut source = log.open(&BTreeMap::from([(0, 0)])).unwrap();
        assert_eq!(read_all(source.as_mut(), None).len(), 2);
        std::fs::write(dir.path().join("t/0.log"), "1 a\n").unwrap();
        assert!(matches!(source.position(0), Err(SourceError::Fatal(_))));
    }
}
