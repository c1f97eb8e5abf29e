//! Each parameter of each path: what is accepted, the edges, what is refused.

use crate::support::on_every_store;
use serde_json::Value;

struct Case {
    paths: &'static [&'static str],
    parameter: &'static str,
    good: &'static [&'static str],
    bad: &'static [&'static str],
}

/// No digits, signs (also unescaped, where `+` is a blank), fractions, exponents, other digits, blanks, more than fits.
const NO_NUMBERS: &[&str] = &[
    "",
    "%2B5",
    "+5",
    "-5",
    "5.0",
    "5e0",
    "0x5",
    "%205",
    "5%20",
    "5,",
    "%D9%A5",
    "5%00",
    "%zz",
    "true",
    "0",
    "-0",
    "18446744073709551617",
];

const TIMES: Case = Case {
    paths: &["/metrics"],
    parameter: "from",
    good: &[
        "2025-01-31T12:00:00Z",
        "2025-01-31t12:00:00z",
        "2025-01-31%2012:00:00.123456789",
        "2025-01-31T12:00:00%2B01:00",
        "2025-01-31T12:00:00+01:00",
        "0001-01-01T00:00:00%2B23:59",
        "9999-12-31T23:59:60-23:59",
    ],
    bad: &["", "now", "1738324800", "2025-01-31", "2025-02-29T00:00:00Z", "2025-01-31T12:00Z", "2025-01-31T12:00:00Z%00", "%ff"],
};

fn cases() -> Vec<Case> {
    vec![
        Case {
            paths: &["/metrics", "/streams", "/streams/top"],
            parameter: "minutes",
            good: &["1", "007", "1440"],
            bad: &["1441"],
        },
        Case { paths: &["/metrics", "/streams"], parameter: "limit", good: &["1", "5000"], bad: &["5001"] },
        Case {
            paths: &["/metrics", "/metrics/latest", "/metrics/totals", "/streams", "/streams/top"],
            parameter: "grain",
            good: &["minute", "hour", "day"],
            bad: &["", "Hour", "week", "hour,day", "60", "%00"],
        },
        Case { paths: &["/streams/top"], parameter: "n", good: &["1", "200"], bad: &["201"] },
        Case { paths: &["/metrics", "/streams", "/streams/top"], parameter: "minutes", good: &[], bad: NO_NUMBERS },
        Case { paths: &["/metrics", "/streams"], parameter: "limit", good: &[], bad: NO_NUMBERS },
        Case { paths: &["/streams/top"], parameter: "n", good: &[], bad: NO_NUMBERS },
        Case {
            paths: &["/metrics"],
            parameter: "order_by",
            good: &["window_start", "donations_usd", "chat_messages", "active_viewers"],
            bad: &["", "Window_Start", "stream_id", "window_start%20", "1;drop%20table%20progress", "epoch", "%00"],
        },
        Case { paths: &["/metrics"], parameter: "direction", good: &["asc", "desc"], bad: &["", "ASC", "Desc", "asc,", "up"] },
        Case {
            paths: &["/streams/top"],
            parameter: "by",
            good: &["donations_usd", "chat_messages", "active_viewers"],
            bad: &["", "DONATIONS_USD", "window_start", "donations_cents"],
        },
        Case {
            paths: &["/metrics", "/metrics/latest"],
            parameter: "stream_id",
            good: &["", "a", "%C3%A4%F0%9F%98%80", "a+b%2Bc", "'%22;--", "%25", "%01", "%5C"],
            bad: &["%00", "a%00b", "%", "%f", "%zz", "%ff", "%C3", "%ED%A0%80"],
        },
        Case {
            paths: &["/metrics", "/metrics/latest", "/streams", "/streams/top", "/dead-letters"],
            parameter: "min_epoch",
            good: &["0", "00"],
            bad: &["", "-1", "%2B1", "1.0", "9223372036854775808", "x"],
        },
        Case {
            paths: &["/metrics"],
            parameter: "min_viewers",
            good: &["0", "007", "9223372036854775807"],
            bad: &["", "-1", "1.5", "9223372036854775808", "many", "%00"],
        },
        Case { paths: &["/metrics"], parameter: "min_unique_viewers", good: &["0", "12"], bad: &["", "-1", "1.5", "null"] },
        Case {
            paths: &["/metrics"],
            parameter: "min_watch_ms",
            good: &["0", "9223372036854775807"],
            bad: &["", "1.5", "1min", "9223372036854775808"],
        },
        Case { paths: &["/metrics"], parameter: "min_unique_chatters", good: &["0"], bad: &["", "-1"] },
        Case { paths: &["/metrics"], parameter: "min_donations", good: &["0"], bad: &["", "0.5"] },
        Case { paths: &["/metrics"], parameter: "min_donors", good: &["0"], bad: &["", "-1"] },
        Case { paths: &["/metrics"], parameter: "min_peak_viewers", good: &[], bad: &["", "0"] },
        Case {
            paths: &["/metrics"],
            parameter: "min_chat_messages",
            good: &["0", "12"],
            bad: &["", "-1", "1e3", "9223372036854775808"],
        },
        Case {
            paths: &["/metrics"],
            parameter: "min_donations_usd",
            good: &["0", "0.5", "12.50", "9999999999999999.99"],
            bad: &["", ".5", "5.", "-1", "%2B1", "1.234", "1e3", "10000000000000000", "1,5", "NaN"],
        },
        Case { paths: &["/metrics"], parameter: "final", good: &["true", "false"], bad: &["", "True", "1", "yes", "true%20"] },
        Case { paths: &["/metrics"], parameter: "format", good: &["json"], bad: &["", "CSV", "xml", "json,csv"] },
        Case { paths: &["/live"], parameter: "minutes", good: &[], bad: &["0", "1441", "", "x"] },
        Case { paths: &["/live"], parameter: "grain", good: &[], bad: &["", "Hour", "second"] },
        Case { paths: &["/live"], parameter: "stream_id", good: &[], bad: &["%00", "%ff"] },
        TIMES,
        Case { parameter: "to", ..TIMES },
        Case {
            paths: &["/metrics"],
            parameter: "cursor",
            good: &[],
            bad: &["", "x", "7b7d", "00", "5b5d", "null", "%00", "7b2266223a302c226c223a6e756c6c7d"],
        },
    ]
}

