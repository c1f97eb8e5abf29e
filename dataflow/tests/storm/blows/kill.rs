//! `kill -9`: of processes, a broker, the database.

use super::Blow;
use crate::director::Director;
use rustix::process::Signal;

impl Director<'_> {
    pub(super) fn kill_one(&mut self, blow: Blow) {
        self.kill_any();
        self.hurt(blow, true);
    }

    pub(super) fn kill_all(&mut self, blow: Blow) {
        self.cluster.signal(Signal::KILL);
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
