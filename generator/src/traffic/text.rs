//! The text of events: ids, timestamps, JSON.

use super::sessions::Act;
use std::fmt::Write;
use tidemark_model::Micros;
use tidemark_model::event::WireEvent;

/// Room for nearly every payload.
const USUAL_PAYLOAD_BYTES: usize = 192;

/// Unique ids: sixteen hex digits of the seed, mixed, and sixteen of a counter.
#[derive(Clone, Debug)]
pub struct EventId {
    digits: [u8; 32],
    counter: u64,
}

impl EventId {
    /// The ids of this seed.
    pub fn new(seed: u64) -> EventId {
        let mut digits = [b'0'; 32];
        // Another multiplier than the dice's own seeding, so that ids say nothing about them.
        write_hex(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x7469_6465_6D61_726B, &mut digits[..16]);
        EventId { digits, counter: 0 }
    }

    /// The next id.
    pub fn next(&mut self) -> &str {
        write_hex(self.counter, &mut self.digits[16..]);
        self.counter += 1;
        std::str::from_utf8(&self.digits).expect("hex digits are ASCII")
    }
}

fn write_hex(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xF) as usize];
        number >>= 4;
    }
}

/// Turns acts into payloads. Its strings are only kept to be filled again.
#[derive(Clone, Debug, Default)]
pub struct Text {
    user: String,
    ts: Timestamp,
}

impl Text {
    /// The JSON of an act at this instant.
    pub fn payload(&mut self, act: &Act, stream: &str, event_id: &str, event_time: Micros) -> Vec<u8> {
        const INTO_STRING: &str = "a string takes every text";
        if let Some(user) = act.user {
            self.user.clear();
            write!(self.user, "user_{:05}", user + 1).expect(INTO_STRING);
        }
        let event = WireEvent {
            event_id,
            event_type: act.kind,
            stream_id: stream,
            user_id: act.user.is_some().then_some(&self.user),
            ts: self.ts.of(event_time),
            amount_usd: act.cents.map(|cents| f64::from(cents) / 100.0),
        };
        let mut payload = Vec::with_capacity(USUAL_PAYLOAD_BYTES);
        serde_json::to_writer(&mut payload, &event).expect("a vector takes every byte, and the event has no failing part");
        payload
    }
}

/// The text of an instant, as [`Micros`] displays it. This runs for every event, so the date is worked out once a day only, and nothing
/// for an instant that comes again.
#[derive(Clone, Debug, Default)]
struct Timestamp {
    day: Option<i64>,
    instant: Option<Micros>,
    text: String,
}

impl Timestamp {
    fn of(&mut self, instant: Micros) -> &str {
        const DAY: i64 = 86_400_000_000;
        const DATE_AND_T: usize = "2024-01-01T".len();
        if self.instant.replace(instant) == Some(instant) {
            return &self.text;
        }
        let day = instant.0.div_euclid(DAY);
        if self.day != Some(day) {
            self.day = Some(day);
            self.text = Micros(day * DAY).to_string();
        }
        self.text.truncate(DATE_AND_T);
        let of_day = instant.0.rem_euclid(DAY);
        let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
        for (number, after) in [(seconds / 3_600, ":"), (seconds / 60 % 60, ":"), (seconds % 60, "")] {
            self.push_digits(number, 10);
            self.text.push_str(after);
        }
        if micros != 0 {
            self.text.push('.');
            self.push_digits(micros, 100_000);
        }
        self.text.push('Z');
        &self.text
    }

    /// `highest` is the weight of the first digit.
    fn push_digits(&mut self, number: i64, highest: i64) {
        let mut weight = highest;
        while weight > 0 {
            let digit = u8::try_from(number / weight % 10).expect("a digit of a number that is not negative");
            self.text.push(char::from(b'0' + digit));
            weight /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_the_instants_own_text() {
        let mut timestamp = Timestamp::default();
        for step in 0..5_000 {
            let instant = Micros(1_704_067_200_000_000 + step * 33_333_333);
            assert_eq!(timestamp.of(instant), instant.to_string());
        }
        for instant in [Micros(0), Micros(0), Micros(86_399_999_999), Micros(86_400_000_000), Micros(1)] {
            assert_eq!(timestamp.of(instant), instant.to_string());
        }
    }
}
