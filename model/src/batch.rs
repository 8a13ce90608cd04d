//! Record batch v2: the only format on disk and on every wire (KIP-98, magic 2).
//!
//! ```text
//!  0 base offset i64 │ 8 batch length i32 (bytes after this field) │ 12 leader epoch i32 │ 16 magic i8 = 2
//! 17 crc u32 (CRC-32C of everything after it) │ 21 attributes i16 │ 23 last offset delta i32
//! 27 base timestamp i64 │ 35 max timestamp i64 │ 43 producer id i64 │ 51 producer epoch i16
//! 53 base sequence i32 │ 57 record count i32 │ 61 records, perhaps compressed
//! ```
//! The broker writes only base offset and leader epoch, both outside the checksum: records are
//! stored as the producer made them.

mod builder;
mod header;
mod records;

use bytes::{Bytes, BytesMut};

pub use builder::BatchBuilder;
pub use header::BatchHeader;
pub use records::{Header, Record, Records};

use crate::limits::{BATCH_BYTES_MAX, BATCH_DECOMPRESSED_BYTES_MAX, BATCH_HEADER_BYTES, BATCH_RECORDS_MAX};
use crate::{LeaderEpoch, Offset};

/// Why bytes are not a record batch.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the batch says it has. `needed` is the whole batch, when the header got that far.
    #[error("batch is cut off: {bytes} bytes of {needed}")]
    CutOff {
        /// Bytes present.
        bytes: usize,
        /// Bytes needed to go on.
        needed: usize,
    },
    /// More bytes than any topic allows.
    #[error("batch is {bytes} bytes, limit is {limit} bytes")]
    TooLarge {
        /// Bytes claimed.
        bytes: u64,
        /// The limit.
        limit: u32,
    },
    /// A format other than v2.
    #[error("batch has magic {0}, only 2 is supported")]
    Magic(i8),
    /// The checksum differs: these are not the bytes that the producer made.
    #[error("batch has CRC-32C {found:#010x}, its header says {claimed:#010x}")]
    Crc {
        /// Computed.
        found: u32,
        /// From the header.
        claimed: u32,
    },
    /// A header whose fields contradict one another.
    #[error("malformed batch: {0}")]
    Malformed(&'static str),
    /// The records are compressed by a codec that does not accept them.
    #[error("records cannot be decompressed: {0}")]
    Compression(String),
    /// The records decompress to more than allowed.
    #[error("records decompress to more than {limit} bytes")]
    DecompressedTooLarge {
        /// The limit.
        limit: usize,
    },
    /// Bytes remain behind the batch where exactly one was expected.
    #[error("{0} bytes follow the batch")]
    Trailing(usize),
}

/// One batch whose structure and checksum were verified. Cheap to clone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// Takes exactly one batch; verifies header and CRC-32C, does not look at the records.
    ///
    /// # Errors
    /// [`BatchError`], with nothing allocated by a claimed length.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let batch = Self::parse_first(&bytes)?;
        match bytes.len() - batch.bytes.len() {
            0 => Ok(batch),
            rest => Err(BatchError::Trailing(rest)),
        }
    }

    /// Takes the first batch of `bytes`, without copying; more may follow.
    ///
    /// # Errors
    /// As [`Self::parse`], except [`BatchError::Trailing`].
    pub fn parse_first(bytes: &Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let total = header.total_bytes();
        if bytes.len() < total {
            return Err(BatchError::CutOff { bytes: bytes.len(), needed: total });
        }
        header.check_crc(&bytes[..total])?;
        Ok(Self { header, bytes: bytes.slice(..total) })
    }

    /// Splits `bytes` into its batches; a batch cut off at the end is an error item, after which the iterator ends.
    pub fn split(bytes: Bytes) -> impl Iterator<Item = Result<Self, BatchError>> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let first = Self::parse_first(&rest);
            rest = match &first {
                Ok(batch) => rest.slice(batch.bytes.len()..),
                Err(_) => Bytes::new(),
            };
            Some(first)
        })
    }

    /// The parsed header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Length in bytes, header with it.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The 16 bytes up to the magic, with these offset and epoch: write them, then `bytes()[16..]`.
    #[must_use]
    pub fn stamped_prefix(&self, base_offset: Offset, epoch: LeaderEpoch) -> [u8; 16] {
        let mut prefix = [0; 16];
        prefix.copy_from_slice(&self.bytes[..16]);
        prefix[..8].copy_from_slice(&base_offset.0.to_be_bytes());
        prefix[12..].copy_from_slice(&epoch.0.to_be_bytes());
        prefix
    }

    /// This batch with its place in the log; in place when nobody else holds the bytes, else one copy.
    #[must_use]
    pub fn stamp(self, base_offset: Offset, epoch: LeaderEpoch) -> Self {
        let prefix = self.stamped_prefix(base_offset, epoch);
        let mut bytes = self.bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        bytes[..16].copy_from_slice(&prefix);
        let header = BatchHeader { base_offset, leader_epoch: epoch, ..self.header };
        Self { header, bytes: bytes.freeze() }
    }

    /// Decodes the records, decompressing them first.
    ///
    /// # Errors
    /// [`BatchError::Compression`], [`BatchError::DecompressedTooLarge`]; records that contradict
    /// the header come as an error item of the iterator.
    pub fn records(&self) -> Result<Records, BatchError> {
        let payload = self.bytes.slice(BATCH_HEADER_BYTES..);
        let payload = match self.header.compression() {
            crate::Compression::None => payload,
            codec => codec.decompress(&payload, BATCH_DECOMPRESSED_BYTES_MAX)?.into(),
        };
        Ok(Records::new(&self.header, payload))
    }
}

#[cfg(test)]
mod tests;
