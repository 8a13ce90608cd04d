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

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        // A node and a partition before replication had fields of their own.
        #[derive(serde::Serialize)]
        struct State {
            replicas: Vec<u64>,
            leader: Option<u64>,
            leader_epoch: i32,
            partition_epoch: i32,
            isr: Vec<u64>,
        }
        #[derive(serde::Serialize)]
        struct Node {
            id: u64,
            peer_id: &'static str,
            directory: rafka_model::DirectoryId,
            epoch: u64,
            boot: rafka_model::BootId,
            addresses: [(); 0],
            fenced: bool,
        }
        #[derive(serde::Serialize)]
        enum Earlier {
            NodeRegistered(Node),
            PartitionChanged { partition: rafka_model::TopicPartition, state: State },
        }
        #[derive(serde::Serialize)]
        struct Entry {
            index: u64,
            deltas: [Earlier; 2],
        }
        let at = rafka_model::TopicPartition {
            topic: rafka_model::TopicId([5; 16]),
            partition: rafka_model::PartitionId(1),
        };
        let (directory, boot) = (rafka_model::DirectoryId([1; 16]), rafka_model::BootId([2; 16]));
        let node = Node { id: 1, peer_id: "peer", directory, epoch: 7, boot, addresses: [], fenced: true };
        let state = State { replicas: vec![1], leader: Some(1), leader_epoch: 3, partition_epoch: 4, isr: vec![1] };
        let deltas = [Earlier::NodeRegistered(node), Earlier::PartitionChanged { partition: at, state }];
        let bytes = cbor::encode(&Entry { index: 7, deltas }, 1000).expect("encodes");
        let entry = decode_entry(&bytes).expect("decodes");
        let [Delta::NodeRegistered(node), Delta::PartitionChanged { partition, state }] = &entry.deltas[..] else {
            panic!("{entry:?}");
        };
        assert_eq!((node.features_max, node.draining, node.weight_milli), (1, false, 1000));
        assert_eq!((*partition, state.leader, &state.isr[..]), (at, Some(NodeId(1)), &[NodeId(1)][..]));
        assert!(!state.is_moving() && state.target.is_empty() && state.elr.is_empty() && !state.recovering);
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
