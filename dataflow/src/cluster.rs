//! A run from its plan to its end: the workers, their dataflows, the commit thread.

use crate::Slice;
use crate::background::{Background, Started};
use crate::checkpoint::schedule::{Schedule, Settled};
use crate::checkpoint::writer::Spare;
use crate::checkpoint::{self, Parts};
use crate::clock::Clock;
use crate::decode::Decoder;
use crate::flow::{PartitionMark, Standing, Tally};
use crate::fold::idle::Idle;
use crate::fold::snapshot::Saver;
use crate::fold::{Fold, Stints};
use crate::names::Names;
use crate::net::greeting::{Greeting, Purpose};
use crate::net::peers::Peers;
use crate::net::place::Place;
use crate::net::{self, Fabric, Start};
use crate::pipeline::{self, Inputs, State};
use crate::plan::{self, Plan, PlanError, Wish};
use crate::reader::{Desk, Reader};
use crate::reading::Monotonic;
use crate::rollups::{self, RollUps};
use crate::rules::Rules;
use crate::run::Control;
use crate::sink::commit::{Committer, Keeper};
use crate::sink::retention::Retention;
use crate::sink::{Resume, Store};
use crate::source::Log;
use crate::telemetry::Metrics;
use crate::watermark::{self, Known, Tracker};
use crate::worker::{Ending, InFlight, Lookout, Loop, Pace, Senders, drop_dataflows};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::mpsc::{RecvTimeoutError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use timely::WorkerConfig;
use timely::communication::WorkerGuards;
use timely::dataflow::InputHandle;
use timely::worker::Worker;

/// How often it is said what a start waits for.
const SAY_AGAIN: Duration = Duration::from_secs(5);
/// How often a process of several looks whether its run has failed.
const LOOK: Duration = Duration::from_millis(20);

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Options {
    /// What decides where it starts.
    pub wish: Wish,
    /// Worker threads of this process.
    pub workers: usize,
    /// Wall-clock time in a slice.
    pub slice: Duration,
    /// After how long a silent partition is idle; `None`: never.
    pub idle_after: Option<Duration>,
    /// How far a partition may be ahead of the pipeline's watermark.
    pub max_ahead: Duration,
    /// How long a log or a store that is not there yet is waited for.
    pub patience: Duration,
    /// How often a checkpoint is made.
    pub checkpoint_every: Duration,
    /// How long rows are kept.
    pub retention: Retention,
    /// The clock.
    pub clock: Clock,
    /// Where commits and checkpoints are written.
    pub background: Background,
    /// How long a worker folds at once.
    pub stints: Stints,
    /// [`MOST_UNFOLDED`](crate::worker::MOST_UNFOLDED), or less.
    pub most_unfolded: u64,
    /// [`MOST_INCREMENTS`](crate::checkpoint::MOST_INCREMENTS), or less.
    pub most_increments: usize,
}

/// Why a run ended other than cleanly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not start.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The workers could not be started.
    #[error("workers: {0}")]
    Workers(String),
    /// It failed on the way.
    #[error("{0}")]
    Failed(String),
    /// The store does not hold what the run wrote: another run may go on from what it holds.
    #[error("{0}")]
    Superseded(String),
}

/// How a run ended of which this is the control.
fn outcome(control: &Control) -> Result<(), RunError> {
    let Some(failure) = control.failure() else { return Ok(()) };
    let failure = failure.to_owned();
    Err(if control.superseded() { RunError::Superseded(failure) } else { RunError::Failed(failure) })
}

/// Runs until it is stopped, or until the end of the log if that was wished.
pub fn run(
    options: &Options,
    log: Arc<dyn Log>,
    store: Box<dyn Store>,
    parts: Arc<dyn Parts>,
    control: &Arc<Control>,
    metrics: &Arc<Metrics>,
) -> Result<(), RunError> {
    let Some((plan, store)) = decide_with_patience(options, &log, store, &parts, control)? else { return outcome(control) };
    let fabric = net::alone(options.workers).map_err(RunError::Workers)?;
    let process = Process { options, log, parts, start: Start { plan }, control, metrics };
    join(process.start(fabric, Some(store))?, control)
}

