//! `/rafka/<cid>/register/1`: how peers are admitted, and how members stay.
//!
//! The peer id of the asker is never a field: the Noise channel has proven it.

use std::collections::BTreeMap;

use bytes::Bytes;
use libp2p::PeerId;
use rafka_broker::controller::Registration;
use rafka_broker::metadata::Role;
use rafka_model::limits::{ADDRESS_BYTES_MAX, CERTIFICATE_BYTES_MAX, LABEL_BYTES_MAX, NODE_ADDRESSES_MAX};
use rafka_model::{BootId, BrokerEpoch, DirectoryId, MetadataIndex, NodeId};

use crate::Frame;
use crate::proto;
use crate::wire::{
    self, Answer, DecodeError, addresses, blob, bounded, failure_from_wire, fixed, fixed_bytes, header_only, no_body,
    optional_text, role_from_wire, role_to_wire, text,
};

/// What a peer wants of a member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// To become a member, or to come back as one.
    Join {
        /// [`proof`](crate::certificate::proof) of the join token, where one is asked for.
        proof: Option<[u8; 32]>,
        /// What is registered.
        node: Box<Joiner>,
    },
    /// To be known as a member, and to know the other end as one.
    Present {
        /// The asker's node certificate.
        certificate: Bytes,
    },
    /// To be let in as a client.
    PresentClient {
        /// As in `Join`.
        proof: Option<[u8; 32]>,
    },
    /// To say that it lives.
    Heartbeat {
        /// Who.
        node: NodeId,
        /// In which incarnation.
        epoch: BrokerEpoch,
        /// Last metadata entry that it has applied.
        index: MetadataIndex,
    },
    /// To be out of service at once, because it stops.
    Leave {
        /// Who.
        node: NodeId,
        /// In which incarnation.
        epoch: BrokerEpoch,
    },
}

/// A node as it registers itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Joiner {
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
    /// Weight in placement, 1000 is normal.
    pub weight_milli: u32,
    /// Part it plays.
    pub role: Role,
    /// Program version.
    pub version: String,
    /// Largest feature level that the program knows.
    pub features_max: u32,
    /// Its machine went down, and what was not flushed is lost.
    pub unclean: bool,
}

/// The answer to the [`Request`] of the same kind.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Registered.
    Joined {
        /// Its node certificate, to be shown to other members.
        certificate: Bytes,
        /// Its id.
        node: NodeId,
        /// Its incarnation.
        epoch: BrokerEpoch,
        /// The registration is visible from this entry on.
        index: MetadataIndex,
        /// Latest snapshot, when the feed will begin with one.
        snapshot: Option<MetadataIndex>,
    },
    /// Known; here is the answerer's certificate.
    Presented {
        /// Its node certificate.
        certificate: Bytes,
    },
    /// Let in.
    Admitted,
    /// Heard.
    Alive {
        /// The controller has the node out of service.
        fenced: bool,
        /// Last entry that the controller has applied.
        index: MetadataIndex,
    },
    /// Out of service.
    Left,
}

impl Joiner {
    /// What the controller is told, with the peer id that the channel has proven.
    #[must_use]
    pub fn registration(self, peer: &PeerId) -> Registration {
        let Self {
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
            features_max,
            unclean,
        } = self;
        let peer_id = peer.to_string();
        Registration {
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
            features_max,
            unclean,
        }
    }
}

/// Encodes a request.
#[must_use]
pub fn encode_request(request: &Request) -> Frame {
    use proto::register_request::Kind;
    let kind = match request {
        Request::Join { proof, node } => Kind::Join(joiner_to_wire(proof.as_ref(), node)),
        Request::Present { certificate } => Kind::Present(proto::Present { certificate: certificate.clone() }),
        Request::PresentClient { proof } => {
            Kind::PresentClient(proto::PresentClient { proof: proof.as_ref().map(|proof| fixed_bytes(proof)) })
        }
        Request::Heartbeat { node, epoch, index } => {
            Kind::Heartbeat(proto::Heartbeat { node: node.0, epoch: epoch.0, index: index.0 })
        }
        Request::Leave { node, epoch } => Kind::Leave(proto::Leave { node: node.0, epoch: epoch.0 }),
    };
    header_only(&proto::RegisterRequest { kind: Some(kind) })
}

/// Decodes a request.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_request(frame: &Frame) -> Result<Request, DecodeError> {
    use proto::register_request::Kind;
    no_body(frame)?;
    let wire: proto::RegisterRequest = wire::decode(frame.header(), "fields of a registration", 128, &[1])?;
    Ok(match wire.kind.ok_or(DecodeError::Missing("kind of registration"))? {
        Kind::Join(join) => joiner_from_wire(join)?,
        Kind::Present(present) => Request::Present { certificate: certificate(present.certificate)? },
        Kind::PresentClient(client) => Request::PresentClient { proof: proof(client.proof)? },
        Kind::Heartbeat(beat) => Request::Heartbeat {
            node: NodeId(beat.node),
            epoch: BrokerEpoch(beat.epoch),
            index: MetadataIndex(beat.index),
        },
        Kind::Leave(leave) => Request::Leave { node: NodeId(leave.node), epoch: BrokerEpoch(leave.epoch) },
    })
}

