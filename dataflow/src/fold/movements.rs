//! How one viewer has moved: joins and leaves, a word each, and what each changes of the presence in the viewer's stream.

use super::windows::{Value, work};
use differential_dataflow::difference::{IsZero, Semigroup};
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeSet;
use tidemark_model::time::MINUTE_NANOS;
use tidemark_model::{Grain, Minute, Nanos};

/// Nanoseconds in a millisecond.
const MILLISECOND: i64 = 1_000_000;

/// The window of an instant, which may be the end of a presence and so be later than any event.
fn window_of(at: Nanos) -> Minute {
    Minute(u32::try_from(at.0 / MINUTE_NANOS).expect("64 bits of nanoseconds are fewer minutes than 32 bits count"))
}

/// A join or a leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movement {
    /// The viewer came.
    Join,
    /// The viewer went.
    Leave,
}

/// A movement in one word: twice its time, plus one for a leave. So the later one is the greater one, and a leave is greater
/// than a join at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moved(pub u64);

impl Moved {
    pub(super) fn new(ts: Nanos, movement: Movement) -> Moved {
        let ts = u64::try_from(ts.0).expect("event times are not negative");
        Moved(ts << 1 | u64::from(movement == Movement::Leave))
    }

    /// A bound: movements of this window and of later ones are not less, earlier ones are.
    fn first_of(window: Minute) -> Moved {
        Moved(i64::from(window.0).saturating_mul(MINUTE_NANOS).cast_unsigned() << 1)
    }

    pub(super) fn minute(self) -> Minute {
        Minute::of(self.ts())
    }

    pub(super) fn is_leave(self) -> bool {
        self.0 & 1 == 1
    }

    fn ts(self) -> Nanos {
        Nanos((self.0 >> 1).cast_signed())
    }

    /// When a join times out if nothing follows it. Of a leave its own time.
    fn runs_out(self, timeout: i64) -> Nanos {
        Nanos(if self.is_leave() { self.ts().0 } else { self.ts().0.saturating_add(timeout) })
    }

    /// The last window whose values depend on it.
    pub(super) fn matters_to(self, timeout: i64) -> Minute {
        window_of(self.runs_out(timeout))
    }

    /// The presence that it makes, up to the next movement: `[from, until)`, empty for a leave.
    fn presence(self, next: Option<Moved>, timeout: i64) -> (Nanos, Nanos) {
        let until = self.runs_out(timeout);
        (self.ts(), next.map_or(until, |next| until.min(next.ts())))
    }
}

/// A viewer's movements in open windows, and the last one before them, in their order. A join at the instant of a leave is not among
/// them: the leave wins, whatever else comes.
#[derive(Debug)]
pub(super) enum History {
    /// Two stand where a list of them would have its address and length.
    Few(SmallVec<[Moved; 2]>),
    /// More than [`FEW`], once.
    Many(Box<Many>),
}

/// All movements, and the joins among them.
#[derive(Debug, Default)]
pub(super) struct Many {
    all: BTreeSet<Moved>,
    joins: BTreeSet<Moved>,
}

const _: () = assert!(size_of::<Option<History>>() <= 32);

/// Movements in a plain list, at most: a new one may move them all. In tests both forms are met.
const FEW: usize = if cfg!(test) { 4 } else { 128 };

impl History {
    pub(super) fn none() -> History {
        History::Few(SmallVec::new())
    }

    /// These, in their order.
    pub(super) fn of(first: Moved, second: Option<Moved>) -> History {
        let mut few = smallvec![first];
        few.extend(second);
        History::Few(few)
    }

    pub(super) fn each(&self) -> impl Iterator<Item = Moved> {
        let (few, many) = match self {
            History::Few(few) => (&few[..], None),
            History::Many(many) => (&[][..], Some(many)),
        };
        few.iter().copied().chain(many.into_iter().flat_map(|many| many.all.iter().copied()))
    }

    /// The first, and the second if there is one, if there are no more.
    pub(super) fn one_or_two(&self) -> Option<(Moved, Option<Moved>)> {
        match self {
            History::Few(few) if (1..=2).contains(&few.len()) => Some((few[0], few.get(1).copied())),
            _ => None,
        }
    }

    /// The last movement before this one, and the first that is not before it.
    fn around(&self, moved: Moved) -> (Option<Moved>, Option<Moved>) {
        match self {
            History::Few(few) => {
                work(few.len());
                let at = few.partition_point(|other| *other < moved);
                (at.checked_sub(1).map(|at| few[at]), few.get(at).copied())
            }
            History::Many(many) => {
                work(2);
                let (before, next) = (many.all.range(..moved).next_back(), many.all.range(moved..).next());
                (before.copied(), next.copied())
            }
        }
    }

    /// The minute of the first join in `[from, until)`.
    fn first_join(&self, from: Minute, until: Minute) -> Option<Minute> {
        let (first, next) = (Moved::first_of(from), Moved::first_of(until));
        let join = match self {
            History::Few(few) => {
                few.iter().inspect(|_| work(1)).find(|moved| (first..next).contains(moved) && !moved.is_leave()).copied()
            }
            History::Many(many) => many.joins.range(first..next).inspect(|_| work(1)).next().copied(),
        };
        join.map(Moved::minute)
    }

