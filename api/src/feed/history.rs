//! Which watermark held at a commit: it bounds the search for what changed since.

use crate::rows::{Epoch, Moment};
use std::collections::VecDeque;
use tidemark_model::{Micros, Minute};

/// Remembered changes of the watermark's minute: almost three days at the clock's speed.
const REMEMBERED: usize = 4_096;

/// Commits at which the watermark was first seen in another minute, oldest first, and after what later changes start.
#[derive(Default)]
pub struct History {
    life: u64,
    /// The newest commit of an earlier life: up to it, a number may be that of a commit that was lost.
    ambiguous: Option<Epoch>,
    newest: Option<Epoch>,
    marks: VecDeque<(Epoch, Option<Micros>)>,
}

impl History {
    /// Takes note of what the store has.
    pub fn record(&mut self, at: &Moment) {
        let Some(epoch) = at.epoch else { return };
        if at.life != self.life || self.newest.is_some_and(|newest| epoch < newest) {
            self.ambiguous = self.ambiguous.max(self.newest);
            self.marks.clear();
            self.life = at.life;
        }
        self.newest = Some(epoch);
        let starts_after = at.changes_start_after();
        let minute = |start: Option<Micros>| start.map(Minute::first_open);
        if self.marks.back().is_none_or(|(_, newest)| minute(*newest) != minute(starts_after)) {
            self.marks.push_back((epoch, starts_after));
        }
        if self.marks.len() > REMEMBERED {
            self.marks.pop_front();
        }
    }

    /// Remembers a moment that a client was told, because it may resume from there. It may be older than the reader's first look.
    pub fn told(&mut self, at: &Moment) {
        match self.marks.front() {
            None => self.record(at),
            Some((first, _)) if at.life == self.life && at.epoch.is_some_and(|epoch| epoch < *first) => {
                self.marks.extend(at.epoch.map(|epoch| (epoch, at.changes_start_after())));
                self.marks.rotate_right(1);
            }
            Some(_) => {}
        }
    }

    /// [`Moment::changes_start_after`] of this commit, or of an earlier one, whose watermark was at most as high: it bounds the
    /// search as well, only less. `None` for a commit before what is remembered.
    pub fn starts_after(&self, epoch: Epoch) -> Option<Option<Micros>> {
        if Some(epoch) <= self.ambiguous {
            return None;
        }
        let known = self.marks.partition_point(|(mark, _)| *mark <= epoch);
        self.marks.get(known.checked_sub(1)?).map(|(_, starts_after)| *starts_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::UtcTime;

    fn moment(epoch: i64, watermark: Option<i64>, life: u64) -> Moment {
        let time = |seconds: i64| UtcTime(Micros(seconds * 1_000_000));
        Moment { now: time(0), epoch: Some(Epoch(epoch)), watermark: watermark.map(time), life }
    }

    fn seconds(history: &History, epoch: i64) -> Option<Option<i64>> {
        history.starts_after(Epoch(epoch)).map(|start| start.map(|Micros(micros)| micros / 1_000_000))
    }

    #[test]
    fn the_newest_mark_at_or_before_a_commit_bounds_it() {
        let mut history = History::default();
        assert_eq!(seconds(&history, 5), None);
        for (epoch, watermark) in [(5, None), (7, Some(600)), (8, Some(630)), (9, Some(660))] {
            history.record(&moment(epoch, watermark, 1));
        }
        let found = [4, 5, 6, 7, 8, 9, 99].map(|epoch| seconds(&history, epoch));
        assert_eq!(found, [None, Some(None), Some(None), Some(Some(540)), Some(Some(540)), Some(Some(600)), Some(Some(600))]);
    }

    #[test]
    fn a_client_goes_on_from_what_it_was_told_before_the_first_look() {
        let mut first_heard = History::default();
        first_heard.told(&moment(5, Some(600), 1));
        first_heard.record(&moment(7, Some(660), 1));
        let mut first_looked = History::default();
        first_looked.record(&moment(7, Some(660), 1));
        first_looked.told(&moment(5, Some(600), 1));
        // Neither another life's number nor one that is known already changes what is remembered.
        first_looked.told(&moment(4, Some(600), 2));
        first_looked.told(&moment(6, Some(600), 1));
        for history in [first_heard, first_looked] {
            let found = [4, 5, 6, 7].map(|epoch| seconds(&history, epoch));
            assert_eq!(found, [None, Some(Some(540)), Some(Some(540)), Some(Some(600))]);
        }
    }

    #[test]
    fn it_is_bounded_and_forgets_another_life() {
        let mut history = History::default();
        for epoch in 0..10_000 {
            history.record(&moment(epoch, Some(epoch * 60), 1));
        }
        assert_eq!(history.marks.len(), REMEMBERED);
        assert_eq!(seconds(&history, 10), None);
        history.record(&moment(10_001, Some(60), 2));
        assert_eq!(seconds(&history, 9_999), None);
        history.record(&moment(3, Some(60), 2));
        // Commits up to 10,001 have had their numbers before.
        history.record(&moment(10_002, Some(120), 2));
        assert_eq!([3, 10_001, 10_002].map(|epoch| seconds(&history, epoch)), [None, None, Some(Some(60))]);
    }
}
