//! The records behind a row.

use super::*;
use tidemark_model::Kind;

#[test]
fn a_row_and_everything_that_made_it() {
    let mut case = Case { rules: Rules { viewer_timeout: 10 * MINUTE, ..Rules::default() }, ..Case::default() };
    case.join("timed out", "11:59:00");
    case.join("stays", "12:01:00");
    case.join("left", "12:01:00");
    case.leave("left", "12:09:30");
    case.join("stays", "12:05:00");
    case.join("later", "12:10:00");
    let chat = json!({"event_type": "chat_message", "stream_id": "s", "event_id": "e", "ts": on_the_day("12:09:59")});
    let first = case.put(0, &chat);
    let duplicate = case.put(0, &chat);
    let closed = case.chat(1, "12:09:00");
    case.verdicts.insert(closed, Reason::Closed);
    case.put(0, &json!({"event_type": "viewer_join", "stream_id": "t", "user_id": "x", "ts": on_the_day("12:09:00")}));

    let evidence = explain(&case.log, &case.rules, &case.verdicts, minute("12:09:00"), "s");
    let summary: Vec<_> =
        evidence.iter().map(|record| ((record.partition, record.offset), record.kind, record.fate, record.presence)).collect();
    let expected = [
        ((0, 0), Kind::ViewerJoin, Fate::Counted, Some(Presence::TimedOut)),
        ((0, 2), Kind::ViewerJoin, Fate::Counted, None),
        ((0, 3), Kind::ViewerLeave, Fate::Counted, Some(Presence::Left)),
        ((0, 4), Kind::ViewerJoin, Fate::Counted, Some(Presence::Present)),
        (first, Kind::ChatMessage, Fate::Counted, None),
        (duplicate, Kind::ChatMessage, Fate::Duplicate { first }, None),
        (closed, Kind::ChatMessage, Fate::Rejected(Reason::Closed), None),
    ];
    assert_eq!(summary, expected);
    assert_eq!(evidence[0].user.as_deref(), Some("timed out"));
    assert_eq!(evidence[0].minute, minute("11:59:00"));
    assert_eq!(
        case.row("12:09:00"),
        Some(Values::of([(ActiveViewers, 1), (UniqueViewers, 2), (WatchMs, 90_000), (ChatMessages, 1),]))
    );
}

#[test]
fn a_row_that_is_not_there_has_no_events_of_its_own() {
    let mut case = Case::default();
    case.join("u", "12:00:00");
    let evidence = explain(&case.log, &case.rules, &case.verdicts, minute("12:01:00"), "s");
    assert_eq!(evidence.iter().map(|record| record.presence).collect::<Vec<_>>(), [Some(Presence::Present)]);
    assert_eq!(explain(&case.log, &case.rules, &case.verdicts, minute("12:00:00"), "t"), []);
}
