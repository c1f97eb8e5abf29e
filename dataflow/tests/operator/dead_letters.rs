//! `dead-letters`: every rejected record is listed, and replayed at most once.

use super::stack::{START, Stack};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;
use tidemark_dataflow::oracle;
use tidemark_model::{Micros, Reason};

type Position = (i64, i64);

fn position(letter: &Value) -> Position {
    (letter["partition"].as_i64().unwrap(), letter["offset"].as_i64().unwrap())
}

fn list(stack: &Stack, arguments: &[&str]) -> Vec<Value> {
    stack.run(&[&["dead-letters", "list", "--json", "--limit", "1000000"], arguments].concat()).expect(0).json()
}

#[test]
fn after_a_hostile_run_every_rejected_record_is_listed_and_corrected_ones_become_rows() {
    for stack in Stack::all("hostile") {
        stack.publish_hostile_hour(4_000);
        stack.catch_up(&[]);
        let letters = list(&stack, &[]);
        let listed: BTreeMap<Position, String> =
            letters.iter().map(|letter| (position(letter), letter["reason"].as_str().unwrap().to_owned())).collect();
        let past = stack.past();
        // The reader's clock is years ahead of these events: `future` is by the record time alone.
        let rules = tidemark_dataflow::rules::Rules::default().for_oracle();
        let answer = oracle::answer(&past, &rules, oracle::Clock::Stored, &BTreeMap::new(), None);
        let expected: BTreeMap<Position, String> = answer
            .dead_letters
            .iter()
            .map(|(&(partition, offset), reason)| ((i64::from(partition), offset), reason.to_string()))
            .collect();
        assert_eq!(listed, expected);
        let reasons: BTreeSet<&str> = listed.values().map(String::as_str).collect();
        assert!(reasons.len() >= 9 && reasons.contains("late") && reasons.contains("future"), "{reasons:?}");
        let late = letters.iter().find(|letter| letter["reason"] == "late").unwrap();
        let error = late["error"].as_str().unwrap();
        assert!(error.contains(" ended ") && error.contains(" before the partition's watermark, "), "it says how late: {error}");

        // Everything but the late ones is corrected to a chat message of one minute.
        let mut corrected = String::new();
        let mut count = 0;
        for letter in letters.iter().filter(|letter| letter["reason"] != "late") {
            let (partition, offset) = position(letter);
            let payload =
                format!(r#"{{"event_type":"chat_message","stream_id":"corrected","ts":"{}"}}"#, Micros(START.0 + 3_590_000_000));
            corrected += &format!("{}\n", serde_json::json!({ "partition": partition, "offset": offset, "payload": payload }));
            count += 1;
        }
        let file = stack.file("corrected.jsonl", corrected.as_bytes());
        let replay = || stack.run(&["dead-letters", "replay", "--corrected", file.to_str().unwrap()]);
        assert!(replay().expect(0).out.contains(&format!("{count} dead letters published")));
        assert!(replay().expect(1).out.contains(&format!("0 dead letters published, {count} replayed before")), "never twice");
        stack.catch_up(&[]);
        stack.run(&["verify"]).expect(0);
        let chats = "select sum(chat_messages)::bigint from stream_metrics_minute where stream_id = 'corrected'";
        let chats = if stack.is_postgres() { chats.to_owned() } else { chats.replace("::bigint", "") };
        assert_eq!(stack.number(&chats), count);
        assert_eq!(i64::try_from(list(&stack, &["--replayed"]).len()).unwrap(), count);
        assert!(list(&stack, &["--not-replayed"]).iter().all(|letter| letter["reason"] == "late"));
    }
}

#[test]
fn filters_choose_and_show_tells_everything() {
    for stack in Stack::all("filters") {
        stack.publish_hostile_hour(2_000);
        stack.catch_up(&[]);
        let all = list(&stack, &[]);
        let late = list(&stack, &["--reason", "late,bad_ts", "--partition", "0"]);
        let expected = all
            .iter()
            .filter(|letter| letter["partition"] == 0 && ["late", "bad_ts"].iter().any(|reason| letter["reason"] == *reason));
        assert_eq!(late, expected.cloned().collect::<Vec<_>>());
        assert!(!late.is_empty());
        let (from, to) = ("2026-01-01T00:10:00Z", "2026-01-01T00:20:00.5+00:00");
        let by_time = list(&stack, &["--from", from, "--to", to]);
        let within = |letter: &&Value| (from..to).contains(&letter["record_time"].as_str().unwrap());
        assert_eq!(by_time, all.iter().filter(within).cloned().collect::<Vec<_>>());
        let offset = position(&all[1]).1.to_string();
        let from_there = list(&stack, &["--partition", &all[1]["partition"].to_string(), "--from-offset", &offset]);
        assert_eq!(from_there.first(), Some(&all[1]));
        let table = stack.run(&["dead-letters", "list", "--limit", "2"]).expect(0).out;
        assert!(table.starts_with("PARTITION") && table.contains(&format!("2 of {} dead letters", all.len())), "{table}");

        let text = all.iter().find(|letter| letter["reason"] == "bad_ts").unwrap();
        let bytes = all.iter().find(|letter| letter["reason"] == "invalid_utf8").unwrap();
        for letter in [text, bytes] {
            let (partition, offset) = position(letter);
            let (partition, offset) = (partition.to_string(), offset.to_string());
            let shown = stack.run(&["dead-letters", "show", &partition, &offset]).expect(0).out;
            let payload = letter["payload"].as_str().or(letter["payload_hex"].as_str()).unwrap();
            assert!(shown.ends_with(&format!("{payload}\n")) && shown.contains(letter["reason"].as_str().unwrap()), "{shown}");
            assert_eq!(
                stack.run(&["dead-letters", "show", &partition, &offset, "--json"]).expect(0).json(),
                std::slice::from_ref(letter)
            );
        }
        let none = stack.run(&["dead-letters", "show", "0", "1"]).expect(1);
        assert!(none.err.contains("no dead letter at partition 0 offset 1"), "{none:#?}");
    }
}

#[test]
fn raw_bytes_go_out_once_with_their_key_however_many_replay_at_once() {
    for stack in Stack::all("once") {
        stack.publish_hostile_hour(3_000);
        stack.catch_up(&[]);
        let letters = list(&stack, &[]);
        let can_go = letters
            .iter()
            .filter(|letter| letter["reason"] != "late" && letter.get("payload_hex").or(letter.get("payload")).is_some());
        let expected: BTreeSet<Position> = can_go.map(position).collect();
        let before: usize = stack.past().values().map(Vec::len).sum();
        let start =
            || stack.command(&["dead-letters", "replay", "--all"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (one, other) = (start(), start());
        let outputs = [one, other].map(|child| child.wait_with_output().unwrap());
        // A file log has one writer: the second may have been refused. Then nothing is left to it.
        assert!(outputs.iter().any(|output| matches!(output.status.code(), Some(0 | 1))), "{outputs:?}");
        stack.run(&["dead-letters", "replay", "--all"]).expect(1);
        let past = stack.past();
        let after: usize = past.values().map(Vec::len).sum();
        assert_eq!(after - before, expected.len(), "each once");
        // The bytes and keys are those of the letters: the same multiset twice.
        for (partition, records) in &past {
            for letter in
                letters.iter().filter(|letter| expected.contains(&position(letter)) && letter["partition"] == *partition)
            {
                let original = records.iter().find(|record| record.offset == position(letter).1).unwrap();
                let same = |record: &&oracle::LogRecord| record.payload == original.payload && record.key == original.key;
                let copies = records.iter().filter(same).count();
                assert!(copies >= 2 && copies % 2 == 0, "{letter} has {copies} copies in its partition");
            }
        }
        stack.catch_up(&[]);
        stack.run(&["verify"]).expect(0);
    }
}

#[test]
fn a_replay_that_is_killed_at_any_moment_publishes_nothing_twice() {
    const KILLS: usize = 6;
    for stack in Stack::all("killed_replay") {
        stack.publish_hostile_hour(6_000);
        stack.catch_up(&[]);
        let records = |stack: &Stack| stack.past().values().map(Vec::len).sum::<usize>();
        let before = records(&stack);
        let replayable = list(&stack, &["--not-replayed"]).iter().filter(|letter| letter["reason"] != "late").count();
        for kill in 0..KILLS {
            let mut child =
                stack.command(&["dead-letters", "replay", "--all"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(25 + 17 * kill as u64));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        stack.run(&["dead-letters", "replay", "--all"]).expect(1);
        let marked = list(&stack, &["--replayed"]).len();
        assert_eq!(marked, replayable, "all had their turn");
        let published = records(&stack) - before;
        // Each kill can have come between a mark and its record.
        assert!((marked - KILLS..=marked).contains(&published), "{published} records for {marked} marks");
        stack.catch_up(&[]);
        stack.run(&["verify"]).expect(0);
    }
}

#[test]
fn late_stays_late_and_the_way_in_is_named() {
    for stack in Stack::all("late") {
        let chat = |ts: &str| {
            ("s".to_owned(), format!(r#"{{"event_type":"chat_message","stream_id":"s","ts":"{ts}"}}"#).into_bytes(), START)
        };
        stack.publish([chat("2026-01-01T00:00:00Z"), chat("2025-12-31T22:00:00Z")]);
        stack.catch_up(&[]);
        let letter = list(&stack, &[]).remove(0);
        assert_eq!(letter["reason"], Reason::Late.as_str());
        let said = stack.run(&["dead-letters", "replay", "--all"]).expect(1);
        assert!(said.out.contains("stays so") && said.out.contains("tidemark-dataflow rebuild --watermark"), "{said:#?}");
        assert!(list(&stack, &["--replayed"]).is_empty());
        let (partition, offset) = position(&letter);
        let position = format!("{partition}:{offset}");
        let dry = stack.run(&["dead-letters", "replay", "--dry-run", &position]).expect(0);
        assert!(dry.out.contains("rebuild") && dry.out.contains("1 dead letters would be published"), "{dry:#?}");
        // Who names it gets it; and a corrected payload can come from standard input.
        let mut child = stack
            .command(&["dead-letters", "replay", "--payload", "-", &position])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let corrected = br#"{"event_type":"chat_message","stream_id":"s","ts":"2026-01-01T00:00:30Z"}"#;
        child.stdin.take().unwrap().write_all(&[&corrected[..], b"\n"].concat()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        stack.catch_up(&[]);
        stack.run(&["verify"]).expect(0);
        assert_eq!(stack.number("select chat_messages from stream_metrics_minute"), 2);
    }
}

#[test]
fn usage_that_would_do_something_else_is_refused() {
    let stack = Stack::all("usage").remove(0);
    stack.publish_hostile_hour(500);
    stack.catch_up(&[]);
    for arguments in [&[][..], &["--payload", "-"], &["0:1", "--all"], &["--payload", "-", "0:1", "0:2"], &["1"]] {
        let said = stack.run(&[&["dead-letters", "replay"], arguments].concat()).expect(2);
        assert!(!said.err.is_empty());
    }
    // The generator's lock, or another replay's.
    let writer = stack.publisher();
    let said = stack.run(&["dead-letters", "replay", "--all"]).expect(2);
    assert!(said.err.contains("is locked: another process writes this topic"), "{said:#?}");
    drop(writer);
    assert!(list(&stack, &["--replayed"]).is_empty(), "nothing is marked that was not published");
    // A payload that the log cannot take is refused, and the mark is taken back.
    let letter = list(&stack, &["--reason", "bad_ts,invalid_json"]).remove(0);
    let file = stack.file("pretty.json", b"{\n}\n");
    let at = format!("{}:{}", letter["partition"], letter["offset"]);
    let said = stack.run(&["dead-letters", "replay", &at, "--payload", file.to_str().unwrap()]).expect(1);
    assert!(said.out.contains("cannot have a newline"), "{said:#?}");
    assert!(list(&stack, &["--replayed"]).is_empty());
}
