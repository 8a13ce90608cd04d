//! Records as bytes: only what compaction must know of them is decoded.

use std::borrow::Cow;

use rafka_model::limits::{BATCH_BYTES_MAX, BATCH_DECOMPRESSED_BYTES_MAX, BATCH_HEADER_BYTES};
use rafka_model::{BatchHeader, Compression, LeaderEpoch, Offset, Timestamp};

/// Attribute: the base timestamp is the delete horizon.
const HORIZON: i16 = 0x40;
/// Attributes that an emptied batch keeps: timestamp type, transactional, control.
const KEPT: i16 = 0x08 | 0x10 | 0x20;

/// When the tombstones of a batch may go, if that is known (KIP-534).
pub(super) fn delete_horizon(header: &BatchHeader) -> Option<Timestamp> {
    (header.attributes & HORIZON != 0).then_some(header.base_timestamp)
}

/// The records of one batch, decompressed and known to be well formed.
#[derive(Debug)]
pub(super) struct Records<'a> {
    payload: Cow<'a, [u8]>,
    count: u32,
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'a> {
    /// All of it, its length in front.
    pub(super) bytes: &'a [u8],
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) is_tombstone: bool,
    attributes: u8,
    /// What follows the timestamp.
    tail: &'a [u8],
}

impl<'a> Records<'a> {
    /// `None` if the batch does not decode: producers' bytes are stored unread.
    pub(super) fn decode(header: &BatchHeader, batch: &'a [u8]) -> Option<Self> {
        let packed = batch.get(BATCH_HEADER_BYTES..)?;
        let payload = match header.compression() {
            Compression::None => Cow::Borrowed(packed),
            codec => Cow::Owned(codec.decompress(packed, BATCH_DECOMPRESSED_BYTES_MAX).ok()?),
        };
        let records = Self { payload, count: header.record_count };
        let (mut seen, mut bytes, mut last) = (0, 0, -1);
        for record in records.iter() {
            if record.offset_delta <= last || record.offset_delta > i64::from(header.last_offset_delta) {
                return None;
            }
            (seen, bytes, last) = (seen + 1, bytes + record.bytes.len(), record.offset_delta);
        }
        (seen == records.count && bytes == records.payload.len()).then_some(records)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = RawRecord<'_>> {
        let mut rest: &[u8] = &self.payload;
        (0..self.count).map_while(move |_| {
            let (record, after) = RawRecord::parse(rest)?;
            rest = after;
            Some(record)
        })
    }
}

impl<'a> RawRecord<'a> {
    /// The first record of `bytes`, and what follows it.
    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, body) = varint(bytes)?;
        let (body, after) = body.split_at_checked(usize::try_from(length).ok()?)?;
        let (attributes, rest) = body.split_first()?;
        let (timestamp_delta, tail) = varint(rest)?;
        let (offset_delta, rest) = varint(tail)?;
        let (key, rest) = nullable(rest)?;
        let (value, _) = nullable(rest)?;
        let record = Self {
            bytes: &bytes[..bytes.len() - after.len()],
            timestamp_delta,
            offset_delta,
            key,
            is_tombstone: value.is_none(),
            attributes: *attributes,
            tail,
        };
        Some((record, after))
    }

    /// Appends the record with another timestamp delta.
    fn put_with(&self, timestamp_delta: i64, out: &mut Vec<u8>) {
        let mut delta = Vec::with_capacity(10);
        put_varint(&mut delta, timestamp_delta);
        put_varint(out, (1 + delta.len() + self.tail.len()) as i64);
        out.push(self.attributes);
        out.extend_from_slice(&delta);
        out.extend_from_slice(self.tail);
    }
}

/// The batch with only the records of which `kept` says true (in order), and with a delete horizon if one is given.
/// `None` if it would be larger than any batch may be.
pub(super) fn rebuild(
    header: &BatchHeader,
    batch: &[u8],
    records: &Records<'_>,
    kept: &[bool],
    horizon: Option<Timestamp>,
) -> Option<Vec<u8>> {
    let base = header.base_timestamp.0;
    let mut payload = Vec::with_capacity(records.payload.len());
    let (mut count, mut newest) = (0i32, Timestamp::NONE);
    for record in records.iter().zip(kept).filter_map(|(record, kept)| kept.then_some(record)) {
        let time = base.wrapping_add(record.timestamp_delta);
        match horizon {
            Some(horizon) => record.put_with(time.wrapping_sub(horizon.0), &mut payload),
            None => payload.extend_from_slice(record.bytes),
        }
        count += 1;
        newest = newest.max(Timestamp(time));
    }
    let payload = match header.compression() {
        Compression::None => payload,
        codec => codec.compress(&payload),
    };
    if payload.len() + BATCH_HEADER_BYTES > BATCH_BYTES_MAX as usize {
        return None;
    }
    let mut out = batch.get(..BATCH_HEADER_BYTES)?.to_vec();
    if let Some(horizon) = horizon {
        out[21..23].copy_from_slice(&(header.attributes | HORIZON).to_be_bytes());
        out[27..35].copy_from_slice(&horizon.0.to_be_bytes());
    }
    if !header.is_log_append_time() {
        out[35..43].copy_from_slice(&newest.0.to_be_bytes());
    }
    out[57..61].copy_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&payload);
    seal(&mut out);
    Some(out)
}

/// The batch without any record: its producer, its sequence numbers and its offsets are left.
pub(super) fn emptied(header: &BatchHeader, batch: &[u8]) -> Vec<u8> {
    let mut out = batch[..BATCH_HEADER_BYTES].to_vec();
    out[21..23].copy_from_slice(&(header.attributes & KEPT).to_be_bytes());
    out[27..35].copy_from_slice(&Timestamp::NONE.0.to_be_bytes());
    out[57..61].copy_from_slice(&0i32.to_be_bytes());
    seal(&mut out);
    out
}

/// An empty batch of nobody for the offsets from `base` to `base + delta`.
pub(super) fn placeholder(base: Offset, delta: i32, epoch: LeaderEpoch, max_timestamp: Timestamp) -> Vec<u8> {
    let mut out = vec![0; BATCH_HEADER_BYTES];
    out[..8].copy_from_slice(&base.0.to_be_bytes());
    out[12..16].copy_from_slice(&epoch.0.to_be_bytes());
    out[16] = 2;
    out[23..27].copy_from_slice(&delta.to_be_bytes());
    out[27..35].copy_from_slice(&Timestamp::NONE.0.to_be_bytes());
    out[35..43].copy_from_slice(&max_timestamp.0.to_be_bytes());
    out[43..57].fill(0xff);
    seal(&mut out);
    out
}

/// Sets the length and the checksum.
fn seal(batch: &mut [u8]) {
    let length = u32::try_from(batch.len() - 12).unwrap_or(u32::MAX);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Zigzag varint of at most 10 bytes, and what follows it.
fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(((value >> 1).cast_signed() ^ -((value & 1).cast_signed()), &bytes[i + 1..]));
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn nullable(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    match varint(bytes)? {
        (-1, rest) => Some((None, rest)),
        (length, rest) => {
            let (part, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Some(part), rest))
        }
    }
}

/// What a transaction marker says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Marker {
    Abort,
    Commit,
}

/// The marker in a control batch; `None` for other control records.
pub(super) fn marker(header: &BatchHeader, batch: &[u8]) -> Option<Marker> {
    let records = Records::decode(header, batch)?;
    let key = records.iter().next()?.key?;
    match key.get(2..4)? {
        [0, 0] => Some(Marker::Abort),
        [0, 1] => Some(Marker::Commit),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
