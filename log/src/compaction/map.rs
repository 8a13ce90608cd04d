//! The map from keys to their newest offsets, in memory of a fixed size.

/// 128 bits of a key's BLAKE3 hash: nobody finds two keys with the same.
pub(super) type KeyHash = [u64; 2];

use rafka_model::Offset;

/// Words of a slot: hash, hash, offset + 1. 0 in the last says that the slot is free.
const SLOT_WORDS: usize = 3;
const SLOT_BYTES: usize = SLOT_WORDS * 8;

pub(super) fn hash(key: &[u8]) -> KeyHash {
    let hash = blake3::hash(key);
    let word = |from: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&hash.as_bytes()[from..from + 8]);
        u64::from_le_bytes(word)
    };
    [word(0), word(8)]
}

/// Open addressing with linear probing, at most three quarters full.
#[derive(Debug)]
pub(super) struct OffsetMap {
    words: Vec<u64>,
    slots: u64,
    len: usize,
    len_max: usize,
}

impl OffsetMap {
    /// A map of at most `bytes` bytes, smaller where `records` records need less.
    pub(super) fn new(bytes: usize, records: u64) -> Self {
        let wanted = usize::try_from((records / 3 + 1).saturating_mul(4)).unwrap_or(usize::MAX);
        let slots = (bytes / SLOT_BYTES).max(4).min(wanted);
        Self { words: vec![0; slots * SLOT_WORDS], slots: slots as u64, len: 0, len_max: slots / 4 * 3 }
    }

    /// Keys in the map.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Notes the newest offset of a key; false if the key is new and there is no room.
    pub(super) fn put(&mut self, hash: KeyHash, offset: Offset) -> bool {
        let (at, found) = self.find(hash);
        if !found {
            if self.len >= self.len_max {
                return false;
            }
            self.len += 1;
        }
        self.words[at..at + SLOT_WORDS].copy_from_slice(&[hash[0], hash[1], offset.0.unsigned_abs() + 1]);
        true
    }

    /// The newest offset of a key.
    pub(super) fn get(&self, hash: KeyHash) -> Option<Offset> {
        let (at, found) = self.find(hash);
        found.then(|| Offset((self.words[at + 2] - 1).cast_signed()))
    }

    /// The slot of a key, or the free one where it belongs.
    fn find(&self, hash: KeyHash) -> (usize, bool) {
        // The high half of the product spreads the hash evenly over the slots.
        let mut slot = ((u128::from(hash[0]) * u128::from(self.slots)) >> 64) as u64;
        loop {
            let at = slot as usize * SLOT_WORDS;
            if self.words[at + 2] == 0 {
                return (at, false);
            }
            if self.words[at..at + 2] == hash {
                return (at, true);
            }
            slot = if slot + 1 == self.slots { 0 } else { slot + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_map_agrees_with_a_tree_and_refuses_only_new_keys_when_full() {
        let mut map = OffsetMap::new(SLOT_BYTES * 1000, u64::MAX);
        let mut tree = BTreeMap::new();
        for i in 0..5000i64 {
            let key = (i * 7919 % 900).to_be_bytes();
            let room = map.put(hash(&key), Offset(i));
            assert_eq!(room, tree.len() < 750 || tree.contains_key(&key), "{i}");
            if room {
                tree.insert(key, Offset(i));
            }
            assert_eq!(map.len(), tree.len());
        }
        assert_eq!(tree.len(), 750);
        for i in 0..900i64 {
            let key = i.to_be_bytes();
            assert_eq!(map.get(hash(&key)), tree.get(&key).copied());
        }
    }

    #[test]
    fn a_map_takes_no_more_memory_than_its_records_need() {
        assert!(OffsetMap::new(1 << 30, 100).words.len() <= 150 * SLOT_WORDS);
        let mut map = OffsetMap::new(1 << 30, 100);
        assert!((0..100i64).all(|i| map.put(hash(&i.to_be_bytes()), Offset(i))), "all of them fit");
        let mut tiny = OffsetMap::new(0, 0);
        assert!((0..3i64).all(|i| tiny.put(hash(&i.to_be_bytes()), Offset(i))), "a round always makes progress");
    }
}
