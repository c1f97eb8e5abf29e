//! The table of fields, and the order of the reasons.

use super::*;
use crate::oracle::decode::{Decoded, Event, decode};
use tidemark_model::Kind;

fn rejected(payload: impl AsRef<[u8]>) -> Reason {
    let shown = String::from_utf8_lossy(payload.as_ref()).into_owned();
    decode(Some(payload.as_ref())).expect_err(&shown)
}

fn event(payload: impl AsRef<[u8]>) -> Event {
    let shown = String::from_utf8_lossy(payload.as_ref()).into_owned();
    match decode(Some(payload.as_ref())) {
        Ok(Decoded::Event(event)) => event,
        other => panic!("{shown}: {other:?}"),
    }
}

fn is_other_type(payload: &str) -> bool {
    decode(Some(payload.as_bytes())) == Ok(Decoded::OtherType)
}

/// A valid event with these members in place of, or besides, its own. `null` stands for itself.
fn with(kind: &str, members: &Value) -> String {
    let mut event = json!({"event_type": kind, "stream_id": "s", "ts": "2024-05-01T12:00:00Z"});
    for (name, value) in members.as_object().unwrap() {
        event[name] = value.clone();
    }
    event.to_string()
}

fn donation(text_of_amount: &str) -> String {
    format!(r#"{{"event_type":"donation","stream_id":"s","ts":"2024-05-01T12:00:00Z","amount_usd":{text_of_amount}}}"#)
}

#[test]
fn a_whole_event() {
    let payload = br#"{"event_id":"e1","event_type":"donation","stream_id":"s","user_id":"u","amount_usd":25.5,
        "ts":"1970-01-01T00:01:00.5Z"}"#;
    let expected = Event {
        kind: Kind::Donation,
        stream: "s".to_owned(),
        ts: Nanos(60_500_000_000),
        event_id: Some("e1".to_owned()),
        user: Some("u".to_owned()),
        amount: Cents(2_550),
    };
    assert_eq!(event(payload), expected);
}

#[test]
fn payloads_that_are_no_object() {
    assert_eq!(decode(None), Err(Reason::Empty));
    assert_eq!(rejected(""), Reason::Empty);
    assert_eq!(rejected(" "), Reason::InvalidJson);
    for payload in ["[]", "1", "null", "true", "\"x\"", " [ ] ", r#"["viewer_join","s","2024-05-01T12:00:00Z",null,"u"]"#] {
        assert_eq!(rejected(payload), Reason::NotObject, "{payload}");
    }
}

#[test]
fn utf8_is_judged_everywhere_and_before_json() {
    assert_eq!(rejected(b"\xff"), Reason::InvalidUtf8);
    assert_eq!(rejected(b"{\"ignored\":\"\xc3\x28\"}"), Reason::InvalidUtf8);
    assert_eq!(rejected(b"{\"event_type\":\"other\"}\xf0\x9f"), Reason::InvalidUtf8);
    assert_eq!(rejected(b"{\"ignored\":\"\xed\xa0\x80\"}"), Reason::InvalidUtf8, "a surrogate in UTF-8");
    assert_eq!(rejected(b"{\"ignored\":\"\xc0\x80\"}"), Reason::InvalidUtf8, "an overlong form");
}

#[test]
fn json_is_judged_everywhere() {
    for payload in [
        "\u{feff}{}",
        "{} {}",
        "{}x",
        "{}\0",
        "{",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{\"a\":01}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":NaN}",
        "{\"a\":tru}",
        "{\"a\":True}",
        "{\"a\":nulll}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{\"a\":[1 2]}",
        "{\"a\":[1,]}",
        "{\"a\":[}]}",
        "{\"a\":1 \"b\":2}",
        "{,}",
        "{\"a\":1}}",
        "{\"a\":1}/**/",
        "{\"a\"\u{a0}:1}",
        "{\"a\":1\u{c}}",
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00"}"#,
        r#"{"a":"\ud800\ud800"}"#,
        r#"{"a":"\ud800x"}"#,
        r#"{"a":"\udc00\ud800"}"#,
        r#"{"a":[{"b":["\uDBFF"]}]}"#,
        r#"{"\ud800":1}"#,
        r#"{"a":{"\udfff":1}}"#,
        r#"{"event_type":"other","x":"\ud83d"}"#,
        "[1,]",
        "\u{feff}",
    ] {
        assert_eq!(rejected(payload), Reason::InvalidJson, "{payload:?}");
    }
    for payload in [
        " \t\r\n{ \"event_type\" : \"other\" } \n",
        r#"{"event_type":"other","x":"\ud83d\ude00 \u0000 \/\b\f\n\r\t\"\\"}"#,
        "{\"event_type\":\"other\",\"x\":\"\u{7f}\u{2028}\u{feff}\"}",
        r#"{"event_type":"other","x":1e400000000,"y":-0.0E-0,"z":123456789012345678901234567890}"#,
        r#"{"event_type":"other","x":{},"y":[],"z":[{},[[]],null,true,false]}"#,
    ] {
        assert!(is_other_type(payload), "{payload}");
    }
}

