//! How many clients the limit of open files allows. Each connection of a client, and each of the store, is an open file. Further clients
//! wait in the listener's queue until others are done, so accepting never fails and the store stays in reach.

use rustix::process::{Resource, getrlimit};
use std::num::NonZeroUsize;
use std::time::Duration;
use tidemark_settings::store::Store;

/// Least limit that the service runs with.
const LEAST: usize = 64;
/// Open files besides connections: standard streams, the listener, the runtime's own, and some to spare.
const OWN: usize = 16;
/// Open files of one worker: its event queue, a waker, and a signal pipe's two ends.
const OF_A_WORKER: usize = 4;
/// Connections to the store for other than ordinary queries: for health, commits, exports, and a look-up at the start.
const OTHER_STORE_CONNECTIONS: usize = 7;
/// The smallest part of the limit that ordinary queries get, if they need as much.
const PART_OF_QUERIES: usize = 4;
/// A worker is not worth its own cost for fewer clients than this.
const CLIENTS_OF_A_WORKER: usize = 16;
/// Most connections of a worker, whatever the limit.
const MOST: usize = 25_000;
/// With fewer places than this, clients that say nothing lose theirs sooner.
const FEW: usize = 256;

/// What the limit is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Connections to the store for ordinary queries.
    pub pool: usize,
    /// Threads that answer.
    pub workers: usize,
    /// Most clients of each of them.
    pub connections_of_a_worker: usize,
    /// Most clients that stay: half, so that there is always room for those that ask and go.
    pub live_clients: usize,
}

/// The limit is lower than what the service needs for itself.
#[derive(Debug, thiserror::Error)]
#[error("the limit of open files (ulimit -n) is {0}; allowed: {LEAST} or more")]
pub struct TooFew(usize);

impl Share {
    /// Most clients at once.
    pub fn connections(&self) -> usize {
        self.workers * self.connections_of_a_worker
    }

    /// Longest time for a client's first words, and between its requests.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(if self.connections() < FEW { 1 } else { 5 })
    }
}

/// Shares out the limit of this process. `pool` connections for ordinary queries are wished for.
pub fn share(store: &Store, pool: usize) -> Result<Share, TooFew> {
    let limit = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    // The database and its log; the log's index is opened once for all.
    let files = if matches!(store, Store::Sqlite(_)) { 2 } else { 1 };
    share_of(limit, pool, files, std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// `files`: open files of a connection to the store. `threads`: of this machine.
fn share_of(limit: usize, pool: usize, files: usize, threads: usize) -> Result<Share, TooFew> {
    if limit < LEAST {
        return Err(TooFew(limit));
    }
    let pool = pool.min(limit / PART_OF_QUERIES / files);
    let left = limit - OWN - (pool + OTHER_STORE_CONNECTIONS) * files;
    let workers = threads.min(left / (CLIENTS_OF_A_WORKER + OF_A_WORKER)).max(1);
    let connections_of_a_worker = (left / workers - OF_A_WORKER).min(MOST);
    Ok(Share { pool, workers, connections_of_a_worker, live_clients: workers * connections_of_a_worker / 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_open_files_together_stay_below_the_limit() {
        assert_eq!(
            share_of(63, 1, 1, 1).unwrap_err().to_string(),
            "the limit of open files (ulimit -n) is 63; allowed: 64 or more"
        );
        for limit in (64..2_000).chain([65_536, 1 << 20, usize::MAX]) {
            for (pool, files, threads) in [(8, 1, 2), (8, 2, 2), (1_000, 2, 64), (1, 1, 64)] {
                let share = share_of(limit, pool, files, threads).unwrap();
                let store = (share.pool + OTHER_STORE_CONNECTIONS) * files;
                assert!(OWN + store + share.workers * OF_A_WORKER + share.connections() <= limit, "{share:?}");
                assert!(
                    share.pool > 0 && share.connections_of_a_worker >= 8 && share.live_clients * 2 <= share.connections(),
                    "{share:?}"
                );
            }
        }
    }
}
