//! Random logs: late, duplicate, equal and out-of-order times, hostile bytes, several partitions, timeouts, the ends of days,
//! years and of the calendar.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::collections::BTreeMap;
use std::time::Duration;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::source::memory::Stored;
use tidemark_model::{Micros, Nanos};

/// The reader's clock in these logs: no event lies so near to it (plus the future skew) that a run's length could matter.
pub const NOW: Micros = Micros(4_102_444_800_000_000);
const SECOND: i64 = 1_000_000_000;

pub struct Random {
    pub random: Xoshiro256PlusPlus,
    /// Event times walk on from here.
    at: i64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        // Midnight, a leap day, a year's end, the first minutes there are, an ordinary time.
        let starts = [1_767_225_600, 1_709_164_800, 1_798_761_570, 0, 1_700_000_123];
        let start = *pick(&mut random, &starts);
        Random { random, at: start * SECOND + 30 * SECOND }
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn rules(&mut self) -> Rules {
        let lateness = *pick(&mut self.random, &[0, 30, 60, 90, 600, 7_200, 7_200]);
        let skew = *pick(&mut self.random, &[0, 5, 300]);
        let timeout = *pick(&mut self.random, &[1, 30, 60, 90, 300, 3_600]);
        let seconds = Duration::from_secs;
        Rules::new(seconds(lateness), seconds(skew), seconds(timeout)).expect("in range")
    }

    /// Records to append to each partition.
    pub fn log(&mut self, partitions: i32, most_records: usize) -> BTreeMap<i32, Vec<Stored>> {
        let mut log: BTreeMap<i32, Vec<Stored>> = (0..partitions).map(|partition| (partition, Vec::new())).collect();
        let mut sent: Vec<Vec<u8>> = Vec::new();
        // Now and then a copy, in this or another partition, of one that was sent lately: most come before its window closes.
        let (copies, lately) = (*pick(&mut self.random, &[2, 6, 6]), *pick(&mut self.random, &[10, 50, 1_000]));
        for _ in 0..self.below(most_records + 1) {
            let partition = i32::try_from(self.below(usize::try_from(partitions).unwrap())).unwrap();
            let payload = match sent.is_empty() || !self.one_in(copies) {
                true => self.payload(partition),
                false => Some(sent[sent.len() - 1 - self.below(sent.len().min(lately))].clone()),
            };
            sent.extend(payload.clone().filter(|payload| !payload.windows(4).any(|part| part == b"\"own")));
            let time = self.record_time();
            let records = log.get_mut(&partition).unwrap();
            let hole = i64::try_from(if self.one_in(10) { self.below(5) } else { 0 }).unwrap();
            let offset = records.last().map_or(0, |record| record.offset + 1) + hole;
            records.push(Stored { offset, time, key: None, payload });
        }
        log
    }

