//! Entries and images as bytes: CBOR, bounded on the way out and on the way in.

use rafka_model::cbor::{self, CborError};
use rafka_model::limits::{ENTRY_BYTES_MAX, ENTRY_DELTAS_MAX, SNAPSHOT_BYTES_MAX};

use super::{Entry, Image};

/// Encodes an entry as it lies in the metadata log and travels in the watch feed.
///
/// # Errors
/// [`CborError::TooLarge`] over [`ENTRY_BYTES_MAX`]; the controller builds no such entry.
pub fn encode_entry(entry: &Entry) -> Result<Vec<u8>, CborError> {
    cbor::encode(entry, ENTRY_BYTES_MAX)
}

/// Decodes an entry.
///
/// # Errors
/// [`CborError`], also for more deltas than [`ENTRY_DELTAS_MAX`].
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CborError> {
    let entry: Entry = cbor::decode(bytes, ENTRY_BYTES_MAX)?;
    match entry.deltas.len() {
        0..=ENTRY_DELTAS_MAX => Ok(entry),
        many => Err(CborError::Unexpected(format!("entry of {many} deltas, limit is {ENTRY_DELTAS_MAX}"))),
    }
}

/// Encodes an image as a snapshot.
///
/// # Errors
/// [`CborError::TooLarge`] over [`SNAPSHOT_BYTES_MAX`].
pub fn encode_image(image: &Image) -> Result<Vec<u8>, CborError> {
    cbor::encode(image, SNAPSHOT_BYTES_MAX)
}

/// Decodes a snapshot and checks that it is a possible state of a cluster.
///
/// # Errors
/// [`CborError`], also if [`Image::check_invariants`] finds a contradiction.
pub fn decode_image(bytes: &[u8]) -> Result<Image, CborError> {
    let image: Image = cbor::decode(bytes, SNAPSHOT_BYTES_MAX)?;
    image.check_invariants().map_err(|violation| CborError::Unexpected(violation.to_string()))?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Delta;
    use crate::testing;
    use proptest::prelude::*;
    use rafka_model::{MetadataIndex, NodeId};

    #[test]
    fn an_image_and_its_entries_survive_bytes() {
        for (nodes, partitions) in [(1, 0), (3, 7)] {
            let image = testing::image(nodes, partitions);
            assert_eq!(decode_image(&encode_image(&image).expect("encodes")), Ok(image));
        }
        for entry in testing::entries(3, 7) {
            assert_eq!(decode_entry(&encode_entry(&entry).expect("encodes")), Ok(entry));
        }
    }

    #[test]
    fn an_impossible_image_and_an_oversized_entry_are_refused() {
        let mut image = testing::image(1, 1);
        image.voters.push(NodeId(77));
        assert!(matches!(decode_image(&encode_image(&image).expect("encodes")), Err(CborError::Unexpected(_))));
        let deltas = vec![Delta::NodeFenced { id: NodeId(1) }; ENTRY_DELTAS_MAX + 1];
        let bytes = encode_entry(&Entry { index: MetadataIndex(2), deltas }).expect("encodes");
        assert!(matches!(decode_entry(&bytes), Err(CborError::Unexpected(_))));
    }

    #[test]
    fn fields_of_later_versions_are_ignored_and_missing_ones_defaulted() {
        #[derive(serde::Serialize)]
        struct Later<'a> {
            index: u64,
            deltas: [(); 0],
            feature_flags: &'a str,
        }
        let later = cbor::encode(&Later { index: 4, deltas: [], feature_flags: "x" }, 100).expect("encodes");
        assert_eq!(decode_entry(&later), Ok(Entry { index: MetadataIndex(4), deltas: vec![] }));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0usize..4000, flip in 1u8.., cut in 0usize..4000) {
            let mut bytes = encode_image(&testing::image(3, 7)).expect("encodes");
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _ = decode_image(&bytes);
            bytes.truncate(cut);
            let _ = (decode_image(&bytes), decode_entry(&bytes));
        }
    }
}
