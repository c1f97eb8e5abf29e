//! What the page looks at: a store that is written to as the dataflow writes it, commit by commit, and the service on it.

use rusqlite::{Connection, Transaction};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidemark_model::Metric;

const MINUTE: i64 = 60_000_000;
const LATENESS: i64 = 10 * MINUTE;
const HISTORY_MINUTES: i64 = 75;

/// A directory for a store, which is not there yet.
pub struct Store {
    directory: tempfile::TempDir,
}

impl Store {
    pub fn new() -> Store {
        Store { directory: tempfile::tempdir().unwrap() }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self) -> PathBuf {
        self.directory.path().join("tidemark.db")
    }

    pub fn create(&self) -> Connection {
        let file = Connection::open(self.file()).unwrap();
        file.pragma_update(None, "journal_mode", "wal").unwrap();
        file.busy_timeout(Duration::from_secs(5)).unwrap();
        file.execute_batch(&tidemark_model::tables::in_sqlite()).unwrap();
        file
    }

    /// An hour and more of rows of these streams in one commit, then ten commits a second, until it is dropped.
    pub fn traffic(&self, streams: &[&str]) -> Traffic {
        let mut writer =
            Writer { file: self.create(), streams: streams.iter().map(ToString::to_string).collect(), epoch: 0, dice: 7 };
        writer.begin();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                writer.commit();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Traffic { stop, thread: Some(thread) }
    }

    /// Hours and days of these streams, and totals, twice as far back as the page's ranges reach. The newest one still grows.
    pub fn roll_up(&self, streams: &[&str]) {
        let mut file = self.create();
        let transaction = file.transaction().unwrap();
        let columns = Metric::ALL.map(Metric::integer_column);
        let (names, sums) = (columns.join(", "), columns.each_ref().map(|column| format!("sum({column})")).join(", "));
        for (grain, length, count) in [("hour", 60 * MINUTE, 340), ("day", 1_440 * MINUTE, 62)] {
            let newest = (now() - LATENESS) / length;
            for ago in 0..count {
                let start = (newest - ago) * length;
                for (stream, name) in (0_i64..).zip(streams) {
                    // Each metric has values of its own.
                    let value = |metric: i64| (1_000 * metric + 10 * (ago % 7) + stream).to_string();
                    let values = (1..).zip(&columns).map(|(metric, _)| value(metric)).collect::<Vec<_>>().join(", ");
                    let sql = format!(
                        "insert into stream_metrics_{grain} (window_start, window_end, stream_id, epoch, {names})
                         values (?1, ?2, ?3, 1, {values})"
                    );
                    transaction.execute(&sql, (start, start + length, name)).unwrap();
                }
            }
            let sql = format!(
                "insert into stream_totals_{grain} (window_start, window_end, streams, epoch, {names})
                 select window_start, window_end, count(*), 1, {sums} from stream_metrics_{grain} group by 1, 2"
            );
            transaction.execute(&sql, []).unwrap();
        }
        transaction.commit().unwrap();
    }
}

/// Commits that go on.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the writer failed");
    }
}

struct Writer {
    file: Connection,
    streams: Vec<String>,
    epoch: i64,
    dice: u64,
}

impl Writer {
    fn begin(&mut self) {
        let now = now();
        let first = now / MINUTE - HISTORY_MINUTES;
        let columns = "pipeline, epoch, fence, fingerprint, hash_key, checkpoints, updated_at";
        let progress = format!("insert into progress ({columns}) values ('p', 0, 1, 'file:x', x'07', '[]', ?1)");
        self.file.execute(&progress, [now]).unwrap();
        for partition in 0..4 {
            self.file
                .execute("insert into progress_partitions (pipeline, topic, partition, start_offset, next_offset, end_offset, watermark, state) values ('p', 't', ?1, 0, 0, 0, null, 'at_end')", [partition])
                .unwrap();
        }
        let changes =
            (first..=now / MINUTE).flat_map(|minute| (0..self.streams.len()).map(move |stream| (minute, stream))).collect();
        self.write(changes, 40);
    }

    /// Some streams' running minute, now and then an older one that is still open, and a record that is rejected.
    fn commit(&mut self) {
        let minute = now() / MINUTE;
        let mut changes = Vec::new();
        for _ in 0..3 {
            changes.push((minute, self.roll(self.streams.len())));
        }
        if self.roll(4) == 0 {
            changes.push((minute - 1 - i64::try_from(self.roll(8)).unwrap(), self.roll(self.streams.len())));
        }
        self.write(changes, 1);
    }

