//! Plausible traffic: a pure, endless iterator that a seed decides.
//!
//! No I/O, no clock: event time advances by [`TrafficConfig::spacing`] per event, or is told by the caller
//! ([`Traffic::next_at`]). The same configuration yields the same bytes on every machine and in every version; a golden test
//! holds that. Fault shares do not change the events that are not hit.

mod dice;
mod faults;
mod sessions;
mod text;

pub use faults::{Fault, FaultShares};

use dice::Dice;
use faults::Recent;
use sessions::Sessions;
use std::sync::Arc;
use std::time::Duration;
use text::{EventId, Text};
use tidemark_model::Micros;

/// What decides the traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficConfig {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Ids of the streams, the most popular first; at least one.
    pub streams: Vec<String>,
    /// Number of users who come and go; at least one.
    pub users: usize,
    /// Event time of the iterator's first event.
    pub start: Micros,
    /// Event time from one event of the iterator to the next.
    pub spacing: Duration,
    /// `ts` lies up to this much before the instant of sending, evenly spread.
    pub out_of_order: Duration,
    /// What goes wrong.
    pub faults: FaultShares,
}

impl Default for TrafficConfig {
    /// Twenty events per second in five streams, in order and without faults, from 2024-01-01T00:00:00Z.
    fn default() -> TrafficConfig {
        TrafficConfig {
            seed: 1,
            streams: numbered_streams(5),
            users: 500,
            start: Micros(1_704_067_200_000_000),
            spacing: Duration::from_millis(50),
            out_of_order: Duration::ZERO,
            faults: FaultShares::default(),
        }
    }
}

/// `stream_0001` and so on.
pub fn numbered_streams(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("stream_{number:04}")).collect()
}

/// One record to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The stream, which is the record's key.
    pub stream: Arc<str>,
    /// What `ts` says, for malformed payloads what it would have said.
    pub event_time: Micros,
    /// The instant of sending, which is the record's time. On the traffic's own clock it never goes back.
    pub sent_at: Micros,
    /// One JSON object without a newline, unless it is malformed.
    pub payload: Vec<u8>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// The traffic; endless.
#[derive(Clone, Debug)]
pub struct Traffic {
    names: Vec<Arc<str>>,
    sessions: Sessions,
    dice: Dice,
    faults: FaultShares,
    fault_dice: Dice,
    recent: Recent<Generated>,
    out_of_order_micros: i64,
    clock: Clock,
    event_id: EventId,
    text: Text,
}

/// Events that a duplicate may repeat.
const RECENT_EVENTS: usize = 256;
/// Microseconds in a minute.
const MINUTE: i64 = 60_000_000;

impl Traffic {
    /// Traffic from its beginning: nobody watches yet.
    ///
    /// # Panics
    ///
    /// If there is no stream or no user.
    pub fn new(config: TrafficConfig) -> Traffic {
        Traffic {
            sessions: Sessions::new(config.streams.len(), config.users),
            names: config.streams.into_iter().map(Arc::from).collect(),
            dice: Dice::new(config.seed),
            faults: config.faults,
            fault_dice: Dice::new(!config.seed),
            recent: Recent::new(if config.faults.duplicates > 0.0 { RECENT_EVENTS } else { 0 }),
            out_of_order_micros: i64::try_from(config.out_of_order.as_micros()).unwrap_or(i64::MAX),
            clock: Clock::new(config.start, config.spacing),
            event_id: EventId::new(config.seed),
            text: Text::default(),
        }
    }

    /// The next record, sent at `now` instead of at the traffic's own clock, which stands still meanwhile.
    pub fn next_at(&mut self, now: Micros) -> Generated {
        match self.faults.draw(&mut self.fault_dice) {
            Some(Fault::Duplicate) => {
                if let Some(original) = self.recent.pick(&mut self.fault_dice) {
                    return Generated { sent_at: now, fault: Some(Fault::Duplicate), ..original };
                }
                self.event(now, None)
            }
            Some(Fault::Malformed) => self.malformed(now),
            fault => self.event(now, fault),
        }
    }

    fn event(&mut self, now: Micros, fault: Option<Fault>) -> Generated {
        let act = self.sessions.next_act(&mut self.dice);
        let jitter = self.dice.between(0, self.out_of_order_micros);
        let shift = match fault {
            Some(Fault::Late) => -self.fault_dice.between(15 * MINUTE, 75 * MINUTE),
            Some(Fault::Future) => self.fault_dice.between(10 * MINUTE, 30 * 1_440 * MINUTE),
            _ => 0,
        };
        let event_time = Micros(now.0.saturating_sub(jitter).saturating_add(shift).max(0));
        let stream = Arc::clone(&self.names[act.stream]);
        let payload = self.text.payload(&act, &stream, self.event_id.next(), event_time);
        let generated = Generated { stream, event_time, sent_at: now, payload, fault };
        if fault.is_none() {
            self.recent.remember(&generated);
        }
        generated
    }

    fn malformed(&mut self, now: Micros) -> Generated {
        let stream = Arc::clone(&self.names[self.sessions.pick_stream(&mut self.fault_dice)]);
        let way = self.fault_dice.below(faults::MALFORMATIONS);
        let event_id = format!("malformed-{:016x}", self.fault_dice.below(u64::MAX));
        let payload = faults::malformed(way, &stream, &event_id, &now.to_string());
        Generated { stream, event_time: now, sent_at: now, payload, fault: Some(Fault::Malformed) }
    }
}

impl Iterator for Traffic {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        let now = self.clock.tick();
        Some(self.next_at(now))
    }
}

/// Event time as the iterator reckons it, in nanoseconds so that no rate drifts.
#[derive(Clone, Debug)]
struct Clock {
    nanos: i128,
    spacing_nanos: i128,
}

impl Clock {
    fn new(start: Micros, spacing: Duration) -> Clock {
        let spacing_nanos = i128::try_from(spacing.as_nanos()).unwrap_or(i128::from(i64::MAX));
        Clock { nanos: i128::from(start.0) * 1_000, spacing_nanos }
    }

    fn tick(&mut self) -> Micros {
        let now = i64::try_from(self.nanos / 1_000).unwrap_or(i64::MAX);
        self.nanos += self.spacing_nanos;
        Micros(now)
    }
}

#[cfg(test)]
mod tests;
