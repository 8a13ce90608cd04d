//! Compression of record batches: the four codecs of Kafka's format, with a bound on what comes out.

use std::io::{self, Read, Write};

use crate::batch::BatchError;

/// Codec of a batch; the number is the low three bits of its attributes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub enum Compression {
    /// Records as they are.
    #[default]
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Snappy in the framing of `snappy-java`, as Kafka's clients write it; raw blocks are read too.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// Zstandard frames (KIP-110).
    Zstd = 4,
}

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

impl Compression {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number in a batch's attributes.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Kafka's name: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Compresses `records` (the section behind the batch header).
    #[must_use]
    pub fn compress(self, records: &[u8]) -> Vec<u8> {
        // Writing to a vector cannot fail; a codec that reports otherwise has run out of memory.
        let done = |result: io::Result<Vec<u8>>| result.expect("compression into memory succeeds");
        match self {
            Self::None => records.to_vec(),
            Self::Gzip => done((|| {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(records)?;
                encoder.finish()
            })()),
            Self::Snappy => done(compress_xerial(records)),
            Self::Lz4 => done((|| {
                let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(records)?;
                Ok(encoder.finish()?)
            })()),
            Self::Zstd => done(zstd::encode_all(records, 3)),
        }
    }

    /// Decompresses to at most `limit` bytes.
    ///
    /// # Errors
    /// [`BatchError::DecompressedTooLarge`] beyond the limit, [`BatchError::Compression`] for bytes
    /// that the codec does not accept.
    pub fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
        match self {
            Self::None => within(bytes, limit),
            Self::Gzip => within(flate2::read::MultiGzDecoder::new(bytes), limit),
            Self::Snappy if bytes.starts_with(&XERIAL_MAGIC) => decompress_xerial(bytes, limit),
            Self::Snappy => decompress_snappy_block(bytes, limit),
            Self::Lz4 => within(lz4_flex::frame::FrameDecoder::new(bytes), limit),
            Self::Zstd => within(zstd::Decoder::new(bytes).map_err(refused)?, limit),
        }
    }
}

fn refused(error: impl std::fmt::Display) -> BatchError {
    BatchError::Compression(error.to_string())
}

fn within(reader: impl Read, limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut out).map_err(refused)?;
    if out.len() > limit {
        return Err(BatchError::DecompressedTooLarge { limit });
    }
    Ok(out)
}

fn compress_xerial(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(16 + records.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.extend_from_slice(&1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block)?;
        let length = u32::try_from(packed.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

fn decompress_xerial(bytes: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut rest = bytes.get(16..).ok_or_else(|| refused("snappy header is cut off"))?;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| refused("snappy block is cut off"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let block = after.get(..length).ok_or_else(|| refused("snappy block is cut off"))?;
        let left = limit - out.len();
        let plain = decompress_snappy_block(block, left).map_err(|error| match error {
            BatchError::DecompressedTooLarge { .. } => BatchError::DecompressedTooLarge { limit },
            other => other,
        })?;
        out.extend_from_slice(&plain);
        rest = &after[length..];
    }
    Ok(out)
}

fn decompress_snappy_block(block: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let claimed = snap::raw::decompress_len(block).map_err(refused)?;
    // Snappy cannot expand more than about 64-fold (a 3-byte copy gives 64 bytes).
    if claimed > limit {
        return Err(BatchError::DecompressedTooLarge { limit });
    }
    if claimed > block.len().saturating_mul(64) {
        return Err(refused("snappy block claims more than it can hold"));
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bomb_is_refused() {
        let zeros = vec![0; 1 << 20];
        for codec in Compression::ALL {
            let packed = codec.compress(&zeros);
            assert_eq!(codec.decompress(&packed, zeros.len()).as_ref(), Ok(&zeros), "{codec:?}");
            let limit = zeros.len() - 1;
            assert_eq!(codec.decompress(&packed, limit), Err(BatchError::DecompressedTooLarge { limit }), "{codec:?}");
        }
    }

    #[test]
    fn raw_snappy_blocks_are_read() {
        let packed = snap::raw::Encoder::new().compress_vec(b"raw block").expect("compresses");
        assert_eq!(Compression::Snappy.decompress(&packed, 100), Ok(b"raw block".to_vec()));
    }

    proptest! {
        #[test]
        fn every_codec_round_trips(data in proptest::collection::vec(any::<u8>(), 0..100_000), number in 0u8..5) {
            let codec = Compression::from_number(number).expect("known");
            prop_assert_eq!(codec.decompress(&codec.compress(&data), data.len()), Ok(data));
        }

        #[test]
        fn no_bytes_panic(data in proptest::collection::vec(any::<u8>(), 0..300), number in 0u8..5) {
            let codec = Compression::from_number(number).expect("known");
            let _ = codec.decompress(&data, 10_000);
            let _ = codec.decompress(&[&XERIAL_MAGIC[..], &data].concat(), 10_000);
        }
    }
}
