//! The one CBOR codec of the project: `serde_cbor` behind size and depth checks.
//!
//! `serde_cbor` is unmaintained (RUSTSEC-2021-0127), so nothing else names it, and nothing reaches
//! it before [`check`] has walked the bytes: total size, nesting depth, and every claimed length
//! against the bytes that are really there.

use serde::{Serialize, de::DeserializeOwned};

use crate::limits::CBOR_DEPTH_MAX;

/// Why bytes were not taken as CBOR.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CborError {
    /// More bytes than the caller allows.
    #[error("{bytes} bytes of CBOR, limit is {limit}")]
    TooLarge {
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Nested deeper than [`CBOR_DEPTH_MAX`].
    #[error("CBOR nested deeper than {CBOR_DEPTH_MAX}")]
    TooDeep,
    /// Ends early, claims more than is there, or is followed by other bytes.
    #[error("malformed CBOR at byte {at}")]
    Malformed {
        /// Where the walk stopped.
        at: usize,
    },
    /// Well-formed, but not the expected type.
    #[error("unexpected CBOR: {0}")]
    Unexpected(String),
}

/// Encodes `value`; maps carry field names, so that later versions may add fields.
///
/// # Errors
/// [`CborError::Unexpected`] if the type cannot be expressed (never for our own types), and
/// [`CborError::TooLarge`] if the result exceeds `limit` bytes: what is written can be read back.
pub fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CborError> {
    let bytes = serde_cbor::to_vec(value).map_err(|e| CborError::Unexpected(e.to_string()))?;
    if bytes.len() > limit {
        return Err(CborError::TooLarge { bytes: bytes.len(), limit });
    }
    Ok(bytes)
}

/// Decodes exactly one value from `bytes`, of at most `limit` bytes. Unknown fields are ignored.
///
/// # Errors
/// [`CborError`]; nothing is allocated by a length that the bytes only claim.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CborError> {
    check(bytes, limit)?;
    serde_cbor::from_slice(bytes).map_err(|e| CborError::Unexpected(e.to_string()))
}

/// Walks the structure of `bytes` without building anything.
///
/// # Errors
/// As [`decode`], except [`CborError::Unexpected`].
pub fn check(bytes: &[u8], limit: usize) -> Result<(), CborError> {
    if bytes.len() > limit {
        return Err(CborError::TooLarge { bytes: bytes.len(), limit });
    }
    // One counter for each open container: items that it still owes.
    let mut owed: Vec<u64> = vec![1];
    let mut at = 0;
    while let Some(open) = owed.last_mut() {
        if *open == 0 {
            owed.pop();
            continue;
        }
        *open -= 1;
        let malformed = CborError::Malformed { at };
        let initial = *bytes.get(at).ok_or(malformed.clone())?;
        let (major, info) = (initial >> 5, initial & 0x1f);
        let width = match info {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            // Indefinite lengths are never written by us; refusing them keeps the walk simple.
            _ => return Err(malformed),
        };
        let argument = bytes.get(at + 1..at + 1 + width).ok_or(malformed.clone())?;
        let value = match width {
            0 => u64::from(info),
            _ => argument.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        at += 1 + width;
        let left = (bytes.len() - at) as u64;
        let children = match major {
            2 | 3 => {
                if value > left {
                    return Err(malformed);
                }
                at += usize::try_from(value).map_err(|_| malformed)?;
                0
            }
            4 => value,
            5 => value.checked_mul(2).ok_or(malformed.clone())?,
            6 => 1,
            _ => 0,
        };
        if children > left {
            return Err(CborError::Malformed { at });
        }
        if children > 0 {
            if owed.len() >= CBOR_DEPTH_MAX {
                return Err(CborError::TooDeep);
            }
            owed.push(children);
        }
    }
    if at == bytes.len() { Ok(()) } else { Err(CborError::Malformed { at }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let value = vec![(1u64, "a".to_owned(), Some(vec![1u8, 2])), (u64::MAX, String::new(), None)];
        let bytes = encode(&value, 1024).expect("encodes");
        assert_eq!(decode::<Vec<(u64, String, Option<Vec<u8>>)>>(&bytes, 1024), Ok(value));
    }

    #[test]
    fn claims_without_bytes_are_refused() {
        // An array of 2^32 items, a text of 2^63 bytes, a map whose double overflows.
        for claim in [
            &[0x9a, 0xff, 0xff, 0xff, 0xff][..],
            &[0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(matches!(check(claim, 64), Err(CborError::Malformed { .. })));
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = [vec![0x81; CBOR_DEPTH_MAX + 1], vec![0]].concat();
        assert_eq!(check(&deep, 1024), Err(CborError::TooDeep));
        assert_eq!(check(&[0; 9], 8), Err(CborError::TooLarge { bytes: 9, limit: 8 }));
        assert!(matches!(check(&[0, 0], 8), Err(CborError::Malformed { at: 1 })));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Vec<(u64, String)>>(&bytes, 4096);
            let _ = decode::<std::collections::BTreeMap<String, Vec<u8>>>(&bytes, 4096);
        }
    }
}
