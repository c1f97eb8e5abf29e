//! Presence at the end of each window, and the rows' other values.

use super::*;

#[test]
fn a_join_counts_until_the_leave() {
    let mut case = Case::default();
    case.join("u", "12:00:30");
    case.start("12:01:00");
    case.leave("u", "12:02:30");
    case.start("12:03:00");
    assert_eq!(["12:00:00", "12:01:00", "12:02:00", "12:03:00"].map(|time| case.viewers(time)), [1, 1, 0, 0]);
    assert_eq!(case.answer().stream_state["s"], (minute("12:03:00"), 0));
}

#[test]
fn a_join_or_leave_at_exactly_window_end_belongs_to_the_next() {
    let mut case = Case::default();
    case.start("12:00:00");
    case.join("u", "12:01:00");
    case.join("v", "12:00:59.999999999");
    assert_eq!((case.viewers("12:00:00"), case.viewers("12:01:00")), (1, 2));
    case.leave("u", "12:02:00");
    case.leave("v", "12:01:59.999999999");
    assert_eq!((case.viewers("12:01:00"), case.viewers("12:02:00")), (1, 0));
}

#[test]
fn at_an_equal_instant_the_leave_wins() {
    for joins_first in [true, false] {
        let mut case = Case::default();
        if joins_first {
            case.join("u", "12:00:30.000000001");
        }
        case.leave("u", "12:00:30.000000001");
        case.join("u", "12:00:30.000000001");
        assert_eq!(case.viewers("12:00:00"), 0);
        case.join("u", "12:00:30.000000002");
        assert_eq!(case.viewers("12:00:00"), 1, "a nanosecond later it is a join");
    }
}

#[test]
fn order_of_arrival_does_not_matter() {
    let mut case = Case::default();
    case.leave("u", "12:02:30");
    case.start("12:01:00");
    case.join("u", "12:00:30");
    assert_eq!(["12:00:00", "12:01:00", "12:02:00"].map(|time| case.viewers(time)), [1, 1, 0]);
}

#[test]
fn a_late_move_corrects_every_later_row() {
    let mut case = Case::default();
    case.join("u", "12:00:30");
    for time in ["12:01:00", "12:02:00", "12:03:00"] {
        case.start(time);
    }
    case.leave("u", "12:01:30");
    assert_eq!(["12:00:00", "12:01:00", "12:02:00", "12:03:00"].map(|time| case.viewers(time)), [1, 0, 0, 0]);
    case.join("u", "12:02:59");
    assert_eq!(["12:00:00", "12:01:00", "12:02:00", "12:03:00"].map(|time| case.viewers(time)), [1, 0, 1, 1]);
}

#[test]
fn a_leave_without_a_join_is_nothing_but_makes_its_row() {
    let mut case = Case::default();
    case.leave("u", "12:00:30");
    assert_eq!(case.row("12:00:00"), Some(Values::default()));
    case.join("v", "12:00:31");
    assert_eq!(case.viewers("12:00:00"), 1);
}

#[test]
fn presence_ends_exactly_when_the_timeout_has_passed() {
    let rules = Rules { viewer_timeout: MINUTE, ..Rules::default() };
    for (joined, viewers) in [("12:00:59.999999999", 0), ("12:01:00", 1), ("12:00:59.999999998", 0)] {
        let mut case = Case { rules, ..Case::default() };
        case.join("u", joined);
        case.start("12:01:00");
        assert_eq!(case.viewers("12:01:00"), viewers, "joined at {joined}");
    }
    let mut case = Case { rules: Rules { viewer_timeout: 0, ..rules }, ..Case::default() };
    case.join("u", "12:00:59.999999999");
    assert_eq!(case.viewers("12:00:00"), 0, "t − ts = 0 is not less than no time");
}

#[test]
fn the_timeout_is_counted_from_the_latest_join() {
    let mut case = Case { rules: Rules { viewer_timeout: 2 * MINUTE, ..Rules::default() }, ..Case::default() };
    case.join("u", "12:00:30");
    case.start("12:01:00");
    case.start("12:02:00");
    case.start("12:03:00");
    assert_eq!(["12:00:00", "12:01:00", "12:02:00", "12:03:00"].map(|time| case.viewers(time)), [1, 1, 0, 0]);
    case.join("u", "12:01:30");
    assert_eq!(["12:00:00", "12:01:00", "12:02:00", "12:03:00"].map(|time| case.viewers(time)), [1, 1, 1, 0]);
    case.leave("u", "12:01:00");
    assert_eq!(case.viewers("12:01:00"), 1, "a leave before the latest join ends nothing after it");
}

#[test]
fn twelve_hours_by_default() {
    let mut case = Case { rules: Rules { lateness: 24 * 60 * MINUTE, ..Rules::default() }, ..Case::default() };
    case.join("u", "01:00:00");
    case.start("12:59:00");
    case.start("13:00:00");
    assert_eq!((case.viewers("12:59:00"), case.viewers("13:00:00")), (1, 0));
}