    /// An event that counts, as early as any.
    pub fn first_event(&self) -> Stored {
        let ts = Nanos(self.at).to_micros();
        let payload = format!(r#"{{"event_type":"chat_message","stream_id":"a","ts":"{ts}"}}"#);
        Stored { offset: 0, time: None, key: None, payload: Some(payload.into_bytes()) }
    }

    fn record_time(&mut self) -> Option<Micros> {
        match self.below(10) {
            0 => None,
            // Ahead of the reader's clock: proves nothing.
            1 => Some(Micros(NOW.0 + 86_400_000_000)),
            _ => Some(Micros(self.at / 1_000_000 * 1_000)),
        }
    }

    fn event_time(&mut self) -> i64 {
        if self.one_in(3) {
            self.at += *pick(&mut self.random, &[1, SECOND / 2, 20 * SECOND, 61 * SECOND, 300 * SECOND]);
        }
        if self.one_in(60) {
            self.at += 3 * 86_400 * SECOND;
        }
        let moved = match self.below(8) {
            0 => -*pick(&mut self.random, &[1, 59 * SECOND, 60 * SECOND, 61 * SECOND, 599 * SECOND, 4_000 * SECOND]),
            1 => *pick(&mut self.random, &[1, 4 * SECOND, 6 * SECOND, 299 * SECOND, 301 * SECOND]),
            _ => 0,
        };
        let ts = (self.at + moved).max(0);
        match self.below(6) {
            // The ends of windows.
            0 => ts / (60 * SECOND) * (60 * SECOND),
            1 => ts / (60 * SECOND) * (60 * SECOND) + 60 * SECOND - 1,
            _ => ts,
        }
    }

    fn payload(&mut self, partition: i32) -> Option<Vec<u8>> {
        match self.below(25) {
            0 => return None,
            1 => return Some(self.hostile()),
            _ => {}
        }
        let ts = self.event_time();
        let stamp = self.stamp(ts);
        let kinds =
            ["viewer_join", "viewer_join", "viewer_leave", "chat_message", "donation", "stream_start", "stream_stop", "poll"];
        let kind = *pick(&mut self.random, &kinds);
        let mut fields = vec![
            format!(r#""event_type":"{kind}""#),
            format!(r#""stream_id":"{}""#, pick(&mut self.random, &["a", "b", "b", "c\\u00e9", "日本"])),
            format!(r#""ts":"{stamp}""#),
        ];
        if !self.one_in(12) {
            fields.push(format!(
                r#""user_id":{}"#,
                pick(&mut self.random, &[r#""u1""#, r#""u2""#, r#""u\u0033""#, r#""""#, "7", "null"])
            ));
        }
        let amount = *pick(&mut self.random, &["0.005", "25.00", "\"12.345\"", "1e2", "-1", "1000000000.00", "-0", "true", "3"]);
        if self.one_in(2) || kind == "donation" {
            fields.push(format!(r#""{}":{amount}"#, pick(&mut self.random, &["amount", "amount_usd"])));
        }
        match self.below(4) {
            0 => {}
            // Ids that are copied keep what they stand for; those of one partition may not.
            1 => fields.push(format!(r#""event_id":"own{partition}-{}""#, self.below(6))),
            _ => fields.push(format!(r#""event_id":"{kind} {ts} {}""#, amount.replace('"', ""))),
        }
        if self.one_in(15) {
            let at = self.below(fields.len());
            fields.remove(at);
        }
        if self.one_in(15) {
            let copy = fields[self.below(fields.len())].clone();
            fields.push(copy);
        }
        if self.one_in(4) {
            fields.push(r#""else":[{"ts":1},"\ud83d\ude00",[]]"#.to_owned());
        }
        fields.rotate_left(self.random.random_range(0..3));
        Some(format!("{{{}}}", fields.join(", ")).into_bytes())
    }

    /// One of the ways to write an instant.
    fn stamp(&mut self, ts: i64) -> String {
        let shown = Nanos(ts).to_micros().to_string();
        let seconds = &shown[..19];
        let fraction = format!("{:09}", ts % SECOND);
        match self.below(6) {
            0 => format!("{}.{fraction}", seconds.replace('T', " ")),
            1 => format!("{seconds}.{fraction}4z"),
            2 => format!("{}.{fraction}-00:00", seconds.replace('T', "t")),
            3 if ts % SECOND == 0 => format!("{seconds}Z"),
            _ => format!("{seconds}.{fraction}+00:00"),
        }
    }

    fn hostile(&mut self) -> Vec<u8> {
        let texts: [&[u8]; 12] = [
            b"",
            b"[]",
            b"{",
            b"\xff\xfe",
            b"{\"event_type\":\"chat_message\"} x",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"event_type\":5}",
            b"{\"event_type\":\"viewer_join\",\"stream_id\":\"a\",\"ts\":\"2026-02-30T00:00:00Z\",\"user_id\":\"u1\"}",
            b"{\"event_type\":\"chat_message\",\"stream_id\":\"\\u0000\",\"ts\":\"2026-02-03T00:00:00Z\"}",
            b"{\"event_type\":\"chat_message\",\"stream_id\":\"a\",\"ts\":\"2262-01-01T00:00:00Z\"}",
            b"{\"event_type\":\"chat_message\",\"stream_id\":\"a\",\"ts\":\"1969-12-31T23:59:60Z\"}",
        ];
        pick(&mut self.random, &texts).to_vec()
    }
}

pub fn pick<'a, T>(random: &mut Xoshiro256PlusPlus, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}
