//! One thread runs at a time: which worker takes the next turn, when tasks make their steps, when time passes and when it ends,
//! all by the seed.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tidemark_dataflow::background::{Script, Step, Task};
use tidemark_dataflow::reading::{Monotonic, Reading};
use tidemark_dataflow::run::Control;
use tidemark_model::Micros;

/// How a run ends.
pub enum End {
    /// As by `kill -9`, after this many turns.
    Crash(u64),
    /// As by SIGTERM, after this many turns.
    Stop(u64),
    /// It holds still after the first number of turns while something else happens, goes on for the second, and then crashes. Whatever
    /// happens is told the time of the world, and tells the time when it is over.
    Zombie { turns: u64, meanwhile: Box<dyn FnOnce(i64) -> i64 + Send>, more: u64 },
    /// When it has reached the end.
    ByItself,
}

/// What happens between two turns, besides, at this instant by the monotonic clock.
pub type BetweenTurns = Box<dyn FnMut(&mut Xoshiro256PlusPlus, i64, Turn) + Send>;

/// How much time has passed since the last turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As much as a turn takes.
    Usual,
    /// The process stood still, for a part of a longer time. Others went on.
    Paused,
}

/// The script of one run.
pub struct Simulation {
    stage: Mutex<Stage>,
    changed: Condvar,
    control: OnceLock<Arc<Control>>,
    /// Both clocks, for those that may not wait.
    glance: (AtomicI64, AtomicI64),
    /// The time of the world, by which all wall clocks should go.
    world: AtomicI64,
    over: AtomicBool,
    overrun: AtomicBool,
    crash_in_step: Arc<AtomicBool>,
}

/// A run that is to end by itself ends long before.
const MOST_TURNS: u64 = 100_000;

struct Stage {
    random: Xoshiro256PlusPlus,
    /// By the monotonic clock.
    now: i64,
    /// How far the time of the world is ahead of it: it stops with the whole machine.
    world_ahead: i64,
    /// How far the wall clock is ahead of it.
    wall_ahead: i64,
    /// The process is paused and its wall clock stepped, now and then.
    faults: bool,
    /// Microseconds that pass with a turn, at most.
    most_per_turn: i64,
    turns: u64,
    end: End,
    between_turns: BetweenTurns,
    tasks: Vec<Task>,
    /// Commits take long, so that several slices wait and go together.
    slow_store: bool,
    /// Of each worker, whether it waits for its turn; `None` once it has left.
    waiting: Vec<Option<bool>>,
    running: Option<usize>,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Simulation")
    }
}

impl Simulation {
    pub fn new(
        seed: u64,
        workers: usize,
        now: i64,
        most_per_turn: i64,
        faults: bool,
        end: End,
        between_turns: BetweenTurns,
    ) -> Arc<Simulation> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let slow_store = random.random_range(0..3) == 0;
        let stage = Stage {
            random,
            slow_store,
            now,
            world_ahead: 0,
            wall_ahead: 0,
            faults,
            most_per_turn,
            turns: 0,
            end,
            between_turns,
            tasks: Vec::new(),
            waiting: vec![Some(false); workers],
            running: None,
        };
        Arc::new(Simulation {
            stage: Mutex::new(stage),
            changed: Condvar::new(),
            control: OnceLock::new(),
            glance: (AtomicI64::new(now), AtomicI64::new(now)),
            world: AtomicI64::new(now),
            over: AtomicBool::new(false),
            overrun: AtomicBool::new(false),
            crash_in_step: Arc::default(),
        })
    }

    /// What the run is stopped by.
    pub fn control(&self) -> &Arc<Control> {
        self.control.get_or_init(Arc::default)
    }

    /// The time of the world, without waiting for a turn.
    pub fn world(&self) -> i64 {
        self.world.load(Ordering::Acquire)
    }

    /// Set in a step of a task, it crashes the run at the end of that step.
    pub fn crash_in_step(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.crash_in_step)
    }

    /// Whether it had to be ended because it did not end.
    pub fn overran(&self) -> bool {
        self.overrun.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().expect("no worker panics while it holds the stage")
    }

    /// Nothing is done any more: what is not in the store or on the disk now is gone.
    fn crash(&self, stage: &mut Stage) {
        self.over.store(true, Ordering::Release);
        stage.tasks.clear();
        self.control().fail("a simulated crash".to_owned());
    }

    fn next_turn(&self, stage: &mut Stage) {
        stage.turns += 1;
        stage.now += stage.random.random_range(1..=stage.most_per_turn);
        for _ in 0..stage.random.random_range(0..4) {
            stage.step_a_task();
            if self.crash_in_step.load(Ordering::Acquire) {
                return self.crash(stage);
            }
        }
        stage.pass_time_and_step_the_clock();
        let Reading { at, wall } = stage.reading();
        self.glance.0.store(at.0, Ordering::Release);
        self.glance.1.store(wall.0, Ordering::Release);
        self.world.store(stage.now + stage.world_ahead, Ordering::Release);
        match &mut stage.end {
            End::Crash(turns) if stage.turns >= *turns => return self.crash(stage),
            End::Stop(turns) if stage.turns >= *turns => {
                self.control().stop();
                stage.end = End::ByItself;
            }
            End::Zombie { turns, .. } if stage.turns >= *turns => {
                let crash = stage.turns;
                let End::Zombie { meanwhile, more, .. } = std::mem::replace(&mut stage.end, End::ByItself) else {
                    unreachable!()
                };
                stage.end = End::Crash(crash + more);
                let over = meanwhile(stage.now + stage.world_ahead);
                stage.world_ahead = stage.world_ahead.max(over - stage.now);
                self.world.store(stage.now + stage.world_ahead, Ordering::Release);
            }
            _ => {}
        }
        if stage.turns > MOST_TURNS {
            self.crash(stage);
            return self.overrun.store(true, Ordering::Release);
        }
        let ready: Vec<usize> = (0..stage.waiting.len()).filter(|&worker| stage.waiting[worker].is_some()).collect();
        stage.running = Some(ready[stage.random.random_range(0..ready.len())]);
    }
}