/// The same as one process of several. Process 0 has the store: it decides the plan, and it commits.
///
/// After an error, threads of this process may still run and must be left to their end: the program is to exit at once.
pub fn run_with_others(
    options: &Options,
    place: &Place,
    log: Arc<dyn Log>,
    store: Option<Box<dyn Store>>,
    parts: Arc<dyn Parts>,
    control: &Arc<Control>,
    metrics: &Arc<Metrics>,
) -> Result<(), RunError> {
    let greeting = options.greeting(place, log.topic())?;
    let Some(team) = net::gather::gather(place, greeting, options.patience, control).map_err(RunError::Workers)? else {
        return Ok(());
    };
    tracing::info!(processes = place.processes(), "all processes of the cluster are there");
    net::peers::hold_broken_connections(control);
    let peers = Peers::start(place, team.words, control).map_err(RunError::Workers)?;
    let result = run_in_team(options, place, (log, store, parts), (&peers, team.rows), control, metrics);
    peers.leave(result.as_ref().err().map(ToString::to_string).as_deref());
    result
}

/// Log, store and checkpoints. Only process 0 has the store.
type Outside = (Arc<dyn Log>, Option<Box<dyn Store>>, Arc<dyn Parts>);

fn run_in_team(
    options: &Options,
    place: &Place,
    (log, store, parts): Outside,
    (peers, rows): (&Peers, Vec<Option<TcpStream>>),
    control: &Arc<Control>,
    metrics: &Arc<Metrics>,
) -> Result<(), RunError> {
    let (start, store) = match store {
        Some(store) => {
            let Some((plan, store)) = decide_with_patience(options, &log, store, &parts, control)? else {
                return outcome(control);
            };
            let start = Start { plan };
            peers.send_start(start.clone()).map_err(RunError::Workers)?;
            (start, Some(store))
        }
        None => match peers.await_start(control) {
            Some(start) => (*start, None),
            None => return outcome(control),
        },
    };
    refuse_other_directory(parts.as_ref(), &start.plan, options.patience, control)?;
    let fabric = net::together(options.workers, place.process, rows).map_err(RunError::Workers)?;
    let running = Process { options, log, parts, start, control, metrics }.start(fabric, store)?;
    let (ended, end) = sync_channel(1);
    let of_joining = Arc::clone(control);
    std::thread::spawn(move || ended.send(join(running, &of_joining)));
    // Once the run has failed, nobody can be waited for: workers may wait for rows of a process that is gone.
    while control.failure().is_none() {
        match end.recv_timeout(LOOK) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(RunError::Failed("the workers cannot be joined".to_owned())),
        }
    }
    outcome(control)
}

/// What one process runs.
struct Process<'a> {
    options: &'a Options,
    log: Arc<dyn Log>,
    parts: Arc<dyn Parts>,
    start: Start,
    control: &'a Arc<Control>,
    metrics: &'a Arc<Metrics>,
}

/// Its threads.
struct Running {
    workers: WorkerGuards<()>,
    commit_thread: Option<Started>,
}

impl Process<'_> {
    fn start(self, fabric: Fabric, store: Option<Box<dyn Store>>) -> Result<Running, RunError> {
        let Process { options, log, parts, start: Start { plan }, control, metrics } = self;
        tracing::info!(
            fence = plan.fence,
            partitions = plan.partitions.len(),
            checkpoint = plan.checkpoint.as_ref().map(|checkpoint| checkpoint.id.to_string()),
            to_replay = plan.to_replay(),
            "took over the pipeline"
        );
        if plan.checkpoint.is_none() && plan.to_replay() > 0 {
            let (offsets, from) = (plan.to_replay(), plan.history.map(|watermark| watermark.to_string()));
            match from {
                Some(watermark) => {
                    tracing::warn!(
                        offsets,
                        watermark,
                        "no checkpoint is used: replaying from the offsets that progress_history has for this watermark"
                    );
                }
                None => tracing::warn!(
                    offsets,
                    "no checkpoint is used: replaying from the first offsets that this pipeline ever read"
                ),
            }
        }
        let plan = Arc::new(plan);
        let (base, started) = (options.clock.now().at, Instant::now());
        let settled = Arc::new(Settled::resumed(plan.checkpoint.as_ref(), options.most_increments));
        let commit = |store| {
            let keeper = Keeper { parts: Arc::clone(&parts), settled: Arc::clone(&settled), removal: None };
            let (control, metrics) = (Arc::clone(control), Arc::clone(metrics));
            let (clock, background) = (options.clock.clone(), &options.background);
            Committer::start(store, (Arc::clone(&log), plan.log_id.clone()), keeper, control, metrics, clock, background)
        };
        let (committer, commit_thread) = store.map(commit).unzip();
        let committer = Mutex::new(committer);
        let launch = {
            let (options, control, metrics) = (options.clone(), Arc::clone(control), Arc::clone(metrics));
            move |worker: &mut Worker| {
                let committer = if worker.index() == 0 {
                    committer.lock().expect("nobody panics while holding the committer").take()
                } else {
                    None
                };
                let (_alarm, _leaving) = (Alarm(&control), Leaving(&options.clock));
                work(worker, &options, &plan, log.as_ref(), &parts, (base, started), committer, &settled, &control, &metrics);
            }
        };
        let workers = timely::execute::execute_from(fabric.builders, fabric.guard, worker_config(), launch);
        Ok(Running { workers: workers.map_err(RunError::Workers)?, commit_thread })
    }
}

