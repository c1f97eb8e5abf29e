//! The traffic as a whole: the same for ever, valid, and as wrong as asked.

use super::*;
use std::collections::BTreeSet;
use tidemark_model::Kind;

/// FNV-1a over keys and payloads: enough to notice any change of a byte.
fn fingerprint(traffic: impl Iterator<Item = Generated>) -> u64 {
    traffic.fold(0xCBF2_9CE4_8422_2325, |hash, generated| {
        let bytes = generated.stream.bytes().chain(generated.payload).chain(generated.sent_at.0.to_le_bytes());
        bytes.fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
    })
}

fn faulty() -> TrafficConfig {
    let faults = FaultShares { late: 0.1, duplicates: 0.05, malformed: 0.2, future: 0.01 };
    TrafficConfig { faults, out_of_order: Duration::from_secs(2), ..TrafficConfig::default() }
}

/// Benchmarks and other people's data sets rely on these: if they change, say so in the changelog.
#[test]
fn a_seed_yields_the_same_bytes_for_ever() {
    assert_eq!(fingerprint(Traffic::new(TrafficConfig::default()).take(20_000)), 5_411_086_850_352_084_906);
    assert_eq!(fingerprint(Traffic::new(faulty()).take(20_000)), 3_983_020_910_185_785_561);
}

#[test]
fn another_seed_yields_other_events() {
    let of_seed = |seed| fingerprint(Traffic::new(TrafficConfig { seed, ..TrafficConfig::default() }).take(1_000));
    assert_eq!(of_seed(5), of_seed(5));
    assert_ne!(of_seed(5), of_seed(6));
}

#[test]
fn payloads_are_events_of_the_promised_form() {
    let mut ids = BTreeSet::new();
    let mut bytes = 0;
    for generated in Traffic::new(TrafficConfig::default()).take(20_000) {
        let event: serde_json::Value = serde_json::from_slice(&generated.payload).unwrap();
        let kind = Kind::parse(event["event_type"].as_str().unwrap()).unwrap();
        assert_eq!(event["stream_id"], *generated.stream);
        assert_eq!(event["ts"], generated.event_time.to_string());
        assert_eq!(event.get("user_id").is_some(), !matches!(kind, Kind::StreamStart | Kind::StreamStop));
        let amount = event.get("amount_usd").map(|amount| amount.to_string());
        assert_eq!(amount.is_some(), kind == Kind::Donation);
        assert!(amount.is_none_or(|text| text.rsplit_once('.').is_some_and(|(_, places)| places.len() <= 2)));
        assert!(ids.insert(event["event_id"].as_str().unwrap().to_owned()), "{event}");
        bytes += generated.payload.len();
    }
    assert!((150..190).contains(&(bytes / 20_000)), "{} bytes a payload", bytes / 20_000);
}

#[test]
fn event_time_advances_by_the_spacing_and_the_caller_may_tell_it() {
    let config = TrafficConfig { start: Micros(1_000), spacing: Duration::from_nanos(1_500), ..TrafficConfig::default() };
    let mut traffic = Traffic::new(config);
    let times: Vec<i64> = traffic.by_ref().take(4).map(|generated| generated.event_time.0).collect();
    assert_eq!(times, [1_000, 1_001, 1_003, 1_004]);
    assert_eq!(traffic.next_at(Micros(99)).event_time, Micros(99));
    assert_eq!(traffic.next().map(|generated| generated.event_time), Some(Micros(1_006)));
}

#[test]
fn faults_have_their_shares_and_their_meaning() {
    let mut counts = [0_u32; 4];
    let mut payloads = BTreeSet::new();
    for generated in Traffic::new(faulty()).take(100_000) {
        let ahead = generated.event_time.0 - generated.sent_at.0;
        match generated.fault {
            None => assert!((-2_000_000..=0).contains(&ahead), "{ahead}"),
            Some(Fault::Late) => assert!(ahead <= -15 * MINUTE, "{ahead}"),
            Some(Fault::Future) => assert!(ahead > 9 * MINUTE, "{ahead}"),
            Some(Fault::Duplicate) => assert!(payloads.contains(&generated.payload)),
            Some(Fault::Malformed) => (),
        }
        if let Some(fault) = generated.fault {
            counts[fault as usize] += 1;
        }
        payloads.insert(generated.payload);
    }
    let shares = counts.map(|count| f64::from(count) / 100_000.0);
    for (share, wanted) in shares.into_iter().zip([0.1, 0.05, 0.2, 0.01]) {
        assert!((share - wanted).abs() < 0.005, "{shares:?}");
    }
}

#[test]
fn faults_do_not_change_the_events_that_they_spare() {
    let ids = |faults| {
        let config = TrafficConfig { faults, ..TrafficConfig::default() };
        let spared = Traffic::new(config).filter(|generated| generated.fault != Some(Fault::Malformed));
        // `ts` differs, for malformed payloads take time too; the rest is compared.
        let without_ts = |generated: Generated| {
            let mut event: serde_json::Value = serde_json::from_slice(&generated.payload).unwrap();
            event["ts"].take();
            event
        };
        spared.map(without_ts).take(500).collect::<Vec<_>>()
    };
    assert_eq!(ids(FaultShares::default()), ids(FaultShares { malformed: 0.5, ..FaultShares::default() }));
}
