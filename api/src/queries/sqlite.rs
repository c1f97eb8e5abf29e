//! The questions asked of SQLite: a bounded number of read-only connections, each used on a blocking thread.

use super::statement::{Statement, Value};
use super::{Columns, EXPORT_ROWS, Pieces, StoreError};
use crate::rows::UtcTime;
use crate::value::Money;
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
    size: usize,
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
        Pool { permits: Arc::new(Semaphore::new(size)), size, file: Arc::new(file), timeout }
    }

    /// Connections in use, connections that wait, and how many there may be.
    pub fn connections(&self) -> (usize, usize, usize) {
        let idle = self.file.idle.lock().unwrap_or_else(PoisonError::into_inner).len();
        (self.size - self.permits.available_permits(), idle, self.size)
    }

    /// All rows of the result. Its time includes the wait for a turn.
    pub async fn rows<T, F>(&self, statement: Statement, mut read: F) -> Result<Vec<T>, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&dyn Columns) -> Result<T, StoreError> + Send + 'static,
    {
        let deadline = Instant::now() + self.timeout;
        let work = async {
            let permit = self.permits.clone().acquire_owned().await.expect("never closed");
            let file = self.file.clone();
            let work = move || {
                let mut rows = Vec::new();
                file.each(
                    permit,
                    statement,
                    move || Instant::now() >= deadline,
                    |columns| {
                        rows.push(read(columns)?);
                        Ok(())
                    },
                )?;
                Ok(rows)
            };
            tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Refused(error.into()))?
        };
        tokio::time::timeout(self.timeout, work).await.map_err(|_| StoreError::TimedOut)?
    }
}

impl Pool {
    /// All rows of the result, piece by piece. Ends early once they are not taken any more.
    pub(super) async fn pieces<T, F>(&self, statement: Statement, mut read: F, to: Pieces<T>) -> Result<(), StoreError>
    where
        T: Send + 'static,
        F: FnMut(&dyn Columns) -> Result<T, StoreError> + Send + 'static,
    {
        let deadline = Instant::now() + self.timeout;
        let permit = tokio::select! {
            permit = self.permits.clone().acquire_owned() => permit.expect("never closed"),
            () = to.closed() => return Ok(()),
        };
        let (file, taken) = (self.file.clone(), to.clone());
        let give_up = move || Instant::now() >= deadline || taken.is_closed();
        let work = move || {
            let mut piece = Vec::with_capacity(EXPORT_ROWS);
            let send = |piece: &mut Vec<T>| to.blocking_send(Ok(std::mem::take(piece))).map_err(|_| StoreError::TimedOut);
            file.each(permit, statement, give_up, |columns| {
                piece.push(read(columns)?);
                if piece.len() == EXPORT_ROWS { send(&mut piece) } else { Ok(()) }
            })?;
            send(&mut piece)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Refused(error.into()))?
    }
}

impl File {
    /// The permit is held to the end of the work, even if the request has been given up: it bounds work, not waiting.
    fn each(
        &self,
        _permit: OwnedSemaphorePermit,
        statement: Statement,
        give_up: impl FnMut() -> bool + Send + 'static,
        take: impl FnMut(&dyn Columns) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut opened = self.open()?;
        opened.each(statement, give_up, take)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(opened);
        Ok(())
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
    fn each(
        &mut self,
        statement: Statement,
        give_up: impl FnMut() -> bool + Send + 'static,
        mut take: impl FnMut(&dyn Columns) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (text, values) = statement.into_parts();
        self.connection.progress_handler(STEPS_PER_LOOK, Some(give_up)).map_err(classify)?;
        let mut statement = self.connection.prepare_cached(&text).map_err(classify)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(classify)?;
        while let Some(row) = rows.next().map_err(classify)? {
            take(row)?;
        }
        drop(rows);
        drop(statement);
        // What the handler holds must not live on with the connection.
        self.connection.progress_handler(0, None::<fn() -> bool>).map_err(classify)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// SQLite has one code for most faults of a statement, so a missing table or column shows in its (English, fixed) text only.
fn classify(error: rusqlite::Error) -> StoreError {
    match &error {
        rusqlite::Error::SqliteFailure(cause, Some(text)) | rusqlite::Error::SqlInputError { error: cause, msg: text, .. }
            if cause.code == ErrorCode::Unknown && text.starts_with("no such ") && StoreError::is_earlier(text) =>
        {
            StoreError::Earlier
        }
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
