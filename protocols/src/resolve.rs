//! `/rafka/<cid>/resolve/1`: signed records straight from a member's image, for who does not find them in the DHT.

use bytes::Bytes;
use rafka_broker::Failure;
use rafka_model::limits::{DHT_RECORD_BYTES_MAX, RESOLVE_SUBJECTS_MAX, TOPIC_PARTITIONS_MAX};
use rafka_model::{NodeId, TopicId, TopicName};

use crate::Frame;
use crate::proto::{self, subject::Kind};
use crate::wire::{
    self, Answer, DecodeError, blob, bounded, failure_from_wire, failure_to_wire, header_only, no_body,
    result_from_wire, topic_id, topic_id_to_wire,
};

/// What a record is wanted of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// The voters of the metadata quorum.
    Quorum,
    /// A topic, by name.
    Topic(TopicName),
    /// The name of a topic, by id.
    TopicId(TopicId),
    /// A shard of a topic's partitions.
    Shard(TopicId, u32),
    /// A node.
    Node(NodeId),
}

/// Records in the order of their subjects, each as bytes of a signed DHT record.
pub type Records = Vec<Result<Bytes, Failure>>;

/// Encodes a request; at most [`RESOLVE_SUBJECTS_MAX`] subjects will be accepted.
#[must_use]
pub fn encode_request(subjects: &[Subject]) -> Frame {
    let subject = |subject: &Subject| proto::Subject {
        kind: Some(match subject {
            Subject::Quorum => Kind::Quorum(proto::Quorum {}),
            Subject::Topic(name) => Kind::Topic(name.to_string()),
            Subject::TopicId(id) => Kind::TopicId(topic_id_to_wire(*id)),
            Subject::Shard(id, shard) => Kind::Shard(proto::Shard { topic_id: topic_id_to_wire(*id), shard: *shard }),
            Subject::Node(id) => Kind::Node(id.0),
        }),
    };
    header_only(&proto::ResolveRequest { subjects: subjects.iter().map(subject).collect() })
}

/// Decodes a request.
///
/// # Errors
/// [`DecodeError`]; also for a name that no topic can have.
pub fn decode_request(frame: &Frame) -> Result<Vec<Subject>, DecodeError> {
    no_body(frame)?;
    let wire: proto::ResolveRequest = wire::decode(frame.header(), "subjects", RESOLVE_SUBJECTS_MAX, &[])?;
    wire.subjects.into_iter().map(subject_from_wire).collect()
}

fn subject_from_wire(subject: proto::Subject) -> Result<Subject, DecodeError> {
    Ok(match subject.kind.ok_or(DecodeError::Missing("kind of subject"))? {
        Kind::Quorum(_) => Subject::Quorum,
        Kind::Topic(name) => Subject::Topic(
            TopicName::new(&name)
                .map_err(|error| DecodeError::Invalid { what: "topic name", found: error.to_string() })?,
        ),
        Kind::TopicId(id) => Subject::TopicId(topic_id(&id)?),
        Kind::Shard(shard) if shard.shard >= TOPIC_PARTITIONS_MAX => {
            return Err(DecodeError::Invalid { what: "shard", found: shard.shard.to_string() });
        }
        Kind::Shard(shard) => Subject::Shard(topic_id(&shard.topic_id)?, shard.shard),
        Kind::Node(id) => Subject::Node(NodeId(id)),
    })
}

/// Encodes a reply.
#[must_use]
pub fn encode_reply(reply: &Answer<Records>) -> Frame {
    let records = match reply {
        Ok(records) => records,
        Err(failure) => return wire::encode_failure(failure),
    };
    let resolved = |record: &Result<Bytes, Failure>| match record {
        Ok(record) => proto::Resolved { record: record.clone(), failure: None },
        Err(failure) => proto::Resolved { record: Bytes::new(), failure: Some(failure_to_wire(failure)) },
    };
    header_only(&proto::ResolveReply { resolved: records.iter().map(resolved).collect(), failure: None })
}

/// Decodes a reply to a request for as many `subjects`.
///
/// # Errors
/// [`DecodeError`]; also when there are more or fewer records than subjects.
pub fn decode_reply(frame: &Frame, subjects: usize) -> Result<Answer<Records>, DecodeError> {
    no_body(frame)?;
    let wire: proto::ResolveReply = wire::decode(frame.header(), "records", RESOLVE_SUBJECTS_MAX + 8, &[])?;
    if let Some(failure) = wire.failure {
        return Ok(Err(failure_from_wire(failure)?));
    }
    if wire.resolved.len() != subjects {
        let found = format!("{} for {subjects} subjects", wire.resolved.len());
        return Err(DecodeError::Invalid { what: "number of records", found });
    }
    let record = |resolved: proto::Resolved| {
        result_from_wire(resolved.failure, || blob("record", resolved.record, DHT_RECORD_BYTES_MAX))
    };
    let resolved = bounded("records", wire.resolved, RESOLVE_SUBJECTS_MAX)?;
    resolved.into_iter().map(record).collect::<Result<_, _>>().map(Ok)
}
