//! Ways that are cut, hang, are slow, and forget: between the pipeline and Postgres, and between it and each broker.

use super::Blow;
use crate::director::Director;
use crate::support::proxy::{Proxy, Way};
use std::ops::Range;

/// How long a way may be other than open, in milliseconds.
const CLOSED: Range<u64> = 0..3_000;
const HANGS: Range<u64> = 1_000..15_000;
const SLOW: Range<u64> = 3_000..8_000;
/// By how much a slow way delays what is sent.
const LATER: Range<u64> = 20..400;
/// How long one broker may be out of reach.
const OUT_OF_REACH: Range<u64> = 5_000..20_000;

impl<'a> Director<'a> {
    pub(super) fn cut_postgres(&mut self, blow: Blow) {
        self.cut(&[self.storm.network]);
        self.hurt(blow, false);
    }

    pub(super) fn stall_postgres(&mut self, blow: Blow) {
        self.stall(&[self.storm.network]);
        self.hurt(blow, false);
    }

    pub(super) fn slow_postgres(&mut self, blow: Blow) {
        self.slow(&[self.storm.network]);
        self.hurt(blow, false);
    }

    pub(super) fn forget_postgres(&mut self, blow: Blow) {
        self.storm.network.forget();
        self.hurt(blow, false);
    }

    pub(super) fn cut_brokers(&mut self, blow: Blow) {
        let links = self.links();
        self.cut(&links);
        self.hurt(blow, false);
    }

    pub(super) fn stall_brokers(&mut self, blow: Blow) {
        let links = self.links();
        self.stall(&links);
        self.hurt(blow, false);
    }

    pub(super) fn slow_brokers(&mut self, blow: Blow) {
        let links = self.links();
        self.slow(&links);
        self.hurt(blow, false);
    }

    pub(super) fn forget_brokers(&mut self, blow: Blow) {
        self.links().iter().for_each(|link| link.forget());
        self.hurt(blow, false);
    }

    /// Producers still reach it.
    pub(super) fn lose_one_broker(&mut self, blow: Blow) {
        let services = self.storm.services;
        let link = services.brokers.link(self.below(services.brokers.count()));
        let (time, way) = (self.millis(OUT_OF_REACH), if self.one_in(2) { Way::Closed } else { Way::Stalled });
        self.note(&format!("{way:?} for {time:?}"));
        link.set(way);
        self.go_on_for(time);
        link.set(Way::Open);
        self.hurt(blow, false);
    }

    /// To one broker or all.
    fn links(&mut self) -> Vec<&'a Proxy> {
        let brokers = &self.storm.services.brokers;
        let (all, one) = (self.one_in(2), self.below(brokers.count()));
        (0..brokers.count()).filter(|&node| all || node == one).map(|node| brokers.link(node)).collect()
    }

    fn cut(&mut self, ways: &[&Proxy]) {
        if self.one_in(2) {
            ways.iter().for_each(|way| way.cut());
        } else {
            ways.iter().for_each(|way| way.set(Way::Closed));
            let closed = self.millis(CLOSED);
            self.go_on_for(closed);
            ways.iter().for_each(|way| way.set(Way::Open));
        }
    }

    fn stall(&mut self, ways: &[&Proxy]) {
        ways.iter().for_each(|way| way.set(Way::Stalled));
        let stalled = self.millis(HANGS);
        self.go_on_for(stalled);
        ways.iter().for_each(|way| way.set(Way::Open));
        // What was on its way arrives late, or never.
        if self.one_in(2) {
            ways.iter().for_each(|way| way.cut());
        }
    }

    fn slow(&mut self, ways: &[&Proxy]) {
        let (later, time) = (self.millis(LATER), self.millis(SLOW));
        ways.iter().for_each(|way| way.set(Way::Slow(later)));
        self.go_on_for(time);
        ways.iter().for_each(|way| way.set(Way::Open));
    }
}