impl Stage {
    fn reading(&self) -> Reading {
        Reading { at: Monotonic(self.now), wall: Micros(self.now + self.wall_ahead) }
    }

    fn pass_time_and_step_the_clock(&mut self) {
        (self.between_turns)(&mut self.random, self.now + self.world_ahead, Turn::Usual);
        if !self.faults {
            return;
        }
        if self.random.random_range(0..150) == 0 {
            // Several times as long as a partition may be silent before it is idle. A machine that stands still stops its clocks too.
            let machine = self.random.random_range(0..3) == 0;
            for _ in 0..self.random.random_range(1..=20) {
                *(if machine { &mut self.world_ahead } else { &mut self.now }) += self.random.random_range(1..=15_000_000);
                (self.between_turns)(&mut self.random, self.now + self.world_ahead, Turn::Paused);
            }
        }
        if self.random.random_range(0..100) == 0 {
            // Healed as often as it goes wrong: by seconds, minutes, or as a machine's clock that begins in 1970.
            let away = [0, 0, 0, 2_000_000, 600_000_000, self.now];
            let away = away[self.random.random_range(0..away.len())];
            let away = if away < self.now && self.random.random_range(0..2) == 0 { away } else { -away };
            self.wall_ahead = self.world_ahead + away;
        }
    }

    fn step_a_task(&mut self) {
        if self.tasks.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.tasks.len());
        // The first that was started is the commit thread.
        if at == 0 && self.slow_store && self.random.random_range(0..40) > 0 {
            return;
        }
        if self.tasks[at](Duration::ZERO) == Step::Done {
            drop(self.tasks.remove(at));
        }
    }
}

/// The index of the calling worker, from the name that timely gives its threads.
fn this_worker() -> Option<usize> {
    std::thread::current().name()?.strip_prefix("timely:work-")?.parse().ok()
}

impl Script for Simulation {
    fn now(&self) -> Reading {
        let mut stage = self.lock();
        let Some(me) = this_worker().filter(|_| !self.over.load(Ordering::Acquire)) else { return stage.reading() };
        if stage.running == Some(me) {
            stage.running = None;
        }
        stage.waiting[me] = Some(true);
        loop {
            let all_wait = stage.waiting.iter().flatten().all(|&waits| waits);
            if stage.running.is_none() && all_wait {
                self.next_turn(&mut stage);
                self.changed.notify_all();
            }
            if self.over.load(Ordering::Acquire) {
                return stage.reading();
            }
            if stage.running == Some(me) {
                stage.waiting[me] = Some(false);
                return stage.reading();
            }
            stage = self.changed.wait(stage).expect("no worker panics while it holds the stage");
        }
    }

    fn glance(&self) -> Reading {
        Reading { at: Monotonic(self.glance.0.load(Ordering::Acquire)), wall: Micros(self.glance.1.load(Ordering::Acquire)) }
    }

    fn leave(&self) {
        let mut stage = self.lock();
        if let Some(me) = this_worker() {
            stage.waiting[me] = None;
            if stage.running == Some(me) {
                stage.running = None;
            }
        }
        let all_wait = stage.waiting.iter().flatten().all(|&waits| waits);
        if !self.over.load(Ordering::Acquire) && stage.running.is_none() && all_wait && stage.waiting.iter().any(Option::is_some)
        {
            self.next_turn(&mut stage);
        }
        self.changed.notify_all();
    }

    fn start(&self, task: Task) {
        // A worker that starts one has the turn, so the order of tasks is the seed's too.
        self.lock().tasks.push(task);
    }

    fn finish(&self) {
        let mut stage = self.lock();
        for _ in 0..1_000_000 {
            if stage.tasks.is_empty() {
                return;
            }
            stage.step_a_task();
            if self.crash_in_step.load(Ordering::Acquire) {
                return self.crash(&mut stage);
            }
        }
        panic!("tasks do not come to their end");
    }
}
