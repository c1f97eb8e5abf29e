//! The records behind one row, for `verify` to print. Presence is found here user by user, as the design says it.

use super::decode::Event;
use super::judge::{Fate, Judge, Judged, Verdict};
use super::{Clock, Highest, Position, Record, Rules};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
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

/// What a [`Witness`] is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The records responsible for the row of these minutes and this stream: every event of the stream in those minutes, whether it counts or
    /// not, and of each user the last counted join or leave before them and the last one before their end. Records that do not decode have no
    /// stream and are not among them.
    Row(Range<Minute>, String),
    /// The record here, if it is an event of the six types.
    Record(Position),
    /// The record whose time decides a partition's watermark: the first with the highest one that is not `future`.
    Watermark(i32),
}

/// Records go in, as into [`super::Oracle`]; answers come out at the end.
pub struct Witness {
    judge: Judge,
    rules: Rules,
    questions: Vec<(Question, Found)>,
}

impl Witness {
    /// Of these partitions, with `before` what is not read of them.
    pub fn new(
        partitions: impl IntoIterator<Item = i32>,
        before: &Highest,
        rules: &Rules,
        clock: Clock,
        questions: Vec<Question>,
    ) -> Witness {
        let judge = Judge::new(partitions, before, rules, clock, super::random_key());
        Witness { judge, rules: *rules, questions: questions.into_iter().map(|question| (question, Found::default())).collect() }
    }

    /// The next record of a partition. `stored`: why the store says that it is a dead letter.
    pub fn take(&mut self, at: Position, record: Record<'_>, stored: Option<Reason>) {
        let Verdict::Event(judged) = self.judge.judge(at, record, stored) else { return };
        for (question, found) in &mut self.questions {
            found.keep(question, &judged);
        }
    }

    /// All of a partition has been taken.
    pub fn end_of(&mut self, partition: i32) {
        self.judge.end_of(partition);
    }

    /// The partitions of which more is to be taken next. None: all has been taken.
    pub fn behind(&mut self) -> Vec<i32> {
        self.judge.completed_before();
        self.judge.behind()
    }

    /// The answer to each question, in their order; the records of each by partition and offset.
    pub fn answers(self) -> Vec<Vec<Evidence>> {
        let Witness { rules, questions, .. } = self;
        questions.into_iter().map(|(question, found)| answer(&question, found.judged, &rules)).collect()
    }
}

/// What was found so far of an answer.
#[derive(Default)]
struct Found {
    judged: Vec<Judged>,
    /// Where each user's last move before the minutes is in it.
    before: HashMap<String, usize>,
}

impl Found {
    /// Keeps an event if it can be a part of the answer.
    fn keep(&mut self, question: &Question, judged: &Judged) {
        match question {
            Question::Row(minutes, stream) if judged.event.stream == *stream => {
                let minute = Minute::of(judged.event.ts);
                if minutes.contains(&minute) {
                    self.judged.push(judged.clone());
                } else if minute < minutes.start && moves(judged) {
                    self.keep_move_before(judged);
                }
            }
            Question::Record(at) if judged.at == *at => self.judged.push(judged.clone()),
            Question::Watermark(partition) if judged.at.0 == *partition && self.is_highest(judged) => {
                self.judged = vec![judged.clone()];
            }
            _ => {}
        }
    }

    fn is_highest(&self, judged: &Judged) -> bool {
        let is_higher = self.judged.first().is_none_or(|highest| judged.event.ts > highest.event.ts);
        judged.fate != Fate::Rejected(Reason::Future) && is_higher
    }

    /// Of a user the last one.
    fn keep_move_before(&mut self, judged: &Judged) {
        let user = judged.event.user.clone().expect("joins and leaves have a user");
        match self.before.entry(user) {
            Entry::Vacant(none) => {
                none.insert(self.judged.len());
                self.judged.push(judged.clone());
            }
            Entry::Occupied(kept) => {
                let kept = &mut self.judged[*kept.get()];
                if precedence(&judged.event) > precedence(&kept.event) {
                    *kept = judged.clone();
                }
            }
        }
    }
}

fn answer(question: &Question, mut found: Vec<Judged>, rules: &Rules) -> Vec<Evidence> {
    found.sort_by_key(|judged| judged.at);
    let Question::Row(minutes, _) = question else {
        return found.iter().map(|judged| evidence_of(judged, None)).collect();
    };
    let end = Nanos(minutes.end.start().0 * 1_000 - 1);
    let deciding = deciding_moves(&found, end);
    let presence = |judged: &Judged| {
        let latest = judged.event.user.as_deref().and_then(|user| deciding.get(user));
        latest.is_some_and(|(_, at)| *at == judged.at).then(|| presence_by(&judged.event, end, rules))
    };
    found.iter().map(|judged| evidence_of(judged, presence(judged))).collect()
}

/// Whether it is a counted join or leave.
fn moves(judged: &Judged) -> bool {
    matches!(judged.event.kind, Kind::ViewerJoin | Kind::ViewerLeave) && judged.fate == Fate::Counted
}

fn precedence(event: &Event) -> Precedence {
    (event.ts, event.kind == Kind::ViewerLeave)
}

/// When a join or leave happened and whether it is a leave, which is the later word of two at one instant.
type Precedence = (Nanos, bool);

/// The latest counted join or leave of each user at or before `t`.
fn deciding_moves(of_stream: &[Judged], t: Nanos) -> BTreeMap<&str, (Precedence, Position)> {
    let mut deciding = BTreeMap::new();
    for Judged { at, event, .. } in of_stream.iter().filter(|judged| moves(judged) && judged.event.ts <= t) {
        let user = event.user.as_deref().expect("joins and leaves have a user");
        let latest = deciding.entry(user).or_insert((precedence(event), *at));
        if precedence(event) > latest.0 {
            *latest = (precedence(event), *at);
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