/// Encodes a reply.
#[must_use]
pub fn encode_reply(reply: &Answer<Reply>) -> Frame {
    use proto::register_reply::Kind;
    let kind = match reply {
        Err(failure) => return wire::encode_failure(failure),
        Ok(Reply::Joined { certificate, node, epoch, index, snapshot }) => Kind::Joined(proto::Joined {
            certificate: certificate.clone(),
            node: node.0,
            epoch: epoch.0,
            index: index.0,
            snapshot: snapshot.map(|index| index.0),
        }),
        Ok(Reply::Presented { certificate }) => Kind::Presented(proto::Present { certificate: certificate.clone() }),
        Ok(Reply::Admitted) => Kind::Admitted(proto::Admitted {}),
        Ok(Reply::Alive { fenced, index }) => Kind::Alive(proto::Alive { fenced: *fenced, index: index.0 }),
        Ok(Reply::Left) => Kind::Left(proto::Left {}),
    };
    header_only(&proto::RegisterReply { kind: Some(kind), failure: None })
}

/// Decodes a reply.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_reply(frame: &Frame) -> Result<Answer<Reply>, DecodeError> {
    use proto::register_reply::Kind;
    no_body(frame)?;
    let wire: proto::RegisterReply = wire::decode(frame.header(), "fields of a registration", 16, &[])?;
    if let Some(failure) = wire.failure {
        return Ok(Err(failure_from_wire(failure)?));
    }
    Ok(Ok(match wire.kind.ok_or(DecodeError::Missing("kind of registration"))? {
        Kind::Joined(joined) => Reply::Joined {
            certificate: certificate(joined.certificate)?,
            node: NodeId(joined.node),
            epoch: BrokerEpoch(joined.epoch),
            index: MetadataIndex(joined.index),
            snapshot: joined.snapshot.map(MetadataIndex),
        },
        Kind::Presented(present) => Reply::Presented { certificate: certificate(present.certificate)? },
        Kind::Admitted(_) => Reply::Admitted,
        Kind::Alive(alive) => Reply::Alive { fenced: alive.fenced, index: MetadataIndex(alive.index) },
        Kind::Left(_) => Reply::Left,
    }))
}

fn joiner_to_wire(proof: Option<&[u8; 32]>, node: &Joiner) -> proto::Join {
    let listener =
        |(name, address): (&String, &String)| proto::Listener { name: name.clone(), address: address.clone() };
    proto::Join {
        proof: proof.map(|proof| fixed_bytes(proof)),
        directory: fixed_bytes(&node.directory.0),
        boot: fixed_bytes(&node.boot.0),
        incarnation: fixed_bytes(&node.incarnation),
        addresses: node.addresses.clone(),
        lanes: node.lanes.clone(),
        kafka: node.kafka.iter().map(listener).collect(),
        ops: node.ops.clone(),
        rack: node.rack.clone(),
        weight_milli: node.weight_milli,
        role: role_to_wire(node.role),
        version: node.version.clone(),
        features_max: node.features_max,
        unclean: node.unclean,
    }
}

fn joiner_from_wire(join: proto::Join) -> Result<Request, DecodeError> {
    let mut kafka = BTreeMap::new();
    for listener in bounded("Kafka listeners", join.kafka, NODE_ADDRESSES_MAX)? {
        let name = text("listener name", listener.name, LABEL_BYTES_MAX)?;
        kafka.insert(name, text("listener address", listener.address, ADDRESS_BYTES_MAX)?);
    }
    let node = Joiner {
        directory: DirectoryId(fixed("directory id", &join.directory)?),
        boot: BootId(fixed("boot id", &join.boot)?),
        incarnation: fixed("incarnation", &join.incarnation)?,
        addresses: addresses(join.addresses)?,
        lanes: addresses(join.lanes)?,
        kafka,
        ops: optional_text("ops address", join.ops, ADDRESS_BYTES_MAX)?,
        rack: optional_text("rack", join.rack, LABEL_BYTES_MAX)?,
        weight_milli: join.weight_milli,
        role: role_from_wire(join.role)?,
        version: text("version", join.version, LABEL_BYTES_MAX)?,
        features_max: join.features_max.max(1),
        unclean: join.unclean,
    };
    Ok(Request::Join { proof: proof(join.proof)?, node: Box::new(node) })
}

fn proof(bytes: Option<Bytes>) -> Result<Option<[u8; 32]>, DecodeError> {
    bytes.map(|bytes| fixed("proof", &bytes)).transpose()
}

fn certificate(bytes: Bytes) -> Result<Bytes, DecodeError> {
    blob("certificate", bytes, CERTIFICATE_BYTES_MAX)
}
