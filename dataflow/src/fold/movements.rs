//! How one viewer has moved: joins and leaves, a word each, and what each changes of the present count of the viewer's stream.

use smallvec::SmallVec;
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

/// A viewer's movements, in the order of their windows. Two stand where a list of them would have its address and length.
pub(super) type History = SmallVec<[Moved; 2]>;

const _: () = assert!(size_of::<History>() <= 24);

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
    let at = history.partition_point(|other| other.minute() < minute);
    let same = history.get(at).copied().filter(|other| other.minute() == minute);
    if same.is_some_and(|same| same >= moved) {
        return;
    }
    let next = history.get(at + usize::from(same.is_some())).map(|other| other.minute());
    let until = |of: Moved, next: Option<Minute>| next.map_or(of.until(timeout), |next| next.min(of.until(timeout)));
    if let Some(same) = same {
        steps.interval(minute, until(same, next), -1);
        history[at] = moved;
    } else {
        if at > 0 {
            let before = history[at - 1];
            steps.interval(before.minute(), until(before, next), -1);
            steps.interval(before.minute(), until(before, Some(minute)), 1);
        }
        history.insert(at, moved);
    }
    steps.interval(minute, until(moved, next), 1);
}
