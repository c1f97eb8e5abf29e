//! Looks at the store all the time, as a user would: nothing goes back, and what is final stays.

use crate::support::tables::values;
use postgres::{Client, NoTls};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tidemark_dataflow::sink::columns::Dialect;
use tidemark_model::{Metric, Values};

/// How often it looks for a new commit, and how often at everything.
const GLANCE: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(700);

/// What was seen last.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub epoch: i64,
    pub fence: i64,
    /// By partition.
    pub next_offsets: BTreeMap<i32, i64>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    wrong: Mutex<Vec<String>>,
    looks: Mutex<u64>,
    /// How often the store began or ended to go back: while it is odd, it does.
    went_back: AtomicU64,
    stop: AtomicBool,
}

pub struct Watcher {
    shared: Arc<Shared>,
    thread: std::thread::JoinHandle<()>,
}

impl Watcher {
    pub fn start(url: &str) -> Watcher {
        Watcher::looking(url, LOOK)
    }

    /// Only for new commits.
    pub fn glancing(url: &str) -> Watcher {
        Watcher::looking(url, Duration::MAX)
    }

    fn looking(url: &str, every: Duration) -> Watcher {
        let shared = Arc::new(Shared::default());
        let (of_thread, url) = (Arc::clone(&shared), url.to_owned());
        let thread = std::thread::spawn(move || {
            let mut memory = Memory::default();
            while !of_thread.stop.load(Ordering::Acquire) {
                // The server is crashed now and then.
                if let Ok(mut client) = Client::connect(&url, NoTls) {
                    let _ = of_thread.watch(&mut client, &mut memory, every);
                }
                std::thread::sleep(GLANCE);
            }
        });
        Watcher { shared, thread }
    }

    pub fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }

    /// For another thread.
    pub fn glimpse(&self) -> impl Fn() -> Seen + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || lock(&shared.seen).clone()
    }

    /// The store is about to go back to what it held earlier, or has just done so: what was seen counts no more.
    pub fn forget(&self) {
        self.shared.went_back.fetch_add(1, Ordering::AcqRel);
    }

    /// What went wrong, and how often everything was looked at.
    pub fn stop(self) -> (Vec<String>, u64) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.join().expect("the watcher only looks");
        (std::mem::take(&mut *lock(&self.shared.wrong)), *lock(&self.shared.looks))
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("nobody panics while holding it")
}

/// What must not go back, and what must stay.
#[derive(Clone, Default)]
struct Memory {
    /// As it was then.
    went_back: u64,
    epoch: i64,
    fence: i64,
    watermark: Option<i64>,
    next_offsets: BTreeMap<i32, i64>,
    letters: i64,
    final_rows: BTreeMap<(i64, String), Values>,
}

const GLIMPSE: &str = "select epoch, fence, partition, next_offset from progress left join progress_partitions using (pipeline)";

impl Shared {
    fn watch(&self, client: &mut Client, memory: &mut Memory, every: Duration) -> Result<(), postgres::Error> {
        let mut looked = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            let rows = client.query(GLIMPSE, &[])?;
            if let Some(row) = rows.first() {
                let next_offsets = rows.iter().filter_map(|row| Some((row.get::<_, Option<i32>>(2)?, row.get(3)))).collect();
                *lock(&self.seen) = Seen { epoch: row.get(0), fence: row.get(1), next_offsets };
            }
            let went_back = self.went_back.load(Ordering::Acquire);
            // While it goes back nobody knows on which side of that a look would be.
            if looked.elapsed() >= every && went_back.is_multiple_of(2) {
                if memory.went_back != went_back {
                    *memory = Memory { went_back, ..Memory::default() };
                }
                // A server that crashes in the midst of a look must not leave half of it as what was seen last.
                let mut seen = memory.clone();
                let wrong = look(client, &mut seen)?;
                *lock(&self.looks) += 1;
                looked = Instant::now();
                if self.went_back.load(Ordering::Acquire) == went_back {
                    *memory = seen;
                    lock(&self.wrong).extend(wrong);
                }
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }
}

/// Everything, as of one commit.
fn look(client: &mut Client, memory: &mut Memory) -> Result<Vec<String>, postgres::Error> {
    let mut wrong = Vec::new();
    let mut at = client.build_transaction().isolation_level(postgres::IsolationLevel::RepeatableRead).read_only(true).start()?;
    let micros = |column| format!("(extract(epoch from {column}) * 1000000)::bigint");
    let select = format!("select epoch, fence, {}, {} from progress", micros("watermark"), micros("minutes_from"));
    let Some(progress) = at.query_opt(&select, &[])? else {
        return Ok(wrong);
    };
    let (epoch, fence, watermark): (i64, i64, Option<i64>) = (progress.get(0), progress.get(1), progress.get(2));
    if epoch < memory.epoch || fence < memory.fence || watermark < memory.watermark {
        wrong.push(format!(
            "epoch {epoch} after {}, fence {fence} after {}, watermark {watermark:?} after {:?}",
            memory.epoch, memory.fence, memory.watermark
        ));
    }
    let passed = memory.watermark;
    (memory.epoch, memory.fence, memory.watermark) = (epoch, fence, watermark);
    for row in at.query("select partition, next_offset from progress_partitions", &[])? {
        let (partition, next): (i32, i64) = (row.get(0), row.get(1));
        let before = memory.next_offsets.insert(partition, next);
        if before > Some(next) {
            wrong.push(format!("partition {partition}: next offset {next} after {before:?}"));
        }
    }
    let letters: i64 = at.query_one("select count(*) from dead_letters", &[])?.get(0);
    if letters < memory.letters {
        wrong.push(format!("{letters} dead letters after {}", memory.letters));
    }
    memory.letters = letters;
    let columns = format!("epoch, {} from stream_metrics_minute", Dialect::Postgres.integers(&Metric::MINUTE));
    let select =
        format!("select {}, stream_id, {columns} where window_end <= (select watermark from progress)", micros("window_start"));
    let mut final_rows = BTreeMap::new();
    for row in at.query(&select, &[])? {
        let key: (i64, String) = (row.get(0), row.get(1));
        let (of, values): (i64, Values) = (row.get(2), values(&Metric::MINUTE, |_, metric| row.get::<_, i64>(metric.name())));
        if of > epoch {
            wrong.push(format!("row {key:?} is of epoch {of}, and the newest commit is {epoch}"));
        }
        final_rows.insert(key, values);
    }
    let dropped = progress.get::<_, Option<i64>>(3);
    for (key, values) in memory.final_rows.iter().filter(|(key, _)| dropped.is_none_or(|from| key.0 >= from)) {
        if final_rows.get(key) != Some(values) {
            wrong.push(format!("final row {key:?} was {values:?} and is {:?}", final_rows.get(key)));
        }
    }
    for key in final_rows.keys().filter(|key| !memory.final_rows.contains_key(key)) {
        if passed.is_some_and(|watermark| key.0 + 60_000_000 <= watermark) {
            wrong.push(format!("row {key:?} came after its window was final"));
        }
    }
    memory.final_rows = final_rows;
    at.commit()?;
    Ok(wrong)
}
