//! Random choices that a seed fixes.

/// SplitMix64: small, fast, good enough to choose by.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % (bound as u64).max(1)) as usize
    }

    /// `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }

    /// `count` different numbers below `bound`, or all of them if there are fewer.
    pub fn choose(&mut self, count: usize, bound: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..bound).collect();
        let count = count.min(bound);
        for at in 0..count {
            let other = at + self.below(bound - at);
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_every_choice() {
        let (mut once, mut again) = (Random::new(7), Random::new(7));
        assert_eq!(once.bytes::<32>(), again.bytes::<32>());
        assert_eq!(once.choose(5, 100), again.choose(5, 100));
        assert_ne!(Random::new(8).draw(), Random::new(7).draw());
    }

    #[test]
    fn chosen_numbers_are_different_and_below_the_bound() {
        let mut chosen = Random::new(1).choose(50, 60);
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 50);
        assert!(chosen.iter().all(|number| *number < 60));
        assert_eq!(Random::new(1).choose(9, 3).len(), 3);
    }
}
