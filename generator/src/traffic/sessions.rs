//! Who does what next: viewers join a stream, chat, perhaps donate, and leave; streams go on and off the air.
//!
//! A viewer watches at most one stream and leaves only a stream that they joined. About one session in seven ends without a
//! leave, as when somebody closes the lid. Nothing here knows of time, JSON or faults.

use super::dice::Dice;
use tidemark_model::Kind;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// What.
    pub kind: Kind,
    /// The stream's number.
    pub stream: usize,
    /// The viewer's number; absent for a stream's start and stop.
    pub user: Option<usize>,
    /// What a donation gives, in whole cents.
    pub cents: Option<u32>,
}

/// Streams and viewers as they are now.
#[derive(Clone, Debug)]
pub struct Sessions {
    streams: Vec<Stream>,
    /// Sums of the streams' weights up to and with each, to pick one by its weight.
    cumulative: Vec<u64>,
    /// Users who watch nothing.
    absent: Vec<usize>,
    /// Where each user watches.
    seats: Vec<Option<Seat>>,
}

#[derive(Clone, Debug)]
struct Stream {
    on_air: bool,
    audience: Vec<usize>,
    /// The audience around which joins and leaves balance; at least 1.
    usual_audience: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    stream: usize,
    index: usize,
}

/// Weight of the most popular stream; the n-th weighs an n-th of it (Zipf's law), which integers divide alike everywhere.
const TOP_WEIGHT: u64 = 1 << 32;
/// Of so many picks of a stream on the air, one takes it off.
const PICKS_PER_STOP: u64 = 4_000;
/// Of so many sessions, one ends without a leave.
const SESSIONS_PER_SILENT_END: u64 = 7;

impl Sessions {
    /// Nobody watches and nothing is on the air. There must be a stream and a user.
    pub fn new(streams: usize, users: usize) -> Sessions {
        assert!(streams > 0 && users > 0, "traffic needs at least one stream and one user");
        let weights: Vec<u64> = (1..=streams as u64).map(|rank| (TOP_WEIGHT / rank).max(1)).collect();
        let total: u64 = weights.iter().sum();
        let usual = |weight: u64| (u128::from(weight) * (users as u128 / 2) / u128::from(total)).max(1) as u64;
        let stream = |weight: &u64| Stream { on_air: false, audience: Vec::new(), usual_audience: usual(*weight) };
        let mut sum = 0;
        Sessions {
            streams: weights.iter().map(stream).collect(),
            cumulative: weights
                .iter()
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
            absent: (0..users).collect(),
            seats: vec![None; users],
        }
    }

    /// What happens next.
    pub fn next_act(&mut self, dice: &mut Dice) -> Act {
        loop {
            // Only a session that ends silently yields nothing, and nobody can leave silently for ever.
            if let Some(act) = self.try_act(dice) {
                return act;
            }
        }
    }

