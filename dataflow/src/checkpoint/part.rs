//! The form of a part: a head, then sections of rows, then a section that counts them. Numbers are little-endian.
//!
//! ```text
//! MAGIC  version fence number worker             5 × 64 bits
//! kind range minute row_bytes  rows              4 × 32 bits, 64 bits; then `rows` rows of `row_bytes` bytes each
//! …
//! End 0 0 0  sections
//! ```
//!
//! Whether all bytes are as they were written is told by the checksum in the manifest.

use super::manifest::{READ, VERSION};
use super::{Holds, Id};
use crate::keys::EventKey;
use bytemuck::{Pod, Zeroable};
use std::io::{self, Read};
use std::sync::Arc;
use tidemark_model::{Grain, Minute};

#[cfg(not(target_endian = "little"))]
compile_error!("parts are written as the machine has them in memory, which must be little-endian");

const MAGIC: u64 = u64::from_le_bytes(*b"TIDEMARK");
const END: u32 = 0;
/// No section is larger; a larger one is damage.
const MAX_SECTION_BYTES: u64 = 4 << 30;

/// What a section holds. The discriminant is the kind in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Joins and leaves of a range's viewers.
    Viewers(usize),
    /// Event ids of a window that belong to a range's viewers.
    Ids(Minute, usize),
    /// A worker's shares of open rows, perhaps in several sections. They add, so any worker may take them up.
    Shares,
    /// Steps of each stream's presence, likewise.
    Steps,
    /// Viewers who are present at the end of the last closed window, likewise.
    Bases,
    /// A table of users with a chat message or a donation, of a range: with a day's come their latest hours. Places without an id are zero.
    /// Up to version 6, a list.
    Users(Grain, Minute, usize),
    /// A table of viewers who are forgotten, likewise.
    Gone(Grain, Minute, usize),
    /// Of each stream the users who count first in open windows, for their hours and days. They add too.
    Firsts,
    /// Hours and days that are not over.
    RollUps,
}

impl Key {
    /// Which parts have sections of this kind.
    fn holds(self) -> Holds {
        if matches!(self, Key::Ids(..)) { Holds::Ids } else { Holds::State }
    }

    fn words(self) -> (u32, u32, u32) {
        let range = |range: usize| u32::try_from(range).expect("a range is a small number");
        match self {
            Key::Viewers(of) => (1, range(of), 0),
            Key::Ids(minute, of) => (2, range(of), minute.0),
            Key::Shares => (3, 0, 0),
            Key::Steps => (4, 0, 0),
            Key::Bases => (5, 0, 0),
            Key::Users(grain, window, of) => (6 + u32::from(grain == Grain::Day), range(of), window.0),
            Key::Gone(grain, window, of) => (8 + u32::from(grain == Grain::Day), range(of), window.0),
            Key::Firsts => (10, 0, 0),
            Key::RollUps => (11, 0, 0),
        }
    }

    fn of_words(kind: u32, range: u32, minute: u32) -> Option<Key> {
        Some(match kind {
            1 => Key::Viewers(range as usize),
            2 => Key::Ids(Minute(minute), range as usize),
            3 => Key::Shares,
            4 => Key::Steps,
            5 => Key::Bases,
            6 => Key::Users(Grain::Hour, Minute(minute), range as usize),
            7 => Key::Users(Grain::Day, Minute(minute), range as usize),
            8 => Key::Gone(Grain::Hour, Minute(minute), range as usize),
            9 => Key::Gone(Grain::Day, Minute(minute), range as usize),
            10 => Key::Firsts,
            11 => Key::RollUps,
            _ => return None,
        })
    }
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Pod, Zeroable)]
struct Head {
    magic: u64,
    version: u64,
    fence: i64,
    number: u64,
    worker: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SectionHead {
    kind: u32,
    range: u32,
    minute: u32,
    row_bytes: u32,
    rows: u64,
}

impl Head {
    fn of(version: u32, id: Id, worker: usize) -> Head {
        Head { magic: MAGIC, version: version.into(), fence: id.fence, number: id.number, worker: worker as u64 }
    }
}

/// The bytes that a part begins with.
pub fn head(id: Id, worker: usize) -> Vec<u8> {
    bytemuck::bytes_of(&Head::of(VERSION, id, worker)).to_vec()
}

/// A section, ready to be written.
pub struct Section {
    /// Which parts it is for.
    pub holds: Holds,
    /// Its head, and rows that were copied.
    pub copied: Vec<u8>,
    /// The rest of its rows, of which there is only one copy.
    pub shared: Vec<Arc<[EventKey]>>,
}

/// A section of about this many rows, in an empty buffer.
pub fn section<R: Pod>(mut buffer: Vec<u8>, key: Key, about: usize, rows: impl Iterator<Item = R>) -> Section {
    buffer.reserve(size_of::<SectionHead>() + about * size_of::<R>());
    Section { holds: key.holds(), copied: copied(buffer, key, rows, 0), shared: Vec::new() }
}

/// A section of ids.
pub fn ids(buffer: Vec<u8>, key: Key, others: impl Iterator<Item = EventKey>, shared: &[Arc<[EventKey]>]) -> Section {
    let rows = shared.iter().map(|chunk| chunk.len()).sum();
    Section { holds: key.holds(), copied: copied(buffer, key, others, rows), shared: shared.to_vec() }
}

/// The head of a section, and the rows that follow it at once; `more` follow those.
fn copied<R: Pod>(mut bytes: Vec<u8>, key: Key, rows: impl Iterator<Item = R>, more: usize) -> Vec<u8> {
    bytes.reserve(size_of::<SectionHead>() + rows.size_hint().0 * size_of::<R>());
    bytes.resize(size_of::<SectionHead>(), 0);
    rows.for_each(|row| bytes.extend_from_slice(bytemuck::bytes_of(&row)));
    let (kind, range, minute) = key.words();
    let row_bytes = u32::try_from(size_of::<R>()).expect("a row is small");
    let rows = more + (bytes.len() - size_of::<SectionHead>()) / size_of::<R>();
    let head = SectionHead { kind, range, minute, row_bytes, rows: rows as u64 };
    bytes[..size_of::<SectionHead>()].copy_from_slice(bytemuck::bytes_of(&head));
    bytes
}

/// The bytes that a part ends with.
pub fn end(sections: u64) -> Vec<u8> {
    bytemuck::bytes_of(&SectionHead { kind: END, range: 0, minute: 0, row_bytes: 0, rows: sections }).to_vec()
}

/// The rows of a section that was read.
pub struct Rows<'a> {
    row_bytes: usize,
    bytes: &'a [u8],
}

