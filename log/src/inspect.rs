//! Looking into a segment file without opening its log, for tools.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rafka_model::{Offset, RecordBatch};

use crate::disk::{Disk, DiskFile};
use crate::error::{Corruption, ReadError, StorageError};
use crate::segment::Segment;
use crate::walk::Walk;

const STEP_BYTES: usize = 128 << 10;

/// The batches of one segment file, in order, each verified, with the byte at which it begins. Ends at the file's end or
/// where only zeros follow (space reserved by a running node), and after the first error.
#[derive(Debug)]
pub struct SegmentBatches {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    len: u64,
    at: u64,
    expected: Offset,
}

impl SegmentBatches {
    /// Opens the segment file `path`; its name must say where it begins.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self, StorageError> {
        let failed = |error: std::io::Error| StorageError::new("open", path, &error);
        let base = path.file_name().and_then(|name| Segment::parse_name(name.to_str()?));
        let expected = base.ok_or_else(|| {
            failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not the name of a segment: <20 digits>.log"))
        })?;
        let file = disk.open(path).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        Ok(Self { path: path.to_owned(), file, len, at: 0, expected })
    }

    fn step(&mut self) -> Result<Option<(u64, RecordBatch)>, ReadError> {
        let file = self.file.clone();
        let failed = |error: std::io::Error| ReadError::Storage(StorageError::new("read", &self.path, &error));
        let mut walk = Walk::new(&*file, self.len, STEP_BYTES);
        let corrupt = |reason: String| {
            let corruption =
                Corruption { segment: self.path.clone(), position: self.at, offset: self.expected, reason };
            ReadError::Corrupt(corruption)
        };
        let found = walk.header(self.at).map_err(failed)?;
        let header = match found {
            Ok(header) => header,
            Err(_) if walk.last_written_byte(self.at).map_err(failed)?.is_none() => return Ok(None),
            Err(reason) => return Err(corrupt(reason.to_string())),
        };
        if header.base_offset != self.expected {
            return Err(corrupt(format!("batch of offset {}, expected {}", header.base_offset, self.expected)));
        }
        let bytes = walk.window(self.at, header.total_bytes()).map_err(failed)?;
        let batch = RecordBatch::parse(Bytes::copy_from_slice(bytes)).map_err(|reason| corrupt(reason.to_string()))?;
        let position = self.at;
        self.at += batch.len() as u64;
        self.expected = header.next_offset();
        Ok(Some((position, batch)))
    }
}

impl Iterator for SegmentBatches {
    type Item = Result<(u64, RecordBatch), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.len {
            return None;
        }
        let step = self.step().transpose();
        if !matches!(step, Some(Ok(_))) {
            self.at = self.len;
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Timestamp};

    fn batch(offset: i64) -> RecordBatch {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(Timestamp(1), None, Some(b"value"), &[]);
        builder.build().stamp(Offset(offset), LeaderEpoch(0))
    }

    #[test]
    fn a_segment_ends_at_its_zeros_and_names_its_damage() {
        let disk = MemoryDisk::new();
        let path = Path::new("/00000000000000000007.log");
        let mut bytes = [batch(7).bytes().to_vec(), batch(8).bytes().to_vec()].concat();
        let half = bytes.len() / 2;
        bytes.resize(1000, 0);
        disk.put(path, &bytes);
        let all: Vec<_> = SegmentBatches::open(&disk, path).expect("opens").map(|item| item.expect("whole")).collect();
        assert_eq!(all, [(0, batch(7)), (half as u64, batch(8))]);
        disk.flip(path, half as u64 + 70, 1).expect("flips");
        let all: Vec<_> = SegmentBatches::open(&disk, path).expect("opens").collect();
        assert_eq!(all.len(), 2);
        assert!(matches!(&all[1], Err(ReadError::Corrupt(damage)) if damage.position == half as u64));
        assert!(SegmentBatches::open(&disk, Path::new("/notes.txt")).is_err());
    }
}
