//! The only source of chance. Its stream is fixed by the seed alone: the generator's algorithm is named, and the reductions to
//! ranges are ours, so no new version of a library changes what a seed yields.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A seeded stream of random numbers.
#[derive(Clone, Debug)]
pub struct Dice(Xoshiro256PlusPlus);

impl Dice {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A number in `[0, bound)`; 0 if `bound` is 0. The bias of at most bound / 2⁶⁴ does not matter to traffic.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        (product >> 64) as u64
    }

    /// An index into something of this length, which must not be 0.
    pub fn index(&mut self, length: usize) -> usize {
        debug_assert!(length > 0, "no index into nothing");
        self.below(length as u64) as usize
    }

    /// A number in `[low, high]`, in `i64` for instants and spans. `0 ≤ low ≤ high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low.saturating_add_unsigned(self.below(high.abs_diff(low).saturating_add(1)))
    }

    /// A number in `[0, 1)` with all the bits that a double holds there.
    pub fn unit(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.0.next_u64() >> 11) as f64 * SCALE
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn numbers_stay_in_their_ranges_and_reach_the_ends() {
        let mut dice = Dice::new(7);
        let mut seen = [false; 3];
        for _ in 0..1_000 {
            seen[dice.index(3)] = true;
            assert!((0.0..1.0).contains(&dice.unit()));
            assert!((5..=6).contains(&dice.between(5, 6)));
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.between(4, 4), 4);
    }

    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let mut dice = Dice::new(1);
        assert_eq!([dice.below(1_000), dice.below(1_000), dice.below(1_000)], [811, 747, 100]);
    }
}