    /// A stream's number, popular ones more often.
    pub fn pick_stream(&self, dice: &mut Dice) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(0);
        let at = dice.below(total);
        self.cumulative.partition_point(|sum| *sum <= at)
    }

    fn try_act(&mut self, dice: &mut Dice) -> Option<Act> {
        let picked = self.pick_stream(dice);
        if !self.streams[picked].on_air {
            return self.off_air(picked, dice);
        }
        if dice.below(PICKS_PER_STOP) == 0 {
            self.streams[picked].on_air = false;
            return Some(Act { kind: Kind::StreamStop, stream: picked, user: None, cents: None });
        }
        let audience = self.streams[picked].audience.len() as u64;
        // Of 105 picks 35 join, 35 end a session (5 of them silently), 30 chat and 5 donate.
        match dice.below(105) {
            _ if audience == 0 => self.join(picked, dice),
            0..70 => {
                let usual = self.streams[picked].usual_audience;
                if dice.below(usual + audience) < usual { self.join(picked, dice) } else { self.end_session(picked, dice) }
            }
            70..100 => Some(self.speak(Kind::ChatMessage, picked, None, dice)),
            _ => {
                let cents = donation(dice);
                Some(self.speak(Kind::Donation, picked, Some(cents), dice))
            }
        }
    }

    /// After a stream's end its audience leaves; then it may start again.
    fn off_air(&mut self, stream: usize, dice: &mut Dice) -> Option<Act> {
        if !self.streams[stream].audience.is_empty() {
            return self.end_session(stream, dice);
        }
        self.streams[stream].on_air = true;
        Some(Act { kind: Kind::StreamStart, stream, user: None, cents: None })
    }

    fn join(&mut self, stream: usize, dice: &mut Dice) -> Option<Act> {
        if self.absent.is_empty() {
            // Everybody watches something: somebody leaves first.
            let user = dice.index(self.seats.len());
            let seat = self.seats[user].expect("nobody is absent, so every user has a seat");
            self.stand_up(seat);
            return Some(Act { kind: Kind::ViewerLeave, stream: seat.stream, user: Some(user), cents: None });
        }
        let user = self.absent.swap_remove(dice.index(self.absent.len()));
        let audience = &mut self.streams[stream].audience;
        self.seats[user] = Some(Seat { stream, index: audience.len() });
        audience.push(user);
        Some(Act { kind: Kind::ViewerJoin, stream, user: Some(user), cents: None })
    }

    /// A viewer goes; `None` if silently.
    fn end_session(&mut self, stream: usize, dice: &mut Dice) -> Option<Act> {
        let index = dice.index(self.streams[stream].audience.len());
        let user = self.streams[stream].audience[index];
        self.stand_up(Seat { stream, index });
        let silently = dice.below(SESSIONS_PER_SILENT_END) == 0;
        (!silently).then_some(Act { kind: Kind::ViewerLeave, stream, user: Some(user), cents: None })
    }

    fn stand_up(&mut self, seat: Seat) {
        let audience = &mut self.streams[seat.stream].audience;
        let user = audience.swap_remove(seat.index);
        if let Some(moved) = audience.get(seat.index) {
            self.seats[*moved] = Some(seat);
        }
        self.seats[user] = None;
        self.absent.push(user);
    }

    fn speak(&self, kind: Kind, stream: usize, cents: Option<u32>, dice: &mut Dice) -> Act {
        let audience = &self.streams[stream].audience;
        let user = audience[dice.index(audience.len())];
        Act { kind, stream, user: Some(user), cents }
    }
}

/// Mostly small whole dollars, sometimes odd cents, rarely a lot.
fn donation(dice: &mut Dice) -> u32 {
    const USUAL_DOLLARS: [u32; 8] = [1, 2, 3, 5, 5, 10, 20, 50];
    let cents = match dice.below(10) {
        0..7 => USUAL_DOLLARS[dice.index(USUAL_DOLLARS.len())] * 100,
        7..9 => 100 + dice.below(4_900) as u32,
        _ => 5_000 + dice.below(45_001) as u32,
    };
    debug_assert!((100..=50_000).contains(&cents), "a donation is between one and five hundred dollars");
    cents
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn viewers_act_only_where_they_watch() {
        for (streams, users) in [(1, 1), (5, 500), (300, 20), (1_000, 1)] {
            let (mut sessions, mut dice) = (Sessions::new(streams, users), Dice::new(3));
            let mut joined = BTreeSet::new();
            let mut on_air = BTreeSet::new();
            for _ in 0..50_000 {
                let act = sessions.next_act(&mut dice);
                let place = act.user.map(|user| (user, act.stream));
                match act.kind {
                    // A second join follows a session that ended silently.
                    Kind::ViewerJoin => drop(joined.insert(place)),
                    Kind::ViewerLeave => assert!(joined.remove(&place), "{act:?}"),
                    Kind::ChatMessage | Kind::Donation => assert!(joined.contains(&place), "{act:?}"),
                    Kind::StreamStart => assert!(on_air.insert(act.stream), "{act:?}"),
                    Kind::StreamStop => assert!(on_air.remove(&act.stream), "{act:?}"),
                }
                assert_eq!(act.cents.is_some(), act.kind == Kind::Donation);
            }
        }
    }

    #[test]
    fn the_mix_is_as_promised_and_popular_streams_are_popular() {
        let (mut sessions, mut dice) = (Sessions::new(5, 500), Dice::new(11));
        let mut kinds = BTreeMap::new();
        let mut streams = [0_u32; 5];
        for _ in 0..200_000 {
            let act = sessions.next_act(&mut dice);
            *kinds.entry(act.kind.as_str()).or_insert(0) += 1;
            streams[act.stream] += 1;
        }
        for (kind, percent) in [("viewer_join", 35), ("viewer_leave", 30), ("chat_message", 30), ("donation", 5)] {
            let share = f64::from(kinds[kind]) / 2_000.0;
            assert!((share - f64::from(percent)).abs() < 2.5, "{kind}: {share} %, {kinds:?}");
        }
        assert!(kinds["stream_start"] > 5 && kinds["stream_stop"] > 5, "{kinds:?}");
        assert!(streams.is_sorted_by(|a, b| a > b) && streams[0] > 3 * streams[4], "{streams:?}");
    }
}