    fn write(&mut self, changes: Vec<(i64, usize)>, scale: i64) {
        self.epoch += 1;
        let rolled: Vec<_> = changes.iter().map(|_| [self.roll(9), self.roll(6), self.roll(12_000)]).collect();
        let dead = self.roll(10) == 0;
        let (epoch, now) = (self.epoch, now());
        let transaction = self.file.transaction().unwrap();
        for ((minute, stream), [viewers, chats, cents]) in changes.into_iter().zip(rolled) {
            let [viewers, chats, cents] = [viewers, chats, cents].map(|rolled| i64::try_from(rolled).unwrap());
            // The first streams are the larger ones.
            let size = 12 / (1 + i64::try_from(stream).unwrap()) + 1;
            let (start, name) = (minute * MINUTE, &self.streams[stream]);
            let values = (start, name, size * (20 + viewers), scale * size * chats, scale * cents / 8 * size, epoch);
            // What users do in a minute follows from the rest, roughly.
            transaction
                .execute(
                    "insert into stream_metrics_minute (window_start, window_end, stream_id, active_viewers, unique_viewers, watch_ms,
                         chat_messages, unique_chatters, donations, donations_cents, donors, epoch)
                     values (?1, ?1 + 60000000, ?2, ?3, ?3 + ?3 / 9, ?3 * 57345, ?4, ?3 / 4, ?5 / 500, ?5, ?3 / 20, ?6)
                     on conflict (window_start, stream_id) do update set active_viewers = excluded.active_viewers,
                     unique_viewers = excluded.unique_viewers, watch_ms = excluded.watch_ms,
                     chat_messages = chat_messages + excluded.chat_messages, donations = donations + excluded.donations,
                     donations_cents = donations_cents + excluded.donations_cents, epoch = excluded.epoch",
                    values,
                )
                .unwrap();
            // As the dataflow does: the newest minute's row, never an older one.
            transaction
                .execute(
                    "insert into stream_state values (?1, ?2, ?3, ?4, ?5) on conflict (stream_id) do update set
                     active_viewers = excluded.active_viewers, window_start = excluded.window_start,
                     updated_at = excluded.updated_at, epoch = excluded.epoch where excluded.window_start >= window_start",
                    (name, size * (20 + viewers), start, now, epoch),
                )
                .unwrap();
        }
        if dead {
            let reason = ["invalid_json", "late", "bad_ts"][usize::try_from(epoch % 3).unwrap()];
            let sql = "insert into dead_letters values ('t', 0, ?1, ?2, 'why', null, x'00', ?3, ?1, null)";
            transaction.execute(sql, (epoch, reason, now)).unwrap();
        }
        progress(&transaction, epoch, now);
        transaction.commit().unwrap();
    }

    /// Below `sides`; the same in every run.
    fn roll(&mut self, sides: usize) -> usize {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.dice >> 33).unwrap() % sides
    }
}

fn progress(transaction: &Transaction<'_>, epoch: i64, now: i64) {
    let watermark = now - LATENESS;
    transaction.execute("update progress set epoch = ?1, watermark = ?2, updated_at = ?3", (epoch, watermark, now)).unwrap();
    transaction
        .execute(
            "update progress_partitions set next_offset = next_offset + 1700, end_offset = next_offset + 1700,
             watermark = ?1 + partition * 250000",
            [watermark],
        )
        .unwrap();
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// The second of the running minute.
pub fn second_of_minute() -> i64 {
    now() / 1_000_000 % 60
}

/// The service as a process of its own, so that it can be killed.
pub struct Service {
    process: Child,
    port: u16,
    client: ureq::Agent,
}

impl Service {
    pub fn start(store: &Store) -> Service {
        Service::start_on(free_port(), store)
    }

    /// On a port that an earlier one had.
    pub fn start_on(port: u16, store: &Store) -> Service {
        let process = Command::new(env!("CARGO_BIN_EXE_tidemark-api"))
            .env_clear()
            .env("API_ADDR", format!("127.0.0.1:{port}"))
            .env("DATA_DIR", store.directory())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(20)));
        let service = Service { process, port, client: config.build().into() };
        let started = Instant::now();
        while service.client.get(service.url("/health")).call().is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "the service does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        service
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// An answer's headers and body.
    pub fn get(&self, path: &str) -> (ureq::http::HeaderMap, String) {
        let mut response = self.client.get(self.url(path)).call().unwrap();
        assert_eq!(response.status(), 200, "{path}");
        (response.headers().clone(), response.body_mut().read_to_string().unwrap())
    }

    /// As a crash ends it.
    pub fn kill(mut self) -> u16 {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.port
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