#[test]
fn users_and_streams_are_apart() {
    let mut case = Case::default();
    case.join("u", "12:00:00");
    case.join("v", "12:00:00");
    case.join("u", "12:00:01");
    let other = json!({"event_type": "viewer_leave", "stream_id": "S", "user_id": "u", "ts": on_the_day("12:00:30")});
    case.put(0, &other);
    assert_eq!(case.viewers("12:00:00"), 2);
    assert_eq!(case.answer().rows[&(minute("12:00:00"), "S".to_owned())][ActiveViewers], 0);
}

#[test]
fn starts_and_stops_change_no_total_and_end_no_presence() {
    let mut case = Case::default();
    case.join("u", "12:00:00");
    case.put(0, &json!({"event_type": "stream_stop", "stream_id": "s", "user_id": "u", "ts": on_the_day("12:01:00")}));
    case.put(0, &json!({"event_type": "stream_start", "stream_id": "s", "user_id": "u", "ts": on_the_day("12:02:00")}));
    let row = Values::of([(ActiveViewers, 1), (UniqueViewers, 1), (WatchMs, 60_000)]);
    assert_eq!((case.row("12:01:00"), case.row("12:02:00"), case.row("12:03:00")), (Some(row), Some(row), None));
}

#[test]
fn chats_and_donations_make_no_viewer() {
    let mut case = Case::default();
    for amount in [json!(0.005), json!("25.005"), json!(0)] {
        let ts = on_the_day("12:00:00");
        case.put(0, &json!({"event_type": "donation", "stream_id": "s", "user_id": "u", "ts": ts, "amount_usd": amount}));
    }
    case.put(0, &json!({"event_type": "chat_message", "stream_id": "s", "user_id": "u", "ts": on_the_day("12:00:00")}));
    let expected = [(ChatMessages, 1), (UniqueChatters, 1), (Donations, 3), (DonationsUsd, 2_502), (Donors, 1)];
    assert_eq!(case.row("12:00:00"), Some(Values::of(expected)));
}

#[test]
fn a_user_is_a_chatter_and_a_donor_once_a_minute_and_nobody_is_none() {
    let mut case = Case::default();
    for (user, time) in [("u", "12:00:00"), ("u", "12:00:01"), ("v", "12:00:02"), ("u", "12:01:00")] {
        for kind in ["chat_message", "donation"] {
            let ts = on_the_day(time);
            case.put(0, &json!({"event_type": kind, "stream_id": "s", "user_id": user, "ts": ts, "amount": 0}));
            case.put(0, &json!({"event_type": kind, "stream_id": "s", "ts": ts, "amount": 0}));
        }
    }
    let row = |all, users| Values::of([(ChatMessages, all), (UniqueChatters, users), (Donations, all), (Donors, users)]);
    assert_eq!((case.row("12:00:00"), case.row("12:01:00")), (Some(row(6, 2)), Some(row(2, 1))));
}

#[test]
fn a_nanosecond_of_presence_is_a_viewer_and_watch_time_is_of_whole_milliseconds() {
    let mut case = Case::default();
    case.join("u", "12:00:10.000999999");
    case.leave("u", "12:00:10.001");
    case.join("v", "12:00:20.001");
    case.leave("v", "12:00:20.001999999");
    case.join("w", "12:00:59.9995");
    case.start("12:02:00");
    case.leave("w", "12:02:00");
    let row = |end, any, ms| Some(Values::of([(ActiveViewers, end), (UniqueViewers, any), (WatchMs, ms)]));
    // u is there over the border of two milliseconds, v within one, w from 59.999 on.
    assert_eq!(case.row("12:00:00"), row(1, 3, 2));
    assert_eq!(case.row("12:02:00"), row(0, 0, 0), "who leaves at its first instant was not there");
    case.start("12:01:00");
    assert_eq!(case.row("12:01:00"), row(1, 1, 60_000));
}

#[test]
fn rejected_events_make_no_row() {
    let mut case = Case::default();
    case.put(0, &json!({"event_type": "donation", "stream_id": "s", "ts": on_the_day("12:00:00"), "amount": -1}));
    case.put(0, &json!({"event_type": "other", "stream_id": "s", "ts": on_the_day("12:00:00")}));
    assert_eq!(case.answer().rows, BTreeMap::new());
    assert_eq!(case.answer().stream_state, BTreeMap::new());
}

#[test]
fn stream_state_is_the_newest_row_of_each_stream() {
    let mut case = Case::default();
    case.join("u", "12:05:00");
    case.start("12:04:00");
    case.put(1, &json!({"event_type": "chat_message", "stream_id": "t", "ts": on_the_day("11:00:00")}));
    let expected = [("s".to_owned(), (minute("12:05:00"), 1)), ("t".to_owned(), (minute("11:00:00"), 0))];
    assert_eq!(case.answer().stream_state, BTreeMap::from(expected));
}

#[test]
fn a_presence_lasts_through_closed_windows() {
    let mut case = Case::default();
    case.join("u", "12:00:00");
    case.start("13:00:00");
    let late = case.leave("u", "12:30:00");
    assert_eq!(case.viewers("13:00:00"), 1);
    assert_eq!(case.answer().dead_letters, Verdicts::from([(late, Reason::Late)]));
}
