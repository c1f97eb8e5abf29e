//! The records behind one row, for `verify` to print. Presence is found here user by user, as the design says it.

use super::decode::Event;
use super::judge::{self, Fate, Judged};
use super::{Clock, Highest, Log, Position, Rules, Verdicts};
use std::collections::BTreeMap;
use std::ops::Range;
use tidemark_model::{Cents, Kind, Minute, Nanos, Reason};

/// A record that has to do with a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The partition it is in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its type.
    pub kind: Kind,
    /// When it happened.
    pub ts: Nanos,
    /// The window it belongs to: the row's, or for joins and leaves that decide presence perhaps an earlier one.
    pub minute: Minute,
    /// Its user, if it has a valid one.
    pub user: Option<String>,
    /// Its id, if it has one.
    pub event_id: Option<String>,
    /// The donation; 0 for other kinds.
    pub amount: Cents,
    /// Whether it counts.
    pub fate: Fate,
    /// What it says about its user at the window's end, if it is the counted join or leave that decides this.
    pub presence: Option<Presence>,
}

/// Where a user is at a window's last nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// In the stream: one of the row's `active_viewers`.
    Present,
    /// Gone by a leave.
    Left,
    /// Gone because the join is too long ago.
    TimedOut,
}

/// The records responsible for the row of `minute` and `stream`. For more rows than one, [`Witness`] judges the log only once.
pub fn explain(log: &Log, rules: &Rules, clock: Clock, verdicts: &Verdicts, minute: Minute, stream: &str) -> Vec<Evidence> {
    Witness::new(log, &Highest::new(), rules, clock, verdicts).of_row(minute..Minute(minute.0 + 1), stream)
}

/// A judged log, which answers for any row.
pub struct Witness {
    events: Vec<Judged>,
    rules: Rules,
}

impl Witness {
    /// Judges the log. `before`: the highest event times of what has expired from its beginning.
    pub fn new(log: &Log, before: &Highest, rules: &Rules, clock: Clock, verdicts: &Verdicts) -> Witness {
        Witness { events: judge::judge(log, before, rules, clock, verdicts).events, rules: *rules }
    }

    /// The records responsible for the row of these minutes and `stream`, by partition and offset: every event of the stream in those
    /// minutes, whether it counts or not, and of each user the last counted join or leave before them and the last one before their end.
    ///
    /// Records that do not decode have no stream and are not here.
    pub fn of_row(&self, minutes: Range<Minute>, stream: &str) -> Vec<Evidence> {
        let of_stream: Vec<&Judged> = self.events.iter().filter(|judged| judged.event.stream == stream).collect();
        let last_before = |minute: Minute| Nanos(minute.start().0 * 1_000 - 1);
        let (before, end) = (deciding_moves(&of_stream, last_before(minutes.start)), last_before(minutes.end));
        let deciding = deciding_moves(&of_stream, end);
        let mut evidence = Vec::new();
        for judged in of_stream {
            let user = judged.event.user.as_deref();
            let is_of = |moves: &BTreeMap<&str, (Precedence, Position)>| {
                user.is_some_and(|user| moves.get(user).is_some_and(|(_, at)| *at == judged.at))
            };
            let decides = is_of(&deciding);
            if !decides && !is_of(&before) && !minutes.contains(&Minute::of(judged.event.ts)) {
                continue;
            }
            let presence = decides.then(|| presence_by(&judged.event, end, &self.rules));
            evidence.push(evidence_of(judged, presence));
        }
        evidence
    }

    /// The record at a position, if it is an event of the six types.
    pub fn at(&self, at: Position) -> Option<Evidence> {
        let found = self.events.binary_search_by_key(&at, |judged| judged.at).ok()?;
        Some(evidence_of(&self.events[found], None))
    }

    /// The record whose time decides a partition's watermark: the first with the highest one that is not `future`.
    pub fn of_watermark(&self, partition: i32) -> Option<Evidence> {
        let valid = |judged: &&Judged| judged.at.0 == partition && judged.fate != Fate::Rejected(Reason::Future);
        let valid = self.events.iter().filter(valid);
        valid.max_by_key(|judged| (judged.event.ts, std::cmp::Reverse(judged.at))).map(|judged| evidence_of(judged, None))
    }
}

/// When a join or leave happened and whether it is a leave, which is the later word of two at one instant.
type Precedence = (Nanos, bool);

/// The latest counted join or leave of each user at or before `t`.
fn deciding_moves<'a>(of_stream: &[&'a Judged], t: Nanos) -> BTreeMap<&'a str, (Precedence, Position)> {
    let mut deciding = BTreeMap::new();
    for Judged { at, event, fate } in of_stream {
        let moves = matches!(event.kind, Kind::ViewerJoin | Kind::ViewerLeave);
        if !moves || *fate != Fate::Counted || event.ts > t {
            continue;
        }
        let user = event.user.as_deref().expect("joins and leaves have a user");
        let precedence = (event.ts, event.kind == Kind::ViewerLeave);
        let latest = deciding.entry(user).or_insert((precedence, *at));
        if precedence > latest.0 {
            *latest = (precedence, *at);
        }
    }
    deciding
}

fn presence_by(latest: &Event, t: Nanos, rules: &Rules) -> Presence {
    let since = i128::from(t.0) - i128::from(latest.ts.0);
    match latest.kind {
        Kind::ViewerJoin if since < i128::from(rules.viewer_timeout) * 1_000 => Presence::Present,
        Kind::ViewerJoin => Presence::TimedOut,
        _ => Presence::Left,
    }
}

fn evidence_of(judged: &Judged, presence: Option<Presence>) -> Evidence {
    let Judged { at: (partition, offset), event, fate } = judged;
    Evidence {
        partition: *partition,
        offset: *offset,
        kind: event.kind,
        ts: event.ts,
        minute: Minute::of(event.ts),
        user: event.user.clone(),
        event_id: event.event_id.clone(),
        amount: event.amount,
        fate: *fate,
        presence,
    }
}
