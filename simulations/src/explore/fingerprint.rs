//! 128 bits that stand for a state: two states that differ have the same ones with a chance of about n² / 2¹²⁹.

use std::hash::{Hash, Hasher};

/// Two lanes of folded multiplications.
#[derive(Clone, Debug)]
struct Lanes(u64, u64);

impl Default for Lanes {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344)
    }
}

fn fold(word: u64, by: u64) -> u64 {
    let product = u128::from(word) * u128::from(by);
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for Lanes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = fold(self.0 ^ value, 0x9e37_79b9_7f4a_7c15).wrapping_add(0xa409_3822_299f_31d0);
        self.1 = fold(self.1.rotate_left(29) ^ value, 0xd6e8_feb8_6659_fd93).wrapping_add(0x082e_fa98_ec4e_6c89);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// The fingerprint of `value`.
pub(super) fn of(value: &impl Hash) -> u128 {
    let mut lanes = Lanes::default();
    value.hash(&mut lanes);
    u128::from(lanes.0) << 64 | u128::from(lanes.1)
}

/// For keys that are fingerprints already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut word = [0; 8];
        let length = bytes.len().min(8);
        word[..length].copy_from_slice(&bytes[..length]);
        self.0 ^= u64::from_le_bytes(word);
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

/// Builds [`Plain`].
pub(super) type PlainKeys = std::hash::BuildHasherDefault<Plain>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn close_values_have_far_fingerprints() {
        let prints: BTreeSet<u128> = (0u32..100_000).map(|number| of(&(number / 300, number % 300))).collect();
        assert_eq!(prints.len(), 100_000);
        let halves: BTreeSet<u64> = prints.iter().map(|print| (*print >> 64) as u64).collect();
        assert_eq!(halves.len(), 100_000, "each lane is a good hash of its own");
        assert_ne!(of(&vec![0u8, 0]), of(&vec![0u8]));
        assert_ne!(of(&(vec![1u8], vec![2u8])), of(&(vec![1u8, 2], Vec::<u8>::new())));
    }
}