    /// The last movement before a window.
    pub(super) fn last_before(&self, window: Minute) -> Option<Moved> {
        self.around(Moved::first_of(window)).0
    }

    /// Whether the movements before a window make the viewer present at any instant from the beginning of another one on.
    pub(super) fn was_present(&self, since: Minute, before: Minute, timeout: i64) -> bool {
        let (since, before) = (Moved::first_of(since).ts(), Moved::first_of(before));
        let mut each = self.each().peekable();
        while let Some(moved) = each.next().filter(|moved| *moved < before) {
            let (from, until) = moved.presence(each.peek().copied(), timeout);
            if from < until && until > since {
                return true;
            }
        }
        false
    }

    /// Takes up a movement.
    pub(super) fn put(&mut self, moved: Moved) {
        match self {
            History::Many(many) => many.put(moved),
            History::Few(few) => {
                let Err(at) = few.binary_search(&moved) else { return };
                few.insert(at, moved);
                if few.len() > FEW {
                    let mut many = Many::default();
                    few.iter().for_each(|&moved| many.put(moved));
                    *self = History::Many(Box::new(many));
                }
            }
        }
    }

    fn remove(&mut self, moved: Moved) {
        match self {
            History::Few(few) => few.retain(|other| *other != moved),
            History::Many(many) => {
                many.all.remove(&moved);
                many.joins.remove(&moved);
            }
        }
    }

    /// Keeps of the movements in closed windows only the last, and that only if it still matters. `false`: nothing is left.
    pub(super) fn forget(&mut self, first_open: Minute, matters: impl Fn(Moved) -> bool) -> bool {
        let first = Moved::first_of(first_open);
        match self {
            History::Few(few) => {
                let closed = few.partition_point(|moved| *moved < first);
                let keep_last = closed > 0 && matters(few[closed - 1]);
                few.drain(..closed - usize::from(keep_last));
                !few.is_empty()
            }
            History::Many(many) => {
                let last = many.all.range(..first).next_back().copied().filter(|&last| matters(last));
                let first = last.unwrap_or(first);
                *many.as_mut() = Many { all: many.all.split_off(&first), joins: many.joins.split_off(&first) };
                if many.all.len() <= FEW / 2 {
                    *self = History::Few(many.all.iter().copied().collect());
                }
                self.each().next().is_some()
            }
        }
    }

    /// [`Step::fresh`] of this viewer in the minutes of a window: in which one it begins to count, and that it does not in the first one
    /// for being there before it.
    fn fresh(&self, grain: Grain, window: Minute, timeout: i64) -> Fresh {
        let first = Moved::first_of(window);
        let (before, next) = self.around(first);
        let start = first.ts();
        let runs_out = before.filter(|before| !before.is_leave()).map(|before| before.runs_out(timeout));
        // At the last nanosecond before it, and at its first one.
        let was_there = runs_out.is_some_and(|at| at >= start);
        let stays = runs_out.is_some_and(|at| at > start) && next.is_none_or(|next| next.ts() > start);
        let counts = if stays { Some(window) } else { self.first_join(window, grain.end_of(window)) };
        [(counts.unwrap_or(window), i32::from(counts.is_some())), (window, -i32::from(was_there))]
    }
}

/// In which minutes of a window a viewer counts as fresh, and how: 1, −1 or not.
type Fresh = [(Minute, i32); 2];

impl Many {
    fn put(&mut self, moved: Moved) {
        self.all.insert(moved);
        if !moved.is_leave() {
            self.joins.insert(moved);
        }
    }
}

/// What changes at a minute, of one viewer or of all of a stream. With n viewers present at the last nanosecond before the minute,
/// n + `present` are at its last one, n + `fresh` at any of it, and they are there for n minutes and `watched` milliseconds in all.
///
/// An hour's users are those who are present at the last nanosecond before it and the `fresh` of its minutes, a day's likewise.
///
/// 32 bits count viewers: of each a worker keeps some 50 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Change of the present count.
    pub present: i32,
    /// By [`Grain`], what this minute changes of the users of its minute, hour and day: one more for who was not there just before the window
    /// and first appears in this minute; one less, in the window's first minute, for who left exactly at its start.
    pub fresh: [i32; Grain::ALL.len()],
    /// In whole milliseconds.
    pub watched: i64,
}

impl IsZero for Step {
    fn is_zero(&self) -> bool {
        *self == Step::default()
    }
}

impl Semigroup for Step {
    fn plus_equals(&mut self, other: &Step) {
        self.present += other.present;
        self.fresh.iter_mut().zip(other.fresh).for_each(|(fresh, other)| *fresh += other);
        self.watched += other.watched;
    }
}

impl Value for Step {
    fn weight(&self) -> i64 {
        self.present.into()
    }
}

