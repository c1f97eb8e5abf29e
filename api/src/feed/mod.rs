//! The one reader of the store for everybody who waits for commits.
//!
//! One task looks at the epoch whenever a commit is announced (or, where nothing is announced, often) and tells it to all who
//! watch. Another one for each length of windows reads what changed, once for all live clients, and only while there are any. It
//! never reads more often than it can bear: several commits may come as one, with the newest value of each row.

mod history;
mod page;

use crate::queries::{ChangesQuery, PAGE_ROWS, Store, StoreError};
use crate::rows::{Answer, Epoch, Moment};
use history::History;
pub use page::{Page, event};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidemark_model::{Grain, Micros, Minute};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// Pages that wait for the slowest client, for all clients of windows of one length together: some 40 MB at most. Who falls behind
/// further catches up by a query of its own.
const WAITING_PAGES: usize = 64;
/// What was seen this long ago is not known any more.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Pause after a fault of the store.
const RETRY: Duration = Duration::from_millis(250);
/// Of its time, the reader of changed rows rests at least this many parts for one part of reading.
const REST_PARTS: u32 = 2;

/// What is known of the store's commits.
pub struct Feed {
    seen: watch::Sender<Option<Seen>>,
    /// By the windows' length.
    items: [broadcast::Sender<Item>; Grain::ALL.len()],
    history: Mutex<History>,
    stopping: watch::Sender<bool>,
    up: AtomicBool,
}

/// What live clients are told.
#[derive(Clone)]
pub enum Item {
    /// Some changed rows.
    Page(Arc<Page>),
    /// The tables were made anew, went back, or another run took over: what was told is void.
    Anew,
}

#[derive(Clone, Copy)]
struct Seen {
    known: Known,
    when: Instant,
}

/// What the store had at the last look.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The moment, its clock brought forward.
    pub at: Moment,
    /// How often this process saw the store go back to an earlier epoch.
    pub times_back: u64,
}

/// The store did not reach the epoch in time.
#[derive(Debug)]
pub struct NotYet {
    /// What it has.
    pub has: Option<Epoch>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed {
            seen: watch::Sender::new(None),
            items: Grain::ALL.map(|_| broadcast::Sender::new(WAITING_PAGES)),
            history: Mutex::default(),
            stopping: watch::Sender::new(false),
            up: AtomicBool::new(false),
        }
    }
}

impl Feed {
    /// Reads for ever: nobody else tells of commits.
    pub async fn run(&self, store: &Store) -> Infallible {
        tokio::select! {
            never = self.watch_epoch(store) => never,
            never = self.read_changes(store, Grain::Minute) => never,
            never = self.read_changes(store, Grain::Hour) => never,
            never = self.read_changes(store, Grain::Day) => never,
        }
    }

    /// What the store had lately; `None` if it was not heard of.
    pub fn known(&self) -> Option<Known> {
        let Seen { mut known, when } = (*self.seen.borrow())?;
        let age = when.elapsed();
        let clock = &mut known.at.now.0.0;
        *clock = clock.saturating_add(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        (age < KNOWN_FOR).then_some(known)
    }

    /// The newest known moment.
    pub fn now(&self) -> Option<Moment> {
        self.known().map(|known| known.at)
    }

    /// Whether the store answered when it was last asked.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Returns when the store has this commit.
    pub async fn wait_for(&self, epoch: Epoch, longest: Duration) -> Result<(), NotYet> {
        let mut seen = self.seen.subscribe();
        let has = |seen: &Option<Seen>| seen.and_then(|seen| seen.known.at.epoch);
        // Before the first commit the store has epoch 0.
        let reached = |seen: &Option<Seen>| seen.is_some() && has(seen).unwrap_or(Epoch(0)) >= epoch;
        let reached = seen.wait_for(reached);
        match tokio::time::timeout(longest, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotYet { has: has(&self.seen.borrow()) }),
        }
    }

    /// What is told from now on about windows of this length.
    pub fn subscribe(&self, grain: Grain) -> broadcast::Receiver<Item> {
        self.items[grain as usize].subscribe()
    }

    /// Live clients now.
    pub fn clients(&self) -> usize {
        self.items.iter().map(broadcast::Sender::receiver_count).sum()
    }

