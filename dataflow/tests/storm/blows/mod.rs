//! What hits the pipeline, a file for each family of blows.

mod clock;
mod descriptors;
mod kill;
mod network;
mod pause;
mod retention;
mod store;
mod takeover;

use super::director::Director;
use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    OneProcess,
    AllProcesses,
    Checkpoints,
    Broker,
    Postgres,
    Zombie,
    Rival,
    Stop,
    StopInTrouble,
    PauseRun,
    PauseBroker,
    PausePostgres,
    ClockShort,
    ClockLong,
    ClockWhilePaused,
    PostgresCut,
    PostgresStall,
    PostgresSlow,
    PostgresForgets,
    BrokerCut,
    BrokerStall,
    BrokerSlow,
    BrokerForgets,
    OneBroker,
    Descriptors,
    Stderr,
    StoreGoesBack,
    Expiry,
}

use Blow::*;

/// Blow, family, name, and how often it is dealt while each is dealt once at least.
const KINDS: [(Blow, &str, &str, usize); 28] = [
    (OneProcess, "kill", "kill -9 of one process", 3),
    (AllProcesses, "kill", "kill -9 of all processes", 1),
    (Checkpoints, "kill", "kill -9 of all, checkpoints lost", 1),
    (Broker, "kill", "kill -9 of a broker", 1),
    (Postgres, "kill", "crash of Postgres", 1),
    (Zombie, "takeover", "paused, replaced, woken", 1),
    (Rival, "takeover", "second run by mistake", 1),
    (Stop, "takeover", "stop and start in another shape", 1),
    (StopInTrouble, "takeover", "stop while a service is away", 1),
    (PauseRun, "pause", "processes paused", 2),
    (PauseBroker, "pause", "brokers paused", 2),
    (PausePostgres, "pause", "Postgres paused", 1),
    (ClockShort, "clock", "clock stepped by seconds", 1),
    (ClockLong, "clock", "clock stepped by minutes", 1),
    (ClockWhilePaused, "clock", "clock stepped while paused", 1),
    (PostgresCut, "network", "way to Postgres cut", 1),
    (PostgresStall, "network", "way to Postgres hangs", 1),
    (PostgresSlow, "network", "way to Postgres slow", 1),
    (PostgresForgets, "network", "way to Postgres forgets", 1),
    (BrokerCut, "network", "way to the brokers cut", 1),
    (BrokerStall, "network", "way to the brokers hangs", 1),
    (BrokerSlow, "network", "way to the brokers slow", 1),
    (BrokerForgets, "network", "way to the brokers forgets", 1),
    (OneBroker, "broker", "one of two brokers out of reach", 2),
    (Descriptors, "descriptors", "no descriptor left", 1),
    (Stderr, "descriptors", "standard error closed", 1),
    (StoreGoesBack, "store", "store goes back", 2),
    (Expiry, "retention", "records expire, checkpoints lost", 2),
];

impl Blow {
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|kind| kind.0 == self).expect("each kind is there").2
    }

    fn family(self) -> &'static str {
        KINDS.iter().find(|kind| kind.0 == self).expect("each kind is there").1
    }
}

/// What is dealt: all kinds of the chosen families by weight, again and again.
pub struct Deck {
    chosen: Vec<(Blow, usize)>,
    cards: Vec<Blow>,
}

impl Deck {
    /// Of these families, by commas; empty: of all. Records expire only if that can be.
    pub fn new(families: &str, expires: bool) -> Deck {
        let wanted: Vec<&str> = families.split(',').filter(|family| !family.is_empty()).collect();
        let known = |family: &&str| KINDS.iter().any(|kind| kind.1 == *family);
        let unknown = wanted.iter().find(|family| !known(family));
        assert!(
            unknown.is_none(),
            "unknown blows {unknown:?}; allowed: kill,takeover,pause,clock,network,broker,descriptors,store,retention"
        );
        let is_wanted = |family: &str| wanted.is_empty() || wanted.contains(&family);
        let chosen = KINDS.iter().filter(|kind| is_wanted(kind.1) && (expires || kind.0 != Expiry));
        Deck { chosen: chosen.map(|kind| (kind.0, kind.3)).collect(), cards: Vec::new() }
    }

    pub fn deal(&mut self, random: &mut Xoshiro256PlusPlus) -> Blow {
        if self.cards.is_empty() {
            self.shuffle(random);
        }
        self.cards.pop().expect("some kind is chosen")
    }

    /// The families take turns, so that a short storm has blows of each.
    fn shuffle(&mut self, random: &mut Xoshiro256PlusPlus) {
        let all = self.chosen.iter().flat_map(|&(blow, weight)| std::iter::repeat_n(blow, weight));
        let mut cards: Vec<Blow> = all.collect();
        for last in (1..cards.len()).rev() {
            cards.swap(last, random.random_range(0..=last));
        }
        let turn = |index: usize| cards[..index].iter().filter(|card| card.family() == cards[index].family()).count();
        let turns: Vec<usize> = (0..cards.len()).map(turn).collect();
        let mut by_turn: Vec<(usize, Blow)> = turns.into_iter().zip(cards).collect();
        by_turn.sort_by_key(|&(turn, _)| std::cmp::Reverse(turn));
        self.cards = by_turn.into_iter().map(|(_, blow)| blow).collect();
    }
}

impl Director<'_> {
    pub fn strike(&mut self, blow: Blow) {
        match blow {
            OneProcess => self.kill_one(blow),
            AllProcesses => self.kill_all(blow),
            Checkpoints => self.lose_checkpoints(blow),
            Broker => self.kill_a_broker(blow),
            Postgres => self.crash_postgres(blow),
            Zombie => self.zombie(blow),
            Rival => self.rival(blow),
            Stop => self.stop_and_start(blow),
            StopInTrouble => self.stop_in_trouble(blow),
            PauseRun => self.pause_run(blow),
            PauseBroker => self.pause_brokers(blow),
            PausePostgres => self.pause_postgres(blow),
            ClockShort => self.step_clocks(blow, 1_000..3_000),
            ClockLong => self.step_clocks(blow, 60_000..600_000),
            ClockWhilePaused => self.step_clocks_while_paused(blow),
            PostgresCut => self.cut_postgres(blow),
            PostgresStall => self.stall_postgres(blow),
            PostgresSlow => self.slow_postgres(blow),
            PostgresForgets => self.forget_postgres(blow),
            BrokerCut => self.cut_brokers(blow),
            BrokerStall => self.stall_brokers(blow),
            BrokerSlow => self.slow_brokers(blow),
            BrokerForgets => self.forget_brokers(blow),
            OneBroker => self.lose_one_broker(blow),
            Descriptors => self.fill_descriptors(blow),
            Stderr => self.close_stderr(blow),
            StoreGoesBack => self.store_goes_back(blow),
            Expiry => self.expire(blow),
        }
    }
}
