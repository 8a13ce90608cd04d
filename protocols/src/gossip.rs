//! Gossip: small signed hints. Losing, repeating or reordering them costs time, never correctness: who hears that
//! something changed asks the watch feed or the DHT again.

use libp2p::gossipsub::{Config, ConfigBuilder, IdentTopic, ValidationMode};
use prost::Message;
use rafka_model::limits::{GOSSIP_BYTES_MAX, LABEL_BYTES_MAX, NODE_ADDRESSES_MAX};
use rafka_model::{ClusterId, MetadataIndex, NodeId, TopicId};

use crate::proto::{self, cluster_hint::Kind};
use crate::wire::{self, DecodeError, addresses, bounded, text, topic_id, topic_id_to_wire};

/// Items of one list in a hint; the smallest take two bytes.
const HINT_ITEMS_MAX: usize = GOSSIP_BYTES_MAX / 2;

/// A gossip topic of a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Channel {
    /// Metadata changed; voters publish.
    Meta,
    /// Members come, go, or seem to be gone.
    Cluster,
    /// How busy members are.
    Load,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 3] = [Self::Meta, Self::Cluster, Self::Load];

    /// The topic: `/rafka/<first 8 digits of the cluster id>/<word>`.
    #[must_use]
    pub fn topic(self, cluster: &ClusterId) -> IdentTopic {
        let word = match self {
            Self::Meta => "meta",
            Self::Cluster => "cluster",
            Self::Load => "load",
        };
        IdentTopic::new(format!("/rafka/{}/{word}", cluster.short()))
    }
}

/// A hint of any channel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hint {
    /// On [`Channel::Meta`].
    Meta(MetaHint),
    /// On [`Channel::Cluster`].
    Cluster(ClusterHint),
    /// On [`Channel::Load`].
    Load(LoadHint),
}

/// The metadata log grew.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MetaHint {
    /// Index that the hint before this one named; a gap means that hints were lost.
    pub prev_index: MetadataIndex,
    /// The index now.
    pub index: MetadataIndex,
    /// Nodes that were fenced.
    pub fenced: Vec<NodeId>,
    /// Nodes that are back.
    pub unfenced: Vec<NodeId>,
    /// Topics that changed.
    pub topics: Vec<TopicId>,
    /// More topics changed than are named.
    pub more: bool,
}

/// Something about one member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClusterHint {
    /// It joined, or has other addresses now.
    Join {
        /// Who.
        node: NodeId,
        /// Its peer id, as text.
        peer_id: String,
        /// Its mesh addresses, multiaddrs as text.
        addresses: Vec<String>,
    },
    /// It is about to leave.
    Drain(NodeId),
    /// The publisher lost its connection and cannot dial it.
    Suspect(NodeId),
    /// It runs this version.
    Version {
        /// Who.
        node: NodeId,
        /// Program version.
        version: String,
    },
}

/// How busy a member is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LoadHint {
    /// Who.
    pub node: NodeId,
    /// Partitions that it leads.
    pub partitions_led: u32,
    /// Record bytes appended, a second.
    pub in_bytes_per_s: u64,
    /// Record bytes read, a second.
    pub out_bytes_per_s: u64,
    /// Requests, a second.
    pub requests_per_s: u32,
    /// Bytes of its disk in use.
    pub disk_used_bytes: u64,
    /// Bytes of its disk.
    pub disk_total_bytes: u64,
}

/// The only gossipsub configuration: signed, strict, small messages that the application accepts one by one.
///
/// Its protocol names carry the cluster id. Use it with `MessageAuthenticity::Signed` and report every message's
/// validity: accept what a member signed, reject the rest.
#[must_use]
pub fn config(cluster: &ClusterId) -> Config {
    ConfigBuilder::default()
        .protocol_id_prefix(format!("/rafka/{}/gossip", cluster.short()))
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        // The envelope (source, sequence number, topic, signature, key) takes a few hundred bytes.
        .max_transmit_size(GOSSIP_BYTES_MAX + 1024)
        .build()
        .expect("a constant configuration whose only variable is eight hex digits")
}

/// The channel that a hint belongs to.
#[must_use]
pub fn channel(hint: &Hint) -> Channel {
    match hint {
        Hint::Meta(_) => Channel::Meta,
        Hint::Cluster(_) => Channel::Cluster,
        Hint::Load(_) => Channel::Load,
    }
}

/// Encodes a hint within [`GOSSIP_BYTES_MAX`]: topics that do not fit are left out and `more` is set.
#[must_use]
pub fn encode(hint: &Hint) -> Vec<u8> {
    match hint {
        Hint::Meta(meta) => meta_to_wire(meta).encode_to_vec(),
        Hint::Cluster(cluster) => proto::ClusterHint { kind: Some(cluster_to_wire(cluster)) }.encode_to_vec(),
        Hint::Load(load) => proto::LoadHint {
            node: load.node.0,
            partitions_led: load.partitions_led,
            in_bytes_per_s: load.in_bytes_per_s,
            out_bytes_per_s: load.out_bytes_per_s,
            requests_per_s: load.requests_per_s,
            disk_used_bytes: load.disk_used_bytes,
            disk_total_bytes: load.disk_total_bytes,
        }
        .encode_to_vec(),
    }
}

