//! What goes wrong on request: late, duplicate, malformed and future events.

use super::dice::Dice;

/// What is wrong with a generated event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `ts` lies 15 to 75 minutes back: beyond the default lateness of 10 minutes.
    Late,
    /// The same bytes as an event shortly before.
    Duplicate,
    /// No event, in one of eleven ways, most of the reasons for which readers reject records among them.
    Malformed,
    /// `ts` lies 10 minutes to 30 days ahead: beyond the default skew of 5 minutes.
    Future,
}

/// How many of all events have each fault: shares in `[0, 1]` whose sum is at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultShares {
    /// Share of late events.
    pub late: f64,
    /// Share of duplicates.
    pub duplicates: f64,
    /// Share of malformed payloads.
    pub malformed: f64,
    /// Share of events from the future.
    pub future: f64,
}

impl FaultShares {
    /// What is wrong with the next event. Draws nothing if nothing ever is.
    pub fn draw(&self, dice: &mut Dice) -> Option<Fault> {
        if *self == FaultShares::default() {
            return None;
        }
        let mut left = dice.unit();
        let shares = [
            (Fault::Late, self.late),
            (Fault::Duplicate, self.duplicates),
            (Fault::Malformed, self.malformed),
            (Fault::Future, self.future),
        ];
        for (fault, share) in shares {
            if left < share {
                return Some(fault);
            }
            left -= share;
        }
        None
    }
}

/// Number of ways in which [`malformed`] breaks a payload.
pub const MALFORMATIONS: u64 = 11;

/// A payload that no reader may take for an event, without a newline: way `0..MALFORMATIONS`. `event_id` and `ts` are plain
/// text that needs no escapes.
pub fn malformed(way: u64, stream: &str, event_id: &str, ts: &str) -> Vec<u8> {
    let stream = serde_json::Value::from(stream).to_string();
    let head = format!(r#""event_id":"{event_id}","event_type":"#);
    let text = match way {
        0 => String::new(),
        1 => "not json".to_owned(),
        2 => format!(r#"{{{head}"chat_message","stream_id":{stream},"us"#),
        3 => format!(r#"[{{{head}"chat_message","stream_id":{stream},"ts":"{ts}"}}]"#),
        4 => format!(r#"{{{head}"chat_message","stream_id":{stream},"ts":"{ts}","ts":"{ts}"}}"#),
        5 => format!(r#"{{{head}"chat_message","stream_id":{stream}}}"#),
        6 => format!(r#"{{{head}"chat_message","stream_id":7,"ts":"{ts}"}}"#),
        7 => format!(r#"{{{head}"chat_message","stream_id":"","ts":"{ts}"}}"#),
        8 => format!(r#"{{{head}"chat_message","stream_id":{stream},"ts":"yesterday"}}"#),
        9 => format!(r#"{{{head}"donation","stream_id":{stream},"ts":"{ts}","amount_usd":"12,50"}}"#),
        _ => format!(r#"{{{head}"chat_message","stream_id":{stream},"ts":"{ts}","text":"?"}}"#),
    };
    let mut payload = text.into_bytes();
    if way >= MALFORMATIONS - 1 {
        // 0xFF stands nowhere in UTF-8.
        let at = payload.len() - 3;
        payload[at] = 0xFF;
    }
    payload
}

/// The last events, for duplicates. Keeps nothing unless duplicates are asked for.
#[derive(Clone, Debug)]
pub struct Recent<T> {
    kept: Vec<T>,
    limit: usize,
    next: usize,
}

impl<T: Clone> Recent<T> {
    /// Keeps the last `limit` ones.
    pub fn new(limit: usize) -> Recent<T> {
        Recent { kept: Vec::with_capacity(limit), limit, next: 0 }
    }

    /// Remembers one; the oldest makes room.
    pub fn remember(&mut self, one: &T) {
        if self.limit == 0 {
            return;
        }
        if self.kept.len() < self.limit {
            self.kept.push(one.clone());
        } else {
            self.kept[self.next].clone_from(one);
        }
        self.next = (self.next + 1) % self.limit;
    }

    /// One of those kept, if there is any.
    pub fn pick(&self, dice: &mut Dice) -> Option<T> {
        (!self.kept.is_empty()).then(|| self.kept[dice.index(self.kept.len())].clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_payloads_are_one_line_and_not_events() {
        for way in 0..MALFORMATIONS {
            let payload = malformed(way, "a \"b\"\n", "id", "2024-01-01T00:00:00Z");
            assert!(!payload.contains(&b'\n'));
            let json = serde_json::from_slice::<serde_json::Value>(&payload);
            assert_eq!(json.is_ok(), (3..MALFORMATIONS - 1).contains(&way), "{way}: {json:?}");
        }
        assert!(std::str::from_utf8(&malformed(MALFORMATIONS - 1, "s", "id", "t")).is_err());
    }

    #[test]
    fn the_last_ones_are_kept() {
        let (mut recent, mut dice) = (Recent::new(2), Dice::new(1));
        assert_eq!(recent.pick(&mut dice), None);
        for number in 0..5 {
            recent.remember(&number);
        }
        for _ in 0..20 {
            assert!(recent.pick(&mut dice).is_some_and(|number| number >= 3));
        }
    }
}
