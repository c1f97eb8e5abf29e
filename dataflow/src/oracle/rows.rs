//! The metrics of each (minute, stream), (hour, stream) and (day, stream), and of all streams together, window by window.

use super::decode::Event;
use super::viewers::{Move, User, Viewers};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher;
use tidemark_model::metrics::RollUp;
use tidemark_model::{Grain, Kind, Metric, Minute, Values};

/// Hours and days.
const LONGER: [Grain; 2] = [Grain::Hour, Grain::Day];

/// A window to which nothing will be added any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// How long it is.
    pub grain: Grain,
    /// Its first minute.
    pub first: Minute,
    /// Its rows, by stream; at least one.
    pub rows: Vec<(String, Values)>,
    /// How many streams have a row, and the metrics of all streams together, also of those that have viewers and no row.
    pub totals: (i64, Values),
}

impl Completed {
    fn new(grain: Grain, first: Minute) -> Completed {
        Completed { grain, first, rows: Vec::new(), totals: (0, Values::default()) }
    }

    fn add(&mut self, stream: &str, row: Values, has_row: bool) {
        let (streams, sums) = &mut self.totals;
        for (sum, value) in sums.0.iter_mut().zip(row.0) {
            *sum = sum.checked_add(value).expect("the totals of a window fit 64 bits");
        }
        if has_row {
            *streams += 1;
            self.rows.push((stream.to_owned(), row));
        }
    }
}

/// Counted events go in, completed windows come out, in the order of their ends; of windows that end together the shorter first.
///
/// Held are minutes that are not completed, the hour and the day that are, and who is present.
pub(super) struct Rows {
    /// In nanoseconds.
    viewer_timeout: i128,
    /// Hours and days are made of the minutes before this one.
    closed: Minute,
    /// The first minute that is not completed.
    next: Minute,
    minutes: BTreeMap<Minute, HashMap<String, OfMinute>>,
    /// Those with viewers, or with a part in an hour or a day that is not completed.
    streams: BTreeMap<String, Stream>,
    /// The most viewers of all streams at the end of a minute of the hour, and of the day.
    peaks: [i64; LONGER.len()],
    /// Hashes the names of users. Its key is random, so nobody can make two names that collide.
    users: SipHasher13,
}

/// A stream's counted events of a minute.
#[derive(Default)]
struct OfMinute {
    row: Values,
    chatters: HashSet<User>,
    donors: HashSet<User>,
    moves: Vec<Move>,
}

#[derive(Default)]
struct Stream {
    viewers: Viewers,
    longer: [Option<Longer>; LONGER.len()],
}

/// A stream's part in an hour or a day, as far as its minutes are completed.
#[derive(Default)]
struct Longer {
    has_row: bool,
    /// Without the metrics that count users: they come from the sets below.
    row: Values,
    viewers: HashSet<User>,
    chatters: HashSet<User>,
    donors: HashSet<User>,
}

impl Rows {
    /// Hours and days are made of the minutes before `closed`. `viewer_timeout` is in microseconds.
    pub(super) fn new(viewer_timeout: i64, closed: Minute, key: (u64, u64)) -> Rows {
        Rows {
            viewer_timeout: i128::from(viewer_timeout) * 1_000,
            closed,
            next: Minute(0),
            minutes: BTreeMap::new(),
            streams: BTreeMap::new(),
            peaks: [0; LONGER.len()],
            users: SipHasher13::new_with_keys(key.0, key.1),
        }
    }

    /// An event of a minute that is not completed.
    pub(super) fn count(&mut self, event: &Event) {
        let minute = self.minutes.entry(Minute::of(event.ts)).or_default();
        if !minute.contains_key(&event.stream) {
            minute.insert(event.stream.clone(), OfMinute::default());
        }
        let OfMinute { row, chatters, donors, moves } = minute.get_mut(&event.stream).expect("it is there now");
        let user = event.user.as_deref().map(|name| {
            let mut hasher = self.users;
            hasher.write(name.as_bytes());
            hasher.finish128().as_u128()
        });
        match event.kind {
            Kind::ViewerJoin | Kind::ViewerLeave => {
                let user = user.expect("joins and leaves have a user");
                moves.push((user, i128::from(event.ts.0), event.kind == Kind::ViewerLeave));
            }
            Kind::ChatMessage => {
                row[Metric::ChatMessages] += 1;
                chatters.extend(user);
            }
            Kind::Donation => {
                row[Metric::Donations] += 1;
                add(row, Metric::DonationsUsd, event.amount.0);
                donors.extend(user);
            }
            Kind::StreamStart | Kind::StreamStop => {}
        }
    }

