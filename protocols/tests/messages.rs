//! Every message survives its frame, and no bytes make a decoder panic.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use rafka_broker::metadata::{Node, PartitionState, Role};
use rafka_broker::request::{
    Acks, ActiveProducer, Admin, AdminReply, ClusterDescription, ConfigChange, DeleteRecords, EpochEnd, EpochEnds,
    Fetch, FetchPartition, Fetched, FoundOffset, ListOffsets, LogDir, NewTopic, OffsetSpec, PartitionReply, Produce,
    ProducePartition, Produced, ProducerIdBlock, TopicDescription, TopicReply,
};
use rafka_broker::{ErrorCode, Failure, LeaderHint};
use rafka_model::limits::{
    GOSSIP_BYTES_MAX, HELLO_HEADER_BYTES_MAX, LONG_POLL_MS_MAX, NODE_ADDRESSES_MAX, REQUEST_PARTITIONS_MAX,
    TOPIC_PARTITIONS_MAX,
};
use rafka_model::{
    BootId, BrokerEpoch, ClusterId, DirectoryId, LeaderEpoch, MetadataIndex, NodeId, Offset, PartitionEpoch,
    PartitionId, ProducerId, Timestamp, TopicId, TopicName, TopicPartition,
};
use rafka_protocols::gossip::{Channel, ClusterHint, Hint, LoadHint, MetaHint};
use rafka_protocols::hello::{Admission, ClusterKey, Hello, Member};
use rafka_protocols::register::Joiner;
use rafka_protocols::resolve::Subject;
use rafka_protocols::watch::{Content, Feed, View, Watch};
use rafka_protocols::{
    DecodeError, Frame, Protocol, admin, fetch, gossip, hello, produce, register, resolve, watch, wire,
};

/// A frame as its reader gets it: the body in one piece.
fn arrived(frame: &Frame) -> Frame {
    Frame::new(frame.header().clone(), frame.body())
}

/// Types of `broker` do not compare, but they print all that they hold.
fn same<T: std::fmt::Debug>(left: &T, right: &T) -> Result<(), TestCaseError> {
    prop_assert_eq!(format!("{left:?}"), format!("{right:?}"));
    Ok(())
}

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9/.:é-]{0,30}"
}

fn record_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn at() -> impl Strategy<Value = TopicPartition> {
    (any::<[u8; 16]>(), 0..TOPIC_PARTITIONS_MAX)
        .prop_map(|(topic, partition)| TopicPartition { topic: TopicId(topic), partition: PartitionId(partition) })
}

fn epoch() -> impl Strategy<Value = Option<LeaderEpoch>> {
    option::of(any::<i32>().prop_map(LeaderEpoch))
}

fn failure() -> impl Strategy<Value = Failure> {
    let hint = (option::of(any::<u64>()), any::<i32>(), option::of(word()), vec(word(), 0..NODE_ADDRESSES_MAX));
    let hint = hint.prop_map(|(node, epoch, peer_id, addresses)| {
        Box::new(LeaderHint { node: node.map(NodeId), epoch: LeaderEpoch(epoch), peer_id, addresses })
    });
    (prop::sample::select(ErrorCode::ALL), word(), option::of(hint)).prop_map(|(code, message, leader)| Failure {
        code,
        message,
        leader,
    })
}

fn parts<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<PartitionReply<T>>> {
    let result = prop_oneof![3 => value.prop_map(Ok), 1 => failure().prop_map(Err)];
    vec((at(), result).prop_map(|(partition, result)| PartitionReply { partition, result }), 0..5)
}

fn produce_request() -> impl Strategy<Value = Produce> {
    let part = (at(), epoch(), record_bytes());
    let acks = prop_oneof![Just(Acks::None), Just(Acks::Leader), Just(Acks::All)];
    (acks, 0..LONG_POLL_MS_MAX as u32, vec(part, 0..5)).prop_map(|(acks, timeout_ms, parts)| {
        let distinct: BTreeMap<_, _> = parts.into_iter().map(|(at, epoch, records)| (at, (epoch, records))).collect();
        let part = |(partition, (leader_epoch, records))| ProducePartition { partition, leader_epoch, records };
        Produce { acks, timeout_ms, partitions: distinct.into_iter().map(part).collect() }
    })
}

