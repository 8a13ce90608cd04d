//! The latest entries, for the watch feed.

use std::collections::VecDeque;

use bytes::Bytes;
use rafka_model::MetadataIndex;
use rafka_model::limits::{METADATA_RECENT_BYTES_MAX, METADATA_RECENT_ENTRIES_MAX};

/// A run of entries without gaps, bounded by count and bytes; the oldest go first.
#[derive(Default)]
pub(super) struct Recent {
    /// Index before the first entry held.
    before: u64,
    entries: VecDeque<Bytes>,
    bytes: usize,
}

impl Recent {
    pub(super) fn after(index: MetadataIndex) -> Self {
        Self { before: index.0, ..Self::default() }
    }

    /// Adds the entry of this index, which follows the last.
    pub(super) fn push(&mut self, index: MetadataIndex, entry: Bytes) {
        debug_assert_eq!(self.before + self.entries.len() as u64 + 1, index.0, "entries follow each other");
        self.bytes += entry.len();
        self.entries.push_back(entry);
        while self.entries.len() > METADATA_RECENT_ENTRIES_MAX || self.bytes > METADATA_RECENT_BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.len();
            self.before += 1;
        }
    }

    pub(super) fn since(&self, index: MetadataIndex) -> Option<Vec<Bytes>> {
        let skip = usize::try_from(index.0.checked_sub(self.before)?).ok()?;
        Some(self.entries.iter().skip(skip).cloned().collect())
    }
}
