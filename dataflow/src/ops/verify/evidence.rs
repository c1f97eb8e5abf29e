//! The records behind what differs: the log is read once more for them.

use super::compare::{Difference, Name, for_oracle};
use super::in_order::LettersInOrder;
use crate::ops::OpsError;
use crate::ops::books::{Position, Tables};
use crate::ops::past::Reader;
use crate::oracle::{Evidence, Question, Witness};
use crate::source::Record;
use std::ops::Range;
use tidemark_model::{Grain, Metric, Micros, Minute, Reason, Window};

/// Reads for a witness.
pub(super) struct Reading<'a> {
    pub(super) tables: &'a mut dyn Tables,
    pub(super) letters: LettersInOrder,
    pub(super) witness: Witness,
}

impl Reader for Reading<'_> {
    fn behind(&mut self) -> Vec<i32> {
        self.witness.behind()
    }

    fn take(&mut self, partition: i32, record: Record<'_>) -> Result<(), OpsError> {
        let mut verdict = None;
        while let Some((of, letter)) = self.letters.next(self.tables, partition, Some(record.offset))? {
            verdict = Reason::parse(&letter.reason).filter(|_| of == record.offset);
        }
        self.witness.take((partition, record.offset), for_oracle(record), verdict);
        Ok(())
    }

    fn end_of(&mut self, partition: i32) {
        self.witness.end_of(partition);
    }

    fn pause(&mut self) -> Result<(), OpsError> {
        Ok(())
    }
}

/// What a witness is asked of a difference. Nothing of totals: their records are too many to be of use, and the rows that they sum are
/// compared, too.
pub(super) fn question(difference: &Difference, watermark: Option<Micros>) -> Option<Question> {
    Some(match &difference.name {
        Name::Row(grain, start, stream) => Question::Row(minutes(*grain, *start, watermark), stream.clone()),
        Name::State(stream, start) => Question::Row(minutes(Grain::Minute, *start, watermark), stream.clone()),
        Name::Total(..) => return None,
        Name::Letter(Position { partition, offset }) => Question::Record((*partition, *offset)),
        Name::Partition(partition) => Question::Watermark(*partition),
    })
}

/// Those records of an answer that have to do with what differs.
pub(super) fn that_matter(difference: &Difference, question: &Question, mut records: Vec<Evidence>) -> Vec<Evidence> {
    if let Question::Row(minutes, _) = question {
        records.retain(|record| has_to_do_with(record, difference.column, minutes));
    }
    records
}

/// The minutes that a row is made of: hours and days of closed ones.
fn minutes(grain: Grain, start: Micros, watermark: Option<Micros>) -> Range<Minute> {
    let window = Window { grain, first: Minute::first_open(start) };
    let closed = watermark.map_or(Minute(0), Minute::first_open);
    let end = window.end_minute();
    window.first..if grain == Grain::Minute { end } else { end.min(closed).max(window.first) }
}

/// Whether a record of a row has to do with one of its columns.
fn has_to_do_with(record: &Evidence, column: Option<&str>, minutes: &Range<Minute>) -> bool {
    match column.and_then(Metric::named) {
        Some(metric) => metric.declared().events.contains(&record.kind),
        // That there is a row at all, and its times, is a matter of its minutes' own events.
        None => minutes.contains(&record.minute),
    }
}
