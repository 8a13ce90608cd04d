//! The types that openraft is instantiated with; nothing outside this module names openraft.

use std::fmt;

use bytes::Bytes;
use rafka_model::MetadataIndex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

openraft::declare_raft_types!(
    /// The consensus of the metadata log. Raft's node ids are our [`rafka_model::NodeId`]s, so they are never reused.
    pub(crate) TypeConfig: D = Proposal, R = Outcome, Node = Member
);

/// Who led when an entry was proposed.
pub(super) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
/// Leader and position of an entry of the consensus log. Positions also count openraft's own entries, so they are not
/// [`MetadataIndex`]es.
pub(super) type LogId = openraft::LogId<LeaderId>;
/// What openraft must never forget: whom this voter supports.
pub(super) type Vote = openraft::Vote<LeaderId>;
/// An entry of the consensus log.
pub(super) type RaftEntry = openraft::Entry<LeaderId, RaftPayload>;
/// Its content.
pub(super) type RaftPayload = openraft::EntryPayload<Proposal, u64, Member>;
/// The voters as of some entry.
pub(super) type Membership = openraft::StoredMembership<LeaderId, u64, Member>;
/// What a snapshot covers.
pub(super) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, Member>;
/// A snapshot: the image as CBOR.
pub(super) type Snapshot = openraft::Snapshot<LeaderId, u64, Member, Bytes>;

/// An entry of the metadata log as CBOR: encoded once, by the controller, and carried as it is to every disk and node.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal(pub(crate) Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Proposal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of an entry")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Proposal, E> {
                Ok(Proposal(Bytes::copy_from_slice(bytes)))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Proposal, E> {
                Ok(Proposal(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// What applying an entry of the consensus log came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// One of openraft's own entries.
    Nothing,
    /// The image moved to this index.
    Applied(MetadataIndex),
    /// The entry did not follow the image that it met, and changed nothing.
    Refused(String),
}

/// How to reach a voter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// libp2p peer id, as text.
    pub peer_id: String,
    /// Mesh addresses, multiaddrs as text.
    pub addresses: Vec<String>,
}