#[test]
fn nesting_has_no_limit_and_does_not_recurse() {
    let deep = 300_000;
    let on_a_small_stack = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
        let arrays = format!(r#"{{"x":{}{},"event_type":"other"}}"#, "[".repeat(deep), "]".repeat(deep));
        assert!(is_other_type(&arrays));
        let objects = format!(r#"{{"x":{}1{},"event_type":"other"}}"#, r#"{"event_type":"#.repeat(deep), "}".repeat(deep));
        assert!(is_other_type(&objects));
        assert_eq!(rejected("[".repeat(deep)), Reason::InvalidJson);
        assert_eq!(rejected("[".repeat(deep) + &"]".repeat(deep)), Reason::NotObject);
    });
    on_a_small_stack.unwrap().join().unwrap();
}

#[test]
fn a_known_name_stands_once() {
    for known in ["event_type", "stream_id", "ts", "event_id", "user_id", "amount_usd", "amount"] {
        assert_eq!(rejected(format!(r#"{{"{known}":null,"{known}":null}}"#)), Reason::DuplicateField);
        assert_eq!(rejected(format!(r#"{{"event_type":"other","{known}":1,"x":2,"{known}":1}}"#)), Reason::DuplicateField);
    }
    assert_eq!(rejected(r#"{"ts":1,"\u0074s":2}"#), Reason::DuplicateField, "names are compared unescaped");
    assert!(is_other_type(r#"{"event_type":"other","x":1,"x":2,"y":{"ts":1,"ts":2}}"#));
    assert!(is_other_type(r#"{"event_type":"other","Event_Type":"x","event_type ":"x"}"#));
    assert!(is_other_type(r#"{"x":[{"event_type":"a"}],"event_type":"other"}"#));
}

#[test]
fn the_event_type() {
    for kind in ["viewer_join", "viewer_leave", "chat_message", "donation", "stream_start", "stream_stop"] {
        assert_eq!(event(with(kind, &json!({"user_id": "u", "amount": 1}))).kind.as_str(), kind);
    }
    assert_eq!(event(with("x", &json!({"event_type": null})).replace("null", r#""\u0063hat_message""#)).kind, Kind::ChatMessage);
    assert_eq!(rejected("{}"), Reason::MissingField);
    assert_eq!(rejected(r#"{"event_type":null}"#), Reason::MissingField);
    for value in [json!(1), json!(true), json!(false), json!([]), json!({}), json!(["donation"])] {
        assert_eq!(rejected(with("", &json!({"event_type": value}))), Reason::WrongType);
    }
    for other in ["", "Donation", "donation ", "VIEWER_JOIN", "viewer_join\0"] {
        assert!(is_other_type(&json!({"event_type": other, "stream_id": 1, "ts": [], "user_id": "", "amount": "x"}).to_string()));
    }
}

#[test]
fn ids() {
    let longest = "é".repeat(128);
    let id_rules = |kind: &str, name: &str| {
        for good in ["x", " ", "\u{1}", "é😀", longest.as_str()] {
            event(with(kind, &json!({name: good})));
        }
        for bad in ["", "\0", "a\0b", &format!("{longest}x")] {
            assert_eq!(rejected(with(kind, &json!({name: bad}))), Reason::BadId, "{name} {bad:?}");
        }
        for wrong in [json!(1), json!(true), json!(["x"]), json!({"x": 1})] {
            assert_eq!(rejected(with(kind, &json!({name: wrong}))), Reason::WrongType, "{name}");
        }
    };
    id_rules("chat_message", "stream_id");
    id_rules("stream_start", "event_id");
    id_rules("viewer_join", "user_id");
    id_rules("viewer_leave", "user_id");
    assert_eq!(rejected(with("stream_stop", &json!({"stream_id": null}))), Reason::MissingField);
    assert_eq!(event(with("stream_stop", &json!({"event_id": null}))).event_id, None);
    assert_eq!(event(with("stream_stop", &json!({}))).event_id, None);
}

#[test]
fn users_are_judged_for_joins_and_leaves_only() {
    for kind in ["viewer_join", "viewer_leave"] {
        assert_eq!(rejected(with(kind, &json!({}))), Reason::MissingField);
        assert_eq!(rejected(with(kind, &json!({"user_id": null}))), Reason::MissingField);
    }
    for kind in ["chat_message", "donation", "stream_start", "stream_stop"] {
        for none in [json!(null), json!(7), json!([]), json!(""), json!("a\0"), json!("x".repeat(257))] {
            assert_eq!(event(with(kind, &json!({"user_id": none, "amount": 1}))).user, None);
        }
        assert_eq!(event(with(kind, &json!({"user_id": "u", "amount": 1}))).user.as_deref(), Some("u"));
    }
}

#[test]
fn times() {
    assert_eq!(rejected(with("stream_start", &json!({"ts": null}))), Reason::MissingField);
    assert_eq!(rejected(with("stream_start", &json!({"ts": 1_714_564_800}))), Reason::WrongType);
    assert_eq!(rejected(with("stream_start", &json!({"ts": ""}))), Reason::BadTs);
    assert_eq!(rejected(with("stream_start", &json!({"ts": "2024-05-01"}))), Reason::BadTs);
    assert_eq!(event(with("stream_start", &json!({"ts": "2024-05-01 14:00:00.25+02:00"}))).ts, instant("12:00:00.25"));
    let escaped = with("stream_start", &json!({})).replace("12:00:00Z", r"12\u003a00:00\u005A");
    assert_eq!(event(escaped).ts, instant("12:00:00"));
}

#[test]
fn amounts() {
    for (text, cents) in [
        ("25", 2_500),
        ("25.005", 2_501),
        ("0.005", 1),
        ("0.00499", 0),
        ("-0", 0),
        ("-0.00", 0),
        ("1e2", 10_000),
        ("1E-2", 1),
        ("0e999999999999999999999", 0),
        ("1000000000.00", 100_000_000_000),
        ("10e8", 100_000_000_000),
        ("0.1000000000000000055511151231257827", 10),
    ] {
        assert_eq!(event(donation(text)).amount, Cents(cents), "{text}");
        assert_eq!(event(donation(&format!("\"{text}\""))).amount, Cents(cents), "\"{text}\"");
    }
    for text in ["1000000000.001", "1000000000.01", "-0.01", "-0.001", "-1", "1e400000000", "1e10"] {
        assert_eq!(rejected(donation(text)), Reason::BadAmount, "{text}");
        assert_eq!(rejected(donation(&format!("\"{text}\""))), Reason::BadAmount, "\"{text}\"");
    }
    for text in ["", " 1", "1 ", "+1", ".5", "5.", "05", "1,5", "1_0", "0x1", "NaN", "inf", "$1", "ten", "1\\u0000"] {
        assert_eq!(rejected(donation(&format!("\"{text}\""))), Reason::BadAmount, "\"{text}\"");
    }
    for text in ["true", "false", "[]", "[1]", "{}"] {
        assert_eq!(rejected(donation(text)), Reason::WrongType, "{text}");
    }
    assert_eq!(event(donation(r#""\u0032\u002e5""#)).amount, Cents(250));
}

#[test]
fn amount_stands_in_only_when_amount_usd_is_absent() {
    assert_eq!(rejected(with("donation", &json!({}))), Reason::MissingField);
    assert_eq!(rejected(with("donation", &json!({"amount_usd": null, "amount": null}))), Reason::MissingField);
    assert_eq!(event(with("donation", &json!({"amount": "3.50"}))).amount, Cents(350));
    assert_eq!(event(with("donation", &json!({"amount_usd": null, "amount": 3}))).amount, Cents(300));
    assert_eq!(event(with("donation", &json!({"amount_usd": 1, "amount": "not judged"}))).amount, Cents(100));
    assert_eq!(rejected(with("donation", &json!({"amount_usd": "x", "amount": 3}))), Reason::BadAmount);
    assert_eq!(rejected(with("donation", &json!({"amount_usd": true, "amount": 3}))), Reason::WrongType);
    assert_eq!(event(with("chat_message", &json!({"amount_usd": "x", "amount": []}))).amount, Cents(0));
}

#[test]
fn the_first_reason_in_the_order_of_the_fields() {
    let mut event = json!({"event_type": 1, "stream_id": "", "ts": "", "event_id": 1, "user_id": "", "amount": "x"});
    for (name, reason, mended) in [
        ("event_type", Reason::WrongType, "donation"),
        ("stream_id", Reason::BadId, "s"),
        ("ts", Reason::BadTs, "2024-05-01T12:00:00Z"),
        ("event_id", Reason::WrongType, "e"),
    ] {
        assert_eq!(rejected(event.to_string()), reason, "{name}");
        event[name] = json!(mended);
    }
    assert_eq!(rejected(event.to_string()), Reason::BadAmount, "a donation's user is not judged");
    event["event_type"] = json!("viewer_leave");
    assert_eq!(rejected(event.to_string()), Reason::BadId, "a leave's is");
}
