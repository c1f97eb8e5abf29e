//! Windows, `future`, watermarks, `late` and `closed`.

use super::*;

fn chat_at(time: &str) -> Vec<u8> {
    json!({"event_type": "chat_message", "stream_id": "s", "ts": on_the_day(time)}).to_string().into_bytes()
}

fn millis(time: &str) -> i64 {
    micros(time).0 / 1_000
}

/// Whether an event at `time` is `future` for this record time and clock, with a skew of 5 minutes.
fn is_future(time: &str, record_time: Option<&str>, clock: Clock) -> bool {
    let mut case = Case::default();
    let at = case.put_record(0, record_time.map(millis), Some(&chat_at(time)));
    let reasons = answer(&case.log, &case.rules, clock, &case.verdicts, None).dead_letters;
    assert!(matches!(reasons.get(&at), None | Some(Reason::Future)));
    reasons.contains_key(&at)
}

#[test]
fn a_window_holds_its_first_nanosecond_and_not_its_end() {
    let mut case = Case::default();
    for time in ["12:00:00", "12:00:59.999999999", "12:00:60", "12:01:00"] {
        case.chat(0, time);
    }
    assert_eq!(case.row("12:00:00").unwrap()[ChatMessages], 3);
    assert_eq!(case.row("12:01:00").unwrap()[ChatMessages], 1);
    assert_eq!(case.row("11:59:00"), None);
}

#[test]
fn late_is_window_end_at_or_before_the_watermark() {
    let mut case = Case::default();
    case.chat(0, "12:00:00");
    case.chat(0, "12:10:59.999999999");
    let on_time = case.chat(0, "12:00:00");
    case.chat(0, "12:11:00");
    assert_eq!(case.answer().watermarks[&0], Some(micros("12:01:00")));
    let late = case.chat(0, "12:00:59.999999999");
    let next_window = case.chat(0, "12:01:00");
    let answer = case.answer();
    assert_eq!(answer.dead_letters, Verdicts::from([(late, Reason::Late)]));
    assert!(!answer.dead_letters.contains_key(&on_time) && !answer.dead_letters.contains_key(&next_window));
    assert_eq!(case.row("12:00:00").unwrap()[ChatMessages], 2);
    assert_eq!((answer.admitted, answer.duplicates), (5, 0));
}

#[test]
fn an_event_is_never_late_by_itself() {
    for lateness in [0, 1, MINUTE] {
        let mut case = Case { rules: Rules { lateness, ..Rules::default() }, ..Case::default() };
        case.chat(0, "12:00:59.999999999");
        case.chat(0, "18:00:00");
        assert_eq!(case.answer().dead_letters, Verdicts::new());
    }
}

#[test]
fn lateness_of_zero_closes_a_window_at_its_end() {
    let mut case = Case { rules: Rules { lateness: 0, ..Rules::default() }, ..Case::default() };
    case.chat(0, "12:00:59.999999999");
    case.chat(0, "12:00:00");
    case.chat(0, "12:01:00");
    let late = case.chat(0, "12:00:59.999999999");
    assert_eq!(case.answer().dead_letters, Verdicts::from([(late, Reason::Late)]));
}

#[test]
fn only_a_partitions_own_watermark_makes_late() {
    let mut case = Case::default();
    case.chat(0, "18:00:00");
    case.chat(1, "12:00:00");
    case.log.insert(2, Vec::new());
    let answer = case.answer();
    assert_eq!(answer.dead_letters, Verdicts::new());
    let expected = [(0, Some(micros("17:50:00"))), (1, Some(micros("11:50:00"))), (2, None)];
    assert_eq!(answer.watermarks, BTreeMap::from(expected));
}

#[test]
fn watermarks_are_cut_to_microseconds() {
    let mut case = Case::default();
    case.chat(0, "12:10:00.000001999");
    assert_eq!(case.answer().watermarks[&0], Some(Micros(micros("12:00:00").0 + 1)));
    case.put(1, &json!({"event_type": "stream_start", "stream_id": "s", "ts": "1970-01-01T00:00:00.000000001Z"}));
    assert_eq!(case.answer().watermarks[&1], Some(Micros(-600_000_000)));
}

#[test]
fn what_does_not_decode_or_is_future_or_of_another_type_moves_no_watermark() {
    let mut case = Case::default();
    case.put(0, &json!({"event_type": "other", "stream_id": "s", "ts": on_the_day("18:00:00")}));
    case.put(0, &json!({"event_type": "viewer_join", "stream_id": "s", "ts": on_the_day("18:00:00")}));
    let future = case.put_record(0, Some(millis("12:00:00")), Some(&chat_at("18:00:00")));
    let answer = case.answer();
    assert_eq!(answer.watermarks[&0], None);
    assert_eq!(answer.other_types, 1);
    assert_eq!(answer.dead_letters, Verdicts::from([((0, 1), Reason::MissingField), (future, Reason::Future)]));
    assert_eq!((answer.rows.len(), answer.admitted), (0, 0));
}