/// Steps of a stream, each at a window: few, where presences begin and end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps(SmallVec<[(Minute, Step); 2]>);

impl Steps {
    /// Each of them, in no order.
    pub fn each(&self) -> &[(Minute, Step)] {
        &self.0
    }

    /// None any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A presence `[from, until)` is added (`sign` = 1) or taken away (−1), as if it made nobody `fresh`.
    #[cfg(test)]
    pub(super) fn presence(&mut self, (from, until): (Nanos, Nanos), sign: i32) {
        let edges = [(from, sign), (until, -sign)];
        self.0.extend(edges.map(|(at, sign)| (window_of(at), Step::edge(at, sign))));
    }
}

impl Step {
    /// A presence begins here (`sign` = 1), or ends (−1).
    fn edge(at: Nanos, sign: i32) -> Step {
        let end = (i64::from(window_of(at).0) + 1) * (MINUTE_NANOS / MILLISECOND);
        Step { present: sign, watched: i64::from(sign) * (end - at.0 / MILLISECOND), ..Step::default() }
    }
}

/// What decides about presence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Nanoseconds after which a join times out.
    pub timeout: i64,
    /// The windows of which users are counted.
    pub grains: &'static [Grain],
}

/// Puts a movement in its place among the others. From it on, up to the next one, presence is what it says. `counted` tells whether the
/// viewer counts in an hour or a day by movements that are forgotten: they are of closed minutes.
pub(super) fn place(
    history: &mut History,
    moved: Moved,
    Rules { timeout, grains }: Rules,
    counted: impl Fn(Grain, Minute) -> bool,
    steps: &mut Steps,
) {
    let (before, next) = history.around(moved);
    let same_instant = |other: &Moved| other.ts() == moved.ts();
    // It is known already, or it is a join at the instant of a leave.
    if next.as_ref().is_some_and(same_instant) {
        return;
    }
    let cut = before.map(|before| before.presence(next, timeout).1).filter(|&until| until > moved.ts());
    let (ts, until) = moved.presence(next, timeout);
    // Where presence begins or ends now, or no longer does.
    let edges = match (moved.is_leave(), cut) {
        (true, Some(end)) => [(end, 1), (ts, -1)],
        (false, Some(end)) => [(end, 1), (until, -1)],
        (false, None) => [(ts, 1), (until, -1)],
        (true, None) => return history.put(moved),
    };
    let mut changes: SmallVec<[(Minute, Step); 2]> = SmallVec::new();
    edges.into_iter().for_each(|(at, sign)| step_at(&mut changes, window_of(at)).plus_equals(&Step::edge(at, sign)));
    // Windows in which the viewer may begin to count in another minute, each with what it was before.
    let mut windows: SmallVec<[(Grain, Minute, Fresh); 3]> = SmallVec::new();
    let at_a_start = |(at, _): &(Nanos, i32)| at.0 % MINUTE_NANOS == 0;
    if next.is_none() && !before.as_ref().is_some_and(same_instant) && !edges.iter().any(at_a_start) {
        // Most movements come behind all others. If no presence begins or ends at a minute's very start, such a one can only make the
        // viewer begin to count, and only a join of one who is away does.
        for &grain in if cut.is_none() { grains } else { &[] } {
            let window = grain.window_of(moved.minute());
            let counts = before.is_some() && history.fresh(grain, window, timeout)[0].1 != 0;
            if !counts && (grain == Grain::Minute || !counted(grain, window)) {
                step_at(&mut changes, moved.minute()).fresh[grain as usize] += 1;
            }
        }
    } else {
        for &grain in grains {
            let mut last = None;
            for (at, _) in edges {
                let window = grain.window_of(window_of(at));
                // An end behind the last movement changes nothing, but at the very start of a window.
                let behind = next.is_none() && window > moved.minute() && at > Moved::first_of(window).ts();
                if !behind && last.replace(window) != Some(window) {
                    windows.push((grain, window, history.fresh(grain, window, timeout)));
                }
            }
        }
    }
    if let Some(join) = before.filter(same_instant) {
        history.remove(join);
    }
    history.put(moved);
    for (grain, window, was) in windows {
        let is = history.fresh(grain, window, timeout);
        if is == was || (grain != Grain::Minute && counted(grain, window)) {
            continue;
        }
        for (minute, count) in was.map(|(minute, count)| (minute, -count)).into_iter().chain(is).filter(|(_, count)| *count != 0)
        {
            step_at(&mut changes, minute).fresh[grain as usize] += count;
        }
    }
    steps.0.extend(changes.into_iter().filter(|(_, step)| !step.is_zero()));
}

/// The step at a minute, a new one if there is none.
fn step_at(steps: &mut SmallVec<[(Minute, Step); 2]>, minute: Minute) -> &mut Step {
    let at = steps.iter().position(|(at, _)| *at == minute).unwrap_or_else(|| {
        steps.push((minute, Step::default()));
        steps.len() - 1
    });
    &mut steps[at].1
}
