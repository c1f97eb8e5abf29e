//! A blocking Postgres client in which this side bounds every exchange.
//!
//! The system notices a peer that acknowledges nothing. It does not notice one that acknowledges and never answers: a middlebox that
//! forgot the connection, a server that was stopped, one that accepts and says nothing. So each exchange is bounded here:
//!
//! - [`connect`]: an address has [`CONNECT`](connect::CONNECT), all of them together [`IN_ALL`](connect::IN_ALL).
//! - [`overseer`]: an answer may take as long as a second connection learns from the server that it works on the question. Without
//!   such evidence it is given up within ten seconds.
//! - When the run is to end, an exchange has [`AT_STOP`](overseer::AT_STOP) left.
//!
//! A connection whose exchange was given up is closed, and every later use of it fails at once.

mod connect;
mod overseer;

use crate::run::Control;
use ::postgres::error::{DbError, SqlState};
use ::postgres::types::ToSql;
use ::postgres::{Row, Statement, ToStatement};
use overseer::{NoAnswer, Overseer};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tidemark_tls::postgres::{self, Wire};
use tokio::runtime::Runtime;
use tokio_postgres::IsolationLevel;

/// How long taking leave may take.
const CLOSE: Duration = Duration::from_secs(1);
/// The longest answer: the server ends a statement of ours earlier by itself.
const ANSWER: Duration = Duration::from_secs(65);

/// Why an exchange brought no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server's word, or the connection's.
    #[error(transparent)]
    Postgres(#[from] ::postgres::Error),
    /// No connection: TLS or the login.
    #[error(transparent)]
    Connect(postgres::Error),
    /// Nothing was heard in time.
    #[error(transparent)]
    Silent(#[from] NoAnswer),
}

impl Error {
    pub(crate) fn as_db_error(&self) -> Option<&DbError> {
        match self {
            Error::Postgres(error) => error.as_db_error(),
            Error::Connect(error) => error.as_db_error(),
            Error::Silent(_) => None,
        }
    }

    pub(crate) fn code(&self) -> Option<&SqlState> {
        self.as_db_error().map(DbError::code)
    }

    /// Whether an answer was given up while the server may have been at work on it.
    pub(crate) fn was_at_work(&self) -> bool {
        matches!(self, Error::Silent(silence) if silence.at_work)
    }

    /// Whether there is no connection any more.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Error::Postgres(error) => error.is_closed(),
            Error::Connect(_) | Error::Silent(_) => true,
        }
    }
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Error {
        match error {
            postgres::Error::Postgres(error) => Error::Postgres(error),
            error => Error::Connect(error),
        }
    }
}

/// A connection. Its methods are named as in the crate `postgres`.
pub(crate) struct Client {
    client: tokio_postgres::Client,
    // Dropped after the client: the end of the client is what it then tells the server.
    link: Link,
}

/// The wire, and what bounds the waiting at it.
struct Link {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    /// None once it was given up or has ended.
    wire: Option<Wire>,
    overseer: Overseer,
    /// The longest answer; none while the server may take as long as it is at work.
    longest: Option<Duration>,
}

