//! Random small logs: `answer` against the literal definitions, and against itself where the design says that nothing changes.

use super::*;
use crate::oracle::decode::{Decoded, Event, decode};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use tidemark_model::Kind;

/// `count` events of few streams and users in `minutes` minutes from noon, many of them at equal instants.
fn random_payloads(random: &mut Xoshiro256PlusPlus, count: usize, minutes: i64, users: u32) -> Vec<Vec<u8>> {
    let noon = instant("12:00:00").0;
    let mut payloads = Vec::new();
    for serial in 0..count {
        let seconds = random.random_range(0..minutes * 6) * 10;
        let nanos = [-1, 0, 0, 1][random.random_range(0..4)];
        let kinds = [Kind::ViewerJoin, Kind::ViewerJoin, Kind::ViewerLeave, Kind::ChatMessage, Kind::Donation, Kind::StreamStart];
        let event = json!({
            "event_type": kinds[random.random_range(0..kinds.len())].as_str(),
            "stream_id": format!("s{}", random.random_range(0..3)),
            "user_id": format!("u{}", random.random_range(0..users)),
            "event_id": serial.to_string(),
            "ts": jiff::Timestamp::from_nanosecond(i128::from(noon + seconds * 1_000_000_000 + nanos)).unwrap().to_string(),
            "amount_usd": random.random_range(0..1_000),
        });
        payloads.push(event.to_string().into_bytes());
    }
    payloads
}

fn log_of(payloads: &[Vec<u8>], partitions: i32) -> Log {
    let mut case = Case::default();
    for (payload, partition) in payloads.iter().zip((0..partitions).cycle()) {
        case.put_record(partition, None, Some(payload));
    }
    case.log
}

const DEFINED: [Metric; 8] =
    [ActiveViewers, UniqueViewers, WatchMs, ChatMessages, UniqueChatters, Donations, DonationsUsd, Donors];

/// The rows by the sentences themselves: for each user, each row, a search for the latest move at each instant at which anything changes.
fn rows_by_definition(events: &[Event], rules: &Rules) -> BTreeMap<(Minute, String), Values> {
    let mut rows: BTreeMap<(Minute, String), Values> = BTreeMap::new();
    for event in events {
        rows.entry((Minute::of(event.ts), event.stream.clone())).or_default();
    }
    let users: BTreeSet<_> = events.iter().map(|event| event.user.as_deref()).collect();
    for ((minute, stream), row) in &mut rows {
        for user in &users {
            let own: Vec<&Event> =
                events.iter().filter(|event| event.stream == *stream && event.user.as_deref() == *user).collect();
            let of = |kind| own.iter().filter(move |event| event.kind == kind && Minute::of(event.ts) == *minute);
            let (chats, donations) = (of(Kind::ChatMessage).count(), of(Kind::Donation).count());
            row[ChatMessages] += i64::try_from(chats).unwrap();
            row[UniqueChatters] += i64::from(chats > 0);
            row[Donations] += i64::try_from(donations).unwrap();
            row[DonationsUsd] += of(Kind::Donation).map(|event| event.amount.0).sum::<i64>();
            row[Donors] += i64::from(donations > 0);
            let timeout = rules.viewer_timeout * 1_000;
            let is_present = |at: i64| {
                let moves = own.iter().filter(|event| event.kind.needs_user() && event.ts.0 <= at);
                let latest = moves.max_by_key(|event| (event.ts, event.kind == Kind::ViewerLeave));
                latest.is_some_and(|event| event.kind == Kind::ViewerJoin && at - event.ts.0 < timeout)
            };
            let (start, end) = (minute.start().0 * 1_000, minute.end().0 * 1_000);
            let mut instants: Vec<i64> = own.iter().flat_map(|event| [event.ts.0, event.ts.0 + timeout]).collect();
            instants.extend([start, end]);
            instants.retain(|at| (start..=end).contains(at));
            instants.sort_unstable();
            let present: Vec<&[i64]> = instants.windows(2).filter(|of| of[0] < of[1] && is_present(of[0])).collect();
            row[ActiveViewers] += i64::from(is_present(end - 1));
            row[UniqueViewers] += i64::from(!present.is_empty());
            row[WatchMs] += present.iter().map(|of| of[1] / 1_000_000 - of[0] / 1_000_000).sum::<i64>();
        }
    }
    rows
}

