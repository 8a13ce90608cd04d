//! Builds batches, as a producer does.

use bytes::Bytes;

use super::{BATCH_HEADER_BYTES, Header, RecordBatch};
use crate::{Compression, ProducerId, Timestamp};

/// Collects records and seals them into one batch with base offset 0 and leader epoch −1, as producers send it.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    producer_id: ProducerId,
    producer_epoch: i16,
    base_sequence: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    count: i32,
    records: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch without idempotence.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            producer_id: ProducerId::NONE,
            producer_epoch: -1,
            base_sequence: -1,
            base_timestamp: Timestamp(0),
            max_timestamp: Timestamp::NONE,
            count: 0,
            records: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Marks the batch as one of an idempotent producer (KIP-98).
    #[must_use]
    pub fn idempotent(mut self, id: ProducerId, epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// Adds one record behind the others.
    pub fn push(&mut self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let body = &mut self.scratch;
        body.clear();
        body.push(0);
        put_varint(body, timestamp.0.wrapping_sub(self.base_timestamp.0));
        put_varint(body, i64::from(self.count));
        put_nullable(body, key);
        put_nullable(body, value);
        put_varint(body, headers.len() as i64);
        for header in headers {
            put_nullable(body, Some(header.key.as_bytes()));
            put_nullable(body, header.value.as_deref());
        }
        put_varint(&mut self.records, body.len() as i64);
        self.records.extend_from_slice(body);
        self.count += 1;
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.unsigned_abs()
    }

    /// True without records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch if it were sealed now without compression.
    #[must_use]
    pub fn bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// Upper bound of what one more record of these parts adds.
    #[must_use]
    pub fn record_bytes(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> usize {
        let part = |part: Option<&[u8]>| 5 + part.map_or(0, <[u8]>::len);
        let named: usize = headers.iter().map(|h| part(Some(h.key.as_bytes())) + part(h.value.as_deref())).sum();
        // Length, attributes, timestamp delta, offset delta, header count.
        5 + 1 + 10 + 5 + 5 + part(key) + part(value) + named
    }

    /// Seals the batch. Compression that does not pay is left out, as in Kafka's clients it would not be:
    /// the attributes say what was done.
    ///
    /// # Panics
    /// If no record was pushed.
    #[must_use]
    pub fn build(self) -> RecordBatch {
        assert!(self.count > 0, "a batch has at least one record");
        let (codec, payload) = match self.compression {
            Compression::None => (Compression::None, self.records),
            codec => (codec, codec.compress(&self.records)),
        };
        let mut batch = Vec::with_capacity(BATCH_HEADER_BYTES + payload.len());
        batch.extend_from_slice(&0i64.to_be_bytes());
        let length = u32::try_from(BATCH_HEADER_BYTES - 12 + payload.len()).unwrap_or(u32::MAX);
        batch.extend_from_slice(&length.to_be_bytes());
        batch.extend_from_slice(&(-1i32).to_be_bytes());
        batch.push(2);
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&(codec as i16).to_be_bytes());
        batch.extend_from_slice(&(self.count - 1).to_be_bytes());
        batch.extend_from_slice(&self.base_timestamp.0.to_be_bytes());
        batch.extend_from_slice(&self.max_timestamp.0.to_be_bytes());
        batch.extend_from_slice(&self.producer_id.0.to_be_bytes());
        batch.extend_from_slice(&self.producer_epoch.to_be_bytes());
        batch.extend_from_slice(&self.base_sequence.to_be_bytes());
        batch.extend_from_slice(&self.count.to_be_bytes());
        batch.extend_from_slice(&payload);
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let bytes = Bytes::from(batch);
        let header = super::BatchHeader::parse(&bytes).expect("what was built parses");
        RecordBatch { header, bytes }
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_nullable(out: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
