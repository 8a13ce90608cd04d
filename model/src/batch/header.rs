//! The 61-byte header.

use super::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BATCH_RECORDS_MAX, BatchError};
use crate::{Compression, LeaderEpoch, Offset, ProducerId, Timestamp};

/// Bytes in front of and with the length field: the length counts what follows.
const LENGTH_ENDS_AT: usize = 12;
/// The checksum covers everything from here.
const CRC_COVERS_FROM: usize = 21;

/// Header of a batch, parsed and consistent in itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchHeader {
    /// Offset of the first record (stamped by the leader).
    pub base_offset: Offset,
    /// Bytes after the length field, 12 less than the whole batch.
    pub batch_length: u32,
    /// Epoch of the leader that appended it (stamped by the leader).
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything behind it.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// Offset of the last record minus that of the first.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas count from.
    pub base_timestamp: Timestamp,
    /// Largest timestamp of the records.
    pub max_timestamp: Timestamp,
    /// Producer id, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// Epoch of the producer id.
    pub producer_epoch: i16,
    /// Sequence number of the first record, −1 without idempotence.
    pub base_sequence: i32,
    /// Number of records; compaction may leave fewer than the offsets spanned.
    pub record_count: u32,
}

impl BatchHeader {
    /// Parses the header at the front of `bytes`; the batch itself need not be there in full.
    ///
    /// # Errors
    /// [`BatchError::CutOff`] with the bytes needed, [`BatchError::Magic`], [`BatchError::TooLarge`],
    /// [`BatchError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(BatchError::CutOff { bytes: bytes.len(), needed: BATCH_HEADER_BYTES });
        };
        let i16_at = |at: usize| i16::from_be_bytes([header[at], header[at + 1]]);
        let i32_at = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let i64_at = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&header[at..at + 8]);
            i64::from_be_bytes(word)
        };
        let magic = header[16].cast_signed();
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let length = i32_at(8);
        let Ok(batch_length) = u32::try_from(length) else {
            return Err(BatchError::Malformed("negative length"));
        };
        let total = u64::from(batch_length) + LENGTH_ENDS_AT as u64;
        if total < BATCH_HEADER_BYTES as u64 {
            return Err(BatchError::Malformed("length shorter than the header"));
        }
        if total > u64::from(BATCH_BYTES_MAX) {
            return Err(BatchError::TooLarge { bytes: total, limit: BATCH_BYTES_MAX });
        }
        let record_count = match u32::try_from(i32_at(57)) {
            Ok(count) if count <= BATCH_RECORDS_MAX => count,
            _ => return Err(BatchError::Malformed("record count out of range")),
        };
        let parsed = Self {
            base_offset: Offset(i64_at(0)),
            batch_length,
            leader_epoch: LeaderEpoch(i32_at(12)),
            crc: i32_at(17).cast_unsigned(),
            attributes: i16_at(21),
            last_offset_delta: i32_at(23),
            base_timestamp: Timestamp(i64_at(27)),
            max_timestamp: Timestamp(i64_at(35)),
            producer_id: ProducerId(i64_at(43)),
            producer_epoch: i16_at(51),
            base_sequence: i32_at(53),
            record_count,
        };
        if parsed.last_offset_delta < 0 {
            return Err(BatchError::Malformed("negative last offset delta"));
        }
        if parsed.base_offset.0 < 0
            || parsed.base_offset.0.checked_add(i64::from(parsed.last_offset_delta) + 1).is_none()
        {
            return Err(BatchError::Malformed("offsets out of range"));
        }
        if Compression::from_number(parsed.codec_number()).is_none() {
            return Err(BatchError::Malformed("unknown compression codec"));
        }
        Ok(parsed)
    }

    /// Verifies the checksum over the whole batch.
    ///
    /// # Errors
    /// [`BatchError::Crc`], or [`BatchError::CutOff`] if `batch` is shorter than a header.
    pub fn check_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        let Some(covered) = batch.get(CRC_COVERS_FROM..) else {
            return Err(BatchError::CutOff { bytes: batch.len(), needed: BATCH_HEADER_BYTES });
        };
        match crc32c::crc32c(covered) {
            found if found == self.crc => Ok(()),
            found => Err(BatchError::Crc { found, claimed: self.crc }),
        }
    }

    /// What a producer may send, beyond what any batch on disk obeys: dense offsets, at least one record.
    ///
    /// # Errors
    /// [`BatchError::Malformed`].
    pub fn check_produced(&self) -> Result<(), BatchError> {
        if self.record_count == 0 {
            return Err(BatchError::Malformed("no records"));
        }
        if i64::from(self.last_offset_delta) + 1 != i64::from(self.record_count) {
            return Err(BatchError::Malformed("record count and last offset delta disagree"));
        }
        if self.is_control() {
            return Err(BatchError::Malformed("control batches are written by brokers only"));
        }
        Ok(())
    }

    /// Length of the whole batch in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.batch_length as usize + LENGTH_ENDS_AT
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// Offset behind the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta) + 1)
    }

    /// Codec of the records.
    #[must_use]
    pub fn compression(&self) -> Compression {
        Compression::from_number(self.codec_number()).unwrap_or_default()
    }

    fn codec_number(&self) -> u8 {
        (self.attributes & 0x07).to_be_bytes()[1]
    }

    /// All records carry the broker's append time, `max_timestamp` (`message.timestamp.type=LogAppendTime`).
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }

    /// Part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Holds a transaction marker, not records of a user.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}
