//! SIGSTOP: what a paused container, a virtual machine that is moved and a laptop's lid do.

use super::Blow;
use crate::director::Director;
use rustix::process::Signal;
use std::time::Duration;

impl Director<'_> {
    /// Mostly longer than sessions and idleness last.
    pub(super) fn a_pause(&mut self) -> Duration {
        match self.below(8) {
            0 | 1 => self.millis(500..5_000),
            7 if self.storm.long => self.millis(25_000..45_000),
            _ if self.storm.long => self.millis(8_000..20_000),
            _ => self.millis(6_000..12_000),
        }
    }

    /// All processes or one, also while the broker is late in answering them again.
    pub(super) fn pause_run(&mut self, blow: Blow) {
        let (pause, all, late) = (self.a_pause(), self.one_in(2), self.one_in(2));
        let victim = self.below(self.cluster.processes.len());
        let mut each = |signal: Signal| match all {
            true => self.cluster.signal(signal),
            false => self.cluster.processes[victim].signal(signal),
        };
        each(Signal::STOP);
        std::thread::sleep(pause);
        let brokers = self.storm.services;
        let paused: Vec<_> = (0..brokers.brokers.count()).filter(|_| late).map(|node| brokers.pause_broker(node)).collect();
        each(Signal::CONT);
        if late {
            self.go_on_for(Duration::from_secs(4));
        }
        drop(paused);
        self.hurt(blow, false);
    }

    pub(super) fn pause_brokers(&mut self, blow: Blow) {
        let (pause, services) = (self.a_pause(), self.storm.services);
        let (all, one) = (self.one_in(2), self.below(services.brokers.count()));
        let nodes = (0..services.brokers.count()).filter(|&node| all || node == one);
        let paused: Vec<_> = nodes.map(|node| services.pause_broker(node)).collect();
        self.go_on_for(pause);
        drop(paused);
        self.hurt(blow, false);
    }

    pub(super) fn pause_postgres(&mut self, blow: Blow) {
        let pause = self.a_pause();
        let paused = self.storm.services.pause_postgres();
        self.go_on_for(pause);
        drop(paused);
        self.hurt(blow, false);
    }
}