impl<'a> Rows<'a> {
    /// Bytes of one row.
    pub fn width(&self) -> usize {
        self.row_bytes
    }

    /// Rows of this many words.
    pub fn words(self, words: usize) -> io::Result<impl Iterator<Item = Vec<u64>> + 'a> {
        if self.row_bytes != words * size_of::<u64>() {
            return Err(damaged(format!("rows of {} bytes where {words} words are expected", self.row_bytes)));
        }
        let row = |row: &[u8]| row.chunks_exact(size_of::<u64>()).map(bytemuck::pod_read_unaligned).collect();
        Ok(self.bytes.chunks_exact(self.row_bytes).map(row))
    }

    /// The rows, if they are of this kind.
    pub fn of<R: Pod>(self) -> io::Result<impl ExactSizeIterator<Item = R> + 'a> {
        if self.row_bytes != size_of::<R>() {
            return Err(damaged(format!("rows of {} bytes where {} are expected", self.row_bytes, size_of::<R>())));
        }
        Ok(self.bytes.chunks_exact(size_of::<R>()).map(bytemuck::pod_read_unaligned))
    }
}

/// Reads a part: hands the rows of each section for which `wanted` says so to `take`.
pub fn read(
    mut part: impl Read,
    id: Id,
    worker: usize,
    wanted: impl Fn(Key) -> bool,
    mut take: impl FnMut(Key, Rows<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut found = Head::zeroed();
    part.read_exact(bytemuck::bytes_of_mut(&mut found))?;
    let version = u32::try_from(found.version).unwrap_or(u32::MAX);
    if !READ.contains(&version) || found != Head::of(version, id, worker) {
        return Err(damaged(format!(
            "it is not part {worker} of checkpoint {id} in a version from {} to {VERSION}",
            READ.start()
        )));
    }
    let mut bytes = Vec::new();
    let mut sections = 0;
    loop {
        let mut head = SectionHead::zeroed();
        part.read_exact(bytemuck::bytes_of_mut(&mut head))?;
        if head.kind == END {
            return if head.rows == sections { Ok(()) } else { Err(damaged("sections are missing".to_owned())) };
        }
        let key = Key::of_words(head.kind, head.range, head.minute);
        let key = key.ok_or_else(|| damaged(format!("a section of unknown kind {}", head.kind)))?;
        let length = u64::from(head.row_bytes).saturating_mul(head.rows);
        if length > MAX_SECTION_BYTES {
            return Err(damaged(format!("a section of {length} bytes")));
        }
        sections += 1;
        bytes.clear();
        if part.by_ref().take(length).read_to_end(&mut bytes)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if wanted(key) {
            take(key, Rows { row_bytes: head.row_bytes as usize, bytes: &bytes })?;
        }
    }
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_told() {
        let id = Id { pipeline: 1, fence: 2, number: 3 };
        let keys = [Key::Viewers(255), Key::Ids(Minute(7), 4), Key::Shares, Key::Steps, Key::Bases];
        let mut bytes = head(id, 1);
        for (key, rows) in keys.into_iter().zip(0u64..) {
            bytes.extend(section(Vec::new(), key, 0, (0..rows).map(|row| [row, rows])).copied);
        }
        bytes.extend(end(keys.len() as u64));
        let all = |bytes: &[u8], worker| {
            let mut found = Vec::new();
            let take = |key, rows: Rows<'_>| {
                found.push((key, rows.of::<[u64; 2]>()?.collect::<Vec<_>>()));
                Ok(())
            };
            read(bytes, id, worker, |_| true, take).map(|()| found)
        };
        let found = all(&bytes, 1).unwrap();
        let expected =
            keys.into_iter().zip(0u64..).map(|(key, rows)| (key, (0..rows).map(|row| [row, rows]).collect::<Vec<_>>()));
        assert_eq!(found, expected.collect::<Vec<_>>());
        assert!(all(&bytes, 0).is_err(), "another worker's part");
        for length in 0..bytes.len() {
            assert!(all(&bytes[..length], 1).is_err(), "cut to {length} bytes");
        }
    }
}