    /// No event is in a minute before this one any more.
    pub(super) fn complete_before(&mut self, end: Minute, out: &mut dyn FnMut(Completed)) {
        while self.next < end {
            if self.streams.is_empty() {
                // Until something happens, nobody is there.
                let Some((&first, _)) = self.minutes.first_key_value() else { return };
                self.next = self.next.max(first).min(end);
            }
            if self.next < end {
                self.complete_next(out);
            }
        }
    }

    /// No event comes any more.
    pub(super) fn complete_all(&mut self, out: &mut dyn FnMut(Completed)) {
        let last = self.minutes.last_key_value().map_or(Minute(0), |(minute, _)| Minute(minute.0 + 1));
        self.complete_before(last.max(self.closed), out);
        for longer in 0..LONGER.len() {
            self.complete_longer(longer, out);
        }
    }

    fn complete_next(&mut self, out: &mut dyn FnMut(Completed)) {
        let minute = self.next;
        self.next = Minute(minute.0 + 1);
        let mut counted = self.minutes.remove(&minute).unwrap_or_default();
        for stream in counted.keys().filter(|stream| !self.streams.contains_key(*stream)).cloned().collect::<Vec<_>>() {
            self.streams.insert(stream, Stream::default());
        }
        let is_closed = minute < self.closed;
        let mut completed = Completed::new(Grain::Minute, minute);
        for (name, stream) in &mut self.streams {
            let (has_row, mut of_minute) = counted.remove(name).map_or_else(Default::default, |of_minute| (true, of_minute));
            let moves = std::mem::take(&mut of_minute.moves);
            let seen = stream.viewers.pass(minute, moves, self.viewer_timeout, &mut of_minute.row);
            if is_closed {
                stream.add_to_longer(minute, &of_minute, &seen, has_row);
            }
            completed.add(name, of_minute.values(), has_row);
        }
        let active = completed.totals.1[Metric::ActiveViewers];
        if !completed.rows.is_empty() {
            out(completed);
        }
        for (index, grain) in LONGER.into_iter().enumerate() {
            if is_closed {
                self.peaks[index] = self.peaks[index].max(active);
            }
            if grain.end_of(grain.window_of(minute)) == self.next {
                self.complete_longer(index, out);
            }
        }
        self.streams.retain(|_, stream| !stream.viewers.is_empty() || stream.longer.iter().any(Option::is_some));
    }

    /// The hour or day that the last completed minute is in.
    fn complete_longer(&mut self, index: usize, out: &mut dyn FnMut(Completed)) {
        let (grain, last) = (LONGER[index], Minute(self.next.0.saturating_sub(1)));
        let mut completed = Completed::new(grain, grain.window_of(last));
        for (name, stream) in &mut self.streams {
            if let Some(longer) = stream.longer[index].take() {
                completed.add(name, longer.values(), longer.has_row);
            }
        }
        completed.totals.1[Metric::PeakViewers] = std::mem::take(&mut self.peaks[index]);
        if !completed.rows.is_empty() {
            out(completed);
        }
    }
}

impl OfMinute {
    fn values(&self) -> Values {
        let mut row = self.row;
        row[Metric::UniqueChatters] = signed(self.chatters.len());
        row[Metric::Donors] = signed(self.donors.len());
        row
    }
}

impl Stream {
    fn add_to_longer(&mut self, minute: Minute, of_minute: &OfMinute, seen: &[User], has_row: bool) {
        for (longer, grain) in self.longer.iter_mut().zip(LONGER) {
            let longer = longer.get_or_insert_default();
            longer.add(of_minute, seen, has_row);
            // Whoever comes later is in `seen` of that minute.
            if grain.window_of(minute) == minute {
                longer.viewers.extend(self.viewers.users());
            }
        }
    }
}

impl Longer {
    fn add(&mut self, minute: &OfMinute, seen: &[User], has_row: bool) {
        let row = &mut self.row;
        for metric in Metric::ALL.into_iter().filter(|metric| metric.declared().roll_up == RollUp::Sum) {
            add(row, metric, minute.row[metric]);
        }
        row[Metric::ActiveViewers] = minute.row[Metric::ActiveViewers];
        row[Metric::PeakViewers] = row[Metric::PeakViewers].max(minute.row[Metric::ActiveViewers]);
        self.viewers.extend(seen);
        self.chatters.extend(&minute.chatters);
        self.donors.extend(&minute.donors);
        self.has_row |= has_row;
    }

    fn values(&self) -> Values {
        let mut row = self.row;
        row[Metric::UniqueViewers] = signed(self.viewers.len());
        row[Metric::UniqueChatters] = signed(self.chatters.len());
        row[Metric::Donors] = signed(self.donors.len());
        row
    }
}

/// One amount is at most 10^11 cents: it takes more than 9 × 10^7 of the largest in one window to get beyond 64 bits.
fn add(row: &mut Values, metric: Metric, value: i64) {
    row[metric] = row[metric].checked_add(value).expect("the sums of a window fit 64 bits");
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).expect("fewer than 2^63")
}
