//! What a batch must obey before it may be appended. Checks everything that can be checked without decoding records.

use bytes::Bytes;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::{BatchError, BatchHeader, ProducerId, RecordBatch, Timestamp, TopicConfig};

use super::compaction::check_keys;
use super::rewrite::recompress;

/// Splits `records` into batches that obey the topic's rules: checksum verified once, nothing copied unless the topic
/// wants another codec.
///
/// # Errors
/// A [`Failure`] for the first batch that breaks a rule: then none of them may be appended.
pub(super) fn accept(records: Bytes, config: &TopicConfig, now: Timestamp) -> Result<Vec<RecordBatch>, Failure> {
    let mut batches = Vec::with_capacity(1);
    for (index, batch) in RecordBatch::split(records).enumerate() {
        let refused = |error: BatchError| refusal(&error, index);
        let batch = batch.map_err(refused)?;
        check(&batch, config, now, index)?;
        let codec = config.compression.filter(|codec| *codec != batch.header().compression());
        let Some(codec) = codec else {
            batches.push(batch);
            continue;
        };
        let batch = recompress(&batch, codec).map_err(refused)?;
        check_size(&batch, config, index)?;
        batches.push(batch);
    }
    if batches.len() > 1 && batches.iter().any(|batch| batch.header().producer_id != ProducerId::NONE) {
        let message =
            format!("the request carries {} record batches for one partition, a producer id allows one", batches.len());
        return Err(Failure::new(ErrorCode::InvalidRecord, message));
    }
    if batches.is_empty() {
        return Err(Failure::new(ErrorCode::InvalidRecord, "the request carries no record batch"));
    }
    Ok(batches)
}

fn check(batch: &RecordBatch, config: &TopicConfig, now: Timestamp, index: usize) -> Result<(), Failure> {
    check_size(batch, config, index)?;
    let header = batch.header();
    header
        .check_produced()
        .map_err(|error| Failure::new(ErrorCode::InvalidRecord, format!("record batch {index}: {error}")))?;
    if header.is_transactional() {
        let message = format!("record batch {index} is transactional; transactions are not available in this version");
        return Err(Failure::new(ErrorCode::InvalidRecord, message));
    }
    check_producer(header, index)?;
    if config.cleanup.compact {
        check_keys(batch, index)?;
    }
    if config.log_append_time {
        return Ok(());
    }
    if header.is_log_append_time() {
        let message = format!("record batch {index} says that the broker stamped it; only a broker may say so");
        return Err(Failure::new(ErrorCode::InvalidTimestamp, message));
    }
    check_time(header.base_timestamp, config, now, index)?;
    check_time(header.max_timestamp, config, now, index)
}

/// A producer's numbers are all there, or none.
fn check_producer(header: &BatchHeader, index: usize) -> Result<(), Failure> {
    let BatchHeader { producer_id, producer_epoch, base_sequence, .. } = *header;
    if producer_id == ProducerId::NONE || (producer_id.0 >= 0 && producer_epoch >= 0 && base_sequence >= 0) {
        return Ok(());
    }
    let message = format!(
        "record batch {index} has producer id {producer_id}, epoch {producer_epoch}, sequence number {base_sequence}"
    );
    Err(Failure::new(ErrorCode::InvalidRecord, message))
}

fn check_size(batch: &RecordBatch, config: &TopicConfig, index: usize) -> Result<(), Failure> {
    let limit = config.max_message_bytes;
    if batch.len() as u64 <= u64::from(limit) {
        return Ok(());
    }
    let message = format!("record batch {index} is {} bytes, max.message.bytes is {limit} bytes", batch.len());
    Err(Failure::new(ErrorCode::MessageTooLarge, message))
}

fn check_time(time: Timestamp, config: &TopicConfig, now: Timestamp, index: usize) -> Result<(), Failure> {
    if time == Timestamp::NONE {
        return Ok(());
    }
    let ahead = u64::try_from(time.0.saturating_sub(now.0)).unwrap_or(0);
    let behind = u64::try_from(now.0.saturating_sub(time.0)).unwrap_or(0);
    let (key, found, limit) = if ahead > config.timestamp_after_max_ms {
        ("message.timestamp.after.max.ms", ahead, config.timestamp_after_max_ms)
    } else if behind > config.timestamp_before_max_ms {
        ("message.timestamp.before.max.ms", behind, config.timestamp_before_max_ms)
    } else {
        return Ok(());
    };
    let message =
        format!("record batch {index} has timestamp {time}, {found} ms from the broker's; {key} is {limit} ms");
    Err(Failure::new(ErrorCode::InvalidTimestamp, message))
}