fn fetch_request() -> impl Strategy<Value = fetch::Request> {
    let spec = prop_oneof![
        Just(OffsetSpec::Earliest),
        Just(OffsetSpec::Latest),
        any::<i64>().prop_map(|time| OffsetSpec::At(Timestamp(time))),
        Just(OffsetSpec::MaxTimestamp),
    ];
    let part = (at(), epoch(), any::<i64>(), any::<u32>()).prop_map(|(partition, leader_epoch, offset, max_bytes)| {
        FetchPartition { partition, leader_epoch, offset: Offset(offset), max_bytes }
    });
    let fetch = (0..LONG_POLL_MS_MAX as u32, any::<u32>(), any::<u32>(), vec(part, 0..5)).prop_map(
        |(max_wait_ms, min_bytes, max_bytes, partitions)| Fetch { max_wait_ms, min_bytes, max_bytes, partitions },
    );
    prop_oneof![
        fetch.prop_map(fetch::Request::Fetch),
        vec((at(), epoch(), spec), 0..5).prop_map(|partitions| fetch::Request::ListOffsets(ListOffsets { partitions })),
        vec((at(), option::of(any::<i64>().prop_map(Offset))), 0..5)
            .prop_map(|partitions| fetch::Request::DeleteRecords(DeleteRecords { partitions })),
        vec((at(), epoch(), any::<i32>().prop_map(LeaderEpoch)), 0..5)
            .prop_map(|partitions| fetch::Request::EpochEnds(EpochEnds { partitions })),
        at().prop_map(fetch::Request::Producers),
    ]
}

fn fetch_reply() -> impl Strategy<Value = fetch::Reply> {
    let fetched = (any::<[i64; 3]>(), record_bytes()).prop_map(|([high, stable, start], records)| Fetched {
        high_watermark: Offset(high),
        last_stable_offset: Offset(stable),
        log_start: Offset(start),
        records: records.into(),
    });
    let found = (option::of(any::<i64>()), any::<i64>(), any::<i32>()).prop_map(|(offset, time, epoch)| FoundOffset {
        offset: offset.map(Offset),
        timestamp: Timestamp(time),
        leader_epoch: LeaderEpoch(epoch),
    });
    let end = any::<(i32, i64)>().prop_map(|(epoch, end)| EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) });
    let producer = any::<(i64, i16, i32, i64, Option<i64>)>().prop_map(
        |(id, epoch, last_sequence, last_timestamp, transaction)| ActiveProducer {
            id: ProducerId(id),
            epoch,
            last_sequence,
            last_timestamp,
            transaction_start: transaction.map(Offset),
        },
    );
    prop_oneof![
        parts(fetched).prop_map(fetch::Reply::Fetched),
        parts(found).prop_map(fetch::Reply::Offsets),
        parts(any::<i64>().prop_map(Offset)).prop_map(fetch::Reply::Deleted),
        parts(option::of(end)).prop_map(fetch::Reply::Ends),
        vec(producer, 0..5).prop_map(fetch::Reply::Producers),
    ]
}

fn configs() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(word(), word(), 0..4)
}

