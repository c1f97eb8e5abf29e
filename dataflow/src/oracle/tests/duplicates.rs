//! One copy counts: of (stream, user, window, event_id).

use super::*;

/// A chat of the stream "s" with the id "e", with these members in place of, or besides, its own.
fn copy(members: &Value) -> Value {
    let mut event =
        json!({"event_type": "chat_message", "stream_id": "s", "user_id": "u", "event_id": "e", "ts": on_the_day("12:00:00")});
    for (name, value) in members.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

/// How many of the original and this copy, in the same partition, count.
fn counted(members: &Value) -> u64 {
    let mut case = Case::default();
    case.put(0, &copy(&json!({})));
    case.put(0, &copy(members));
    let answer = case.answer();
    assert_eq!(answer.admitted, 2);
    answer.admitted - answer.duplicates
}

#[test]
fn the_key_is_stream_user_window_and_id() {
    assert_eq!(counted(&json!({})), 1);
    assert_eq!(counted(&json!({"ts": on_the_day("12:00:59.999999999")})), 1, "another instant of the window");
    assert_eq!(counted(&json!({"event_type": "donation", "amount": 5})), 1, "the type is not in the key");
    assert_eq!(counted(&json!({"stream_id": "t"})), 2);
    assert_eq!(counted(&json!({"user_id": "v"})), 2);
    assert_eq!(counted(&json!({"user_id": null})), 2);
    assert_eq!(counted(&json!({"ts": on_the_day("12:01:00")})), 2);
    assert_eq!(counted(&json!({"event_id": "f"})), 2);
    assert_eq!(counted(&json!({"event_id": null})), 2);
}

#[test]
fn without_an_id_every_copy_counts() {
    let mut case = Case::default();
    for _ in 0..3 {
        case.put(0, &copy(&json!({"event_id": null})));
    }
    assert_eq!(case.row("12:00:00").unwrap()[ChatMessages], 3);
    assert_eq!(case.answer().duplicates, 0);
}

#[test]
fn an_invalid_user_is_the_same_as_none() {
    let mut case = Case::default();
    for user in [json!(null), json!(""), json!(5), json!("x".repeat(257)), json!("\0")] {
        case.put(0, &copy(&json!({"user_id": user})));
    }
    assert_eq!(case.row("12:00:00").unwrap()[ChatMessages], 1);
    assert_eq!(case.answer().duplicates, 4);
}

#[test]
fn within_a_partition_the_first_counts() {
    let mut case = Case::default();
    let donation = |amount: u32| copy(&json!({"event_type": "donation", "amount": amount}));
    case.put(0, &donation(7));
    case.put(0, &donation(9));
    assert_eq!(case.row("12:00:00").unwrap()[DonationsUsd], 700);
}

#[test]
fn copies_in_other_partitions_count_once() {
    let mut case = Case::default();
    for partition in [2, 0, 1, 0] {
        case.put(partition, &copy(&json!({})));
    }
    assert_eq!(case.row("12:00:00").unwrap()[ChatMessages], 1);
    assert_eq!(case.answer().duplicates, 3);
}

#[test]
fn a_duplicate_join_does_not_start_the_time_afresh() {
    let mut case = Case { rules: Rules { viewer_timeout: MINUTE, ..Rules::default() }, ..Case::default() };
    let join = |time: &str| copy(&json!({"event_type": "viewer_join", "ts": on_the_day(time)}));
    case.put(0, &join("12:00:10"));
    case.put(0, &join("12:00:50"));
    case.start("12:01:00");
    assert_eq!((case.viewers("12:00:00"), case.viewers("12:01:00")), (1, 0));
}

#[test]
fn a_rejected_copy_leaves_no_trace_of_its_id() {
    let mut case = Case::default();
    case.put(0, &copy(&json!({"stream_id": "t", "event_type": "donation", "amount": -1})));
    let future = case.put_record(0, Some(0), Some(copy(&json!({})).to_string().as_bytes()));
    let closed = case.put(0, &copy(&json!({})));
    case.verdicts.insert(closed, Reason::Closed);
    case.put(0, &copy(&json!({"event_type": "other"})));
    case.put(0, &copy(&json!({})));
    case.put(0, &copy(&json!({"stream_id": "t", "event_type": "donation", "amount": 1})));
    let answer = case.answer();
    let expected = [((0, 0), Reason::BadAmount), (future, Reason::Future), (closed, Reason::Closed)];
    assert_eq!(answer.dead_letters, Verdicts::from(expected));
    assert_eq!((answer.admitted, answer.duplicates, answer.other_types), (2, 0, 1));
}

#[test]
fn a_late_copy_is_late_and_one_in_a_slower_partition_still_counts() {
    let mut case = Case::default();
    case.chat(0, "18:00:00");
    let late = case.put(0, &copy(&json!({})));
    case.put(1, &copy(&json!({})));
    let answer = case.answer();
    assert_eq!(answer.dead_letters, Verdicts::from([(late, Reason::Late)]));
    assert_eq!((answer.admitted, answer.duplicates), (2, 0));
    assert_eq!(case.row("12:00:00").unwrap()[ChatMessages], 1);
}

#[test]
fn a_copy_of_a_counted_event_that_comes_too_late_is_a_dead_letter() {
    let mut case = Case::default();
    case.put(0, &copy(&json!({})));
    case.chat(0, "18:00:00");
    let late = case.put(0, &copy(&json!({})));
    assert_eq!(case.answer().dead_letters, Verdicts::from([(late, Reason::Late)]));
    assert_eq!(case.answer().duplicates, 0);
}
