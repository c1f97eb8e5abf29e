//! The decoder against the judge on a hundred thousand seeded documents: objects that are nearly events, then damaged bytes.

mod judge;

use judge::{KNOWN, Verdict, agree};
use rand::RngExt;
use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
use std::collections::BTreeMap;
use tidemark_dataflow::decode::Decoder;
use tidemark_model::Kind;

type Random = Xoshiro256PlusPlus;

#[test]
fn agrees_with_the_judge() {
    let mut decoder = Decoder::default();
    let mut counts = BTreeMap::<&str, usize>::new();
    for seed in 0..100_000 {
        let mut random = Random::seed_from_u64(seed);
        let mut bytes = document(&mut random).into_bytes();
        if random.random_bool(0.4) {
            damage(&mut random, &mut bytes);
        }
        let name = match agree(&mut decoder, Some(&bytes)) {
            Verdict::Event { kind, .. } => kind.as_str(),
            Verdict::Other(_) => "other",
            Verdict::Rejected(reason) => reason.as_str(),
        };
        *counts.entry(name).or_default() += 1;
    }
    // The documents are worth judging only if every answer is given often.
    let answers = Kind::ALL.map(Kind::as_str).into_iter().chain(["other", "invalid_utf8", "invalid_json", "not_object"]);
    for answer in answers.chain(["duplicate_field", "missing_field", "wrong_type", "bad_id", "bad_ts", "bad_amount"]) {
        assert!(counts.get(answer).is_some_and(|count| *count > 500), "{answer} is rare: {counts:?}");
    }
}

#[test]
fn agrees_on_every_short_text() {
    let mut decoder = Decoder::default();
    agree(&mut decoder, None);
    agree(&mut decoder, Some(b""));
    let alphabet = b"{}[]\",:\\u0d8-+.eE1 \n\ttfn\x00\x1f\x7f\xc3\xef";
    for &a in alphabet {
        for &b in alphabet {
            for &c in alphabet {
                agree(&mut decoder, Some(&[a, b, c]));
                agree(&mut decoder, Some(&[b'[', a, b, c, b']']));
                agree(&mut decoder, Some(&[b'{', b'"', a, b'"', b':', b, c, b'}']));
                agree(&mut decoder, Some(&[b'"', b'\\', a, b, c, b'0', b'0', b'"']));
            }
        }
    }
}

#[test]
fn agrees_on_damaged_times() {
    fields_agree(200_000, "chat_message", "ts", time);
}

#[test]
fn agrees_on_damaged_amounts() {
    fields_agree(200_000, "donation", "amount_usd", amount);
}

/// One field's texts, damaged, in an event that is good otherwise.
fn fields_agree(rounds: u64, event_type: &str, name: &str, text: impl Fn(&mut Random) -> String) {
    let mut decoder = Decoder::default();
    let (mut good, ts) = (0, if name == "ts" { "" } else { ",\"ts\":\"2026-01-01T00:00:00\"" });
    for seed in 0..rounds {
        let mut random = Random::seed_from_u64(seed);
        let mut text = text(&mut random).into_bytes();
        if random.random_bool(0.3) {
            let at = random.random_range(0..text.len());
            text[at] = pick(&mut random, b"0123456789+-.:eEzZTt/;");
        }
        let text = String::from_utf8(text).expect("all of it is ASCII");
        let payload = format!("{{\"event_type\":\"{event_type}\",\"stream_id\":\"s\",\"{name}\":\"{text}\"{ts}}}");
        good += u64::from(matches!(agree(&mut decoder, Some(payload.as_bytes())), Verdict::Event { .. }));
    }
    assert!((rounds / 4..rounds * 3 / 4).contains(&good), "good and bad ones are worth testing only together: {good}");
}

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.random_range(0..from.len())]
}

/// Mostly an object that is nearly an event.
fn document(random: &mut Random) -> String {
    if random.random_bool(0.03) {
        return value(random, 3);
    }
    let mut members: Vec<String> = Vec::new();
    for name in KNOWN {
        if random.random_bool(0.94) {
            members.push(member(random, name));
        }
    }
    while random.random_bool(0.3) {
        let name = string(random);
        let value = value(random, 4);
        members.push(format!("{name}:{value}"));
    }
    if random.random_bool(0.04) {
        let name = pick(random, &KNOWN);
        members.push(member(random, name));
    }
    for last in (1..members.len()).rev() {
        members.swap(last, random.random_range(0..=last));
    }
    let text = format!("{{{}}}", members.join(","));
    if random.random_bool(0.3) { spaced(random, &text) } else { text }
}

fn member(random: &mut Random, name: &str) -> String {
    let is_odd = random.random_bool(0.04);
    let value = if is_odd { value(random, 2) } else { usual(random, name) };
    let name = if random.random_bool(0.05) { spelled(random, name) } else { name.to_owned() };
    format!("\"{name}\":{value}")
}

/// A value as the field should have it, or nearly.
fn usual(random: &mut Random, name: &str) -> String {
    match name {
        "event_type" if random.random_bool(0.95) => {
            let kind = pick(random, &Kind::ALL).as_str();
            let spelling = if random.random_bool(0.05) { spelled(random, kind) } else { kind.to_owned() };
            format!("\"{spelling}\"")
        }
        "ts" => format!("\"{}\"", time(random)),
        "amount_usd" | "amount" if random.random_bool(0.3) => format!("\"{}\"", amount(random)),
        "amount_usd" if random.random_bool(0.2) => "null".to_owned(),
        "amount_usd" | "amount" => amount(random),
        _ if random.random_bool(0.05) => format!("\"{}\"", "ü".repeat(random.random_range(120..136))),
        _ if random.random_bool(0.1) => string(random),
        _ => format!("\"name_{}\"", random.random_range(0..100_000)),
    }
}

