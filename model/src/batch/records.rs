//! Records inside a batch: varints, deltas and headers.

use bytes::Bytes;

use super::{BatchError, BatchHeader};
use crate::limits::RECORD_HEADERS_MAX;
use crate::{Offset, Timestamp};

/// One header of a record: a name and perhaps a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// Name, not necessarily unique in its record.
    pub key: String,
    /// Value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// One record, decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Place in the partition.
    pub offset: Offset,
    /// Time given by the producer, or the broker's append time.
    pub timestamp: Timestamp,
    /// Key; `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// Value; `None` is Kafka's null, a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    /// Headers in the producer's order.
    pub headers: Vec<Header>,
}

/// Iterator over the records of one batch. Ends after the first error.
#[derive(Debug)]
pub struct Records {
    rest: Bytes,
    left: u32,
    base_offset: Offset,
    last_offset_delta: i64,
    base_timestamp: i64,
    append_time: Option<Timestamp>,
}

impl Records {
    pub(super) fn new(header: &BatchHeader, payload: Bytes) -> Self {
        Self {
            rest: payload,
            left: header.record_count,
            base_offset: header.base_offset,
            last_offset_delta: i64::from(header.last_offset_delta),
            base_timestamp: header.base_timestamp.0,
            append_time: header.is_log_append_time().then_some(header.max_timestamp),
        }
    }

    fn record(&mut self) -> Result<Record, BatchError> {
        let length = self.length("record length out of range")?;
        let mut body = Body(self.rest.split_to(length));
        body.take(1)?; // attributes: unused in v2
        let timestamp_delta = body.varint()?;
        let offset_delta = body.varint()?;
        if !(0..=self.last_offset_delta).contains(&offset_delta) {
            return Err(BatchError::Malformed("offset delta out of range"));
        }
        let key = body.nullable()?;
        let value = body.nullable()?;
        let count = usize::try_from(body.varint()?).map_err(|_| BatchError::Malformed("negative header count"))?;
        // A header takes at least two bytes, so a claim beyond the bytes is refused before it allocates.
        if count > RECORD_HEADERS_MAX || count > body.0.len() / 2 {
            return Err(BatchError::Malformed("header count out of range"));
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let key = body.nullable()?.ok_or(BatchError::Malformed("header without a name"))?;
            let key = String::from_utf8(key.to_vec()).map_err(|_| BatchError::Malformed("header name is not UTF-8"))?;
            headers.push(Header { key, value: body.nullable()? });
        }
        if !body.0.is_empty() {
            return Err(BatchError::Malformed("record longer than its fields"));
        }
        let timestamp = self.append_time.unwrap_or(Timestamp(self.base_timestamp.wrapping_add(timestamp_delta)));
        Ok(Record { offset: self.base_offset.plus(offset_delta), timestamp, key, value, headers })
    }

    fn length(&mut self, wrong: &'static str) -> Result<usize, BatchError> {
        let mut front = Body(std::mem::take(&mut self.rest));
        let length = front.varint()?;
        self.rest = front.0;
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok(length),
            _ => Err(BatchError::Malformed(wrong)),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return match std::mem::take(&mut self.rest) {
                rest if rest.is_empty() => None,
                rest => Some(Err(BatchError::Trailing(rest.len()))),
            };
        }
        self.left -= 1;
        let record = self.record();
        if record.is_err() {
            self.left = 0;
            self.rest = Bytes::new();
        }
        Some(record)
    }
}

/// Bytes of one record, consumed from the front.
struct Body(Bytes);

impl Body {
    fn take(&mut self, length: usize) -> Result<Bytes, BatchError> {
        if length > self.0.len() {
            return Err(BatchError::Malformed("record is cut off"));
        }
        Ok(self.0.split_to(length))
    }

    /// Zigzag varint of at most 10 bytes, as in protobuf's `sint64`.
    fn varint(&mut self) -> Result<i64, BatchError> {
        let mut value = 0u64;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                let _ = self.0.split_to(i + 1);
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        Err(BatchError::Malformed("varint is cut off or too long"))
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, BatchError> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| BatchError::Malformed("negative length"))?;
                self.take(length).map(Some)
            }
        }
    }
}
