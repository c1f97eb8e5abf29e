//! The metrics of each (hour, stream) and (day, stream), as far as their minutes are closed.

use super::RolledUp;
use super::decode::Event;
use super::rows::{MILLISECOND, MINUTE, Users, count, presences};
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::{Grain, Metric, Micros, Minute, Values};

/// A window's length and its first minute.
type Window = (Grain, Minute);

/// The rows of the counted events by this watermark: one for each hour and day of a stream in which at least one of them falls into a
/// closed minute. With them the totals of each window that has a row.
///
/// `viewer_timeout` is in microseconds.
pub(super) fn rolled_up(counted: &[&Event], viewer_timeout: i64, watermark: Option<Micros>) -> RolledUp {
    let mut all = RolledUp::default();
    let Some(closed) = watermark.map(Minute::first_open) else { return all };
    let mut streams: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in counted {
        streams.entry(&event.stream).or_default().push(event);
    }
    let windows_of = |event: &Event| [Grain::Hour, Grain::Day].map(|grain| (grain, grain.window_of(Minute::of(event.ts))));
    let is_closed = |event: &&&Event| Minute::of(event.ts) < closed;
    let windows: BTreeSet<Window> = counted.iter().filter(is_closed).flat_map(|event| windows_of(event)).collect();
    // Viewers at the end of each minute of a window, of all streams.
    let mut at_ends: BTreeMap<Window, Vec<i64>> = BTreeMap::new();
    for (stream, events) in streams {
        let events_closed: Vec<&Event> = events.iter().filter(is_closed).copied().collect();
        let rows: BTreeSet<Window> = events_closed.iter().flat_map(|event| windows_of(event)).collect();
        let presences = presences(&events, viewer_timeout);
        let (mut starts, mut ends): (Vec<i128>, Vec<i128>) = presences.iter().map(|&(_, start, end)| (start, end)).unzip();
        starts.sort_unstable();
        ends.sort_unstable();
        for &window in &windows {
            let (grain, first) = window;
            let end = grain.end_of(first).min(closed);
            let (from, until) = (i128::from(first.0) * MINUTE, i128::from(end.0) * MINUTE);
            let mut row = Values::default();
            let mut users = Users::new();
            for event in events_closed.iter().filter(|event| windows_of(event).contains(&window)) {
                count(event, &mut row, &mut users);
            }
            // Who is present at t has come at or before t and not gone at or before t.
            let at =
                |t: i128| signed(starts.partition_point(|&start| start <= t)) - signed(ends.partition_point(|&end| end <= t));
            let of_minutes: Vec<i64> = (first.0..end.0).map(|minute| at((i128::from(minute) + 1) * MINUTE - 1)).collect();
            row[Metric::ActiveViewers] = *of_minutes.last().expect("a closed minute");
            row[Metric::PeakViewers] = of_minutes.iter().copied().max().expect("a closed minute");
            let mut viewers = BTreeSet::new();
            let mut watched = 0;
            for &(user, start, end) in presences.iter().filter(|(_, start, end)| *start < until && *end > from) {
                viewers.insert(user);
                watched += end.min(until) / MILLISECOND - start.max(from) / MILLISECOND;
            }
            row[Metric::UniqueViewers] = signed(viewers.len());
            row[Metric::WatchMs] = i64::try_from(watched).expect("a day's milliseconds fit 64 bits");

            let all_at_ends = at_ends.entry(window).or_insert_with(|| vec![0; of_minutes.len()]);
            all_at_ends.iter_mut().zip(of_minutes).for_each(|(all, of)| *all += of);
            let (streams, sums) = all.totals.entry(window).or_default();
            for (sum, value) in sums.0.iter_mut().zip(row.0) {
                *sum = sum.checked_add(value).expect("the totals of a day fit 64 bits");
            }
            sums[Metric::PeakViewers] = all_at_ends.iter().copied().max().expect("a closed minute");
            if rows.contains(&window) {
                *streams += 1;
                all.rows.insert((grain, first, stream.to_owned()), row);
            }
        }
    }
    all
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("fewer than 2^63")
}
