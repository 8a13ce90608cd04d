//! Every message of the group protocol survives its frame, and no bytes make its decoders panic.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rafka_broker::group::request::{
    Caller, ClassicDescription, ClassicMember, Commit, CommittedOffset, ConsumerDescription, ConsumerHeartbeat,
    ConsumerHeartbeatReply, ConsumerMember, Coordinator, ForgetOffsets, GroupDescription, GroupKind, GroupReply,
    GroupRequest, GroupState, Heartbeat, Join, JoinReply, Joined, JoinedMember, Leave, Leaving, Left, Listed,
    OffsetToCommit, OffsetsAsked, Protocol as Assigning, Sync, SyncReply, TopicPartitions,
};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{
    GROUP_REPLY_ITEMS_MAX, GROUP_REQUEST_ITEMS_MAX, GROUP_STRING_BYTES_MAX, TOPIC_PARTITIONS_MAX,
};
use rafka_model::{NodeId, PartitionId, TopicId};
use rafka_protocols::group::{Reply, Request, decode_reply, decode_request, encode_reply, encode_request};
use rafka_protocols::{DecodeError, Frame, Protocol, wire};

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9.:é-]{0,20}"
}

fn maybe() -> impl Strategy<Value = Option<String>> {
    option::of(word())
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..30).prop_map(Bytes::from)
}

fn partitions() -> impl Strategy<Value = Vec<PartitionId>> {
    vec(any::<u32>().prop_map(PartitionId), 0..4)
}

fn topics() -> impl Strategy<Value = Vec<TopicPartitions>> {
    let topic = (any::<[u8; 16]>(), partitions());
    vec(topic.prop_map(|(id, partitions)| TopicPartitions { topic: TopicId(id), partitions }), 0..4)
}

fn caller() -> impl Strategy<Value = Caller> {
    (word(), word()).prop_map(|(client_id, client_host)| Caller { client_id, client_host })
}

fn join() -> impl Strategy<Value = Join> {
    let protocol = (word(), blob()).prop_map(|(name, metadata)| Assigning { name, metadata });
    let texts = (word(), word(), maybe(), word(), maybe());
    (texts, any::<(i32, i32, bool, bool)>(), vec(protocol, 0..4), caller()).prop_map(
        |((group, member_id, instance_id, protocol_type, reason), numbers, protocols, caller)| Join {
            group,
            member_id,
            instance_id,
            session_timeout_ms: numbers.0,
            rebalance_timeout_ms: numbers.1,
            protocol_type,
            protocols,
            requires_member_id: numbers.2,
            can_skip_assignment: numbers.3,
            reason,
            caller,
        },
    )
}

fn sync() -> impl Strategy<Value = Sync> {
    let texts = (word(), word(), maybe(), maybe(), maybe());
    (texts, any::<i32>(), vec((word(), blob()), 0..4)).prop_map(
        |((group, member_id, instance_id, protocol_type, protocol), generation, assignments)| Sync {
            group,
            generation,
            member_id,
            instance_id,
            protocol_type,
            protocol,
            assignments,
        },
    )
}

fn consumer_heartbeat() -> impl Strategy<Value = ConsumerHeartbeat> {
    let texts = (word(), word(), maybe(), maybe(), maybe(), maybe());
    (texts, any::<[i32; 2]>(), option::of(vec(word(), 0..4)), option::of(topics()), caller()).prop_map(
        |(texts, [member_epoch, rebalance_timeout_ms], subscribed_topics, owned, caller)| ConsumerHeartbeat {
            group: texts.0,
            member_id: texts.1,
            member_epoch,
            instance_id: texts.2,
            rack_id: texts.3,
            rebalance_timeout_ms,
            subscribed_topics,
            subscribed_regex: texts.4,
            server_assignor: texts.5,
            owned,
            caller,
        },
    )
}