/// The text with some characters as `\u` escapes.
fn spelled(random: &mut Random, text: &str) -> String {
    let spell =
        |character| if random.random_bool(0.3) { format!("\\u{:04x}", u32::from(character)) } else { String::from(character) };
    text.chars().map(spell).collect()
}

fn time(random: &mut Random) -> String {
    let year = pick(random, &["2026", "2026", "2026", "2024", "2100", "2000", "1970", "1969", "2261", "2262", "0000", "9999"]);
    let (month, day) = (random.random_range(1..=12), random.random_range(1..=30));
    let (hour, minute, second) = (random.random_range(0..24), random.random_range(0..60), random.random_range(0..=60));
    let digits: String = (0..random.random_range(1..12)).map(|_| pick(random, &['0', '1', '5', '9'])).collect();
    let fraction = pick(random, &["", ".", ".", "."]);
    let fraction = if fraction.is_empty() { String::new() } else { format!(".{digits}") };
    let offset = format!("{}{:02}:{:02}", pick(random, &["+", "-"]), random.random_range(0..25), random.random_range(0..61));
    let zone = pick(random, &["Z", "Z", "z", "", offset.as_str()]);
    let between = pick(random, &["T", "T", "t", " "]);
    let edge = pick(
        random,
        &["", "", "", "", "", "", "1970-01-01T00:00:00", "1969-12-31T23:59:60", "2261-12-31T23:59:60", "2262-01-01T00:00:00"],
    );
    match edge {
        "" => format!("{year}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{second:02}{fraction}{zone}"),
        edge => format!("{edge}{fraction}{zone}"),
    }
}

fn amount(random: &mut Random) -> String {
    let sign = pick(random, &["", "", "", "", "", "", "", "", "", "-"]);
    let whole = match random.random_range(0..6) {
        0 => 0,
        1 => random.random_range(999_999_998..=1_000_000_001),
        2 => random.random_range(0..1_000_000_000_000_u64),
        _ => random.random_range(0..1_000),
    };
    let fraction: String = (0..random.random_range(0..6)).map(|_| pick(random, &['0', '0', '4', '5', '9'])).collect();
    let fraction = if fraction.is_empty() { fraction } else { format!(".{fraction}") };
    let by = match random.random_range(0..6) {
        0 => "9".repeat(random.random_range(3..40)),
        _ => random.random_range(0..12).to_string(),
    };
    let mark = pick(random, &["e", "E", "e-", "E-", "e+", "e-000"]);
    let exponent = if random.random_bool(0.3) { format!("{mark}{by}") } else { String::new() };
    format!("{sign}{whole}{fraction}{exponent}")
}

fn string(random: &mut Random) -> String {
    const PARTS: [&str; 22] = [
        "a",
        "stream_1",
        "event_type",
        "ü",
        "😀",
        r#"\""#,
        r"\\",
        r"\/",
        r"\n\r\t\b\f",
        r"\u0000",
        r"\u00e9",
        r"\ud83d\ude00",
        r"\uD83D",
        r"\udE00",
        r"\ud83d\u0041",
        r"\u12",
        r"\x",
        "\u{7f}",
        "0123456789abcdef",
        "\t",
        " ",
        "{[,:]}",
    ];
    let count = random.random_range(0..4);
    let parts: String = (0..count).map(|_| if random.random_bool(0.6) { PARTS[0] } else { pick(random, &PARTS) }).collect();
    format!("\"{parts}\"")
}

fn value(random: &mut Random, depth: usize) -> String {
    let simple =
        pick(random, &["null", "true", "false", "0", "-0.5e+7", "1E400", "01", "-", "1.", "[]", "{}", "nul", "[1,]", "{,}"]);
    match random.random_range(0..6) {
        0 | 1 => pick(random, &["null", "true", "0", "12.5", "[]", simple]).to_owned(),
        2 => string(random),
        3 if depth > 0 => {
            let inside: Vec<String> = (0..random.random_range(0..4)).map(|_| value(random, depth - 1)).collect();
            format!("[{}]", inside.join(","))
        }
        4 if depth > 0 => {
            let member = |random: &mut Random| format!("{}:{}", string(random), value(random, depth - 1));
            let inside: Vec<String> = (0..random.random_range(0..4)).map(|_| member(random)).collect();
            format!("{{{}}}", inside.join(","))
        }
        _ => random.random_range(-1_000..1_000).to_string(),
    }
}

/// White space around structural characters, sometimes of a kind that JSON does not know.
fn spaced(random: &mut Random, text: &str) -> String {
    let mut spaced = String::new();
    for character in text.chars() {
        let is_structural = "{}[],:".contains(character) && random.random_bool(0.5);
        let before = if is_structural { pick(random, &["", " ", "\n", "\r\n", "\t", "  "]) } else { "" };
        let behind = if is_structural && random.random_bool(0.02) { "\u{a0}" } else { before };
        spaced.extend([before, character.encode_utf8(&mut [0; 4]), behind]);
    }
    spaced
}

/// One to three changes of bytes.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, pick(random, b"\"\\{}[]:,0e.- \n\x00\x1fu\xc3")),
            3 => bytes.truncate(at),
            4 => bytes.extend_from_slice(pick(random, &[b" ".as_slice(), b"}", b"\n\n", b"\xef\xbb\xbf", b"\x00", b"1"])),
            _ => {
                let piece = bytes[at..(at + random.random_range(1..20)).min(bytes.len())].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}