fn admin_request() -> impl Strategy<Value = Admin> {
    let topic = (word(), option::of(any::<u32>()), option::of(any::<u16>()), configs(), assignments()).prop_map(
        |(name, partitions, replication_factor, configs, assignments)| NewTopic {
            name,
            partitions,
            replication_factor,
            configs,
            assignments,
        },
    );
    let change = prop_oneof![
        Just(ConfigChange::Reset),
        word().prop_map(ConfigChange::Set),
        word().prop_map(ConfigChange::Append),
        word().prop_map(ConfigChange::Subtract),
    ];
    prop_oneof![
        (vec(topic, 0..4), any::<bool>())
            .prop_map(|(topics, validate_only)| Admin::CreateTopics { topics, validate_only }),
        (vec(word(), 0..4), any::<bool>())
            .prop_map(|(names, validate_only)| Admin::DeleteTopics { names, validate_only }),
        vec(any::<[u8; 16]>().prop_map(TopicId), 0..4).prop_map(|ids| Admin::DeleteTopicsById { ids }),
        (word(), btree_map(word(), change, 0..4), any::<bool>(), any::<bool>()).prop_map(
            |(name, changes, replace, validate_only)| Admin::AlterConfigs { name, changes, replace, validate_only }
        ),
        (word(), any::<u32>(), assignments(), any::<bool>()).prop_map(|(name, total, assignments, validate_only)| {
            Admin::AddPartitions { name, total, assignments, validate_only }
        }),
        (vec(word(), 0..4), any::<u64>())
            .prop_map(|(names, since)| Admin::DescribeTopics { names, since: MetadataIndex(since) }),
        Just(Admin::DescribeCluster),
        Just(Admin::DescribeSwarm),
        Just(Admin::DescribeLogDirs),
        Just(Admin::InitProducerId),
        Just(Admin::AllocateProducerIds),
    ]
}

fn assignments() -> impl Strategy<Value = Vec<Vec<NodeId>>> {
    vec(node_ids(), 0..4)
}

fn node_ids() -> impl Strategy<Value = Vec<NodeId>> {
    vec(any::<u64>().prop_map(NodeId), 0..4)
}

