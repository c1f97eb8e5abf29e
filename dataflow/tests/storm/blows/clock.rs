//! Steps of the wall clock, which only the pipeline's processes see.

use super::Blow;
use crate::director::Director;
use rustix::process::Signal;
use std::ops::Range;
use std::time::Duration;

impl Director<'_> {
    /// By this many milliseconds, in either direction; after some seconds it is right again.
    pub(super) fn step_clocks(&mut self, blow: Blow, by: Range<u64>) {
        let step = self.step(by);
        let lasts = self.millis(2_000..12_000);
        self.go_on_for(lasts);
        self.heal(&step);
        self.hurt(blow, false);
    }

    /// A virtual machine that is moved: its clock stands still, goes on from there, and is set some seconds later.
    pub(super) fn step_clocks_while_paused(&mut self, blow: Blow) {
        let pause = self.a_pause();
        self.cluster.signal(Signal::STOP);
        std::thread::sleep(pause);
        let step = self.step(1_000..600_000);
        self.cluster.signal(Signal::CONT);
        let lasts = self.millis(500..8_000);
        self.go_on_for(lasts);
        self.heal(&step);
        self.hurt(blow, false);
    }

    /// Of all processes or one. A process that was started meanwhile has a right clock already.
    fn step(&mut self, by: Range<u64>) -> Vec<usize> {
        let ahead = i64::try_from(self.millis(by).as_micros()).expect("minutes");
        let ahead = if self.one_in(2) { ahead } else { -ahead };
        let clocks = self.cluster.clocks.len();
        let which: Vec<usize> = if self.one_in(2) { (0..clocks).collect() } else { vec![self.below(clocks)] };
        which.iter().for_each(|&clock| self.cluster.clocks[clock].step_to(ahead));
        self.note(&format!("clocks {which:?} of {clocks} stepped by {:?}", ahead as f64 / 1e6));
        which
    }

    fn heal(&mut self, which: &[usize]) {
        for &clock in which {
            if let Some(clock) = self.cluster.clocks.get(clock) {
                clock.step_to(0);
            }
        }
        // What went wrong by the step shows a moment later.
        self.go_on_for(Duration::from_millis(500));
    }
}
