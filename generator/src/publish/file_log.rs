//! The file log's writer: one file per partition, locked, appended to, and synced batch by batch.
//!
//! A record counts as delivered once its batch is synced. It never rewrites a whole line; a last line without its line end,
//! which a crash left behind, is not yet a record and is cut off before anything is appended.

use super::{PublishError, Publisher, Record, Tally, wall_clock};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tidemark_model::file_log::{id_path, partition_of, partition_path, topic_dir, write_line};

/// A batch is written when it has this many bytes,
const BATCH_BYTES: usize = 1 << 20;
/// or its first record is this old, so that at low rates events show up promptly.
const BATCH_AGE: Duration = Duration::from_millis(50);

/// Writer of one topic.
#[derive(Debug)]
pub struct FileLog {
    partitions: Vec<Partition>,
    /// When the first record of the open batch came.
    batch_since: Option<Instant>,
    batch_bytes: usize,
    tally: Tally,
}

#[derive(Debug)]
struct Partition {
    path: PathBuf,
    file: File,
    batch: Vec<u8>,
    batch_records: u64,
}

impl FileLog {
    /// Opens the topic for writing. A new one gets `partitions` partitions; an existing one keeps those that it has.
    pub fn open(log_dir: &Path, topic: &str, partitions: i32) -> Result<FileLog, PublishError> {
        let dir = topic_dir(log_dir, topic);
        std::fs::create_dir_all(&dir).map_err(failed("create directory", &dir))?;
        let count = match existing_partitions(&dir)? {
            0 => {
                write_id(&id_path(log_dir, topic))?;
                partitions
            }
            existing => existing,
        };
        let partitions: Result<_, PublishError> =
            (0..count).map(|partition| Partition::open(partition_path(log_dir, topic, partition))).collect();
        // The files' names must be as durable as what is written into them.
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(failed("sync directory", &dir))?;
        Ok(FileLog { partitions: partitions?, batch_since: None, batch_bytes: 0, tally: Tally::default() })
    }

    /// Opens a topic that must be there.
    pub fn open_existing(log_dir: &Path, topic: &str) -> Result<FileLog, PublishError> {
        let dir = topic_dir(log_dir, topic);
        match existing_partitions(&dir)? {
            0 => Err(failed("find partitions in", &dir)(io::ErrorKind::NotFound.into())),
            existing => FileLog::open(log_dir, topic, existing),
        }
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    fn existing(&self, partition: i32) -> Result<usize, PublishError> {
        let count = self.partitions.len();
        usize::try_from(partition).ok().filter(|&index| index < count).ok_or_else(|| {
            let dir = self.partitions.first().and_then(|first| first.path.parent()).unwrap_or(Path::new("")).to_owned();
            PublishError::NoPartition { dir, partition, count }
        })
    }

    fn write_batch(&mut self) -> Result<(), PublishError> {
        self.batch_since = None;
        self.batch_bytes = 0;
        for partition in &mut self.partitions {
            self.tally.delivered += partition.write_batch()?;
        }
        Ok(())
    }

    fn until_batch_is_due(&self) -> Option<Duration> {
        self.batch_since.map(|since| BATCH_AGE.saturating_sub(since.elapsed()))
    }
}

/// Names a new topic: whoever kept results of an earlier one of this name can tell it from that. Time and process make it unique
/// among all that were ever made at this place.
fn write_id(path: &Path) -> Result<(), PublishError> {
    let id = format!("{:x}-{:x}\n", wall_clock().0, std::process::id());
    let written = File::create(path).and_then(|mut file| file.write_all(id.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(failed("write", path))
}

impl Publisher for FileLog {
    fn publish(&mut self, record: Record<'_>) -> Result<(), PublishError> {
        let time = record.time.unwrap_or_else(wall_clock);
        let chosen = match record.partition {
            Some(partition) => self.existing(partition)?,
            None => partition_for(record.key.unwrap_or(record.payload), self.partitions.len()),
        };
        let partition = &mut self.partitions[chosen];
        let before = partition.batch.len();
        if let Err(refusal) = write_line(time.0.unsigned_abs() / 1_000, record.payload, &mut partition.batch) {
            self.tally.fail(&refusal.to_string(), 1);
            return Ok(());
        }
        partition.batch_records += 1;
        self.batch_bytes += partition.batch.len() - before;
        self.batch_since.get_or_insert_with(Instant::now);
        if self.batch_bytes >= BATCH_BYTES { self.write_batch() } else { Ok(()) }
    }

    fn serve(&mut self, at_least: Duration) -> Result<(), PublishError> {
        let end = Instant::now() + at_least;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.until_batch_is_due() {
                Some(due) if due <= left => {
                    std::thread::sleep(due);
                    self.write_batch()?;
                }
                _ => {
                    std::thread::sleep(left);
                    return Ok(());
                }
            }
        }
    }

    fn finish(&mut self) -> Result<(), PublishError> {
        self.write_batch()
    }

    fn tally(&self) -> Tally {
        self.tally.clone()
    }
}

impl Partition {
    fn open(path: PathBuf) -> Result<Partition, PublishError> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let mut file = options.open(&path).map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return Err(PublishError::Locked(path)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        cut_unfinished_line(&mut file, &path).map_err(failed("repair", &path))?;
        Ok(Partition { path, file, batch: Vec::new(), batch_records: 0 })
    }

    /// Appends and syncs the batch, and looks whether readers find it; how many records it had.
    fn write_batch(&mut self) -> Result<u64, PublishError> {
        if self.batch.is_empty() {
            return Ok(0);
        }
        self.file.write_all(&self.batch).map_err(failed("append to", &self.path))?;
        self.file.sync_data().map_err(failed("sync", &self.path))?;
        let written = self.file.metadata().map_err(failed("look at", &self.path))?;
        if !std::fs::metadata(&self.path).is_ok_and(|named| (named.dev(), named.ino()) == (written.dev(), written.ino())) {
            return Err(PublishError::Replaced(self.path.clone()));
        }
        self.batch.clear();
        Ok(std::mem::take(&mut self.batch_records))
    }
}

/// The partition of a key: the same in every run and version.
fn partition_for(key: &[u8], partitions: usize) -> usize {
    // FNV-1a; its low bits alone are weak, so the high ones are folded in.
    let hash = key.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3));
    ((hash ^ (hash >> 32)) % partitions as u64) as usize
}

/// How many partitions the directory holds: files `0.log` and on, without a gap.
fn existing_partitions(dir: &Path) -> Result<i32, PublishError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed("read directory", dir))? {
        let name = entry.map_err(failed("read directory", dir))?.file_name();
        found.extend(name.to_str().and_then(partition_of));
    }
    found.sort_unstable();
    let count = found.last().map_or(0, |last| last.saturating_add(1));
    match (0..count).zip(&found).find(|(expected, found)| expected != *found) {
        Some((missing, _)) => Err(PublishError::MissingPartition { dir: dir.to_owned(), missing, count }),
        None => Ok(count),
    }
}

fn cut_unfinished_line(file: &mut File, path: &Path) -> io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    let whole = end_of_last_line(file, length)?;
    if whole < length {
        tracing::warn!(path = %path.display(), bytes = length - whole, "cut off a last line that a crash left unfinished");
        file.set_len(whole)?;
        file.sync_data()?;
    }
    Ok(())
}

/// The position after the last `\n`, looked for from the end; 0 if there is none.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::by_ref(file).take(end - start).read_to_end(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::File { action, path: path.clone(), source }
}

#[cfg(test)]
#[path = "file_log_tests.rs"]
mod tests;