fn topic() -> impl Strategy<Value = TopicDescription> {
    let state = (node_ids(), option::of(any::<u64>()), any::<i32>(), any::<i32>(), node_ids(), node_ids()).prop_map(
        |(replicas, leader, leader_epoch, partition_epoch, isr, elr)| PartitionState {
            replicas,
            leader: leader.map(NodeId),
            leader_epoch: LeaderEpoch(leader_epoch),
            partition_epoch: PartitionEpoch(partition_epoch),
            isr,
            elr,
            ..PartitionState::default()
        },
    );
    let partitions = vec(((0..TOPIC_PARTITIONS_MAX).prop_map(PartitionId), state), 0..4);
    (any::<[u8; 16]>(), "[a-z]{1,20}", configs(), any::<u16>(), partitions).prop_map(
        |(id, name, configs, replication_factor, partitions)| TopicDescription {
            id: TopicId(id),
            name: TopicName::new(&name).expect("legal"),
            configs,
            replication_factor,
            partitions,
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    let ids = any::<(u64, u64, [u8; 16], [u8; 16], [u8; 16])>();
    let lists = (vec(word(), 0..4), vec(word(), 0..4));
    let texts = (word(), lists, configs(), option::of(word()), option::of(word()), word());
    (ids, texts, any::<(u32, bool, bool)>()).prop_map(
        |(
            (id, epoch, directory, boot, incarnation),
            (peer_id, (addresses, lanes), kafka, ops, rack, version),
            flags,
        )| Node {
            id: NodeId(id),
            peer_id,
            directory: DirectoryId(directory),
            epoch: BrokerEpoch(epoch),
            boot: BootId(boot),
            incarnation,
            addresses,
            lanes,
            kafka,
            ops,
            rack,
            weight_milli: flags.0,
            role: if flags.1 { Role::Broker } else { Role::Gateway },
            version,
            fenced: flags.2,
            draining: !flags.2,
            features_max: flags.0.max(1),
        },
    )
}

fn admin_reply() -> impl Strategy<Value = AdminReply> {
    let topic_reply =
        (word(), topic(), any::<u64>(), option::of(failure())).prop_map(|(name, topic, index, failure)| TopicReply {
            name,
            result: failure.map_or(Ok((topic, MetadataIndex(index))), Err),
        });
    let described = prop_oneof![topic().prop_map(Ok), failure().prop_map(Err)];
    let cluster = (any::<[u8; 32]>(), option::of(any::<u64>()), node_ids(), vec(node(), 0..3), any::<[u64; 2]>());
    let cluster = (cluster, any::<[u32; 4]>(), node_ids()).prop_map(
        |((id, controller, voters, nodes, [answered_by, index]), counts, unreachable)| ClusterDescription {
            cluster_id: ClusterId(id),
            controller: controller.map(NodeId),
            voters,
            nodes,
            answered_by: NodeId(answered_by),
            index: MetadataIndex(index),
            topics: counts[0],
            partitions: counts[1],
            offline_partitions: counts[2],
            under_replicated: counts[3],
            unreachable,
        },
    );
    prop_oneof![
        vec(topic_reply, 0..4).prop_map(AdminReply::Topics),
        vec(described, 0..4).prop_map(AdminReply::Described),
        cluster.prop_map(|cluster| AdminReply::Cluster(Box::new(cluster))),
        vec(log_dir(), 0..4).prop_map(AdminReply::LogDirs),
        (0..=i64::MAX).prop_map(|id| AdminReply::Producer(ProducerId(id))),
        (0..1_000_000i64, 1u32..).prop_map(|(first, count)| {
            AdminReply::ProducerIds(ProducerIdBlock { first: ProducerId(first), count })
        }),
    ]
}

fn log_dir() -> impl Strategy<Value = LogDir> {
    let log = (any::<[u8; 16]>(), 0..TOPIC_PARTITIONS_MAX, any::<u64>());
    let log = log.prop_map(|(topic, partition, bytes)| {
        (TopicPartition { topic: TopicId(topic), partition: PartitionId(partition) }, bytes)
    });
    (word(), option::of(failure()), any::<[u64; 2]>(), vec(log, 0..4)).prop_map(
        |(path, failure, [total_bytes, usable_bytes], partitions)| LogDir {
            path,
            failure,
            total_bytes,
            usable_bytes,
            partitions,
        },
    )
}

fn joiner() -> impl Strategy<Value = Joiner> {
    node().prop_map(|node| Joiner {
        directory: node.directory,
        boot: node.boot,
        incarnation: node.incarnation,
        addresses: node.addresses,
        lanes: node.lanes,
        kafka: node.kafka,
        ops: node.ops,
        rack: node.rack,
        weight_milli: node.weight_milli,
        role: node.role,
        version: node.version,
        features_max: node.features_max,
        unclean: node.fenced,
    })
}

fn register_request() -> impl Strategy<Value = register::Request> {
    use register::Request;
    let ids = any::<[u64; 3]>();
    prop_oneof![
        (any::<Option<[u8; 32]>>(), joiner()).prop_map(|(proof, node)| Request::Join { proof, node: Box::new(node) }),
        record_bytes().prop_map(|certificate| Request::Present { certificate }),
        any::<Option<[u8; 32]>>().prop_map(|proof| Request::PresentClient { proof }),
        ids.prop_map(|[node, epoch, index]| Request::Heartbeat {
            node: NodeId(node),
            epoch: BrokerEpoch(epoch),
            index: MetadataIndex(index)
        }),
        any::<[u64; 2]>().prop_map(|[node, epoch]| Request::Leave { node: NodeId(node), epoch: BrokerEpoch(epoch) }),
    ]
}

fn register_reply() -> impl Strategy<Value = register::Reply> {
    use register::Reply;
    prop_oneof![
        (record_bytes(), any::<[u64; 3]>(), any::<Option<u64>>()).prop_map(
            |(certificate, [node, epoch, index], snapshot)| Reply::Joined {
                certificate,
                node: NodeId(node),
                epoch: BrokerEpoch(epoch),
                index: MetadataIndex(index),
                snapshot: snapshot.map(MetadataIndex),
            }
        ),
        record_bytes().prop_map(|certificate| Reply::Presented { certificate }),
        Just(Reply::Admitted),
        any::<(bool, u64)>().prop_map(|(fenced, index)| Reply::Alive { fenced, index: MetadataIndex(index) }),
        Just(Reply::Left),
    ]
}

fn hello_reply() -> impl Strategy<Value = Hello> {
    let member = (word(), vec(word(), 0..4), any::<bool>()).prop_map(|(peer_id, addresses, voter)| Member {
        peer_id,
        addresses,
        voter,
    });
    (option::of(any::<[u8; 32]>()), vec(member, 0..5), option::of(word()), word(), any::<bool>()).prop_map(
        |(key, members, nominee, version, open)| Hello {
            cluster: key.map(ClusterKey::new),
            members,
            nominee,
            version,
            admission: if open { Admission::Open } else { Admission::Token },
        },
    )
}

fn watch_reply() -> impl Strategy<Value = Feed> {
    let snapshot = (any::<u64>(), 0u64..1000, 0u64..1000, record_bytes()).prop_map(|(index, offset, more, chunk)| {
        Content::Snapshot {
            index: MetadataIndex(index),
            bytes_total: offset + chunk.len() as u64 + more,
            offset,
            chunk,
        }
    });
    let content = prop_oneof![vec(record_bytes(), 0..5).prop_map(Content::Entries), snapshot];
    (any::<u64>(), content, vec(record_bytes(), 0..5)).prop_map(|(index, content, records)| Feed {
        index: MetadataIndex(index),
        content,
        records,
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        Just(Subject::Quorum),
        "[a-z]{1,20}".prop_map(|name| Subject::Topic(TopicName::new(&name).expect("legal"))),
        any::<[u8; 16]>().prop_map(|id| Subject::TopicId(TopicId(id))),
        (any::<[u8; 16]>(), 0u32..100).prop_map(|(id, shard)| Subject::Shard(TopicId(id), shard)),
        any::<u64>().prop_map(|id| Subject::Node(NodeId(id))),
    ]
}

fn hint() -> impl Strategy<Value = Hint> {
    let topics = vec(any::<[u8; 16]>().prop_map(TopicId), 0..5);
    let meta = (any::<[u64; 2]>(), node_ids(), node_ids(), topics, any::<bool>()).prop_map(
        |([prev, index], fenced, unfenced, topics, more)| {
            Hint::Meta(MetaHint {
                prev_index: MetadataIndex(prev),
                index: MetadataIndex(index),
                fenced,
                unfenced,
                topics,
                more,
            })
        },
    );
    let load = (any::<u64>(), any::<[u32; 2]>(), any::<[u64; 4]>()).prop_map(|(node, small, large)| {
        Hint::Load(LoadHint {
            node: NodeId(node),
            partitions_led: small[0],
            in_bytes_per_s: large[0],
            out_bytes_per_s: large[1],
            requests_per_s: small[1],
            disk_used_bytes: large[2],
            disk_total_bytes: large[3],
        })
    });
    prop_oneof![
        meta,
        load,
        (any::<u64>(), word(), vec(word(), 0..4)).prop_map(|(node, peer_id, addresses)| Hint::Cluster(
            ClusterHint::Join { node: NodeId(node), peer_id, addresses }
        )),
        any::<u64>().prop_map(|node| Hint::Cluster(ClusterHint::Drain(NodeId(node)))),
        any::<u64>().prop_map(|node| Hint::Cluster(ClusterHint::Suspect(NodeId(node)))),
        (any::<u64>(), word())
            .prop_map(|(node, version)| Hint::Cluster(ClusterHint::Version { node: NodeId(node), version })),
    ]
}

/// Lets every decoder look at `frame`.
fn decode_all(frame: &Frame) {
    let _ = (hello::decode_request(frame), hello::decode_reply(frame));
    let _ = (register::decode_request(frame), register::decode_reply(frame));
    let _ = (watch::decode_request(frame), watch::decode_reply(frame));
    let _ = (resolve::decode_request(frame), resolve::decode_reply(frame, 1));
    let _ = (admin::decode_request(frame), admin::decode_reply(frame));
    let _ = (produce::decode_request(frame), produce::decode_reply(frame));
    let _ = (fetch::decode_request(frame), fetch::decode_reply(frame));
    for channel in Channel::ALL {
        let _ = gossip::decode(channel, frame.header());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn produces_survive(request in produce_request(), reply in parts(any::<(i64, Option<i64>, i64)>())) {
        let frame = arrived(&produce::encode_request(&request));
        same(&produce::decode_request(&frame).expect("ours"), &request)?;
        let produced = |(base, time, start): (i64, Option<i64>, i64)| Produced {
            base_offset: Offset(base),
            append_time: time.map(Timestamp),
            log_start: Offset(start),
        };
        let reply: Vec<_> = reply
            .into_iter()
            .map(|part| PartitionReply { partition: part.partition, result: part.result.map(produced) })
            .collect();
        let reply = Ok(reply);
        same(&produce::decode_reply(&arrived(&produce::encode_reply(&reply))).expect("ours"), &reply)?;
    }

    #[test]
    fn fetches_survive(request in fetch_request(), reply in fetch_reply()) {
        same(&fetch::decode_request(&arrived(&fetch::encode_request(&request))).expect("ours"), &request)?;
        let reply = Ok(reply);
        same(&fetch::decode_reply(&arrived(&fetch::encode_reply(&reply))).expect("ours"), &reply)?;
    }

    #[test]
    fn admin_survives(request in admin_request(), reply in admin_reply()) {
        same(&admin::decode_request(&arrived(&admin::encode_request(&request))).expect("ours"), &request)?;
        let reply = Ok(reply);
        same(&admin::decode_reply(&arrived(&admin::encode_reply(&reply))).expect("ours"), &reply)?;
    }

    #[test]
    fn registrations_survive(request in register_request(), reply in register_reply()) {
        let frame = arrived(&register::encode_request(&request));
        prop_assert_eq!(register::decode_request(&frame), Ok(request));
        let frame = arrived(&register::encode_reply(&Ok(reply.clone())));
        prop_assert_eq!(register::decode_reply(&frame), Ok(Ok(reply)));
    }

    #[test]
    fn hellos_survive(reply in hello_reply()) {
        prop_assert_eq!(hello::decode_request(&hello::encode_request()), Ok(()));
        let frame = arrived(&hello::encode_reply(&Ok(reply.clone())));
        prop_assert_eq!(hello::decode_reply(&frame), Ok(Ok(reply)));
    }

    #[test]
    fn watches_survive(
        from in any::<u64>(), wait_ms in 0..LONG_POLL_MS_MAX as u32, resume in any::<Option<(u64, u64)>>(),
        reply in watch_reply(),
    ) {
        let resume = resume.map(|(index, offset)| (MetadataIndex(index), offset));
        let request = Watch { from: MetadataIndex(from), wait_ms, view: View::Full, resume };
        prop_assert_eq!(watch::decode_request(&arrived(&watch::encode_request(&request))), Ok(request));
        let frame = arrived(&watch::encode_reply(&Ok(reply.clone())));
        prop_assert_eq!(watch::decode_reply(&frame), Ok(Ok(reply)));
    }

    #[test]
    fn resolves_survive(
        subjects in vec(subject(), 0..5),
        records in vec(prop_oneof![record_bytes().prop_map(Ok), failure().prop_map(Err)], 0..5),
    ) {
        prop_assert_eq!(resolve::decode_request(&arrived(&resolve::encode_request(&subjects))), Ok(subjects));
        let frame = arrived(&resolve::encode_reply(&Ok(records.clone())));
        prop_assert_eq!(resolve::decode_reply(&frame, records.len()), Ok(Ok(records)));
    }

    #[test]
    fn hints_survive(hint in hint()) {
        prop_assert_eq!(gossip::decode(gossip::channel(&hint), &gossip::encode(&hint)), Ok(hint));
    }

    #[test]
    fn a_failure_is_a_reply_of_every_protocol(failure in failure()) {
        let frame = arrived(&wire::encode_failure(&failure));
        prop_assert_eq!(hello::decode_reply(&frame), Ok(Err(failure.clone())));
        prop_assert_eq!(register::decode_reply(&frame), Ok(Err(failure.clone())));
        prop_assert_eq!(watch::decode_reply(&frame), Ok(Err(failure.clone())));
        prop_assert_eq!(resolve::decode_reply(&frame, 3), Ok(Err(failure.clone())));
        same(&admin::decode_reply(&frame).expect("ours"), &Err(failure.clone()))?;
        same(&produce::decode_reply(&frame).expect("ours"), &Err(failure.clone()))?;
        same(&fetch::decode_reply(&frame).expect("ours"), &Err(failure))?;
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(header in vec(any::<u8>(), 0..200), body in record_bytes()) {
        decode_all(&Frame::new(header.into(), body));
    }

    #[test]
    fn no_flipped_bits_make_a_decoder_panic(
        frame in prop_oneof![
            produce_request().prop_map(|request| produce::encode_request(&request)),
            fetch_reply().prop_map(|reply| fetch::encode_reply(&Ok(reply))),
            admin_request().prop_map(|request| admin::encode_request(&request)),
            admin_reply().prop_map(|reply| admin::encode_reply(&Ok(reply))),
            register_request().prop_map(|request| register::encode_request(&request)),
            watch_reply().prop_map(|reply| watch::encode_reply(&Ok(reply))),
            hello_reply().prop_map(|reply| hello::encode_reply(&Ok(reply))),
            vec(subject(), 0..5).prop_map(|subjects| resolve::encode_request(&subjects)),
        ],
        flips in vec(any::<prop::sample::Index>(), 1..5),
    ) {
        let (mut header, mut body) = (frame.header().to_vec(), frame.body().to_vec());
        for flip in flips {
            let part = if header.is_empty() { &mut body } else { &mut header };
            if !part.is_empty() {
                let bit = flip.index(part.len() * 8);
                part[bit / 8] ^= 1 << (bit % 8);
            }
        }
        decode_all(&Frame::new(header.into(), body.into()));
    }
}

#[test]
fn a_partition_is_produced_to_once() {
    let part = ProducePartition {
        partition: TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(2) },
        leader_epoch: None,
        records: Bytes::from_static(b"batch"),
    };
    let request = Produce { acks: Acks::All, timeout_ms: 1, partitions: vec![part.clone(), part] };
    let error = produce::decode_request(&produce::encode_request(&request)).expect_err("twice");
    assert!(matches!(error, DecodeError::Invalid { what: "partition", .. }), "{error}");
}

#[test]
fn lengths_must_add_up_to_the_body() {
    let part = ProducePartition {
        partition: TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(2) },
        leader_epoch: None,
        records: Bytes::from_static(b"batch"),
    };
    let frame = produce::encode_request(&Produce { acks: Acks::All, timeout_ms: 1, partitions: vec![part] });
    for body in [&b""[..], b"batc", b"batch!"] {
        let error = produce::decode_request(&Frame::new(frame.header().clone(), body.into())).expect_err("other body");
        assert_eq!(error, DecodeError::Body { described: 5, found: body.len() });
    }
}

#[test]
fn counts_over_the_limits_are_refused() {
    let at = TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(0) };
    let partitions = vec![(at, None); REQUEST_PARTITIONS_MAX + 9];
    let frame = fetch::encode_request(&fetch::Request::DeleteRecords(DeleteRecords { partitions }));
    assert!(matches!(fetch::decode_request(&frame), Err(DecodeError::TooMany { .. })));
    let names = vec![String::new(); REQUEST_PARTITIONS_MAX + 9];
    let frame = admin::encode_request(&Admin::DescribeTopics { names, since: MetadataIndex(0) });
    assert!(matches!(admin::decode_request(&frame), Err(DecodeError::TooMany { .. })));
    let partition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(TOPIC_PARTITIONS_MAX) };
    let partitions = vec![(partition, None)];
    let frame = fetch::encode_request(&fetch::Request::DeleteRecords(DeleteRecords { partitions }));
    assert!(matches!(fetch::decode_request(&frame), Err(DecodeError::Invalid { .. })));
}

#[test]
fn the_largest_legal_requests_fit_their_headers() {
    let topics = (0..REQUEST_PARTITIONS_MAX).map(|i| TopicPartition {
        topic: TopicId((i as u128).to_be_bytes()),
        partition: PartitionId(TOPIC_PARTITIONS_MAX - 1),
    });
    let partitions = topics
        .map(|partition| FetchPartition {
            partition,
            leader_epoch: Some(LeaderEpoch(i32::MIN)),
            offset: Offset(i64::MIN),
            max_bytes: u32::MAX,
        })
        .collect();
    let fetch = Fetch { max_wait_ms: 1, min_bytes: 1, max_bytes: 1, partitions };
    let frame = fetch::encode_request(&fetch::Request::Fetch(fetch));
    assert_eq!(frame.check(Protocol::Fetch.request_caps()), Ok(()));
    assert!(fetch::decode_request(&frame).is_ok());
}

#[test]
fn a_hello_leaves_out_members_until_it_fits() {
    let member = |i| Member { peer_id: format!("peer {i}"), addresses: vec!["/ip4/".repeat(100); 16], voter: i == 0 };
    let hello = Hello {
        cluster: None,
        members: (0..100).map(member).collect(),
        nominee: None,
        version: String::new(),
        admission: Admission::Open,
    };
    let frame = hello::encode_reply(&Ok(hello));
    assert!(frame.header().len() <= HELLO_HEADER_BYTES_MAX);
    let decoded = hello::decode_reply(&frame).expect("ours").expect("no failure");
    assert!(decoded.members.len() > 3 && decoded.members[0].voter);
}

#[test]
fn a_hello_with_another_clusters_key_is_refused() {
    let key = ClusterKey { id: ClusterId([1; 32]), public_key: [2; 32] };
    let hello = Hello {
        cluster: Some(key),
        members: Vec::new(),
        nominee: None,
        version: String::new(),
        admission: Admission::Open,
    };
    let error = hello::decode_reply(&hello::encode_reply(&Ok(hello))).expect_err("not its hash");
    assert!(matches!(error, DecodeError::Invalid { what: "cluster id", .. }));
}

#[test]
fn a_hint_of_too_much_says_that_there_is_more() {
    let topics = (0..5000u128).map(|i| TopicId(i.to_be_bytes())).collect();
    let nodes = (0..5000).map(|i| NodeId(u64::MAX - i)).collect();
    let hint = Hint::Meta(MetaHint { topics, fenced: nodes, ..MetaHint::default() });
    let bytes = gossip::encode(&hint);
    assert!(bytes.len() <= GOSSIP_BYTES_MAX);
    let Ok(Hint::Meta(decoded)) = gossip::decode(Channel::Meta, &bytes) else { panic!("ours") };
    assert!(decoded.more);
}

#[test]
fn an_unknown_error_code_keeps_its_words() {
    // Field 15: code 9999 (zigzag 19998), message "new".
    let header = [0x7a, 8, 0x08, 0x9e, 0x9c, 0x01, 0x12, 0x03, b'n', b'e', b'w'];
    let mut header = header.to_vec();
    header[1] = (header.len() - 2) as u8;
    let failure =
        register::decode_reply(&Frame::new(header.into(), Bytes::new())).expect("a failure").expect_err("one");
    assert_eq!((failure.code, failure.message.as_str()), (ErrorCode::Unknown, "error 9999: new"));
}

#[test]
fn gossip_is_confined_to_its_cluster() {
    let cluster = ClusterId([0xab; 32]);
    assert_eq!(Channel::Meta.topic(&cluster).hash().as_str(), "/rafka/abababab/meta");
    assert!(gossip::config(&cluster).validate_messages());
}
