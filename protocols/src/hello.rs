//! `/rafka/hello/1`: what a stranger may learn: which cluster this is, and whom else to ask.
//!
//! The one protocol without a cluster id. A joiner speaks it on a swarm of its own and builds its full swarm from the
//! answer; a founder speaks it to find out that nobody has a cluster yet.

use libp2p::{Multiaddr, PeerId};
use prost::Message;
use rafka_model::ClusterId;
use rafka_model::limits::{HELLO_HEADER_BYTES_MAX, HELLO_MEMBERS_MAX, LABEL_BYTES_MAX};

use crate::Frame;
use crate::proto;
use crate::wire::{
    self, Answer, DecodeError, addresses, bounded, failure_from_wire, fixed, fixed_bytes, header_only, no_body,
    optional_text, text,
};

/// What a node says of itself and its cluster to anyone who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// The cluster that this node belongs to, if any.
    pub cluster: Option<ClusterKey>,
    /// Some members, voters first; at most [`HELLO_MEMBERS_MAX`].
    pub members: Vec<Member>,
    /// Peer id of the node that this one would let found a cluster.
    pub nominee: Option<String>,
    /// Program version.
    pub version: String,
    /// What a joiner needs.
    pub admission: Admission,
}

/// A cluster's identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClusterKey {
    /// Hash of the key.
    pub id: ClusterId,
    /// Public half of the cluster key (Ed25519).
    pub public_key: [u8; 32],
}

/// A node that can be dialled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Member {
    /// Peer id, as text.
    pub peer_id: String,
    /// Multiaddrs, as text.
    pub addresses: Vec<String>,
    /// It votes in the metadata quorum.
    pub voter: bool,
}

/// What a joiner must show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Nothing: the cluster lives on loopback, or was told to be open.
    Open,
    /// Proof that it knows the join token.
    Token,
}

impl ClusterKey {
    /// The identity that goes with a public key.
    #[must_use]
    pub fn new(public_key: [u8; 32]) -> Self {
        Self { id: ClusterId::of_public_key(&public_key), public_key }
    }
}

impl Member {
    /// The peer id, if the text is one.
    #[must_use]
    pub fn peer(&self) -> Option<PeerId> {
        self.peer_id.parse().ok()
    }

    /// The addresses that this version understands.
    #[must_use]
    pub fn multiaddrs(&self) -> Vec<Multiaddr> {
        self.addresses.iter().filter_map(|address| address.parse().ok()).collect()
    }
}

/// Encodes a request.
#[must_use]
pub fn encode_request() -> Frame {
    header_only(&proto::HelloRequest {})
}

/// Decodes a request.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_request(frame: &Frame) -> Result<(), DecodeError> {
    no_body(frame)?;
    let _: proto::HelloRequest = wire::decode(frame.header(), "fields of a hello", 8, &[])?;
    Ok(())
}

/// Encodes a reply; the last members are left out until it fits.
#[must_use]
pub fn encode_reply(reply: &Answer<Hello>) -> Frame {
    let hello = match reply {
        Ok(hello) => hello,
        Err(failure) => return wire::encode_failure(failure),
    };
    let mut wire = proto::HelloReply {
        cluster_id: hello.cluster.map(|cluster| fixed_bytes(&cluster.id.0)),
        public_key: hello.cluster.map(|cluster| fixed_bytes(&cluster.public_key)),
        members: hello.members.iter().take(HELLO_MEMBERS_MAX).map(member_to_wire).collect(),
        nominee: hello.nominee.clone(),
        version: hello.version.clone(),
        admission: match hello.admission {
            Admission::Open => 1,
            Admission::Token => 2,
        },
        failure: None,
    };
    while wire.encoded_len() > HELLO_HEADER_BYTES_MAX && wire.members.pop().is_some() {}
    header_only(&wire)
}

/// Decodes a reply.
///
/// # Errors
/// [`DecodeError`]; also when the cluster id is not that of the key.
pub fn decode_reply(frame: &Frame) -> Result<Answer<Hello>, DecodeError> {
    no_body(frame)?;
    let wire: proto::HelloReply = wire::decode(frame.header(), "fields of a hello", HELLO_MEMBERS_MAX + 16, &[])?;
    if let Some(failure) = wire.failure {
        return Ok(Err(failure_from_wire(failure)?));
    }
    let cluster = match (wire.cluster_id, wire.public_key) {
        (Some(id), Some(key)) => {
            let cluster = ClusterKey::new(fixed("public key", &key)?);
            if fixed("cluster id", &id).map(ClusterId)? != cluster.id {
                return Err(DecodeError::Invalid { what: "cluster id", found: "not the hash of the key".to_owned() });
            }
            Some(cluster)
        }
        (None, None) => None,
        _ => return Err(DecodeError::Missing("cluster id and key")),
    };
    let members = bounded("members", wire.members, HELLO_MEMBERS_MAX)?;
    Ok(Ok(Hello {
        cluster,
        members: members.into_iter().map(member_from_wire).collect::<Result<_, _>>()?,
        nominee: optional_text("nominee", wire.nominee, LABEL_BYTES_MAX)?,
        version: text("version", wire.version, LABEL_BYTES_MAX)?,
        admission: match wire.admission {
            1 => Admission::Open,
            2 => Admission::Token,
            _ => return Err(DecodeError::Missing("admission")),
        },
    }))
}

fn member_to_wire(member: &Member) -> proto::Member {
    proto::Member { peer_id: member.peer_id.clone(), addresses: member.addresses.clone(), voter: member.voter }
}

fn member_from_wire(member: proto::Member) -> Result<Member, DecodeError> {
    Ok(Member {
        peer_id: text("peer id", member.peer_id, LABEL_BYTES_MAX)?,
        addresses: addresses(member.addresses)?,
        voter: member.voter,
    })
}