impl Client {
    /// Connects to the first of the hosts that will do. The end of the run shortens all waiting.
    pub(crate) fn connect(server: &postgres::Server, control: Option<&Arc<Control>>) -> Result<Client, Error> {
        let runtime = connect::runtime()?;
        let connected = runtime.block_on(connect::connect(server, control));
        let connected = connected.map(|(client, wire, overseer)| (client, Some(wire), overseer));
        match connected {
            Ok((client, wire, overseer)) => {
                Ok(Client { client, link: Link { runtime: Some(runtime), wire, overseer, longest: Some(ANSWER) } })
            }
            Err(error) => {
                // A name may still be looked up, and nobody waits for that.
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.link.wire.is_none() || self.client.is_closed()
    }

    pub(crate) fn execute<T>(&mut self, query: &T, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, Error>
    where
        T: ?Sized + ToStatement,
    {
        self.link.exchange("a statement", self.client.execute(query, parameters))
    }

    pub(crate) fn query<T>(&mut self, query: &T, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error>
    where
        T: ?Sized + ToStatement,
    {
        self.link.exchange("a query", self.client.query(query, parameters))
    }

    pub(crate) fn query_one<T>(&mut self, query: &T, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, Error>
    where
        T: ?Sized + ToStatement,
    {
        self.link.exchange("a query", self.client.query_one(query, parameters))
    }

    pub(crate) fn query_opt<T>(&mut self, query: &T, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error>
    where
        T: ?Sized + ToStatement,
    {
        self.link.exchange("a query", self.client.query_opt(query, parameters))
    }

    pub(crate) fn batch_execute(&mut self, query: &str) -> Result<(), Error> {
        self.link.exchange("some statements", self.client.batch_execute(query))
    }

    pub(crate) fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        let transaction = self.link.exchange("the begin of a transaction", self.client.transaction())?;
        Ok(Transaction { transaction: Some(transaction), link: &mut self.link })
    }

    /// A transaction that only reads, and sees one moment.
    pub(crate) fn snapshot(&mut self) -> Result<Transaction<'_>, Error> {
        let start = self.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start();
        let transaction = self.link.exchange("the begin of a transaction", start)?;
        Ok(Transaction { transaction: Some(transaction), link: &mut self.link })
    }
}

/// A transaction; dropped, it is rolled back.
pub(crate) struct Transaction<'a> {
    /// None once it has ended.
    transaction: Option<tokio_postgres::Transaction<'a>>,
    link: &'a mut Link,
}

impl Transaction<'_> {
    fn parts(&mut self) -> (&tokio_postgres::Transaction<'_>, &mut Link) {
        let Transaction { transaction, link } = self;
        (transaction.as_ref().expect("it ends with the value"), link)
    }

    pub(crate) fn prepare(&mut self, query: &str) -> Result<Statement, Error> {
        let (transaction, link) = self.parts();
        link.exchange("the preparing of a statement", transaction.prepare(query))
    }

    pub(crate) fn execute<T>(&mut self, query: &T, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, Error>
    where
        T: ?Sized + ToStatement,
    {
        let (transaction, link) = self.parts();
        link.exchange("a statement", transaction.execute(query, parameters))
    }

    pub(crate) fn query<T>(&mut self, query: &T, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error>
    where
        T: ?Sized + ToStatement,
    {
        let (transaction, link) = self.parts();
        link.exchange("a query", transaction.query(query, parameters))
    }

    pub(crate) fn query_one<T>(&mut self, query: &T, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, Error>
    where
        T: ?Sized + ToStatement,
    {
        let (transaction, link) = self.parts();
        link.exchange("a query", transaction.query_one(query, parameters))
    }

    pub(crate) fn query_opt<T>(&mut self, query: &T, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error>
    where
        T: ?Sized + ToStatement,
    {
        let (transaction, link) = self.parts();
        link.exchange("a query", transaction.query_opt(query, parameters))
    }

    pub(crate) fn batch_execute(&mut self, query: &str) -> Result<(), Error> {
        let (transaction, link) = self.parts();
        link.exchange("some statements", transaction.batch_execute(query))
    }

    /// From now on a statement may take as long as the server is at work on it.
    pub(crate) fn without_limit(&mut self) -> Result<(), Error> {
        self.batch_execute("set local statement_timeout = 0")?;
        self.link.longest = None;
        Ok(())
    }

    /// From now on a statement may take this long.
    pub(crate) fn limit(&mut self, longest: Duration) -> Result<(), Error> {
        self.batch_execute(&format!("set local statement_timeout = {}", longest.as_millis()))?;
        // As with the usual limit, the server ends a statement a little earlier by itself.
        self.link.longest = Some(longest + Duration::from_secs(5));
        Ok(())
    }

    pub(crate) fn commit(mut self) -> Result<(), Error> {
        let transaction = self.transaction.take().expect("it ends with the value");
        self.link.exchange("a commit", transaction.commit())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            // If it fails, the connection is closed, and that rolls it back too.
            let _ = self.link.exchange("a rollback", transaction.rollback());
        }
        self.link.longest = Some(ANSWER);
    }
}

impl Link {
    /// One question and its answer.
    fn exchange<T>(
        &mut self,
        asked: &'static str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        let Link { runtime, wire, overseer, longest } = self;
        let runtime = runtime.as_ref().expect("it is there until the end");
        let outcome = runtime.block_on(async {
            tokio::select! {
                // An answer that is there starts no clock.
                biased;
                result = answer(wire, work) => Ok(result),
                silence = overseer.wait(asked, *longest) => Err(silence),
            }
        });
        match outcome {
            Ok(result) => {
                overseer.answered(asked);
                result.map_err(Error::from)
            }
            Err(silence) => {
                self.wire = None;
                if silence.at_work {
                    runtime.block_on(overseer.cancel());
                }
                Err(silence.into())
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if let Some(wire) = &mut self.wire {
            // The server ends the session either way.
            let _ = runtime.block_on(async { tokio::time::timeout(CLOSE, wire).await });
        }
        runtime.shutdown_background();
    }
}

/// Moves bytes along the wire until the answer is complete.
async fn answer<T>(
    wire: &mut Option<Wire>,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, tokio_postgres::Error> {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        let fault = turn(wire, context);
        match (work.as_mut().poll(context), fault) {
            // The wire knows why it has ended.
            (Poll::Ready(Err(error)), Some(fault)) if error.is_closed() => Poll::Ready(Err(fault)),
            (Poll::Pending, Some(fault)) => Poll::Ready(Err(fault)),
            (polled, _) => polled,
        }
    })
    .await
}

/// Reads and writes what can be. The wire that has ended is dropped; the fault that ended it, if there was one.
fn turn(wire: &mut Option<Wire>, context: &mut Context<'_>) -> Option<tokio_postgres::Error> {
    while let Some(present) = wire {
        match present.poll_message(context) {
            Poll::Pending => return None,
            Poll::Ready(Some(Ok(_notice))) => {}
            Poll::Ready(end) => {
                *wire = None;
                return end.and_then(Result::err);
            }
        }
    }
    None
}