/// Decodes a message of `channel`.
///
/// # Errors
/// [`DecodeError`]: its author is broken or hostile, reject the message.
pub fn decode(channel: Channel, message: &[u8]) -> Result<Hint, DecodeError> {
    if message.len() > GOSSIP_BYTES_MAX {
        return Err(DecodeError::TooLong { what: "hint", bytes: message.len(), limit: GOSSIP_BYTES_MAX });
    }
    let bytes = message.to_vec().into();
    Ok(match channel {
        Channel::Meta => Hint::Meta(meta_from_wire(wire::decode(&bytes, "fields of a hint", HINT_ITEMS_MAX, &[])?)?),
        Channel::Cluster => {
            let hint: proto::ClusterHint = wire::decode(&bytes, "fields of a hint", NODE_ADDRESSES_MAX + 8, &[1])?;
            Hint::Cluster(cluster_from_wire(hint.kind.ok_or(DecodeError::Missing("kind of hint"))?)?)
        }
        Channel::Load => {
            let load: proto::LoadHint = wire::decode(&bytes, "fields of a hint", 16, &[])?;
            Hint::Load(LoadHint {
                node: NodeId(load.node),
                partitions_led: load.partitions_led,
                in_bytes_per_s: load.in_bytes_per_s,
                out_bytes_per_s: load.out_bytes_per_s,
                requests_per_s: load.requests_per_s,
                disk_used_bytes: load.disk_used_bytes,
                disk_total_bytes: load.disk_total_bytes,
            })
        }
    })
}

fn meta_to_wire(meta: &MetaHint) -> proto::MetaHint {
    // Nodes are at most eleven bytes each and fences are rare, but a hint must not fail: halve what is too much.
    let mut wire = proto::MetaHint {
        prev_index: meta.prev_index.0,
        index: meta.index.0,
        fenced: wire::node_ids_to_wire(&meta.fenced),
        unfenced: wire::node_ids_to_wire(&meta.unfenced),
        topics: meta.topics.iter().copied().map(topic_id_to_wire).collect(),
        more: meta.more,
    };
    while wire.encoded_len() > GOSSIP_BYTES_MAX {
        wire.more = true;
        wire.topics.truncate(wire.topics.len() / 2);
        if wire.topics.is_empty() {
            wire.fenced.truncate(wire.fenced.len() / 2);
            wire.unfenced.truncate(wire.unfenced.len() / 2);
        }
    }
    wire
}

fn meta_from_wire(wire: proto::MetaHint) -> Result<MetaHint, DecodeError> {
    let topics = bounded("topics", wire.topics, HINT_ITEMS_MAX)?;
    Ok(MetaHint {
        prev_index: MetadataIndex(wire.prev_index),
        index: MetadataIndex(wire.index),
        fenced: wire::node_ids("fenced nodes", wire.fenced)?,
        unfenced: wire::node_ids("unfenced nodes", wire.unfenced)?,
        topics: topics.iter().map(|id| topic_id(id)).collect::<Result<_, _>>()?,
        more: wire.more,
    })
}

fn cluster_to_wire(hint: &ClusterHint) -> Kind {
    match hint {
        ClusterHint::Join { node, peer_id, addresses } => Kind::Join(proto::MemberJoined {
            node: node.0,
            peer_id: peer_id.clone(),
            addresses: addresses.iter().take(NODE_ADDRESSES_MAX).cloned().collect(),
        }),
        ClusterHint::Drain(node) => Kind::Drain(node.0),
        ClusterHint::Suspect(node) => Kind::Suspect(node.0),
        ClusterHint::Version { node, version } => {
            Kind::Version(proto::MemberVersion { node: node.0, version: version.clone() })
        }
    }
}

fn cluster_from_wire(kind: Kind) -> Result<ClusterHint, DecodeError> {
    Ok(match kind {
        Kind::Join(join) => ClusterHint::Join {
            node: NodeId(join.node),
            peer_id: text("peer id", join.peer_id, LABEL_BYTES_MAX)?,
            addresses: addresses(join.addresses)?,
        },
        Kind::Drain(node) => ClusterHint::Drain(NodeId(node)),
        Kind::Suspect(node) => ClusterHint::Suspect(NodeId(node)),
        Kind::Version(version) => ClusterHint::Version {
            node: NodeId(version.node),
            version: text("version", version.version, LABEL_BYTES_MAX)?,
        },
    })
}
