//! What every transaction with Postgres needs: statements that are prepared once, exact times, what can go wrong.

use super::StoreError;
use super::judge::judge;
use super::session::{self, Transaction};
use crate::checkpoint::history::StoredEntry;
use ::postgres::types::{FromSql, IsNull, ToSql, Type, accepts, private::BytesMut, to_sql_checked};
use ::postgres::{Row, Statement};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::error::Error;
use tidemark_model::{Micros, Minute};

/// The tables.
pub(crate) const TABLES: &str = include_str!("../../../sql/init/001_tables.sql");
/// The columns of `progress_history` that [`stored_entry`] reads.
pub(crate) const ENTRY: &str = "watermark, highest, partitions::text, checksum";
/// Class of the advisory lock that a run holds shared while it is connected, and a rebuild alone; its second number is the hash of
/// the schema's name.
pub(crate) const RUN_LOCK: i32 = 0x7469_6465;
/// Microseconds from 1970 to 2000, from where Postgres counts.
const TO_2000: i64 = 946_684_800_000_000;

/// A row of [`ENTRY`].
pub(crate) fn stored_entry(row: &Row) -> StoredEntry {
    StoredEntry { watermark: row.get::<_, Timestamp>(0).0, highest: row.get(1), partitions: row.get(2), checksum: row.get(3) }
}

/// The prepared statements of a connection, by their text.
pub(super) type Prepared = HashMap<&'static str, Statement>;

/// A transaction that prepares each statement once per connection.
pub(super) struct Writing<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) prepared: &'a mut Prepared,
}

impl Writing<'_> {
    fn prepare(&mut self, text: &'static str) -> Result<Statement, session::Error> {
        Ok(match self.prepared.entry(text) {
            Entry::Occupied(slot) => slot.get().clone(),
            Entry::Vacant(slot) => slot.insert(self.transaction.prepare(text)?).clone(),
        })
    }

    pub(super) fn execute(&mut self, text: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, session::Error> {
        let statement = self.prepare(text)?;
        self.transaction.execute(&statement, parameters)
    }

    pub(super) fn query_opt(
        &mut self,
        text: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, session::Error> {
        let statement = self.prepare(text)?;
        self.transaction.query_opt(&statement, parameters)
    }
}

/// What can go wrong in a transaction.
pub(crate) enum Failure {
    Postgres(session::Error),
    Store(StoreError),
}

impl Failure {
    /// As a command tells it; `shown` is how messages name the database.
    pub(crate) fn judged(self, shown: &str) -> StoreError {
        match self {
            Failure::Postgres(error) => judge(&error, shown),
            Failure::Store(error) => error,
        }
    }
}

impl From<session::Error> for Failure {
    fn from(error: session::Error) -> Failure {
        Failure::Postgres(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

/// A `timestamptz`, exact: Postgres counts microseconds from 2000 in 64 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp(pub(crate) Micros);

/// The first hour and the first day that are whole, as `progress` has them.
pub(super) fn starts(rolled_up: [Option<Minute>; 2]) -> [Option<Timestamp>; 2] {
    rolled_up.map(|from| from.map(|first| Timestamp(first.start())))
}

impl ToSql for Timestamp {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        (self.0.0 - TO_2000).to_sql(&Type::INT8, out).inspect(|_| debug_assert_eq!(*kind, Type::TIMESTAMPTZ))
    }
    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Timestamp, Box<dyn Error + Sync + Send>> {
        Ok(Timestamp(Micros(i64::from_sql(&Type::INT8, raw)?.saturating_add(TO_2000))))
    }
    accepts!(TIMESTAMPTZ);
}
