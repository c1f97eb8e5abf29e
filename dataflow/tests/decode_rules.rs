//! Every rule of decoding at its edges, by hand; each case also goes to the judge where the judge can follow.

mod judge;

use judge::{KNOWN, Verdict, agree};
use std::borrow::Cow;
use tidemark_dataflow::decode::{Decoded, Decoder, Event};
use tidemark_model::{Cents, Kind, Nanos, Reason};

/// 2026-11-23T12:34:56Z.
const NOON: i64 = 1_795_437_296_000_000_000;

fn verdict(payload: impl AsRef<[u8]>) -> Verdict {
    agree(&mut Decoder::default(), Some(payload.as_ref()))
}

#[track_caller]
fn refuses(payload: impl AsRef<[u8]>, reason: Reason) {
    assert_eq!(verdict(&payload), Verdict::Rejected(reason), "{}", String::from_utf8_lossy(payload.as_ref()));
}

/// A message with this text for its members beside `event_type`.
#[track_caller]
fn chat(members: &str) -> Verdict {
    verdict(format!(r#"{{"event_type":"chat_message"{members}}}"#))
}

#[track_caller]
fn ts_of(text: &str) -> Option<i64> {
    match chat(&format!(r#","stream_id":"s","ts":"{text}""#)) {
        Verdict::Event { ts, .. } => Some(ts.0),
        Verdict::Rejected(Reason::BadTs) => None,
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn donation(members: &str) -> Result<i64, Reason> {
    match verdict(format!(r#"{{"event_type":"donation","stream_id":"s","ts":"2026-11-23T12:34:56Z",{members}}}"#)) {
        Verdict::Event { amount, .. } => Ok(amount.0),
        Verdict::Rejected(reason) => Err(reason),
        other => panic!("{members}: {other:?}"),
    }
}

#[test]
fn the_common_event_borrows_everything() {
    let payload = br#"{"event_id":"e1","event_type":"donation","stream_id":"s","user_id":"u","ts":"2026-11-23T12:34:56.123456Z","amount_usd":12.34}"#;
    let mut decoder = Decoder::default();
    agree(&mut decoder, Some(payload));
    let Ok(Decoded::Event(event)) = decoder.decode(Some(payload)) else { panic!("it is an event") };
    let expected = Event {
        kind: Kind::Donation,
        stream_id: Cow::Borrowed("s"),
        ts: Nanos(NOON + 123_456_000),
        event_id: Some(Cow::Borrowed("e1")),
        user_id: Some(Cow::Borrowed("u")),
        amount: Cents(1234),
    };
    assert_eq!(event, expected);
    for text in [Some(event.stream_id), event.event_id, event.user_id] {
        assert!(matches!(text, Some(Cow::Borrowed(_))));
    }
}

#[test]
fn empty_and_utf8() {
    assert_eq!(agree(&mut Decoder::default(), None), Verdict::Rejected(Reason::Empty));
    refuses("", Reason::Empty);
    refuses(" ", Reason::InvalidJson);
    for bad in [&b"\xff"[..], b"{\"x\":\"\xc3\"}", b"{} \xc3", b"nonsense \xed\xa0\x80", b"\"\xc0\xaf\"", b"\"\xf4\x90\x80\x80\""]
    {
        refuses(bad, Reason::InvalidUtf8);
    }
}

#[test]
fn what_is_not_json() {
    let texts = [
        "\u{feff}{}",
        "{}\u{feff}",
        "{}x",
        "{}{}",
        "{},",
        "{",
        "}",
        "[",
        "]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{,}",
        r#"{"a":1,}"#,
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a" 1}"#,
        r#"{"a":1 "b":2}"#,
        "{a:1}",
        "{'a':1}",
        r#"{1:1}"#,
        "[}",
        "{]",
        r#"[{"a":1]}"#,
        "nul",
        "nulL",
        "True",
        "truefalse",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\t\"",
        "\"\u{1f}\"",
        "\"\0\"",
        "\0",
        "{}\0",
        "{}\u{a0}",
        "\u{b}{}",
        "{}\u{c}",
        "// c\n{}",
        r#""\x""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\u+123""#,
        r#""\U0041""#,
        r#""\"#,
        r#""\u"#,
        r#"{"a\qb":1}"#,
        "NaN",
        "-Infinity",
        "0x10",
    ];
    for text in texts {
        refuses(text, Reason::InvalidJson);
    }
}

#[test]
fn numbers_follow_the_grammar_wherever_they_stand() {
    for good in ["0", "-0", "10", "1.5", "0.0", "1e5", "1E+5", "1e-05", "-0.0e0", "1e400", "123456789012345678901234567890"] {
        refuses(good, Reason::NotObject);
        refuses(format!(r#"{{"x":[{good}],"event_type":1}}"#), Reason::WrongType);
    }
    for bad in ["01", "-", "+1", ".5", "1.", "1.e5", "1e", "1e+", "--1", "1e5.5", "00", "-01", "1a", "0.5.5", "١"] {
        refuses(bad, Reason::InvalidJson);
        refuses(format!(r#"{{"x":{{"y":{bad}}}}}"#), Reason::InvalidJson);
    }
}

#[test]
fn lone_surrogates_anywhere() {
    let lone = [
        r"\ud800",
        r"\udfff",
        r"\ud800x",
        r"\ud800\n",
        r"\ud800\u0041",
        r"\ud800\ud800",
        r"\udc00\ud800",
        r"\uD83D \uDE00",
        r"\ud83d\ude0",
    ];
    for text in lone {
        for document in [
            format!("\"{text}\""),
            format!(r#"{{"ignored":["{text}"]}}"#),
            format!(r#"{{"{text}":1}}"#),
            format!(r#"[{{"{text}":1}}]"#),
        ] {
            refuses(document, Reason::InvalidJson);
        }
    }
    refuses(r#"["\ud83d\ude00","\uD800\uDC00","\udbff\udfff","\ud7ff\ue000"]"#, Reason::NotObject);
}

#[test]
fn other_values_are_no_objects() {
    for text in ["null", "true", " false ", "\"{}\"", "[{}]", "\n[\t]\r", "12"] {
        refuses(text, Reason::NotObject);
    }
    refuses("{}", Reason::MissingField);
    refuses(" \t\r\n{ \n} ", Reason::MissingField);
}

#[test]
fn nesting_has_no_limit() {
    const DEEP: usize = 1_000_000;
    let mut decoder = Decoder::default();
    let mut reason = |text: String| match decoder.decode(Some(text.as_bytes())) {
        Err(rejected) => Some(rejected.reason),
        Ok(_) => None,
    };
    let (open, close) = ("[".repeat(DEEP), "]".repeat(DEEP));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(DEEP), "}".repeat(DEEP));
    assert_eq!(reason(format!("{open}{close}")), Some(Reason::NotObject));
    assert_eq!(reason(format!("{open}{}", &close[1..])), Some(Reason::InvalidJson));
    assert_eq!(reason(format!("{open}{close}]")), Some(Reason::InvalidJson));
    assert_eq!(reason(format!("{open}}}{close}")), Some(Reason::InvalidJson));
    assert_eq!(reason(open.clone()), Some(Reason::InvalidJson));
    assert_eq!(reason(objects.clone()), Some(Reason::MissingField));
    assert_eq!(reason(objects[..objects.len() - 1].to_owned()), Some(Reason::InvalidJson));
    assert_eq!(reason(format!("{}]", &objects[..objects.len() - 1])), Some(Reason::InvalidJson));
    assert_eq!(reason(format!(r#"{{"x":{open}{close},"event_type":"none"}}"#)), None);
    // Objects and arrays in turn, also with one wrong bracket, at depths around the bit stack's words.
    for depth in 1..300 {
        let open: String = (0..depth).map(|level| if level % 3 == 0 { r#"{"a":"# } else { "[" }).collect();
        let close: String = (0..depth).rev().map(|level| if level % 3 == 0 { '}' } else { ']' }).collect();
        let pair = if open.ends_with('[') { Reason::NotObject } else { Reason::InvalidJson };
        assert_eq!(reason(format!("{open}0{close}")), Some(Reason::MissingField));
        assert_eq!(reason(format!("[{open}0,1{close}]")), Some(pair));
        let swapped: String =
            close.chars().enumerate().map(|(i, c)| if i == depth / 2 { if c == '}' { ']' } else { '}' } } else { c }).collect();
        assert_eq!(reason(format!("{open}0{swapped}")), Some(Reason::InvalidJson));
    }
}

#[test]
fn known_names_stand_once() {
    for name in KNOWN {
        refuses(format!(r#"{{"{name}":null,"{name}":null}}"#), Reason::DuplicateField);
        refuses(format!(r#"{{"event_type":"other","{name}":1,"x":0,"{name}":2}}"#), Reason::DuplicateField);
        let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
        refuses(format!(r#"{{"{name}":1,"{escaped}":2}}"#), Reason::DuplicateField);
        refuses(format!(r#"{{"{escaped}":1,"{escaped}":2,}}"#), Reason::InvalidJson);
        let nested = format!(r#"{{"event_type":"other","x":{{"{name}":1,"{name}":2}}}}"#);
        assert_eq!(verdict(nested), Verdict::Other("other".to_owned()));
    }
    assert_eq!(
        verdict(r#"{"x":1,"x":2,"event_type":"other","Ts":1,"Ts":1,"ts ":1,"ts ":2}"#),
        Verdict::Other("other".to_owned())
    );
}

#[test]
fn event_type_comes_first() {
    refuses(r#"{"stream_id":1}"#, Reason::MissingField);
    refuses(r#"{"event_type":null,"stream_id":1}"#, Reason::MissingField);
    for value in ["1", "true", "[]", "{}", "[\"donation\"]"] {
        refuses(format!(r#"{{"event_type":{value}}}"#), Reason::WrongType);
    }
    for other in ["", "Donation", "viewer_join ", "ad_break", "ü"] {
        assert_eq!(
            verdict(format!(r#"{{"event_type":"{other}","stream_id":7,"ts":[],"amount":"x"}}"#)),
            Verdict::Other(other.to_owned())
        );
    }
    assert_eq!(verdict(r#"{"event_type":"a\u0000"}"#), Verdict::Other("a\0".to_owned()));
    for kind in Kind::ALL {
        let text = format!(
            r#"{{"event\u005ftype":"\u{:04x}{}","stream_id":"s","ts":"1970-01-01t00:00:00","user_id":"u","amount":1}}"#,
            kind.as_str().as_bytes()[0],
            &kind.as_str()[1..]
        );
        assert!(matches!(verdict(text), Verdict::Event { kind: k, .. } if k == kind));
    }
}

#[test]
fn fields_are_judged_in_order() {
    // From one that has everything wrong, each repaired field uncovers the next fault.
    let steps = [
        (r#""event_type":"donation""#, Reason::MissingField),
        (r#""stream_id":false"#, Reason::WrongType),
        (r#""stream_id":"""#, Reason::BadId),
        (r#""stream_id":"s""#, Reason::MissingField),
        (r#""stream_id":"s","ts":0"#, Reason::WrongType),
        (r#""stream_id":"s","ts":"now""#, Reason::BadTs),
        (r#""stream_id":"s","ts":"2026-01-01T00:00:00","event_id":1"#, Reason::WrongType),
        (r#""stream_id":"s","ts":"2026-01-01T00:00:00","event_id":"""#, Reason::BadId),
        (r#""stream_id":"s","ts":"2026-01-01T00:00:00","event_id":"e""#, Reason::MissingField),
        (r#""stream_id":"s","ts":"2026-01-01T00:00:00","amount":[]"#, Reason::WrongType),
        (r#""stream_id":"s","ts":"2026-01-01T00:00:00","amount":-1"#, Reason::BadAmount),
    ];
    for (members, reason) in steps {
        let members = members.trim_start_matches(r#""event_type":"donation""#);
        let comma = if members.is_empty() { "" } else { "," };
        refuses(format!(r#"{{"event_type":"donation","user_id":5{comma}{members}}}"#), reason);
    }
    // A bad event_id comes before a missing user.
    refuses(r#"{"event_type":"viewer_join","stream_id":"s","ts":"2026-01-01T00:00:00","event_id":""}"#, Reason::BadId);
}

#[test]
fn ids() {
    let with = |id: &str| chat(&format!(r#","ts":"2026-11-23T12:34:56","stream_id":"{id}""#));
    let stream = |id: &str| match with(id) {
        Verdict::Event { stream_id, .. } => Some(stream_id),
        _ => None,
    };
    assert_eq!(stream(&"x".repeat(256)), Some("x".repeat(256)));
    assert_eq!(stream(&r"\u0078".repeat(256)), Some("x".repeat(256)));
    assert_eq!(stream(&r"\ud83d\ude00".repeat(64)), Some("😀".repeat(64)));
    assert_eq!(stream(r" \u0001\t"), Some(" \u{1}\t".to_owned()));
    for id in ["", r"\u0000", r"a\u0000b", &"x".repeat(257), &r"\u0078".repeat(257), &"😀".repeat(65)] {
        assert_eq!(with(id), Verdict::Rejected(Reason::BadId));
    }
}

#[test]
fn users_are_judged_only_where_they_are_needed() {
    for value in ["null", "1", "[]", r#""""#, r#""\u0000""#, &format!("\"{}\"", "x".repeat(257))] {
        let rest = format!(r#""stream_id":"s","ts":"2026-11-23T12:34:56","user_id":{value},"amount":1"#);
        for kind in Kind::ALL {
            let verdict = verdict(format!(r#"{{"event_type":"{}",{rest}}}"#, kind.as_str()));
            let is_user_less_event = matches!(&verdict, Verdict::Event { user_id: None, .. });
            assert_eq!(is_user_less_event, !kind.needs_user(), "{verdict:?}");
        }
    }
    let join =
        |user: &str| verdict(format!(r#"{{"event_type":"viewer_join","stream_id":"s","ts":"2026-11-23T12:34:56"{user}}}"#));
    assert_eq!(join(""), Verdict::Rejected(Reason::MissingField));
    assert_eq!(join(r#","user_id":null"#), Verdict::Rejected(Reason::MissingField));
    assert_eq!(join(r#","user_id":1"#), Verdict::Rejected(Reason::WrongType));
    assert_eq!(join(r#","user_id":"""#), Verdict::Rejected(Reason::BadId));
}

#[test]
fn times() {
    let good = [
        ("2026-11-23T12:34:56Z", NOON),
        ("2026-11-23t12:34:56z", NOON),
        ("2026-11-23 12:34:56", NOON),
        ("2026-11-23T12:34:56+00:00", NOON),
        ("2026-11-23T12:34:56-00:00", NOON),
        ("2026-11-24T12:33:56+23:59", NOON),
        ("2026-11-22T12:35:56-23:59", NOON),
        ("2026-11-23T12:34:56.1", NOON + 100_000_000),
        ("2026-11-23T12:34:56.123456789Z", NOON + 123_456_789),
        ("2026-11-23T12:34:56.1234567899999999999z", NOON + 123_456_789),
        ("2026-11-23T12:34:56.0000000009Z", NOON),
        ("2026-11-23T12:34:56.123456Z", NOON + 123_456_000),
        ("2026-11-23T12:34:56.1234567", NOON + 123_456_700),
        ("2026-11-23T12:34:56.123456+01:00", NOON + 123_456_000 - 3_600_000_000_000),
        ("2026-11-23T12:34:60Z", NOON + 3_999_999_999),
        ("2026-11-23T12:34:60.5Z", NOON + 3_999_999_999),
        ("2026-11-23T13:34:60.000+01:00", NOON + 3_999_999_999),
        ("1970-01-01T00:00:00", 0),
        ("1969-12-31T23:00:00-01:00", 0),
        ("2024-02-29T00:00:00", 1_709_164_800_000_000_000),
        ("2261-12-31T23:59:59.999999999Z", Nanos::END.0 - 1),
        ("2261-12-31T23:59:60", Nanos::END.0 - 1),
        ("2262-01-01T00:59:59.999999999+01:00", Nanos::END.0 - 1),
        (r"2026-11-23\u005412:34:56\u005a", NOON),
    ];
    for (text, nanos) in good {
        assert_eq!(ts_of(text), Some(nanos), "{text}");
    }
    let bad = [
        "",
        "2026-11-23",
        "2026-11-23T12:34",
        "2026-11-23T12:34Z",
        "2026-11-23T12:34:56.",
        "2026-11-23T12:34:56.Z",
        "2026-11-23T12:34:56,5Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T23:60:00Z",
        "2026-11-23T23:59:61Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-32T00:00:00Z",
        " 2026-11-23T12:34:56Z",
        "2026-11-23T12:34:56Z ",
        "2026-11-23T12:34:56 Z",
        "2026-11-23T12:34:56ZZ",
        "2026-11-23T12:34:56+01",
        "2026-11-23T12:34:56+0100",
        "2026-11-23T12:34:56+24:00",
        "2026-11-23T12:34:56+01:60",
        "2026-11-23T12:34:56Z+01:00",
        "2026-11-23_12:34:56Z",
        "2026/11/23T12:34:56Z",
        "2026-11-23T12.34.56Z",
        "20261123T123456Z",
        "+2026-11-23T12:34:56Z",
        "1796387696",
        "2026-11-23T1:34:56Z",
        "226-11-23T12:34:56Z",
        "1969-12-31T23:59:59.999999999Z",
        "1969-12-31T23:59:60Z",
        "1970-01-01T00:00:00+00:01",
        "2262-01-01T00:00:00Z",
        "2261-12-31T23:59:59-00:01",
        "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "2026-11-23T12:34:5٣Z",
        "2026-11-23T12:34:56.12345:Z",
        "2026-11-23T12:34:56.12345/Z",
        "2026-11-23T12:34:56−01:00",
        r"2026-11-23T12:34:56Z\u0000",
        r"\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000T12:34:56Z",
    ];
    for text in bad {
        assert_eq!(ts_of(text), None, "{text}");
    }
}

#[test]
fn the_remembered_date_changes_no_answer() {
    let mut decoder = Decoder::default();
    let dates = [
        "2026-11-23",
        "2026-11-23",
        "2026-11-24",
        "2026-02-30",
        "2026-02-30",
        "2026-11-24",
        "1970-01-01",
        "2026-1a-01",
        "2026-11-24",
    ];
    for date in dates {
        let payload = format!(r#"{{"event_type":"chat_message","stream_id":"s","ts":"{date}T00:00:00Z"}}"#);
        agree(&mut decoder, Some(payload.as_bytes()));
    }
}

#[test]
fn amounts() {
    assert_eq!(donation(r#""amount_usd":25.005"#), Ok(2501));
    assert_eq!(donation(r#""amount_usd":"25.005""#), Ok(2501));
    assert_eq!(donation(r#""amount_usd":"\u0032e1""#), Ok(2000));
    assert_eq!(donation(r#""amount_usd":-0.0"#), Ok(0));
    assert_eq!(donation(r#""amount_usd":1e9"#), Ok(100_000_000_000));
    assert_eq!(donation(r#""amount_usd":90071992.5474099355"#), Ok(9_007_199_255));
    for bad in [
        "-0.01",
        "1000000000.004",
        "1e10",
        "1e999999999999999999999",
        r#""""#,
        r#"" 1""#,
        r#""1 ""#,
        r#""1,5""#,
        r#""01""#,
        r#""+1""#,
        r#""1\u0000""#,
    ] {
        assert_eq!(donation(&format!("\"amount_usd\":{bad}")), Err(Reason::BadAmount), "{bad}");
    }
    for bad in ["true", "[1]", "{}"] {
        assert_eq!(donation(&format!("\"amount\":{bad}")), Err(Reason::WrongType), "{bad}");
    }
}

#[test]
fn amount_only_stands_in() {
    assert_eq!(donation(r#""amount":1,"amount_usd":2"#), Ok(200));
    assert_eq!(donation(r#""amount":1,"amount_usd":null"#), Ok(100));
    assert_eq!(donation(r#""amount":[],"amount_usd":2"#), Ok(200));
    assert_eq!(donation(r#""amount":1,"amount_usd":"x""#), Err(Reason::BadAmount));
    assert_eq!(donation(r#""amount":1,"amount_usd":false"#), Err(Reason::WrongType));
    assert_eq!(donation(r#""amount":null,"amount_usd":null"#), Err(Reason::MissingField));
    assert_eq!(donation(r#""x":1"#), Err(Reason::MissingField));
    let chat = chat(r#","stream_id":"s","ts":"2026-11-23T12:34:56Z","amount_usd":[],"amount":-5"#);
    assert!(matches!(chat, Verdict::Event { amount: Cents(0), .. }));
}

#[test]
fn errors_say_what_and_are_bounded() {
    let error = |payload: String| Decoder::default().decode(Some(payload.as_bytes())).unwrap_err().error;
    assert_eq!(error(r#"{"event_type":"donation""#.to_owned()), "at byte 24: a ',' or '}' is missing");
    assert_eq!(error(r#"{"event_type":7}"#.to_owned()), "event_type is a number; allowed is a string");
    assert_eq!(error(r#"{"ts":1,"ts":2}"#.to_owned()), "ts stands twice");
    assert_eq!(error("[]".to_owned()), "the payload is an array, not an object");
    let long = format!(r#"{{"event_type":"stream_stop","stream_id":"s","ts":"{}"}}"#, "\u{10ffff}".repeat(10_000));
    assert!((100..1_000).contains(&error(long).chars().count()));
}