fn commit() -> impl Strategy<Value = Commit> {
    let offset = (word(), option::of(any::<[u8; 16]>()), any::<(u32, i64, i32)>(), word()).prop_map(
        |(topic, id, (partition, offset, leader_epoch), metadata)| OffsetToCommit {
            topic,
            topic_id: id.map(TopicId),
            partition: PartitionId(partition),
            offset,
            leader_epoch,
            metadata,
        },
    );
    (word(), any::<i32>(), word(), maybe(), any::<Option<u64>>(), vec(offset, 0..4)).prop_map(
        |(group, generation, member_id, instance_id, retention_ms, offsets)| Commit {
            group,
            generation,
            member_id,
            instance_id,
            retention_ms,
            offsets,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let leaving = (word(), maybe(), maybe()).prop_map(|(member_id, instance_id, reason)| Leaving {
        member_id,
        instance_id,
        reason,
    });
    let asked = (word(), maybe(), any::<(i32, bool)>(), option::of(vec((word(), partitions()), 0..4))).prop_map(
        |(group, member_id, (member_epoch, require_stable), topics)| OffsetsAsked {
            group,
            member_id,
            member_epoch,
            require_stable,
            topics,
        },
    );
    let named = vec((word(), any::<u32>().prop_map(PartitionId)), 0..4);
    let group = prop_oneof![
        join().prop_map(GroupRequest::Join),
        sync().prop_map(GroupRequest::Sync),
        (word(), any::<i32>(), word(), maybe()).prop_map(|(group, generation, member_id, instance_id)| {
            GroupRequest::Heartbeat(Heartbeat { group, generation, member_id, instance_id })
        }),
        (word(), vec(leaving, 0..4)).prop_map(|(group, members)| GroupRequest::Leave(Leave { group, members })),
        consumer_heartbeat().prop_map(GroupRequest::ConsumerHeartbeat),
        commit().prop_map(GroupRequest::Commit),
        asked.prop_map(GroupRequest::Offsets),
        (word(), named)
            .prop_map(|(group, partitions)| GroupRequest::ForgetOffsets(ForgetOffsets { group, partitions })),
        word().prop_map(|group| GroupRequest::Describe { group }),
        word().prop_map(|group| GroupRequest::Delete { group }),
    ];
    prop_oneof![
        8 => group.prop_map(Request::Group),
        1 => Just(Request::List),
        1 => word().prop_map(|group| Request::Coordinator { group }),
    ]
}

fn code() -> impl Strategy<Value = ErrorCode> {
    prop::sample::select(ErrorCode::ALL)
}

fn results() -> impl Strategy<Value = Vec<Result<(), ErrorCode>>> {
    vec(prop_oneof![Just(Ok(())), code().prop_map(Err)], 0..5)
}

fn state() -> impl Strategy<Value = GroupState> {
    use GroupState::{Assigning, CompletingRebalance, Dead, Empty, PreparingRebalance, Reconciling, Stable};
    prop::sample::select(vec![Empty, PreparingRebalance, CompletingRebalance, Assigning, Reconciling, Stable, Dead])
}

fn joined() -> impl Strategy<Value = Joined> {
    let member = (word(), maybe(), blob()).prop_map(|(member_id, instance_id, metadata)| JoinedMember {
        member_id,
        instance_id,
        metadata,
    });
    (any::<(i32, bool)>(), word(), word(), word(), word(), vec(member, 0..4)).prop_map(
        |((generation, skip_assignment), protocol_type, protocol, leader, member_id, members)| Joined {
            generation,
            protocol_type,
            protocol,
            leader,
            skip_assignment,
            member_id,
            members,
        },
    )
}

fn classic() -> impl Strategy<Value = ClassicDescription> {
    let member = (word(), maybe(), caller(), blob(), blob()).prop_map(
        |(member_id, instance_id, caller, metadata, assignment)| ClassicMember {
            member_id,
            instance_id,
            caller,
            metadata,
            assignment,
        },
    );
    (word(), state(), word(), word(), vec(member, 0..4)).prop_map(|(group, state, protocol_type, protocol, members)| {
        ClassicDescription { group, state, protocol_type, protocol, members }
    })
}

fn consumer() -> impl Strategy<Value = ConsumerDescription> {
    let texts = (word(), maybe(), maybe(), word(), vec(word(), 0..4));
    let member = (texts, any::<(i32, bool)>(), caller(), topics(), topics()).prop_map(
        |(
            (member_id, instance_id, rack_id, subscribed_regex, subscribed_topics),
            numbers,
            caller,
            assignment,
            target,
        )| {
            ConsumerMember {
                member_id,
                instance_id,
                rack_id,
                member_epoch: numbers.0,
                caller,
                subscribed_topics,
                subscribed_regex,
                assignment,
                target,
                is_classic: numbers.1,
            }
        },
    );
    (word(), state(), any::<[i32; 2]>(), word(), vec(member, 0..4)).prop_map(
        |(group, state, [group_epoch, assignment_epoch], assignor, members)| ConsumerDescription {
            group,
            state,
            group_epoch,
            assignment_epoch,
            assignor,
            members,
        },
    )
}

fn group_reply() -> impl Strategy<Value = GroupReply> {
    let left = (word(), maybe(), prop_oneof![Just(Ok(())), code().prop_map(Err)])
        .prop_map(|(member_id, instance_id, result)| Left { member_id, instance_id, result });
    let alive = (word(), any::<[i32; 2]>(), option::of(topics())).prop_map(
        |(member_id, [member_epoch, heartbeat_interval_ms], assignment)| ConsumerHeartbeatReply {
            member_id,
            member_epoch,
            heartbeat_interval_ms,
            assignment,
        },
    );
    let stored = (word(), option::of(any::<[u8; 16]>()), any::<(u32, i64, i32)>(), word(), option::of(code()))
        .prop_map(|(topic, id, (partition, offset, leader_epoch), metadata, error)| CommittedOffset {
            topic,
            topic_id: id.map(TopicId),
            partition: PartitionId(partition),
            offset,
            leader_epoch,
            metadata,
            error,
        });
    prop_oneof![
        joined().prop_map(|joined| GroupReply::Join(JoinReply::Joined(joined))),
        word().prop_map(|id| GroupReply::Join(JoinReply::TakeMemberId(id))),
        (word(), word(), blob()).prop_map(|(protocol_type, protocol, assignment)| {
            GroupReply::Sync(SyncReply { protocol_type, protocol, assignment })
        }),
        Just(GroupReply::Heartbeat),
        vec(left, 0..4).prop_map(GroupReply::Leave),
        alive.prop_map(GroupReply::ConsumerHeartbeat),
        results().prop_map(GroupReply::Commit),
        vec(stored, 0..4).prop_map(GroupReply::Offsets),
        results().prop_map(GroupReply::ForgetOffsets),
        classic().prop_map(|group| GroupReply::Describe(GroupDescription::Classic(group))),
        consumer().prop_map(|group| GroupReply::Describe(GroupDescription::Consumer(group))),
        Just(GroupReply::Delete),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let kind = prop_oneof![Just(GroupKind::Classic), Just(GroupKind::Consumer)];
    let listed = (word(), word(), state(), kind).prop_map(|(group, protocol_type, state, kind)| Listed {
        group,
        protocol_type,
        state,
        kind,
    });
    let coordinator = (any::<u64>(), 0..TOPIC_PARTITIONS_MAX)
        .prop_map(|(node, partition)| Coordinator { node: NodeId(node), partition: PartitionId(partition) });
    prop_oneof![
        8 => group_reply().prop_map(Reply::Group),
        1 => vec(listed, 0..4).prop_map(Reply::List),
        1 => coordinator.prop_map(Reply::Coordinator),
    ]
}

fn decode_both(frame: &Frame) {
    let _ = (decode_request(frame), decode_reply(frame));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn requests_survive(request in request()) {
        prop_assert_eq!(decode_request(&encode_request(&request)), Ok(request));
    }

    #[test]
    fn replies_survive(reply in reply()) {
        prop_assert_eq!(decode_reply(&encode_reply(&Ok(reply.clone()))), Ok(Ok(reply)));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(header in vec(any::<u8>(), 0..20), body in vec(any::<u8>(), 0..200)) {
        decode_both(&Frame::new(header.into(), body.into()));
    }

    #[test]
    fn no_flipped_bits_make_a_decoder_panic(
        frame in prop_oneof![
            request().prop_map(|request| encode_request(&request)),
            reply().prop_map(|reply| encode_reply(&Ok(reply))),
        ],
        flips in vec(any::<prop::sample::Index>(), 1..5),
    ) {
        let mut body = frame.body().to_vec();
        for flip in flips {
            let bit = flip.index(body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
        }
        decode_both(&Frame::new(frame.header().clone(), body.into()));
    }
}

#[test]
fn a_refusal_is_a_reply() {
    let failure = Failure::new(ErrorCode::NotCoordinator, "node 2 coordinates the group");
    assert_eq!(decode_reply(&wire::encode_failure(&failure)), Ok(Err(failure)));
}

#[test]
fn counts_over_the_limits_are_refused_at_every_depth() {
    let empty = TopicPartitions { topic: TopicId([0; 16]), partitions: Vec::new() };
    let heartbeat =
        ConsumerHeartbeat { owned: Some(vec![empty; GROUP_REQUEST_ITEMS_MAX]), ..ConsumerHeartbeat::default() };
    let frame = encode_request(&Request::Group(GroupRequest::ConsumerHeartbeat(heartbeat)));
    assert!(matches!(decode_request(&frame), Err(DecodeError::TooMany { .. })));
    let asked =
        OffsetsAsked { topics: Some(vec![(String::new(), Vec::new()); GROUP_REQUEST_ITEMS_MAX]), ..Default::default() };
    let frame = encode_request(&Request::Group(GroupRequest::Offsets(asked)));
    assert!(matches!(decode_request(&frame), Err(DecodeError::TooMany { .. })));
    let member = ConsumerMember {
        subscribed_topics: vec![String::new(); GROUP_REPLY_ITEMS_MAX / 2],
        ..ConsumerMember::default()
    };
    let group = ConsumerDescription {
        group: String::new(),
        state: GroupState::Stable,
        group_epoch: 1,
        assignment_epoch: 1,
        assignor: String::new(),
        members: vec![member; 2],
    };
    let described = Reply::Group(GroupReply::Describe(GroupDescription::Consumer(group)));
    assert!(matches!(decode_reply(&encode_reply(&Ok(described))), Err(DecodeError::TooMany { .. })));
}

#[test]
fn texts_over_the_limits_are_refused() {
    let group = "g".repeat(GROUP_STRING_BYTES_MAX + 1);
    let error = decode_request(&encode_request(&Request::Coordinator { group })).expect_err("too long");
    assert!(matches!(error, DecodeError::TooLong { what: "group", .. }), "{error}");
}

#[test]
fn a_rebalance_of_thousands_fits() {
    let assignments = (0..5000).map(|i| (format!("member-{i:032}"), Bytes::from(vec![7; 1024]))).collect();
    let frame = encode_request(&Request::Group(GroupRequest::Sync(Sync { assignments, ..Sync::default() })));
    assert_eq!(frame.check(Protocol::Group.request_caps()), Ok(()));
    assert!(decode_request(&frame).is_ok());
}

#[test]
fn an_error_of_a_newer_node_stays_an_error() {
    // Field 7 (committed), packed errors: 9999 (zigzag 19998).
    let body = Bytes::from_static(&[0x3a, 5, 0x0a, 3, 0x9e, 0x9c, 0x01]);
    let reply = decode_reply(&Frame::new(Bytes::new(), body)).expect("a reply").expect("no refusal");
    assert_eq!(reply, Reply::Group(GroupReply::Commit(vec![Err(ErrorCode::Unknown)])));
}
