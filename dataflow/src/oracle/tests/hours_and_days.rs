//! Hours and days: made of closed minutes.

use super::*;
use tidemark_model::Grain;
use tidemark_model::Metric::PeakViewers;

impl Case {
    /// The row of an hour or a day of "s", or of all streams with how many they are, by the pipeline's watermark.
    fn rolled(&self, grain: Grain, time: &str, watermark: &str) -> (Option<Values>, Option<(i64, Values)>) {
        let watermark = Some(minute(watermark).start());
        let rolled = answer(&self.log, &self.rules, Clock::Stored, &self.verdicts, watermark).rolled_up;
        let first = grain.window_of(minute(time));
        (rolled.rows.get(&(grain, first, "s".to_owned())).copied(), rolled.totals.get(&(grain, first)).copied())
    }

    /// An event of a user.
    fn event(&mut self, stream: &str, kind: &str, user: &str, time: &str) {
        self.put(0, &json!({"event_type": kind, "stream_id": stream, "user_id": user, "ts": on_the_day(time)}));
    }

    fn hour(&self, time: &str, watermark: &str) -> Option<Values> {
        self.rolled(Grain::Hour, time, watermark).0
    }
}

#[test]
fn an_hour_grows_by_each_minute_that_closes_and_no_longer() {
    let mut case = Case::default();
    case.join("u", "12:58:30");
    case.chat(0, "12:59:10");
    case.chat(0, "13:00:10");
    assert_eq!(case.hour("12:00:00", "12:58:00"), None, "no minute with a row is closed");
    let viewer = [(ActiveViewers, 1), (UniqueViewers, 1), (PeakViewers, 1)];
    let expected = |watch, chats| {
        let mut values = Values::of(viewer);
        (values[WatchMs], values[ChatMessages]) = (watch, chats);
        Some(values)
    };
    assert_eq!(case.hour("12:00:00", "12:59:00"), expected(30_000, 0));
    assert_eq!(case.hour("12:00:00", "13:00:00"), expected(90_000, 1));
    assert_eq!(case.hour("12:00:00", "17:00:00"), expected(90_000, 1));
    assert_eq!(case.hour("13:00:00", "13:00:00"), None);
    assert_eq!(case.hour("13:00:00", "13:02:00"), expected(120_000, 1));
    assert_eq!(case.rolled(Grain::Day, "00:00:00", "13:02:00").0, expected(210_000, 2));
}

#[test]
fn a_user_of_several_minutes_is_one_of_the_hour_and_one_of_the_day() {
    let mut case = Case::default();
    for (user, time) in [("u", "12:01:00"), ("u", "12:01:30"), ("u", "12:30:00"), ("v", "12:30:00"), ("u", "13:01:00")] {
        case.event("s", "chat_message", user, time);
    }
    let chatters = |grain, time| case.rolled(grain, time, "14:00:00").0.unwrap()[UniqueChatters];
    assert_eq!(
        [(Grain::Hour, "12:00:00"), (Grain::Hour, "13:00:00"), (Grain::Day, "00:00:00")].map(|(g, t)| chatters(g, t)),
        [2, 1, 2]
    );
}

#[test]
fn who_comes_back_is_one_viewer_and_who_left_at_the_very_start_is_none() {
    let mut case = Case::default();
    case.join("u", "11:00:00");
    case.leave("u", "12:00:00");
    case.join("v", "11:59:00");
    case.leave("v", "12:00:00.000000001");
    for (joins, leaves) in [("12:10:00", "12:11:00"), ("12:20:00", "12:21:00")] {
        case.join("w", joins);
        case.leave("w", leaves);
    }
    let row = case.hour("12:00:00", "13:00:00").unwrap();
    assert_eq!((row[UniqueViewers], row[WatchMs], row[ActiveViewers]), (2, 120_000, 0), "a nanosecond is a viewer");
}

#[test]
fn the_peak_is_of_the_ends_of_all_minutes_also_of_those_without_a_row() {
    let mut case = Case::default();
    case.join("u", "11:00:00");
    case.join("v", "11:00:00");
    case.leave("u", "12:10:00");
    // At no end of a minute.
    case.join("w", "12:20:10");
    case.join("x", "12:20:10");
    case.leave("w", "12:20:20");
    case.leave("x", "12:20:20");
    let row = case.hour("12:00:00", "13:00:00").unwrap();
    assert_eq!((row[PeakViewers], row[ActiveViewers], row[UniqueViewers]), (2, 1, 4));
}

#[test]
fn totals_are_of_everybody_and_their_peak_is_of_all_streams_at_once() {
    let mut case = Case::default();
    case.join("v", "11:00:00");
    case.join("u", "12:00:10");
    case.leave("u", "12:01:10");
    case.event("t", "viewer_join", "u", "12:01:20");
    case.event("t", "viewer_leave", "u", "12:02:20");
    let (row, totals) = case.rolled(Grain::Hour, "12:00:00", "13:00:00");
    let (streams, totals) = totals.unwrap();
    assert_eq!((row.unwrap()[PeakViewers], streams, totals[PeakViewers], totals[UniqueViewers]), (2, 2, 2, 3));
    // In the next hour only "s" has a viewer, and no row.
    case.event("t", "viewer_join", "u", "13:30:00");
    let (row, totals) = case.rolled(Grain::Hour, "13:00:00", "14:00:00");
    let (streams, totals) = totals.unwrap();
    assert_eq!((row, streams, totals[ActiveViewers], totals[WatchMs]), (None, 1, 2, 3_600_000 + 1_800_000));
}
