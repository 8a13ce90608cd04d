//! The one case in which a node touches a producer's records: the topic wants another codec (`compression.type`).

use bytes::{BufMut, Bytes, BytesMut};
use rafka_model::limits::{BATCH_BYTES_MAX, BATCH_DECOMPRESSED_BYTES_MAX, BATCH_HEADER_BYTES};
use rafka_model::{BatchError, Compression, RecordBatch};

/// The length field counts what follows it.
const LENGTH_ENDS_AT: usize = 12;
const CRC_AT: std::ops::Range<usize> = 17..21;
const ATTRIBUTES_AT: std::ops::Range<usize> = 21..23;
const CODEC_BITS: i16 = 0x07;

/// The same records under another codec; the rest of the header stays.
///
/// # Errors
/// [`BatchError`] if the records do not decompress, contradict their header (what a consumer could not read must not be
/// stored under a fresh checksum), or come out too large.
pub(super) fn recompress(batch: &RecordBatch, codec: Compression) -> Result<RecordBatch, BatchError> {
    batch.records()?.try_for_each(|record| record.map(drop))?;
    let packed = batch.bytes().slice(BATCH_HEADER_BYTES..);
    let plain: Bytes = match batch.header().compression() {
        Compression::None => packed,
        from => from.decompress(&packed, BATCH_DECOMPRESSED_BYTES_MAX)?.into(),
    };
    let payload: Bytes = match codec {
        Compression::None => plain,
        to => to.compress(&plain).into(),
    };
    let total = BATCH_HEADER_BYTES + payload.len();
    let too_large = BatchError::TooLarge { bytes: total as u64, limit: BATCH_BYTES_MAX };
    let length = i32::try_from(total - LENGTH_ENDS_AT).map_err(|_| too_large)?;
    let attributes = (batch.header().attributes & !CODEC_BITS) | codec as i16;
    let mut bytes = BytesMut::with_capacity(total);
    bytes.put_slice(&batch.bytes()[..BATCH_HEADER_BYTES]);
    bytes.put_slice(&payload);
    bytes[8..LENGTH_ENDS_AT].copy_from_slice(&length.to_be_bytes());
    bytes[ATTRIBUTES_AT].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT.start..]);
    bytes[CRC_AT].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::parse(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rafka_model::{BatchBuilder, Timestamp};

    fn batch(codec: Compression) -> RecordBatch {
        let mut builder = BatchBuilder::new(codec);
        for i in 0..20 {
            builder.push(Timestamp(1_000 + i), Some(b"key"), Some(&[b'v'; 100]), &[]);
        }
        builder.build()
    }

    #[test]
    fn every_codec_turns_into_every_other() {
        let records = |batch: &RecordBatch| -> Vec<_> {
            batch.records().expect("decompresses").map(|record| record.expect("decodes")).collect()
        };
        for from in Compression::ALL {
            for to in Compression::ALL {
                let before = batch(from);
                let after = recompress(&before, to).expect("recompresses");
                assert_eq!(after.header().compression(), to);
                assert_eq!(records(&after), records(&before));
                assert_eq!(after.header().max_timestamp, before.header().max_timestamp);
            }
        }
    }

    #[test]
    fn records_that_do_not_decode_are_refused() {
        let mut bytes = batch(Compression::None).bytes().to_vec();
        bytes[BATCH_HEADER_BYTES] = 0xff;
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT.start..]);
        bytes[CRC_AT].copy_from_slice(&crc.to_be_bytes());
        let broken = RecordBatch::parse(bytes.into()).expect("header and checksum are fine");
        assert!(recompress(&broken, Compression::Lz4).is_err());
    }
}
