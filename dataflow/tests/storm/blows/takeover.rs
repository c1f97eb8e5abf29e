//! Runs that are replaced, and runs that are stopped.

use super::Blow;
use crate::cluster::Cluster;
use crate::director::{Director, ENDS_WITHIN};
use crate::support::proxy::Way;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// What a run may end with that was replaced, or that lost one of its processes.
const FENCED: &str = "another run of pipeline";
const GONE: &str = "is gone;";

impl Director<'_> {
    /// The whole run sleeps, or its first process does while the others are killed; another takes over; it wakes.
    pub(super) fn zombie(&mut self, blow: Blow) {
        self.mend(|director| director.cluster.took_over());
        // What is left of a run may hear first that the others are gone.
        let alone = self.one_in(2);
        let says = if alone { &[FENCED, GONE][..] } else { &[FENCED] };
        if !alone {
            self.cluster.signal(Signal::STOP);
        } else {
            let (first, others) = self.cluster.processes.split_first_mut().expect("at least one process");
            first.signal(Signal::STOP);
            others.iter_mut().for_each(|other| other.signal(Signal::KILL));
        }
        let successor = self.another();
        let mut old = std::mem::replace(&mut self.cluster, successor);
        self.hurt(blow, true);
        self.mend(|director| director.recovered());
        let pause = self.millis(0..1_000);
        self.go_on_for(pause);
        old.signal(Signal::CONT);
        self.must_be_fenced(old, "a zombie", says);
    }

    pub(super) fn rival(&mut self, blow: Blow) {
        // A second run would simply be the first.
        self.mend(|director| director.cluster.took_over());
        let successor = self.another();
        let old = std::mem::replace(&mut self.cluster, successor);
        self.hurt(blow, true);
        self.mend(|director| director.recovered());
        self.must_be_fenced(old, "a run whose pipeline a second one took", &[FENCED]);
    }

    pub(super) fn stop_and_start(&mut self, blow: Blow) {
        self.mend(|director| director.cluster.took_over());
        self.stop();
        self.cluster = self.another();
        self.hurt(blow, true);
    }

    /// Nothing can be committed or read then; a stop is obeyed all the same, within its bound.
    pub(super) fn stop_in_trouble(&mut self, blow: Blow) {
        let services = self.storm.services;
        let links: Vec<_> = (0..services.brokers.count()).map(|node| services.brokers.link(node)).collect();
        let trouble = self.below(4);
        let paused = match trouble {
            0 => Some(services.pause_postgres()),
            1 => {
                self.storm.network.forget();
                None
            }
            2 => {
                self.storm.network.set(Way::Stalled);
                None
            }
            _ => {
                links.iter().for_each(|link| link.set(Way::Stalled));
                None
            }
        };
        let what = [
            "Postgres is paused",
            "Postgres's connections are forgotten",
            "the way to Postgres hangs",
            "the way to the brokers hangs",
        ];
        let wait = self.millis(0..3_000);
        self.go_on_for(wait);
        let asked = Instant::now();
        self.cluster.signal(Signal::TERM);
        let running = self.cluster.ends_within(ENDS_WITHIN);
        if running.is_empty() {
            self.report.obeyed(asked.elapsed());
        } else {
            self.wrong(format!("processes {running:?} do not end within {ENDS_WITHIN:?} of SIGTERM while {}", what[trouble]));
            self.cluster.signal(Signal::KILL);
            self.cluster.ends_within(Duration::from_secs(5));
        }
        drop(paused);
        links.iter().for_each(|link| link.set(Way::Open));
        self.storm.network.set(Way::Open);
        let next = self.another();
        let old = std::mem::replace(&mut self.cluster, next);
        self.keep(&old);
        self.hurt(blow, true);
    }

    /// A run that was replaced ends by itself, soon, and says why.
    fn must_be_fenced(&mut self, mut old: Cluster, who: &str, says: &[&str]) {
        let running = old.ends_within(ENDS_WITHIN);
        if !running.is_empty() {
            self.wrong(format!("{who} goes on for {ENDS_WITHIN:?}: its processes {running:?}"));
        } else if !says.iter().any(|what| old.complains(what)) {
            self.wrong(format!("{who} does not say that another took over:\n{}", old.said()));
        }
        self.over(&old);
    }
}