#[test]
fn duplicates_and_closed_events_move_the_watermark() {
    let mut case = Case::default();
    let chat = |time| json!({"event_type": "chat_message", "stream_id": "s", "event_id": "e", "ts": on_the_day(time)});
    case.put(0, &chat("12:00:00"));
    case.put(0, &chat("12:00:30"));
    assert_eq!(case.answer().duplicates, 1);
    assert_eq!(case.answer().watermarks[&0], Some(micros("11:50:30")));
    let closed = case.chat(0, "12:20:00");
    case.verdicts.insert(closed, Reason::Closed);
    let late = case.chat(0, "12:09:00");
    let answer = case.answer();
    assert_eq!(answer.watermarks[&0], Some(micros("12:10:00")));
    assert_eq!(answer.dead_letters, Verdicts::from([(closed, Reason::Closed), (late, Reason::Late)]));
    assert_eq!(case.row("12:20:00"), None);
}

#[test]
fn closed_is_what_the_verdicts_say_after_everything_else() {
    let mut case = Case::default();
    case.chat(0, "12:30:00");
    let late = case.chat(0, "12:00:00");
    let broken = case.put(0, &json!({"event_type": "chat_message"}));
    let other = case.put(0, &json!({"event_type": "other"}));
    let future = case.put_record(0, Some(millis("12:00:00")), Some(&chat_at("18:00:00")));
    for at in [late, broken, other, future] {
        case.verdicts.insert(at, Reason::Closed);
    }
    let expected = [(late, Reason::Late), (broken, Reason::MissingField), (future, Reason::Future)];
    assert_eq!(case.answer().dead_letters, Verdicts::from(expected));
}

#[test]
fn verdicts_without_a_clock_in_them_are_judged_again() {
    let mut case = Case::default();
    let fine = case.chat(0, "12:00:00");
    case.verdicts.insert(fine, Reason::Late);
    assert_eq!(case.answer().dead_letters, Verdicts::new());
    case.verdicts.insert(fine, Reason::BadTs);
    assert_eq!(case.answer().dead_letters, Verdicts::new());
}

#[test]
fn future_is_more_than_the_skew_ahead_of_the_earlier_of_record_time_and_clock() {
    let noon = Clock::At(micros("12:00:00"));
    for (record_time, clock) in [
        (Some("12:00:00"), Clock::Stored),
        (Some("12:00:00"), noon),
        (Some("12:00:00"), Clock::At(micros("18:00:00"))),
        (Some("18:00:00"), noon),
        (None, noon),
    ] {
        assert!(!is_future("12:05:00", record_time, clock), "{record_time:?} {clock:?}");
        assert!(is_future("12:05:00.000000001", record_time, clock), "{record_time:?} {clock:?}");
    }
    assert!(!is_future("23:00:00", None, Clock::Stored));
}

#[test]
fn a_stored_future_stands_when_the_clock_is_unknown() {
    let mut case = Case::default();
    for record_time in [None, Some(millis("12:00:00"))] {
        let at = case.put_record(0, record_time, Some(&chat_at("12:00:00")));
        case.verdicts.insert(at, Reason::Future);
    }
    assert_eq!(case.answer().dead_letters, case.verdicts);
    assert_eq!(case.answer().watermarks[&0], None);
    let judged_anew = answer(&case.log, &case.rules, Clock::At(micros("12:00:00")), &case.verdicts, None);
    assert_eq!(judged_anew.dead_letters, Verdicts::new());
}

#[test]
fn settings_at_the_ends_of_64_bits() {
    let rules = Rules { lateness: i64::MAX, max_future_skew: i64::MAX, viewer_timeout: i64::MAX };
    let mut case = Case { rules, ..Case::default() };
    case.put_record(0, Some(i64::MIN), Some(&chat_at("12:00:00")));
    case.put_record(0, Some(i64::MAX), Some(&chat_at("12:00:00")));
    case.join("u", "12:00:00");
    let answer = answer(&case.log, &case.rules, Clock::At(Micros(i64::MAX)), &case.verdicts, None);
    assert_eq!(answer.dead_letters, Verdicts::from([((0, 0), Reason::Future)]));
    assert_eq!(answer.stream_state["s"], (minute("12:00:00"), 1));
}
