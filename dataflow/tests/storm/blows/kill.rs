//! `kill -9`: of processes, a broker, the database.

use super::Blow;
use crate::director::{Director, ENDS_WITHIN};
use crate::support::parts::on_the_disk;
use rustix::process::Signal;
use std::path::PathBuf;

impl Director<'_> {
    pub(super) fn kill_one(&mut self, blow: Blow) {
        self.kill_any();
        self.hurt(blow, true);
    }

    pub(super) fn kill_all(&mut self, blow: Blow) {
        self.cluster.signal(Signal::KILL);
        self.hurt(blow, true);
    }

    /// Together with all checkpoints, or with one file of them.
    pub(super) fn lose_checkpoints(&mut self, blow: Blow) {
        self.cluster.signal(Signal::KILL);
        self.cluster.ends_within(ENDS_WITHIN);
        let checkpoints = self.storm.ground.dir.join("checkpoints");
        let sets = on_the_disk(&checkpoints).into_iter().map(|set| checkpoints.join(set));
        let mut files: Vec<PathBuf> =
            sets.flat_map(|set| std::fs::read_dir(set).into_iter().flatten().flatten()).map(|file| file.path()).collect();
        if self.one_in(2) && !files.is_empty() {
            let one = self.below(files.len());
            files = vec![files.swap_remove(one)];
        }
        self.note(&format!("{} files of checkpoints are lost", files.len()));
        for file in files {
            std::fs::remove_file(file).expect("nobody else removes it");
        }
        self.hurt(blow, true);
    }

    pub(super) fn kill_a_broker(&mut self, blow: Blow) {
        let node = self.below(self.storm.services.brokers.count());
        let services = self.storm.services;
        self.outage(blow, &|| services.brokers.crash(node), &|| services.brokers.revive(node));
    }

    pub(super) fn crash_postgres(&mut self, blow: Blow) {
        let services = self.storm.services;
        self.outage(blow, &|| services.crash_postgres(), &|| services.revive_postgres());
    }

    fn kill_any(&mut self) {
        let victim = self.below(self.cluster.processes.len());
        self.cluster.processes[victim].signal(Signal::KILL);
    }

    /// Crashes a service and brings it back after a while; the supervisor goes on meanwhile.
    fn outage(&mut self, blow: Blow, crash: &(dyn Fn() + Sync), revive: &(dyn Fn() + Sync)) {
        let away = self.millis(0..2_000);
        std::thread::scope(|scope| {
            let outage = scope.spawn(|| {
                crash();
                std::thread::sleep(away);
                revive();
            });
            while !outage.is_finished() {
                // A run dies now and then while the service is away.
                if self.one_in(400) {
                    self.kill_any();
                }
                self.tick();
            }
        });
        self.hurt(blow, false);
    }
}