/// A worker that panics ends the run: the others would wait for it.
struct Alarm<'a>(&'a Control);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("a worker panicked; its message is above".to_owned());
        }
    }
}

fn join(running: Running, control: &Control) -> Result<(), RunError> {
    let workers = control.waiting_for("the workers");
    for result in running.workers.join() {
        if let Err(panic) = result {
            control.fail(format!("a worker panicked: {panic}"));
        }
    }
    drop(workers);
    let commits = control.waiting_for("the last commits");
    if !running.commit_thread.is_none_or(Started::join) {
        control.fail("the commit thread panicked".to_owned());
    }
    drop(commits);
    outcome(control)
}

/// Tells the clock when a worker is over, however it ends.
struct Leaving<'a>(&'a Clock);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Options {
    /// What this process says to the others of itself.
    fn greeting(&self, place: &Place, topic: &str) -> Result<Greeting, RunError> {
        let mut instance = [0; 8];
        let no_random = |error| RunError::Workers(format!("the system gives no random bytes: {error}"));
        getrandom::fill(&mut instance).map_err(no_random)?;
        let Options { wish, slice, idle_after, max_ahead, .. } = self;
        let Wish { until_end, grains, .. } = wish;
        Ok(Greeting {
            pipeline: wish.pipeline.clone(),
            build: net::greeting::build(),
            processes: place.processes(),
            process: place.process,
            workers: self.workers,
            settings: format!(
                "topic={topic} {} slice={slice:?} idle_after={idle_after:?} max_ahead={max_ahead:?} rows of {grains:?} until_end={until_end}",
                wish.rules.fingerprint()
            ),
            instance: u64::from_ne_bytes(instance),
            purpose: Purpose::Rows,
        })
    }
}

/// Refuses to start if CHECKPOINT_DIR is not the directory that process 0 writes to; waits while it cannot be read.
fn refuse_other_directory(parts: &dyn Parts, plan: &Plan, patience: Duration, control: &Control) -> Result<(), RunError> {
    let started = Instant::now();
    loop {
        match checkpoint::sees_sign(parts, plan.keys.tag(), plan.fence) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let what = "CHECKPOINT_DIR of this process does not show what process 0 has just written into its own";
                return Err(RunError::Failed(format!(
                    "{what}: all processes must share one directory; mount the same one everywhere"
                )));
            }
            Err(error) if checkpoint::may_pass(&error) && started.elapsed() < patience && !control.stopping() => {
                control.wait_for_stop(Duration::from_millis(100));
            }
            Err(error) => return Err(RunError::Failed(format!("CHECKPOINT_DIR cannot be read: {error}"))),
        }
    }
}

/// A plan, and the store that it was decided with.
type Decided = (Plan, Box<dyn Store>);