#[test]
fn values_are_accepted_or_refused_by_name() {
    on_every_store(|store| {
        let api = store.api();
        for case in cases() {
            let parameter = case.parameter;
            for path in case.paths {
                for value in case.good {
                    api.json(&format!("{path}?{parameter}={value}"));
                }
                for value in case.bad {
                    let problem = api.get(&format!("{path}?{parameter}={value}")).problem(422);
                    assert_eq!(problem["parameter"], parameter, "{problem}");
                    assert!(problem["value"].is_string() && problem["allowed"].is_string(), "{problem}");
                    assert!(problem["detail"].as_str().unwrap().contains(parameter), "{problem}");
                }
            }
        }
    });
}

#[test]
fn a_refusal_shows_the_value_and_what_is_allowed() {
    on_every_store(|store| {
        let api = store.api();
        let problem = api.get("/streams?limit=5001").problem(422);
        assert_eq!((&problem["value"], &problem["allowed"]), (&"5001".into(), &"an integer from 1 to 5000".into()));
        let problem = api.get("/metrics?direction=up").problem(422);
        assert_eq!((&problem["value"], &problem["allowed"]), (&"up".into(), &"one of desc, asc".into()));
        let problem = api.get("/metrics?limit=%2B5").problem(422);
        assert_eq!(problem["value"], "+5");
    });
}

#[test]
fn twice_is_once_too_often_and_unknown_ones_are_ignored() {
    on_every_store(|store| {
        let api = store.api();
        for (path, parameter) in [
            ("/metrics?limit=5&limit=5", "limit"),
            ("/metrics?direction=asc&x=1&direction=desc", "direction"),
            ("/metrics/latest?stream_id&stream_id", "stream_id"),
            ("/streams/top?n=1&%6E=1", "n"),
        ] {
            assert_eq!(api.get(path).problem(422)["parameter"], parameter);
        }
        api.json("/metrics?x=1&x=2&%zz=%zz&%00=&LIMIT=no&&&=");
        api.json("/health?limit=no");
    });
}

#[test]
fn stream_ids_have_at_most_256_bytes() {
    on_every_store(|store| {
        let api = store.api();
        api.json(&format!("/metrics?stream_id={}", "%C3%A4".repeat(128)));
        let problem = api.get(&format!("/metrics?stream_id={}", "a".repeat(257))).problem(422);
        assert_eq!(problem["parameter"], "stream_id");
        let long = api.get(&format!("/metrics?stream_id={}", "a".repeat(9_000))).problem(422);
        assert!(long["value"].as_str().unwrap().len() <= 300);
    });
}

#[test]
fn filters_say_what_was_applied() {
    on_every_store(|store| {
        let api = store.api();
        let filters = |query: &str| api.json(&format!("/metrics{query}"))["filters"].take();
        let expected = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        assert_eq!(
            filters("?stream_id="),
            expected(
                r#"{"stream_id":null,"minutes":60,"limit":200,"order_by":"window_start","direction":"desc","from":null,"to":null}"#
            )
        );
        assert_eq!(
            filters("?stream_id=a%2Bb&minutes=5&limit=7&order_by=donations_usd&direction=asc&to=2025-01-31T12:00:00%2B01:00"),
            expected(
                r#"{"stream_id":"a+b","minutes":null,"limit":7,"order_by":"donations_usd","direction":"asc","from":null,
                    "to":"2025-01-31T11:00:00Z"}"#
            )
        );
        assert_eq!(api.get("/metrics?minutes=no&from=2025-01-31T12:00:00Z").problem(422)["parameter"], "minutes");
    });
}
