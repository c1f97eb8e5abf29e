//! How one viewer has moved: joins and leaves, a word each, and what each changes of the present count of the viewer's stream.

use super::windows::{ByWindow, Value};
use differential_dataflow::difference::{IsZero, Semigroup};
use smallvec::{SmallVec, smallvec};
use tidemark_model::{Minute, Nanos};

/// Nanoseconds in a minute.
pub(super) const MINUTE: i64 = 60_000_000_000;

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

    pub(super) fn minute(self) -> Minute {
        Minute::of(self.ts())
    }

    pub(super) fn is_leave(self) -> bool {
        self.0 & 1 == 1
    }

    fn ts(self) -> Nanos {
        Nanos((self.0 >> 1).cast_signed())
    }

    /// The first window at whose end a join no longer counts; a leave never does.
    pub(super) fn until(self, timeout: i64) -> Minute {
        if self.is_leave() {
            return Minute(0);
        }
        // The window e with the least end such that end − 1 ns − ts ≥ timeout.
        let past = self.ts().0.saturating_add(timeout);
        Minute(u32::try_from(past / MINUTE).unwrap_or(u32::MAX))
    }
}

/// A viewer's movements, in the order of their windows, one of each.
#[derive(Debug)]
pub(super) enum History {
    /// Two stand where a list of them would have its address and length.
    Few(SmallVec<[Moved; 2]>),
    /// More than [`FEW`], once.
    Many(Box<ByWindow<Moved>>),
}

const _: () = assert!(size_of::<Option<History>>() <= 32);

/// Movements in a plain list, at most: a new one may move them all. In tests both forms are met.
const FEW: usize = if cfg!(test) { 4 } else { 128 };

/// Of two movements in a window the later one matters.
impl Semigroup for Moved {
    fn plus_equals(&mut self, other: &Moved) {
        *self = (*other).max(*self);
    }
}

impl IsZero for Moved {
    fn is_zero(&self) -> bool {
        false
    }
}

impl Value for Moved {
    fn weight(&self) -> i64 {
        0
    }
}

impl History {
    pub(super) fn of(moved: Moved) -> History {
        History::Few(smallvec![moved])
    }

    pub(super) fn each(&self) -> impl Iterator<Item = Moved> {
        let (few, many) = match self {
            History::Few(few) => (&few[..], None),
            History::Many(many) => (&[][..], Some(many)),
        };
        few.iter().copied().chain(many.into_iter().flat_map(|many| many.iter().map(|(_, moved)| moved)))
    }

    /// The only one, if it is.
    pub(super) fn only(&self) -> Option<Moved> {
        match self {
            History::Few(few) if few.len() == 1 => Some(few[0]),
            _ => None,
        }
    }

    /// The movements before this window, in it, and after it that are closest to it.
    fn around(&self, minute: Minute) -> [Option<Moved>; 3] {
        let few = match self {
            History::Few(few) => few,
            History::Many(many) => return many.around(minute),
        };
        let at = few.partition_point(|other| other.minute() < minute);
        let same = few.get(at).copied().filter(|other| other.minute() == minute);
        let before = at.checked_sub(1).map(|at| few[at]);
        [before, same, few.get(at + usize::from(same.is_some())).copied()]
    }

    /// Takes up a movement. Of two in one window the later one stays.
    pub(super) fn put(&mut self, moved: Moved) {
        let minute = moved.minute();
        match self {
            History::Many(many) => many.add(minute, &moved),
            History::Few(few) => {
                let at = few.partition_point(|other| other.minute() < minute);
                match few.get_mut(at).filter(|other| other.minute() == minute) {
                    Some(same) => *same = moved.max(*same),
                    None => few.insert(at, moved),
                }
                if few.len() > FEW {
                    let mut many = ByWindow::default();
                    few.iter().for_each(|moved| many.add(moved.minute(), moved));
                    *self = History::Many(Box::new(many));
                }
            }
        }
    }

    /// Keeps of the movements in closed windows only the last, and that only if it still matters. `false`: nothing is left.
    pub(super) fn forget(&mut self, first_open: Minute, matters: impl Fn(Moved) -> bool) -> bool {
        match self {
            History::Few(few) => {
                let closed = few.partition_point(|moved| moved.minute() < first_open);
                let keep_last = closed > 0 && matters(few[closed - 1]);
                few.drain(..closed - usize::from(keep_last));
                !few.is_empty()
            }
            History::Many(many) => {
                let mut last = None;
                many.take_before(first_open, |_, moved| last = Some(moved));
                if let Some(last) = last.filter(|&last| matters(last)) {
                    many.add(last.minute(), &last);
                }
                if many.count() <= FEW / 2 {
                    *self = History::Few(many.iter().map(|(_, moved)| moved).collect());
                }
                self.each().next().is_some()
            }
        }
    }
}

/// Changes of a stream's present count, each from a window on: at most six, two per interval that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    steps: [(Minute, i64); 6],
    len: usize,
}

impl Default for Steps {
    fn default() -> Steps {
        Steps { steps: [(Minute(0), 0); 6], len: 0 }
    }
}

impl Steps {
    /// Each of them, in no order.
    pub fn each(&self) -> &[(Minute, i64)] {
        &self.steps[..self.len]
    }

    /// The first window that changes.
    pub fn first(&self) -> Option<Minute> {
        self.steps[..self.len].iter().map(|&(minute, _)| minute).min()
    }

    /// The sum of all steps up to and with this window.
    pub fn up_to(&self, minute: Minute) -> i64 {
        self.steps[..self.len].iter().filter(|(from, _)| *from <= minute).map(|(_, change)| change).sum()
    }

    /// An interval `[from, until)` of windows is added (`sign` = 1) or taken away (−1).
    pub(super) fn interval(&mut self, from: Minute, until: Minute, sign: i64) {
        if from < until {
            self.step(from, sign);
            self.step(until, -sign);
        }
    }

    fn step(&mut self, at: Minute, change: i64) {
        if let Some(index) = self.steps[..self.len].iter().position(|&(minute, _)| minute == at) {
            self.steps[index].1 += change;
            if self.steps[index].1 == 0 {
                self.len -= 1;
                self.steps[index] = self.steps[self.len];
            }
            return;
        }
        self.steps[self.len] = (at, change);
        self.len += 1;
    }
}

/// Puts a movement in its place among those of other windows; of two in one window the later one stays.
pub(super) fn place(history: &mut History, moved: Moved, timeout: i64, steps: &mut Steps) {
    let minute = moved.minute();
    let [before, same, next] = history.around(minute);
    if same.is_some_and(|same| same >= moved) {
        return;
    }
    let next = next.map(Moved::minute);
    let until = |of: Moved, next: Option<Minute>| next.map_or(of.until(timeout), |next| next.min(of.until(timeout)));
    match (before, same) {
        (_, Some(same)) => steps.interval(minute, until(same, next), -1),
        (Some(before), None) => {
            steps.interval(before.minute(), until(before, next), -1);
            steps.interval(before.minute(), until(before, Some(minute)), 1);
        }
        (None, None) => {}
    }
    history.put(moved);
    steps.interval(minute, until(moved, next), 1);
}
