//! The command line, and the settings that do not go together.

use super::*;
use clap::CommandFactory;

fn generate(flags: &[&str]) -> GenerateArgs {
    Cli::try_parse_from(["tidemark-generator"].iter().chain(flags)).unwrap().generate
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn rates_streams_and_starts() {
    assert_eq!(parse_rate("max"), Ok(Rate::Max));
    assert_eq!(parse_rate("0.5"), Ok(Rate::PerSecond(0.5)));
    for text in ["0", "-1", "x", "nan", "inf", "", "1e10"] {
        assert!(parse_rate(text).is_err(), "{text}");
    }
    assert_eq!(parse_streams("2"), Ok(Streams(vec!["stream_0001".to_owned(), "stream_0002".to_owned()])));
    assert_eq!(parse_streams("a, b"), Ok(Streams(vec!["a".to_owned(), "b".to_owned()])));
    for text in ["", "a,,b", "0", "a,a", "9999999"] {
        assert!(parse_streams(text).is_err(), "{text}");
    }
    assert_eq!(parse_start("1970-01-01T00:00:01.5Z"), Ok(Micros(1_500_000)));
    for text in ["yesterday", "2024-01-01", "2262-01-01T00:00:00Z"] {
        assert!(parse_start(text).is_err(), "{text}");
    }
}

#[test]
fn event_time_follows_speed_or_span() {
    let start = ["--start", "2024-01-01T00:00:00Z"];
    let spacing = |flags: &[&str]| match generate(&[&start, flags].concat()).event_time() {
        Ok(EventTime::Historic { spacing, .. }) => spacing,
        other => panic!("{other:?}"),
    };
    assert_eq!(spacing(&[]), Duration::from_millis(50));
    assert_eq!(spacing(&["--speed", "60", "--rate", "30"]), Duration::from_secs(2));
    assert_eq!(spacing(&["--rate", "max", "--count", "3600", "--span", "1h"]), Duration::from_secs(1));
    assert_eq!(generate(&[]).event_time().unwrap(), EventTime::Live);
}

#[test]
fn flags_that_do_not_go_together_are_refused_with_a_hint() {
    let start = "--start=2024-01-01T00:00:00Z";
    for (flags, hint) in [
        (&["--speed=2"][..], "--start"),
        (&["--span=1h", "--count=5"], "--start"),
        (&[start, "--rate=max"], "--span"),
        (&[start, "--span=1h"], "--count"),
        (&[start, "--span=1h", "--count=5", "--speed=2"], "one of them"),
    ] {
        let error = generate(flags).event_time().unwrap_err().to_string();
        assert!(error.contains(hint), "{flags:?}: {error}");
    }
    assert!(generate(&["--late=0.6", "--future=0.5"]).faults().is_err());
    assert!(generate(&["--late=0.5", "--future=0.5"]).faults().is_ok());
}