/// The plan, once log and store are there; none if the run is stopped, or fails, while it waits.
fn decide_with_patience(
    options: &Options,
    log: &Arc<dyn Log>,
    mut store: Box<dyn Store>,
    parts: &Arc<dyn Parts>,
    control: &Control,
) -> Result<Option<Decided>, PlanError> {
    let started = Instant::now();
    let mut said: Option<Instant> = None;
    let mut pause = Duration::from_millis(100);
    while !control.stopping() && control.failure().is_none() {
        let Some((decided, same)) = decide_beside(options, log, store, parts, control) else { return Ok(None) };
        store = same;
        let error = match decided {
            Ok(plan) => return Ok(Some((plan, store))),
            Err(error) if error.may_pass() && started.elapsed() < options.patience => error,
            Err(error) => return Err(error),
        };
        if said.is_none_or(|said| said.elapsed() > SAY_AGAIN) {
            tracing::warn!(%error, "waiting for it, for at most {:?} in all", options.patience);
            said = Some(Instant::now());
        }
        control.wait_for_stop(pause);
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    Ok(None)
}

/// One attempt, in a thread of its own: brokers and store may take seconds to answer, and a stop must not wait for that. None if the run
/// is to end; then the thread is left to its end.
fn decide_beside(
    options: &Options,
    log: &Arc<dyn Log>,
    mut store: Box<dyn Store>,
    parts: &Arc<dyn Parts>,
    control: &Control,
) -> Option<(Result<Plan, PlanError>, Box<dyn Store>)> {
    let (tell, told) = sync_channel(1);
    let (wish, log, parts) = (options.wish.clone(), Arc::clone(log), Arc::clone(parts));
    let decide = move || {
        let decided = plan::decide(&wish, log.as_ref(), store.as_mut(), parts.as_ref());
        // Nobody listens if the run has ended meanwhile.
        let _ = tell.send((decided, store));
    };
    std::thread::Builder::new().name("start".to_owned()).spawn(decide).expect("the system can start a thread");
    let (mut said, started) = (Instant::now(), Instant::now());
    loop {
        match told.recv_timeout(LOOK) {
            Ok(answer) => return Some(answer),
            Err(RecvTimeoutError::Timeout) if control.ending_for().is_some() => return None,
            Err(RecvTimeoutError::Timeout) if said.elapsed() >= SAY_AGAIN => {
                tracing::warn!(waited = ?started.elapsed(), "the start waits for answers of the log and the store");
                said = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                control.fail("the start panicked; its message is above".to_owned());
                return None;
            }
        }
    }
}

fn worker_config() -> WorkerConfig {
    // A worker that spins takes the core from the threads that bring its data.
    let mut worker = WorkerConfig::default().idle_spin(Duration::ZERO);
    // An idle pipeline still merges its traces, so that closed windows give back their memory.
    let merging = differential_dataflow::Config::default().idle_merge_effort(Some(1_000));
    differential_dataflow::configure(&mut worker, &merging);
    worker
}

#[expect(clippy::too_many_arguments, reason = "the one place where a worker is put together")]
fn work(
    worker: &mut Worker,
    options: &Options,
    plan: &Plan,
    log: &dyn Log,
    parts: &Arc<dyn Parts>,
    (base, started): (Monotonic, Instant),
    committer: Option<Committer>,
    settled: &Arc<Settled>,
    control: &Arc<Control>,
    metrics: &Arc<Metrics>,
) {
    let rules = options.wish.rules;
    let idle_after = options.idle_after.map(|after| i64::try_from(after.as_micros()).unwrap_or(i64::MAX));
    let known = Rc::new(RefCell::new(Known::default()));
    let (notify, notices) = channel();
    let checkpoint = plan.checkpoint.as_ref();
    let whole = checkpoint.map(|checkpoint| checkpoint.whole(rules.viewer_timeout_nanos())).unwrap_or_default();
    let grains = options.wish.grains;
    let whole = whole.from(plan.rolled_up).only(grains);
    let mut fold = Fold::new(rules.viewer_timeout_nanos(), grains, metrics.of_worker(worker.index()));
    let mut rollups = RollUps::new(grains, whole.rolled_up);
    if let Some(checkpoint) = checkpoint
        && let Err(error) = fold.restore(&mut rollups, checkpoint, parts.as_ref(), worker.index(), worker.peers())
    {
        return control.fail(format!("checkpoint {}: {error}", checkpoint.id));
    }
    let saved = rollups::Saved::default();
    let start = watermark::Start {
        partitions: unread(plan, &rules),
        at: checkpoint.and_then(|checkpoint| checkpoint.watermark),
        open: checkpoint.map(|checkpoint| checkpoint.open.clone()).unwrap_or_default(),
        resume_at: plan.watermark,
        ids_since: settled.ids_since(),
        workers: worker.peers(),
    };
    let idle = Idle::default();
    let state = State {
        tracker: Tracker::new(&rules, idle_after, start),
        fold,
        saver: Saver {
            parts: Arc::clone(parts),
            pipeline: plan.keys.tag(),
            fence: plan.fence,
            worker: worker.index(),
            notices: notify,
            spare: Spare::default(),
            background: options.background.clone(),
            rollups: Rc::clone(&saved),
        },
        rollups: (rollups, saved),
        stints: options.stints,
        idle: idle.clone(),
        resume: Resume {
            watermark: plan.watermark,
            names: plan.names.clone(),
            partitions: unread(plan, &rules),
            checkpoints: plan.checkpoints.clone(),
            history: plan.entries.clone(),
            inexact_until: plan.inexact_until,
            whole,
            retention: options.retention,
            viewer_timeout_nanos: rules.viewer_timeout_nanos(),
            pipeline: plan.keys.tag(),
            fence: plan.fence,
            workers: worker.peers(),
            settled: Arc::clone(settled),
        },
        committer,
        metrics: Arc::clone(metrics),
        troubles: Arc::clone(control.troubles()),
    };
    let mut senders = Senders { events: InputHandle::new(), marks: InputHandle::new(), changes: InputHandle::new() };
    let done = worker.dataflow_named::<Slice, _, _>("Tidemark", |scope| {
        let inputs = Inputs {
            events: senders.events.to_stream(scope),
            marks: senders.marks.to_stream(scope),
            changes: senders.changes.to_stream(scope),
        };
        pipeline::build(inputs, state, Rc::clone(&known))
    });
    let owned = |partition: i32| usize::try_from(partition).is_ok_and(|p| p % worker.peers() == worker.index());
    let start = plan.partitions.iter().filter(|(partition, _)| owned(**partition));
    let start: BTreeMap<i32, i64> = start.map(|(&partition, of)| (partition, of.replay_from)).collect();
    let source = match log.open(&start) {
        Ok(source) => source,
        Err(error) => {
            control.fail(format!("source: {error}"));
            return drop_dataflows(worker);
        }
    };
    tracing::info!(worker = worker.index(), partitions = start.len(), took = ?started.elapsed(), "reading");
    let now = options.clock.now();
    let readers = start.keys().map(|&partition| reader(partition, plan, now.at)).collect();
    let desk = Desk {
        keys: plan.keys.clone(),
        rules,
        idle_after: idle_after.filter(|_| !options.wish.until_end),
        decoder: Decoder::default(),
        names: Names::default(),
        tally: Tally::default(),
    };
    let pace = Pace {
        clock: options.clock.clone(),
        base,
        started,
        slice: i64::try_from(options.slice.as_micros()).unwrap_or(i64::MAX).max(1),
        most_unfolded: options.most_unfolded,
        max_ahead: i64::try_from(options.max_ahead.as_micros()).unwrap_or(i64::MAX),
        until_end: options.wish.until_end,
    };
    let every = i64::try_from(options.checkpoint_every.as_micros()).unwrap_or(i64::MAX);
    let schedule = (worker.index() == 0).then(|| {
        (Schedule::new(every, now, plan.checkpoint.as_ref().map(|checkpoint| checkpoint.taken_at)), Arc::clone(settled))
    });
    let (unfolded, uncommitted) = (InFlight::until(done.folded), InFlight::until(done.committed));
    let ending = Ending::default();
    let (control, metrics) = (Arc::clone(control), Arc::clone(metrics));
    let lookout = Lookout::new(worker.index(), options.workers);
    let own = Loop {
        index: worker.index(),
        source,
        readers,
        desk,
        senders,
        idle,
        known,
        pace,
        control,
        metrics,
        unfolded,
        uncommitted,
        schedule,
        notices,
        ending,
        lookout,
    };
    own.run(worker);
}

fn reader(partition: i32, plan: &Plan, now: Monotonic) -> Reader {
    let verdicts = plan.verdicts.range((partition, i64::MIN)..=(partition, i64::MAX));
    let verdicts = verdicts.map(|(&(_, offset), &reason)| (offset, reason)).collect();
    Reader::new(partition, plan.partitions[&partition], verdicts, now)
}

/// Every partition as it stands before its owner has spoken.
fn unread(plan: &Plan, rules: &Rules) -> Vec<PartitionMark> {
    let mark = |(&partition, of): (&i32, &plan::PartitionPlan)| PartitionMark {
        start_offset: of.start_offset,
        highest: of.highest,
        watermark: of.highest.map(|highest| rules.watermark(highest)),
        standing: Standing::Backlogged,
        delivered: false,
        replayed: of.replay_from >= of.emit_from,
        ..PartitionMark::at_end(partition, of.replay_from)
    };
    plan.partitions.iter().map(mark).collect()
}
