//! Rows and dead letters of the store in the order of their keys, a page at a time.

use crate::ops::books::{LetterPage, StoredLetter, StoredRow, Tables, before_all};
use crate::sink::StoreError;
use std::collections::{BTreeMap, VecDeque};
use tidemark_model::{Micros, Table};

/// Rows of a page.
pub(super) const PAGE: u32 = 5_000;
/// A page of dead letters aims at this many bytes, by the mean size in the page before. A letter may be as large as a record.
const PAGE_BYTES: usize = 1 << 20;
/// Letters of the first page, and the most of any.
const LETTERS: (u32, u32) = (16, 1_000);

/// Rows of a table from a window on.
pub struct RowsInOrder {
    table: Table,
    /// The windows begin here or later.
    pub(super) from: Micros,
    page: VecDeque<StoredRow>,
    after: (Micros, String),
    ended: bool,
}

impl RowsInOrder {
    pub(super) fn new(table: Table, from: Micros) -> RowsInOrder {
        RowsInOrder { table, from, page: VecDeque::new(), after: before_all(from), ended: false }
    }

    /// Begins at the first stored row; none if there is none.
    pub(super) fn beginning_at_first(mut self, tables: &mut dyn Tables) -> Result<Option<RowsInOrder>, StoreError> {
        self.fill(tables, None)?;
        let first = self.page.front().map(|row| row.window_start);
        Ok(first.map(|from| RowsInOrder { from, ..self }))
    }

    /// The next row, if its place is this one or before; without a place just the next one.
    pub(super) fn next(
        &mut self,
        tables: &mut dyn Tables,
        streams: Option<&[String]>,
        place: Option<(Micros, &str)>,
    ) -> Result<Option<StoredRow>, StoreError> {
        self.fill(tables, streams)?;
        Ok(self.page.pop_front_if(|row| place.is_none_or(|place| row.place() <= place)))
    }

    fn fill(&mut self, tables: &mut dyn Tables, streams: Option<&[String]>) -> Result<(), StoreError> {
        if !self.page.is_empty() || self.ended {
            return Ok(());
        }
        self.page = tables.rows(self.table, &self.after, streams, PAGE)?.into();
        let mut before = (self.after.0, &*self.after.1);
        for row in &self.page {
            if row.place() <= before {
                let name = self.table.name();
                return Err(StoreError::Fatal(format!(
                    "{name}: its rows do not come in the order of the bytes of their names: stream_id must be of collation \"C\""
                )));
            }
            before = row.place();
        }
        let after = self.page.back().map(|row| (row.window_start, row.place().1.to_owned()));
        match after {
            Some(after) => self.after = after,
            None => self.ended = true,
        }
        Ok(())
    }
}

/// Dead letters of each partition.
#[derive(Default)]
pub struct LettersInOrder {
    partitions: BTreeMap<i32, Letters>,
}

struct Letters {
    page: VecDeque<(i64, StoredLetter)>,
    /// The next page begins at this offset; none behind the last one.
    from: Option<i64>,
    limit: u32,
}

impl LettersInOrder {
    /// Of these partitions from these offsets on; of others all.
    pub(super) fn new(from: &BTreeMap<i32, i64>) -> LettersInOrder {
        let partitions = from.iter().map(|(&partition, &from)| (partition, Letters::from(from))).collect();
        LettersInOrder { partitions }
    }

    /// The next one of a partition, if it is at this offset or before; without an offset just the next one.
    pub(super) fn next(
        &mut self,
        tables: &mut dyn Tables,
        partition: i32,
        offset: Option<i64>,
    ) -> Result<Option<(i64, StoredLetter)>, StoreError> {
        let letters = self.partitions.entry(partition).or_insert_with(|| Letters::from(i64::MIN));
        if letters.page.is_empty() {
            letters.fill(tables, partition)?;
        }
        Ok(letters.page.pop_front_if(|(of, _)| offset.is_none_or(|offset| *of <= offset)))
    }
}

impl Letters {
    fn from(from: i64) -> Letters {
        Letters { page: VecDeque::new(), from: Some(from), limit: LETTERS.0 }
    }

    fn fill(&mut self, tables: &mut dyn Tables, partition: i32) -> Result<(), StoreError> {
        let Some(from) = self.from else { return Ok(()) };
        self.page = tables.letters(LetterPage { partition, from }, self.limit)?.into();
        self.from = self.page.back().and_then(|(last, _)| last.checked_add(1));
        let bytes = |letter: &StoredLetter| letter.payload.as_ref().map_or(0, Vec::len) + letter.key.as_ref().map_or(0, Vec::len);
        let all: usize = self.page.iter().map(|(_, letter)| bytes(letter)).sum();
        let mean = all / self.page.len().max(1) + 1;
        self.limit = u32::try_from(PAGE_BYTES / mean).unwrap_or(LETTERS.1).clamp(1, LETTERS.1);
        Ok(())
    }
}