    /// [`Moment::changes_start_after`] of this commit; `None` if it is too long ago, or if its number was given to two commits.
    pub fn starts_after(&self, epoch: Epoch) -> Option<Option<Micros>> {
        self.history().starts_after(epoch)
    }

    /// Remembers that a client was told this moment, so that it can go on from there.
    pub fn told(&self, at: &Moment) {
        self.history().told(at);
    }

    /// Ends all live answers.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Tells of the stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    async fn watch_epoch(&self, store: &Store) -> Infallible {
        let mut announcements = store.announcements();
        let mut newest: Option<Moment> = None;
        let mut times_back = 0;
        loop {
            let moved = match store.moment().await {
                Ok(at) => {
                    let before = newest.replace(at).unwrap_or(at);
                    if at.epoch < before.epoch {
                        tracing::warn!(from = ?before.epoch, to = ?at.epoch, "the store went back to an earlier commit");
                        times_back += 1;
                    }
                    self.history().record(&at);
                    self.up.store(true, Ordering::Relaxed);
                    self.seen.send_replace(Some(Seen { known: Known { at, times_back }, when: Instant::now() }));
                    at.epoch > before.epoch
                }
                Err(error) => {
                    error.log_quietly();
                    self.up.store(false, Ordering::Relaxed);
                    self.seen.send_replace(None);
                    match error {
                        StoreError::NoTables => store.wait_for_tables().await,
                        _ => tokio::time::sleep(RETRY).await,
                    }
                    continue;
                }
            };
            announcements.next(moved).await;
        }
    }

    async fn read_changes(&self, store: &Store, grain: Grain) -> Infallible {
        let items = &self.items[grain as usize];
        // Hours and days change only when minutes close.
        let closed = |at: &Moment| at.watermark.map(|watermark| Minute::first_open(watermark.0));
        let mut seen = self.seen.subscribe();
        let mut position: Option<Moment> = None;
        loop {
            seen.changed().await.expect("the feed that holds the sender is borrowed");
            let Some(Seen { known: Known { at, .. }, .. }) = *seen.borrow_and_update() else { continue };
            let Some(from) = position else {
                // A client may have come before this first look. No rows, from here on: if it is not as far, it asks for the rest.
                let nothing = Page::new(at.epoch, at, true, true, Answer { rows: Vec::new(), at });
                drop(items.send(Item::Page(Arc::new(nothing))));
                position = Some(at);
                continue;
            };
            // Reading may have been ahead of this look; what is still older when asked again has gone back.
            let at = if at.epoch < from.epoch { store.moment().await.unwrap_or(from) } else { at };
            if at.life != from.life || at.epoch < from.epoch {
                drop(items.send(Item::Anew));
            } else if at.epoch == from.epoch || (grain > Grain::Minute && closed(&at) == closed(&from)) {
                continue;
            } else if items.receiver_count() > 0 {
                let started = Instant::now();
                match self.read(store, grain, &from).await {
                    Ok(to) => position = Some(to),
                    Err(error) => {
                        error.log_quietly();
                        tokio::time::sleep(RETRY).await;
                    }
                }
                tokio::time::sleep(started.elapsed() * REST_PARTS).await;
                continue;
            }
            position = Some(at);
        }
    }

    /// Reads and tells what changed since; returns up to where. Rows of later pages may be newer than that, and come again.
    async fn read(&self, store: &Store, grain: Grain, from: &Moment) -> Result<Moment, StoreError> {
        let items = &self.items[grain as usize];
        let mut query = ChangesQuery::changes(grain, from.epoch, from.changes_start_after());
        let mut to = None;
        loop {
            let answer = store.changes_for_all(&query).await?;
            if answer.at.life != from.life || answer.at.epoch < from.epoch {
                drop(items.send(Item::Anew));
                return Ok(answer.at);
            }
            let first = to.is_none();
            let to = *to.get_or_insert(answer.at);
            query.after = answer.rows.last().map(|row| (row.window_start.0, row.stream_id.clone()));
            let last = answer.rows.len() < PAGE_ROWS as usize;
            let page = Page::new(from.epoch, to, first, last, answer);
            // Nobody listens any more: no harm.
            drop(items.send(Item::Page(Arc::new(page))));
            if last {
                return Ok(to);
            }
        }
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
