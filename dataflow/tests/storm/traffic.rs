//! What happens when, and in which partition, by a seed: disorderly partitions, of which one is silent now and then, and steady ones,
//! whose events are in order and on time.

use std::time::{Duration, SystemTime};
use tidemark_generator::traffic::{FaultShares, Generated, Traffic, TrafficConfig, numbered_streams};
use tidemark_model::Micros;

pub const PARTITIONS: usize = 6;
/// These hold only events that are in order and on time. Each broker leads one of them.
pub const STEADY: [usize; 2] = [4, 5];
/// This one is silent for a while, and then its records come late: what falls idle, and what comes too late for a window that only
/// idleness could close.
const WAYWARD: usize = 3;
const DISORDERLY: usize = 4;
const WAYWARD_SILENCE: Duration = Duration::from_secs(9);
/// Until it meets the clock, event time runs so much faster, so that windows close all the time.
const SPEED: i64 = 20;
/// How far behind the clock event time begins.
const BEHIND: i64 = 8 * 60_000_000;

/// An event that is to be sent.
pub struct Due {
    pub event: Generated,
    pub partition: usize,
    /// How long after the start.
    pub at: Duration,
    /// Event time has met the clock, and the event is one of those that are on time.
    pub on_time: bool,
}

pub struct Script {
    disorderly: Traffic,
    steady: Traffic,
    rate: u32,
    made: u64,
    /// The wall clock at the start, in microseconds.
    began: i64,
    held: Vec<Due>,
    speaks: Duration,
}

impl Script {
    /// So many events a second.
    pub fn new(seed: u64, rate: u32) -> Script {
        let disorderly = TrafficConfig {
            seed,
            streams: numbered_streams(40),
            users: 3_000,
            out_of_order: Duration::from_secs(3),
            faults: FaultShares { late: 0.01, duplicates: 0.02, malformed: 0.01, future: 0.002 },
            ..TrafficConfig::default()
        };
        let streams = (0..20).map(|number| format!("steady_{number}")).collect();
        let steady = TrafficConfig { seed: seed ^ 1, streams, users: 1_000, ..TrafficConfig::default() };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        Script {
            disorderly: Traffic::new(disorderly),
            steady: Traffic::new(steady),
            rate,
            made: 0,
            began: i64::try_from(now.as_micros()).expect("before 2262"),
            held: Vec::new(),
            speaks: WAYWARD_SILENCE,
        }
    }

    /// What is to be sent up to this long after the start, and was not given yet.
    pub fn until(&mut self, elapsed: Duration) -> Vec<Due> {
        let mut due = Vec::new();
        loop {
            let at = Duration::from_micros(self.made * 1_000_000 / u64::from(self.rate));
            if at > elapsed {
                break;
            }
            let next = self.next(at);
            if next.partition == WAYWARD { self.held.push(next) } else { due.push(next) }
        }
        if elapsed >= self.speaks {
            due.append(&mut self.held);
            self.speaks = elapsed + WAYWARD_SILENCE;
        }
        due
    }

    /// What is still held back.
    pub fn rest(mut self) -> Vec<Due> {
        std::mem::take(&mut self.held)
    }

    fn next(&mut self, at: Duration) -> Due {
        let micros = i64::try_from(at.as_micros()).expect("not for ever");
        let (behind, clock) = (self.began - BEHIND + SPEED * micros, self.began + micros);
        let now = Micros(behind.min(clock));
        let made = usize::try_from(self.made).expect("64 bits");
        self.made += 1;
        if made % 3 == 0 {
            let (event, partition) = (self.steady.next_at(now), STEADY[made / 3 % STEADY.len()]);
            return Due { event, partition, at, on_time: behind >= clock };
        }
        let event = self.disorderly.next_at(now);
        let partition = event.stream.bytes().map(usize::from).sum::<usize>() % DISORDERLY;
        Due { event, partition, at, on_time: false }
    }
}
