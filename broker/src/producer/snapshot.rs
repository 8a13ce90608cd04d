//! States as bytes.
//!
//! ```text
//! u16 version = 1 │ u32 producers │ for each, by id:
//!   i64 id │ i16 epoch │ i64 heard │ i64 first offset of the open transaction, or −1 │ u8 batches │ for each, oldest first:
//!     i32 first sequence │ i32 last delta │ i64 base offset │ i64 max timestamp
//! ```
//! Big endian. Whoever stores them adds a checksum.

use rafka_model::limits::{
    PRODUCER_BATCHES_KEPT, PRODUCER_SNAPSHOT_BYTES_MAX, PRODUCER_SNAPSHOT_ENTRY_BYTES_MAX, PRODUCERS_MAX,
};
use rafka_model::{Offset, ProducerId, Timestamp};

use super::rules::Rule;
use super::{Batch, Producer, States};

const VERSION: u16 = 1;
const HEADER_BYTES: usize = 6;
const PRODUCER_BYTES: usize = 8 + 2 + 8 + 8 + 1;
const BATCH_BYTES: usize = 4 + 4 + 8 + 8;

const _: () = {
    assert!(PRODUCER_BYTES + PRODUCER_BATCHES_KEPT * BATCH_BYTES <= PRODUCER_SNAPSHOT_ENTRY_BYTES_MAX);
    assert!(HEADER_BYTES + PRODUCERS_MAX * PRODUCER_SNAPSHOT_ENTRY_BYTES_MAX <= PRODUCER_SNAPSHOT_BYTES_MAX);
};

impl States {
    /// As bytes, for a snapshot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.len() * (PRODUCER_BYTES + BATCH_BYTES));
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(u32::try_from(self.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (id, producer) in &self.producers {
            let batches = match self.rules.hold(Rule::SnapshotsHoldAllBatches) {
                true => producer.batches(),
                false => &producer.batches()[producer.count.saturating_sub(1)..],
            };
            bytes.extend(id.0.to_be_bytes());
            bytes.extend(producer.epoch.to_be_bytes());
            bytes.extend(producer.heard.0.to_be_bytes());
            bytes.extend(producer.transaction_start.map_or(-1, |start| start.0).to_be_bytes());
            bytes.push(batches.len() as u8);
            for batch in batches {
                bytes.extend(batch.first_sequence.to_be_bytes());
                bytes.extend(batch.last_delta.to_be_bytes());
                bytes.extend(batch.base_offset.0.to_be_bytes());
                bytes.extend(batch.max_timestamp.0.to_be_bytes());
            }
        }
        bytes
    }

    /// The states of a snapshot; `None` if the bytes are not one, or of a version to come.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if u16::from_be_bytes(take(&mut rest)?) != VERSION {
            return None;
        }
        let count = u32::from_be_bytes(take(&mut rest)?);
        let mut states = Self::default();
        if count as usize > states.limit {
            return None;
        }
        for _ in 0..count {
            let id = ProducerId(i64::from_be_bytes(take(&mut rest)?));
            let producer = producer(&mut rest)?;
            if id.0 < 0 || states.producers.insert(id, producer).is_some() {
                return None;
            }
        }
        rest.is_empty().then_some(states)
    }
}

fn producer(rest: &mut &[u8]) -> Option<Producer> {
    let epoch = i16::from_be_bytes(take(rest)?);
    let mut producer = Producer::new(epoch, Timestamp(i64::from_be_bytes(take(rest)?)));
    producer.transaction_start = Some(Offset(i64::from_be_bytes(take(rest)?))).filter(|start| *start >= Offset::ZERO);
    let [batches] = take(rest)?;
    if usize::from(batches) > PRODUCER_BATCHES_KEPT {
        return None;
    }
    for _ in 0..batches {
        let batch = Batch {
            first_sequence: i32::from_be_bytes(take(rest)?),
            last_delta: i32::from_be_bytes(take(rest)?),
            base_offset: Offset(i64::from_be_bytes(take(rest)?)),
            max_timestamp: Timestamp(i64::from_be_bytes(take(rest)?)),
        };
        if batch.first_sequence < 0 || batch.last_delta < 0 || batch.base_offset < Offset::ZERO {
            return None;
        }
        producer.push(batch, PRODUCER_BATCHES_KEPT);
    }
    Some(producer)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*taken)
}
