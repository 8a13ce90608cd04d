//! One segment: a file of batches, named after its first offset.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use rafka_model::Offset;

use crate::disk::DiskFile;
use crate::index::Index;

/// Ending of a removed segment's file, until it is deleted.
pub(crate) const REMOVED: &str = ".deleted";

/// Ending of a file that compaction is writing; worth nothing after a crash.
pub(crate) const CLEANED: &str = ".cleaned";

/// Ending of a file that takes the place of segments, now or at the next start.
pub(crate) const SWAP: &str = ".swap";

/// Largest timestamp not looked up yet.
const UNKNOWN: i64 = i64::MAX;

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    pub(crate) path: PathBuf,
    pub(crate) index: Index,
    /// Bytes of whole batches; what lies behind is not there for readers.
    written: AtomicU64,
    max_timestamp: AtomicI64,
    sealed: AtomicBool,
    removed: AtomicBool,
    file: Mutex<Option<Arc<dyn DiskFile>>>,
}

impl Segment {
    /// Name of the file of a segment that begins at `base`.
    pub(crate) fn file_name(base: Offset) -> String {
        format!("{:020}.log", base.0)
    }

    /// Base offset of the segment whose file has this name.
    pub(crate) fn parse_name(name: &str) -> Option<Offset> {
        let digits = name.strip_suffix(".log")?;
        let whole = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        whole.then(|| digits.parse().ok().map(Offset)).flatten()
    }

    /// Name of a file that is to take the place of the segments from `base` up to, not with, `end`.
    pub(crate) fn swap_name(base: Offset, end: Offset) -> String {
        format!("{:020}-{:020}{SWAP}", base.0, end.0)
    }

    /// The offsets in the name of such a file.
    pub(crate) fn parse_swap_name(name: &str) -> Option<(Offset, Offset)> {
        let (base, end) = name.strip_suffix(SWAP)?.split_once('-')?;
        let offset = |digits: &str| Self::parse_name(&format!("{digits}.log"));
        Some((offset(base)?, offset(end)?))
    }

    pub(crate) fn new_active(
        dir: &Path,
        base: Offset,
        file: Arc<dyn DiskFile>,
        written: u64,
        max_timestamp: i64,
        index_entries: u32,
    ) -> Self {
        Self {
            base,
            path: dir.join(Self::file_name(base)),
            index: Index::active(dir, base, index_entries),
            written: AtomicU64::new(written),
            max_timestamp: AtomicI64::new(max_timestamp),
            sealed: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            file: Mutex::new(Some(file)),
        }
    }

    /// A closed one of `bytes`, opened when it is read.
    pub(crate) fn new_sealed(dir: &Path, base: Offset, bytes: u64) -> Self {
        Self {
            base,
            path: dir.join(Self::file_name(base)),
            index: Index::sealed(dir, base),
            written: AtomicU64::new(bytes),
            max_timestamp: AtomicI64::new(UNKNOWN),
            sealed: AtomicBool::new(true),
            removed: AtomicBool::new(false),
            file: Mutex::new(None),
        }
    }

    /// Bytes of whole batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Makes the bytes before `written` visible.
    pub(crate) fn publish(&self, written: u64, max_timestamp: i64) {
        self.max_timestamp.store(max_timestamp, Ordering::Relaxed);
        self.written.store(written, Ordering::Release);
    }

    /// Largest timestamp, if it is known.
    pub(crate) fn known_max_timestamp(&self) -> Option<i64> {
        Some(self.max_timestamp.load(Ordering::Relaxed)).filter(|max| *max != UNKNOWN)
    }

    pub(crate) fn learn_max_timestamp(&self, max: i64) {
        self.max_timestamp.store(max, Ordering::Relaxed);
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    pub(crate) fn set_sealed(&self, sealed: bool) {
        self.sealed.store(sealed, Ordering::Release);
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    pub(crate) fn set_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// The open file, if it is open.
    pub(crate) fn file(&self) -> &Mutex<Option<Arc<dyn DiskFile>>> {
        &self.file
    }

    pub(crate) fn removed_path(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(REMOVED);
        PathBuf::from(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_twenty_digits() {
        assert_eq!(Segment::file_name(Offset(42)), "00000000000000000042.log");
        assert_eq!(Segment::parse_name("00000000000000000042.log"), Some(Offset(42)));
        for other in ["42.log", "00000000000000000042.index", "+0000000000000000042.log", "99999999999999999999.log"] {
            assert_eq!(Segment::parse_name(other), None, "{other}");
        }
        let swap = Segment::swap_name(Offset(3), Offset(i64::MAX));
        assert_eq!(Segment::parse_swap_name(&swap), Some((Offset(3), Offset(i64::MAX))));
        assert_eq!(Segment::parse_swap_name("00000000000000000003.swap"), None);
    }
}