fn refusal(error: &BatchError, index: usize) -> Failure {
    let code = match error {
        BatchError::TooLarge { .. } | BatchError::DecompressedTooLarge { .. } => ErrorCode::MessageTooLarge,
        BatchError::Magic(_) => ErrorCode::InvalidRecord,
        _ => ErrorCode::CorruptMessage,
    };
    Failure::new(code, format!("record batch {index}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rafka_model::{BatchBuilder, Compression};
    use std::collections::BTreeMap;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn config(pairs: &[(&str, &str)]) -> TopicConfig {
        let overrides: BTreeMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TopicConfig::resolve(&overrides).expect("legal")
    }

    fn batch(time: Timestamp, value: &[u8]) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(time, None, Some(value), &[]);
        builder.build().bytes().clone()
    }

    fn code(records: Bytes, pairs: &[(&str, &str)]) -> Option<ErrorCode> {
        accept(records, &config(pairs), NOW).err().map(|failure| failure.code)
    }

    #[test]
    fn batches_end_to_end_are_taken_apart_without_a_copy() {
        let both = Bytes::from([batch(NOW, b"a"), batch(NOW, b"b")].concat());
        let batches = accept(both.clone(), &config(&[]), NOW).expect("legal");
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0].bytes().as_ptr(), both.as_ptr());
    }

    #[test]
    fn each_rule_has_its_own_code() {
        assert_eq!(code(batch(NOW, b"a"), &[]), None);
        assert_eq!(code(Bytes::new(), &[]), Some(ErrorCode::InvalidRecord));
        let mut flipped = batch(NOW, b"a").to_vec();
        flipped[65] ^= 1;
        assert_eq!(code(flipped.into(), &[]), Some(ErrorCode::CorruptMessage));
        assert_eq!(code(batch(NOW, b"a").slice(..50), &[]), Some(ErrorCode::CorruptMessage));
        assert_eq!(code(batch(NOW, &[0; 200]), &[("max.message.bytes", "100")]), Some(ErrorCode::MessageTooLarge));
        let late = Timestamp(NOW.0 + 3_600_001);
        assert_eq!(code(batch(late, b"a"), &[]), Some(ErrorCode::InvalidTimestamp));
        assert_eq!(code(batch(late, b"a"), &[("message.timestamp.type", "LogAppendTime")]), None);
        let early = [("message.timestamp.before.max.ms", "10")];
        assert_eq!(code(batch(Timestamp(NOW.0 - 11), b"a"), &early), Some(ErrorCode::InvalidTimestamp));
        assert_eq!(code(batch(Timestamp::NONE, b"a"), &early), None);
        let mut stamped = batch(NOW, b"a").to_vec();
        stamped[22] |= 0x08;
        let crc = crc32c::crc32c(&stamped[21..]);
        stamped[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(code(stamped.into(), &[]), Some(ErrorCode::InvalidTimestamp));
    }

    #[test]
    fn a_producers_numbers_are_whole_and_its_batches_come_one_by_one() {
        let of = |id: i64, epoch: i16, sequence: i32| {
            let mut builder = BatchBuilder::new(Compression::None).idempotent(ProducerId(id), epoch, sequence);
            builder.push(NOW, None, Some(b"v"), &[]);
            builder.build().bytes().clone()
        };
        assert_eq!(code(of(0, 0, 0), &[]), None);
        for wrong in [of(-2, 0, 0), of(1, -1, 0), of(1, 0, -1)] {
            assert_eq!(code(wrong, &[]), Some(ErrorCode::InvalidRecord));
        }
        let two = |first: Bytes, second: Bytes| Bytes::from([first, second].concat());
        assert_eq!(code(two(of(1, 0, 0), of(1, 0, 1)), &[]), Some(ErrorCode::InvalidRecord));
        assert_eq!(code(two(of(-1, -1, -1), of(1, 0, 1)), &[]), Some(ErrorCode::InvalidRecord));
        assert_eq!(code(two(of(-1, -1, -1), of(-1, -1, -1)), &[]), None);
    }

    #[test]
    fn the_topics_codec_replaces_the_producers() {
        let batches = accept(batch(NOW, &[7; 500]), &config(&[("compression.type", "lz4")]), NOW).expect("legal");
        assert_eq!(batches[0].header().compression(), Compression::Lz4);
        assert!(batches[0].len() < 500);
    }
}