#[test]
fn rows_are_those_of_the_definition_and_of_explain() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
    for round in 0..200 {
        let rules = Rules { viewer_timeout: [MINUTE, 150 * SECOND, 3 * MINUTE][round % 3], ..Rules::default() };
        let payloads = random_payloads(&mut random, 60, 8, 4);
        let log = log_of(&payloads, 2);
        let events: Vec<Event> = payloads
            .iter()
            .map(|payload| match decode(Some(payload)) {
                Ok(Decoded::Event(event)) => event,
                other => panic!("{other:?}"),
            })
            .collect();
        let answer = answer(&log, &rules, Clock::Stored, &Verdicts::new(), None);
        let mut rows = answer.rows.clone();
        rows.values_mut().for_each(|row| *row = Values::of(DEFINED.map(|metric| (metric, row[metric]))));
        assert_eq!(rows, rows_by_definition(&events, &rules), "round {round}");
        for ((minute, stream), row) in &answer.rows {
            let evidence = explain(&log, &rules, &Verdicts::new(), *minute, stream);
            let present = evidence.iter().filter(|record| record.presence == Some(Presence::Present)).count();
            assert_eq!(i64::try_from(present).unwrap(), row[ActiveViewers]);
        }
    }
}

#[test]
fn order_partitions_and_copies_change_no_row_while_nothing_is_late() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(4);
    for _ in 0..100 {
        let mut payloads = random_payloads(&mut random, 50, 8, 4);
        let before = answer(&log_of(&payloads, 1), &Rules::default(), Clock::Stored, &Verdicts::new(), None);
        for _ in 0..20 {
            let copy = payloads[random.random_range(0..payloads.len())].clone();
            payloads.push(copy);
        }
        payloads.shuffle(&mut random);
        let after = answer(&log_of(&payloads, 3), &Rules::default(), Clock::Stored, &Verdicts::new(), None);
        assert_eq!(after.rows, before.rows);
        assert_eq!((before.duplicates, after.duplicates, after.admitted), (0, 20, 70));
    }
}

#[test]
fn a_longer_log_judges_its_prefix_alike() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
    let rules = Rules { lateness: MINUTE, ..Rules::default() };
    let mut late = 0;
    for _ in 0..100 {
        let payloads = random_payloads(&mut random, 60, 8, 4);
        let whole = answer(&log_of(&payloads, 2), &rules, Clock::Stored, &Verdicts::new(), None);
        let prefix = answer(&log_of(&payloads[..40], 2), &rules, Clock::Stored, &Verdicts::new(), None);
        let of_prefix = |position: &Position| position.1 < 20;
        let restricted: Verdicts = whole.dead_letters.into_iter().filter(|(position, _)| of_prefix(position)).collect();
        assert_eq!(restricted, prefix.dead_letters);
        late += restricted.len();
    }
    assert!(late > 100, "{late} late records prove little");
}

#[test]
fn dropping_the_dead_letters_changes_nothing_else() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(6);
    let rules = Rules { lateness: MINUTE, ..Rules::default() };
    for _ in 0..100 {
        let log = log_of(&random_payloads(&mut random, 60, 8, 4), 2);
        let before = answer(&log, &rules, Clock::Stored, &Verdicts::new(), None);
        let mut cleaned = log.clone();
        for (partition, records) in &mut cleaned {
            records.retain(|record| !before.dead_letters.contains_key(&(*partition, record.offset)));
        }
        let after = answer(&cleaned, &rules, Clock::Stored, &Verdicts::new(), None);
        assert_eq!(after, Answer { dead_letters: Verdicts::new(), ..before });
    }
}

#[test]
fn two_hundred_thousand_events_take_seconds() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    let log = log_of(&random_payloads(&mut random, 200_000, 1_000, 50_000), 4);
    let rules = Rules { lateness: 24 * 60 * MINUTE, ..Rules::default() };
    let started = std::time::Instant::now();
    let answer = answer(&log, &rules, Clock::Stored, &Verdicts::new(), None);
    println!("200,000 events in {:?}, {} rows", started.elapsed(), answer.rows.len());
    assert_eq!((answer.admitted, answer.duplicates), (200_000, 0));
}
