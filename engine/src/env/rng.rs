//! The seeded generator: ChaCha8, so that a seed means the same on every machine and in every version.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A deterministic random generator. Not for keys: those come from the operating system.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// A generator that repeats itself for the same seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A generator of its own, for a part of the program: drawing from it does not disturb this one's sequence.
    pub fn fork(&mut self) -> Self {
        Self::from_seed(self.next_u64())
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`. `bound` is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "an empty range has no number");
        // Multiply and shift: the bias is below bound / 2^64, which no test here can see.
        u64::try_from((u128::from(self.next_u64()) * u128::from(bound)) >> 64).expect("below bound")
    }

    /// True once in `denominator` on average.
    pub fn one_in(&mut self, denominator: u64) -> bool {
        self.below(denominator) == 0
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself() {
        let (mut a, mut b) = (Rng::from_seed(7), Rng::from_seed(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        assert!((0..1000).all(|_| a.below(3) < 3));
    }
}
