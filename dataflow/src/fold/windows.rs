//! Values by window, in the order of the windows. A change costs about the same wherever its window is, and however many there are.
//!
//! The list is cut into blocks: a change moves no more than the entries of one block, and each block knows the sum of its own. A stream
//! has a dozen open windows in an ordinary pipeline, which are one block.

use crate::flow::Totals;
use differential_dataflow::difference::{IsZero, Semigroup};
use smallvec::SmallVec;
use tidemark_model::Minute;

/// Entries of a block, at most.
const BLOCK: usize = 128;

/// What a window can have. Values add; a zero is not kept.
pub trait Value: Copy + Semigroup + IsZero {
    /// What is summed up over the windows.
    fn weight(&self) -> i64;
}

#[cfg(test)]
impl Value for i64 {
    fn weight(&self) -> i64 {
        *self
    }
}

impl Value for Totals {
    fn weight(&self) -> i64 {
        0
    }
}

/// The list.
#[derive(Debug)]
pub struct ByWindow<T> {
    blocks: SmallVec<[Block<T>; 1]>,
}

/// Part of it; never empty.
#[derive(Debug)]
struct Block<T> {
    /// The sum of the entries' weights.
    weight: i64,
    entries: Vec<(Minute, T)>,
}

impl<T> Default for ByWindow<T> {
    fn default() -> ByWindow<T> {
        ByWindow { blocks: SmallVec::new() }
    }
}

impl<T: Value> Block<T> {
    fn of(entries: Vec<(Minute, T)>) -> Block<T> {
        Block { weight: entries.iter().map(|(_, value)| value.weight()).sum(), entries }
    }

    /// Where the window is, or would be. Most are the last one, or come after it.
    fn find(&self, minute: Minute) -> Result<usize, usize> {
        match self.entries.last() {
            Some((last, _)) if *last < minute => Err(self.entries.len()),
            Some((last, _)) if *last == minute => Ok(self.entries.len() - 1),
            _ => self.entries.binary_search_by_key(&minute, |&(minute, _)| minute),
        }
    }
}

impl<T: Value> ByWindow<T> {
    /// Whether no window has a value.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The first window that has one.
    pub fn first(&self) -> Option<Minute> {
        self.blocks.first().map(|block| block.entries[0].0)
    }

    /// The last window that has one.
    pub fn last(&self) -> Option<Minute> {
        self.blocks.last().and_then(|block| block.entries.last()).map(|&(minute, _)| minute)
    }

    /// How many windows have one.
    pub fn count(&self) -> usize {
        self.blocks.iter().map(|block| block.entries.len()).sum()
    }

