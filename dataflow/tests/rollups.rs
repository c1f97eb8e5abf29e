//! `ROLLUPS` is switched off and on again. A viewer who left in between does not count in the hours that come after.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod support;

use std::time::Duration;
use support::{Setup, differences, expected};
use tidemark_dataflow::checkpoint::memory::MemoryParts;
use tidemark_dataflow::rules::Rules;
use tidemark_dataflow::sink::memory::MemoryStore;
use tidemark_dataflow::source::memory::MemoryLog;
use tidemark_model::{Grain, Metric, Micros, Minute};

/// 2026-01-02T00:00:00Z.
const NOW: Micros = Micros(1_767_312_000_000_000);

/// The event's type, its user, and its time.
type Event = (&'static str, &'static str, &'static str);

/// Runs one after the other, each to the end of the log: with rows of hours and days or without, and what is written before it.
fn users_of_the_hour_from_11(runs: &[(bool, &[Event])]) -> i64 {
    let rules = Rules::new(Duration::from_secs(600), Duration::from_secs(300), Duration::from_secs(3_600)).unwrap();
    let (log, store, parts) = (MemoryLog::default(), MemoryStore::default(), MemoryParts::default());
    for &(hours, events) in runs {
        for (kind, user, time) in events {
            let event = format!(r#"{{"event_type":"{kind}","stream_id":"s","user_id":"{user}","ts":"2026-01-01T{time}Z"}}"#);
            log.append(0, None, Some(event.as_bytes()));
        }
        let setup = Setup {
            checkpoint_every: Duration::from_micros(1),
            grains: if hours { &Grain::ALL } else { &Grain::ALL[..1] },
            retention: Default::default(),
            rules,
            workers: 1,
            slice: Duration::from_micros(100),
            most_per_read: 1,
            now: NOW,
            max_ahead: Duration::from_secs(3_600),
        };
        setup.run_to_end(&log, &store, &parts);
        let tables = store.tables();
        let differences = differences(&tables, &expected(&log, &rules, NOW, &tables));
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
    // 2026-01-01T11:00:00Z.
    let hour = (Grain::Hour, Minute(29_454_420), "s".to_owned());
    let tables = store.tables();
    let row = tables.rolled_up.rows.get(&hour).copied();
    row.unwrap_or_else(|| panic!("{hour:?} is none of {:?}", tables.rolled_up.rows.keys()))[Metric::UniqueViewers]
}

#[test]
fn who_timed_out_as_the_hour_began() {
    let before = [("viewer_join", "ann", "10:00:00"), ("chat_message", "bob", "10:20:00")];
    let after = [("chat_message", "bob", "11:05:00"), ("chat_message", "bob", "12:30:00")];
    assert_eq!(users_of_the_hour_from_11(&[(false, &before), (true, &after)]), 0);
}

#[test]
fn who_left_while_no_hours_were_kept() {
    let before = [("viewer_join", "ann", "10:00:00"), ("chat_message", "bob", "10:20:00")];
    let meanwhile = [("viewer_leave", "ann", "10:30:00")];
    let after = [("chat_message", "bob", "11:05:00"), ("chat_message", "bob", "12:30:00")];
    assert_eq!(users_of_the_hour_from_11(&[(true, &before), (false, &meanwhile), (true, &after)]), 0);
}
