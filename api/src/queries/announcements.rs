//! When to look at the epoch again: Postgres announces commits to those who listen, and SQLite is asked often.
//!
//! A standby refuses LISTEN with an error in its own log, so it is not asked for it, and polled. A connection that was forgotten on
//! the way, or that leads through a pooler, looks as if it listened but announces nothing: commits that are found without having been
//! announced show that.

use super::postgres::{self, AbortOnDrop, classify};
use super::{Pool, Store, StoreError};
use std::future::poll_fn;
use std::time::Duration;
use tidemark_tls::postgres::Server;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{AsyncMessage, Client};

/// The channel that the dataflow notifies in the transaction of each commit.
const LISTEN: &str = "listen tidemark_epoch";
/// Pause between two looks at the epoch when commits are not announced.
const POLL_POSTGRES: Duration = Duration::from_millis(100);
/// SQLite announces nothing, but a look at a local file costs little.
const POLL_SQLITE: Duration = Duration::from_millis(50);
/// With announcements, this often anyway.
const CONFIRM: Duration = Duration::from_millis(400);
/// Pause before another try to listen after the connection failed.
const RETRY: Duration = Duration::from_secs(1);
/// Pause before a standby is asked whether it is one still.
const STANDBY_RETRY: Duration = Duration::from_secs(5);
/// Pause before another try to listen where the server refuses it or nothing was ever announced: each refusal is a line in its log.
const REFUSED_RETRY: Duration = Duration::from_secs(60);
/// Commits in a row that were found without having been announced, after which the connection is thrown away.
const UNHEARD: u32 = 3;

impl Store {
    /// Hears of commits.
    pub fn announcements(&self) -> Announcements<'_> {
        match &self.feed {
            Pool::Postgres(pool) => {
                Announcements::Postgres(Box::new(Ears { pool, listener: None, try_at: Instant::now(), told: Told::Nothing }))
            }
            Pool::Sqlite(_) => Announcements::Sqlite,
        }
    }
}

/// When to look at the epoch again.
pub enum Announcements<'a> {
    /// Listens, or polls while it cannot.
    Postgres(Box<Ears<'a>>),
    /// Polls.
    Sqlite,
}

/// Listens to one server.
pub struct Ears<'a> {
    pool: &'a postgres::Pool,
    listener: Option<Listener>,
    try_at: Instant,
    told: Told,
}

/// What the log says about listening, so that it says it once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Standby,
    Refused,
}

/// A connection that hears of commits.
struct Listener {
    /// Holds the connection open.
    _client: Client,
    _connection: AbortOnDrop<()>,
    heard: mpsc::Receiver<()>,
    /// Whether it ever heard anything.
    works: bool,
    /// Whether the last thing that ended a wait was an announcement.
    woken: bool,
    unheard: u32,
}

impl Announcements<'_> {
    /// Returns when there may be something new. `moved`: the look that went before found a later commit.
    pub async fn next(&mut self, moved: bool) {
        match self {
            Announcements::Postgres(ears) => ears.next(moved).await,
            Announcements::Sqlite => sleep(POLL_SQLITE).await,
        }
    }
}

impl Ears<'_> {
    async fn next(&mut self, moved: bool) {
        if self.listener.as_mut().is_some_and(|listener| listener.is_deaf(moved)) {
            self.give_up_a_deaf_one();
        }
        if self.listener.is_none() && Instant::now() >= self.try_at {
            self.listen().await;
        }
        let Some(listener) = &mut self.listener else { return sleep(POLL_POSTGRES).await };
        if !listener.wait().await {
            self.listener = None;
        }
    }

    async fn listen(&mut self) {
        self.try_at = Instant::now() + RETRY;
        match self.pool.is_standby().await {
            Ok(true) => {
                self.try_at = Instant::now() + STANDBY_RETRY;
                self.tell(Told::Standby, "the store is a standby, which announces no commits: it is asked every 100 ms");
                return;
            }
            Ok(false) => {}
            Err(error) => return error.log_quietly(),
        }
        match self.pool.listen().await {
            Ok(listener) => {
                if self.told != Told::Nothing {
                    tracing::info!("the store announces commits again");
                }
                (self.told, self.listener) = (Told::Nothing, Some(listener));
            }
            Err(StoreError::Refused(error)) => {
                self.try_at = Instant::now() + REFUSED_RETRY;
                self.tell(Told::Refused, &format!("the store refuses LISTEN, so it is asked every 100 ms: {error}"));
            }
            Err(error) => error.log_quietly(),
        }
    }

    fn give_up_a_deaf_one(&mut self) {
        let worked = self.listener.take().is_some_and(|listener| listener.works);
        if worked {
            tracing::info!("the connection that announces commits was cut on the way: a new one is made");
            self.try_at = Instant::now();
        } else {
            self.try_at = Instant::now() + REFUSED_RETRY;
            self.tell(Told::Refused, "commits are not announced, as behind a connection pooler: the store is asked every 100 ms");
        }
    }

    fn tell(&mut self, what: Told, sentence: &str) {
        if self.told != what {
            self.told = what;
            tracing::info!("{sentence}");
        }
    }
}

impl Listener {
    async fn connect(server: &Server) -> Result<Listener, StoreError> {
        let (client, mut connection) =
            server.connect().await.map_err(|error| StoreError::OutOfReach(server.explain(error).into()))?;
        // One place: announcements that nobody has looked at yet are one.
        let (sender, heard) = mpsc::channel(1);
        let connection = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if matches!(message, AsyncMessage::Notification(_))
                    && matches!(sender.try_send(()), Err(TrySendError::Closed(())))
                {
                    return;
                }
            }
        });
        let (_client, _connection) = (client, AbortOnDrop(connection));
        _client.batch_execute(LISTEN).await.map_err(classify)?;
        Ok(Listener { _client, _connection, heard, works: false, woken: false, unheard: 0 })
    }

    /// Waits for an announcement, and not much longer than without one. Whether the connection lives.
    async fn wait(&mut self) -> bool {
        let heard = timeout(CONFIRM, self.heard.recv()).await;
        self.woken = matches!(heard, Ok(Some(())));
        self.works |= self.woken;
        !matches!(heard, Ok(None))
    }

    /// Whether commits go by unannounced. One may be found just before its announcement arrives, so it takes several in a row.
    fn is_deaf(&mut self, moved: bool) -> bool {
        self.unheard = match (self.woken, moved) {
            (true, _) => 0,
            (false, true) => self.unheard + 1,
            (false, false) => self.unheard,
        };
        self.unheard >= UNHEARD
    }
}

impl postgres::Pool {
    /// A connection of its own that hears of commits.
    async fn listen(&self) -> Result<Listener, StoreError> {
        let connecting = Listener::connect(self.server());
        timeout(self.timeout(), connecting).await.map_err(|_| StoreError::TimedOut)?
    }
}