    /// Each window with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Minute, T)> {
        self.blocks.iter().flat_map(|block| block.entries.iter().copied())
    }

    /// The sum of the weights of all windows before this one, and its own value.
    pub fn at(&self, minute: Minute) -> (i64, Option<T>) {
        let number = self.block_of(minute);
        let Some(block) = self.blocks.get(number) else { return (0, None) };
        work(number + block.entries.len());
        let blocks: i64 = self.blocks[..number].iter().map(|block| block.weight).sum();
        let before = block.entries.partition_point(|(at, _)| *at < minute);
        let entries: i64 = block.entries[..before].iter().map(|(_, value)| value.weight()).sum();
        (blocks + entries, block.entries.get(before).filter(|(at, _)| *at == minute).map(|(_, value)| *value))
    }

    /// Adds to a window's value.
    pub fn add(&mut self, minute: Minute, change: &T) {
        let number = self.block_of(minute);
        let Some(block) = self.blocks.get_mut(number) else {
            if !change.is_zero() {
                self.blocks.push(Block::of(vec![(minute, *change)]));
            }
            return;
        };
        match block.find(minute) {
            Ok(at) => {
                block.weight += change.weight();
                let value = &mut block.entries[at].1;
                value.plus_equals(change);
                if value.is_zero() {
                    work(block.entries.len() - at);
                    block.entries.remove(at);
                    if block.entries.is_empty() {
                        self.blocks.remove(number);
                    }
                }
            }
            Err(at) if !change.is_zero() => {
                let (number, at) = self.make_room(number, at);
                let Block { weight, entries } = &mut self.blocks[number];
                work(entries.len() - at);
                *weight += change.weight();
                entries.insert(at, (minute, *change));
            }
            Err(_) => {}
        }
    }

    /// Takes out all windows before this one.
    pub fn take_before(&mut self, first: Minute, mut take: impl FnMut(Minute, T)) {
        let whole = self.blocks.partition_point(|block| block.entries.last().is_some_and(|(last, _)| *last < first));
        for block in self.blocks.drain(..whole) {
            block.entries.into_iter().for_each(|(minute, value)| take(minute, value));
        }
        let Some(Block { weight, entries }) = self.blocks.first_mut() else { return };
        let part = entries.partition_point(|(minute, _)| *minute < first);
        work(entries.len());
        for (minute, value) in entries.drain(..part) {
            *weight -= value.weight();
            take(minute, value);
        }
    }

    /// The block in which the window is or would be.
    fn block_of(&self, minute: Minute) -> usize {
        self.blocks.get(1..).map_or(0, |others| others.partition_point(|block| block.entries[0].0 <= minute))
    }

    /// Where an entry goes that would be there, but for a block that is full. Windows that come in order, either way, fill their blocks.
    fn make_room(&mut self, number: usize, at: usize) -> (usize, usize) {
        if self.blocks[number].entries.len() < BLOCK {
            return (number, at);
        }
        let next_has_room = self.blocks.get(number + 1).is_some_and(|next| next.entries.len() < BLOCK);
        if at == BLOCK && next_has_room {
            return (number + 1, 0);
        }
        work(self.blocks.len() - number);
        let empty = || Block { weight: 0, entries: Vec::new() };
        match at {
            0 => self.blocks.insert(number, empty()),
            BLOCK => self.blocks.insert(number + 1, empty()),
            _ => {
                work(BLOCK);
                let entries = self.blocks[number].entries.split_off(BLOCK / 2);
                let later = Block::of(entries);
                self.blocks[number].weight -= later.weight;
                self.blocks.insert(number + 1, later);
            }
        }
        match at {
            BLOCK => (number + 1, 0),
            _ if at > BLOCK / 2 => (number + 1, at - BLOCK / 2),
            _ => (number, at),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Entries, blocks and windows that were looked at or moved one by one.
    pub(super) static WORK: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts work, in tests.
#[inline]
pub(super) fn work(_steps: usize) {
    #[cfg(test)]
    WORK.set(WORK.get() + _steps);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// All that a list says of itself, beside what is expected.
    fn check(list: &ByWindow<i64>, expected: &BTreeMap<Minute, i64>, at: Minute) {
        assert_eq!(list.at(at), (expected.range(..at).map(|(_, value)| value).sum::<i64>(), expected.get(&at).copied()));
        assert!(list.iter().eq(expected.iter().map(|(&minute, &value)| (minute, value))));
        assert_eq!((list.first(), list.last()), (expected.keys().next().copied(), expected.keys().last().copied()));
        assert_eq!(list.count(), expected.len());
        assert!(
            list.is_empty() == expected.is_empty() && list.blocks.iter().all(|block| (1..=BLOCK).contains(&block.entries.len()))
        );
    }

    #[test]
    fn a_list_in_blocks_is_a_map_in_order() {
        let mut random = super::super::dice();
        for windows in [3, 300, 3_000] {
            let (mut list, mut expected) = (ByWindow::default(), BTreeMap::<Minute, i64>::new());
            for step in 0..6_000 {
                let minute = Minute(u32::try_from(random(windows)).unwrap());
                let change = i64::try_from(random(5)).unwrap() - 2;
                list.add(minute, &change);
                *expected.entry(minute).or_default() += change;
                expected.retain(|_, value| *value != 0);
                if random(100) == 0 {
                    let (first, mut taken) = (Minute(minute.0 / 4), Vec::new());
                    list.take_before(first, |minute, value| taken.push((minute, value)));
                    let kept = expected.split_off(&first);
                    assert!(taken.into_iter().eq(std::mem::replace(&mut expected, kept)));
                }
                if step % 8 == 0 {
                    check(&list, &expected, minute);
                }
            }
        }
    }

    #[test]
    fn windows_in_order_fill_their_blocks_and_others_half_of_them() {
        let mut random = super::super::dice();
        let windows = 20_000;
        let mut orders: [Vec<u32>; 4] = std::array::from_fn(|_| (0..windows).collect());
        orders[1].reverse();
        (1..orders[2].len()).for_each(|at| orders[2].swap(at, usize::try_from(random(at as u64)).unwrap()));
        // Backwards into a gap.
        orders[3][500..].reverse();
        for (order, fewest) in orders.into_iter().zip([BLOCK - 1, BLOCK - 1, BLOCK / 2, BLOCK / 2]) {
            let mut list = ByWindow::default();
            WORK.set(0);
            order.iter().for_each(|&minute| list.add(Minute(minute), &1));
            assert_eq!(list.at(Minute(windows - 1)), (i64::from(windows) - 1, Some(1)));
            assert!(list.blocks.len() * fewest <= order.len() + BLOCK, "{} blocks", list.blocks.len());
            assert!(WORK.get() < order.len() * BLOCK, "{} were moved", WORK.get());
        }
    }
}
