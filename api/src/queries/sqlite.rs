//! The questions asked of SQLite: a bounded number of read-only connections, each used on a blocking thread.

use super::statement::{Statement, Value};
use super::{Columns, StoreError};
use crate::rows::{Money, UtcTime};
use rusqlite::types::{FromSql, ToSql, ToSqlOutput};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params_from_iter};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tidemark_model::{Cents, Micros};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Steps of SQLite's machine between two looks at the clock: well under a millisecond.
const STEPS_PER_LOOK: i32 = 1_000;

/// A bounded number of connections.
pub struct Pool {
    permits: Arc<Semaphore>,
    file: Arc<File>,
    timeout: Duration,
}

/// The database file and its connections that wait for work.
struct File {
    path: PathBuf,
    idle: Mutex<Vec<Opened>>,
}

/// A connection, and which file it has open: a path may come to name another file, after a rebuild for instance.
struct Opened {
    connection: Connection,
    identity: (u64, u64),
}

impl Pool {
    /// Opens nothing yet: the pipeline may not have created the file.
    pub fn new(path: &Path, size: usize, timeout: Duration) -> Pool {
        let file = File { path: path.to_owned(), idle: Mutex::new(Vec::new()) };
        Pool { permits: Arc::new(Semaphore::new(size)), file: Arc::new(file), timeout }
    }

    /// All rows of the result. Its time includes the wait for a turn.
    pub async fn rows<T, F>(&self, statement: Statement, read: F) -> Result<Vec<T>, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&dyn Columns) -> Result<T, StoreError> + Send + 'static,
    {
        let deadline = Instant::now() + self.timeout;
        let work = async {
            let permit = self.permits.clone().acquire_owned().await.expect("never closed");
            let file = self.file.clone();
            let work = move || file.rows(permit, statement, read, deadline);
            tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Refused(error.into()))?
        };
        tokio::time::timeout(self.timeout, work).await.map_err(|_| StoreError::TimedOut)?
    }
}

impl File {
    /// The permit is held to the end of the work, even if the request has been given up: it bounds work, not waiting.
    fn rows<T>(
        &self,
        _permit: OwnedSemaphorePermit,
        statement: Statement,
        read: impl FnMut(&dyn Columns) -> Result<T, StoreError>,
        deadline: Instant,
    ) -> Result<Vec<T>, StoreError> {
        let mut opened = self.open()?;
        let rows = opened.rows(statement, read, deadline)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(opened);
        Ok(rows)
    }

    fn open(&self) -> Result<Opened, StoreError> {
        let identity = identity(&self.path).map_err(|error| StoreError::OutOfReach(error.into()))?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|opened| opened.identity == identity);
        if let Some(opened) = idle.pop() {
            return Ok(opened);
        }
        drop(idle);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(classify)?;
        // The writer's file is in WAL mode: readers wait only for a moment, while it is opened or recovered.
        connection.busy_timeout(Duration::from_millis(250)).map_err(classify)?;
        Ok(Opened { connection, identity })
    }
}

impl Opened {
    fn rows<T>(
        &mut self,
        statement: Statement,
        mut read: impl FnMut(&dyn Columns) -> Result<T, StoreError>,
        deadline: Instant,
    ) -> Result<Vec<T>, StoreError> {
        let (text, values) = statement.into_parts();
        let too_late = move || Instant::now() >= deadline;
        self.connection.progress_handler(STEPS_PER_LOOK, Some(too_late)).map_err(classify)?;
        let mut statement = self.connection.prepare_cached(&text).map_err(classify)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(classify)?;
        let mut result = Vec::new();
        while let Some(row) = rows.next().map_err(classify)? {
            result.push(read(row)?);
        }
        Ok(result)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// SQLite has one code for most faults of a statement, so a missing table shows in its (English, fixed) text only.
fn classify(error: rusqlite::Error) -> StoreError {
    match &error {
        rusqlite::Error::SqliteFailure(cause, text) => match cause.code {
            ErrorCode::OperationInterrupted => StoreError::TimedOut,
            ErrorCode::Unknown if text.as_ref().is_some_and(|text| text.starts_with("no such table")) => StoreError::NoTables,
            ErrorCode::Unknown => StoreError::Refused(error.into()),
            _ => StoreError::OutOfReach(error.into()),
        },
        rusqlite::Error::SqlInputError { msg, .. } if msg.starts_with("no such table") => StoreError::NoTables,
        _ => StoreError::Refused(error.into()),
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Value::Time(Micros(micros)) => Ok((*micros).into()),
            Value::Count(count) => Ok((*count).into()),
            Value::Text(text) => text.to_sql(),
            Value::Money(money) => Ok(money.cents().into()),
        }
    }
}

impl Columns for Row<'_> {
    fn time(&self, column: usize) -> Result<Option<UtcTime>, StoreError> {
        Ok(value::<i64>(self, column)?.map(|micros| UtcTime(Micros(micros))))
    }

    fn count(&self, column: usize) -> Result<Option<i64>, StoreError> {
        value(self, column)
    }

    fn text(&self, column: usize) -> Result<Option<String>, StoreError> {
        value(self, column)
    }

    fn bytes(&self, column: usize) -> Result<Option<Vec<u8>>, StoreError> {
        value(self, column)
    }

    fn money(&self, column: usize) -> Result<Option<Money>, StoreError> {
        Ok(value::<i64>(self, column)?.map(|cents| Money::from(Cents(cents))))
    }
}

fn value<T: FromSql>(row: &Row<'_>, column: usize) -> Result<Option<T>, StoreError> {
    row.get(column).map_err(classify)
}
