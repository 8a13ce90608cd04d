//! What the controller is asked, and what it answers.

use std::collections::BTreeMap;

use rafka_model::limits::{ADDRESS_BYTES_MAX, LABEL_BYTES_MAX, NODE_ADDRESSES_MAX};
use rafka_model::{BootId, BrokerEpoch, DirectoryId, MetadataIndex, NodeId};

use crate::metadata::{Node, Role};
use crate::request::{Admin, AdminReply};
use crate::{ErrorCode, Failure};

/// A request for a change of metadata.
#[derive(Clone, Debug)]
pub enum Command {
    /// Found the cluster; its founder becomes node 1 and the first voter.
    Found {
        /// Ed25519 public half of the cluster key.
        public_key: [u8; 32],
        /// blake3 of the join token; `None` admits anyone (on loopback).
        join_token_hash: Option<[u8; 32]>,
        /// Version of the cluster's behaviour.
        feature_level: u32,
        /// The founder itself.
        founder: Registration,
    },
    /// A node joins or comes back; it was admitted by the door.
    Register(Registration),
    /// A node stops: its partitions move now, not when its session ends.
    Leave {
        /// Which node.
        node: NodeId,
        /// Its registration; an older one is refused.
        epoch: BrokerEpoch,
    },
    /// A change of topics.
    Admin {
        /// What to change.
        request: Admin,
        /// Fresh random bytes: the ids of new topics are derived from them.
        seed: [u8; 32],
    },
}

/// What a node says of itself when it registers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    /// libp2p peer id, as text; the door has checked that the sender owns it.
    pub peer_id: String,
    /// Its data directory.
    pub directory: DirectoryId,
    /// Boot of its machine.
    pub boot: BootId,
    /// Random for each start of the process.
    pub incarnation: [u8; 16],
    /// Mesh addresses, multiaddrs as text, without `/p2p`.
    pub addresses: Vec<String>,
    /// Addresses of its lanes, multiaddrs as text, without `/p2p`; none if it has no lanes.
    pub lanes: Vec<String>,
    /// Kafka endpoints by listener name: `host:port`.
    pub kafka: BTreeMap<String, String>,
    /// Address of its ops HTTP.
    pub ops: Option<String>,
    /// Failure domain.
    pub rack: Option<String>,
    /// Weight in placement, 1000 is normal; 0 takes nothing new.
    pub weight_milli: u32,
    /// Part it plays.
    pub role: Role,
    /// Program version.
    pub version: String,
}

/// The outcome of a command, to be released once `index` is applied.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What to answer.
    pub answer: Answer,
    /// The entry whose application makes it true. A refusal has one as well: it may rest on decisions still pending.
    pub index: MetadataIndex,
}

/// An answer to the [`Command`] of the same kind.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Command::Found`] and [`Command::Register`].
    Registered(Registered),
    /// To [`Command::Leave`]; also when the node was out of service already.
    Left,
    /// To [`Command::Admin`].
    Admin(AdminReply),
    /// The command changed nothing.
    Refused(Failure),
}

/// A registration that took place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Registered {
    /// The node's id, for ever.
    pub node: NodeId,
    /// Names this registration; goes into every heartbeat.
    pub epoch: BrokerEpoch,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// The node is still out of service.
    pub fenced: bool,
    /// Index of the last decision: a node behind it has something to pull.
    pub index: MetadataIndex,
}

impl Registration {
    /// Checks what a peer claims against the limits.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] names the field.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let labels = [Some(&self.peer_id), self.rack.as_ref(), Some(&self.version)];
        let long = |text: &String| text.len() > ADDRESS_BYTES_MAX;
        let wrong = if self.peer_id.is_empty() {
            "no peer id".to_owned()
        } else if labels.into_iter().flatten().any(|label| label.len() > LABEL_BYTES_MAX) {
            format!("a peer id, rack or version of more than {LABEL_BYTES_MAX} bytes")
        } else if self.addresses.len().max(self.lanes.len()) > NODE_ADDRESSES_MAX
            || self.kafka.len() > NODE_ADDRESSES_MAX
        {
            format!("more than {NODE_ADDRESSES_MAX} mesh or lane addresses or Kafka listeners")
        } else if self.addresses.iter().chain(&self.lanes).chain(&self.ops).any(long)
            || self.kafka.iter().any(|(name, address)| name.len() > LABEL_BYTES_MAX || long(address))
        {
            format!("an address of more than {ADDRESS_BYTES_MAX} bytes")
        } else {
            return Ok(());
        };
        Err(Failure::new(ErrorCode::InvalidRequest, format!("registration has {wrong}")))
    }

    /// The node of this registration, out of service.
    pub(super) fn node(&self, id: NodeId, epoch: BrokerEpoch) -> Node {
        let Self {
            peer_id,
            directory,
            boot,
            incarnation,
            addresses,
            lanes,
            kafka,
            ops,
            rack,
            weight_milli,
            role,
            version,
        } = self.clone();
        let fenced = true;
        Node {
            id,
            peer_id,
            directory,
            epoch,
            boot,
            incarnation,
            addresses,
            lanes,
            kafka,
            ops,
            rack,
            weight_milli,
            role,
            version,
            fenced,
            draining: false,
        }
    }
}
