//! Real encodings of everything that the fuzz targets decode.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rafka_broker::group::request::{
    Caller, Commit, CommittedOffset, ConsumerDescription, ConsumerHeartbeat, ConsumerHeartbeatReply, ConsumerMember,
    GroupDescription, GroupKind, GroupReply, GroupRequest, GroupState, Join, Listed, OffsetToCommit, OffsetsAsked,
    Protocol, Sync, TopicPartitions,
};
use rafka_broker::metadata::{Delta, Entry, Image, Node, PartitionState, Role, Topic, encode_entry, encode_image};
use rafka_broker::request::{
    Acks, Admin, AdminReply, ClusterDescription, ConfigChange, DeleteRecords, Fetch, FetchPartition, Fetched,
    FoundOffset, ListOffsets, NewTopic, OffsetSpec, PartitionReply, Produce, ProducePartition, Produced,
    TopicDescription, TopicReply,
};
use rafka_broker::{ErrorCode, Failure, LeaderHint};
use rafka_dht::{Signer, directory};
use rafka_kafka::ApiKey;
use rafka_kafka::testing::{Chance, Part, codec};
use rafka_model::batch::Header;
use rafka_model::{
    BatchBuilder, BootId, BrokerEpoch, Compression, DirectoryId, LeaderEpoch, MetadataIndex, NodeId, Offset,
    PartitionEpoch, PartitionId, ProducerId, Timestamp, TopicId, TopicName, TopicPartition, cbor,
};
use rafka_protocols::certificate::{self, Certificate};
use rafka_protocols::gossip::{self, ClusterHint, Hint, LoadHint, MetaHint};
use rafka_protocols::hello::{self, Admission, ClusterKey, Hello, Member};
use rafka_protocols::resolve::Subject;
use rafka_protocols::watch::{Content, Feed, View, Watch};
use rafka_protocols::{Frame, admin, fetch, group, produce, register, resolve, watch};

use crate::group_log;
use crate::targets::{CLUSTER_SEED, Shape, peer};

pub(crate) type Seeds = Vec<(&'static str, &'static str, Vec<u8>)>;

const TOPIC: TopicId = TopicId([5; 16]);
const AT: TopicPartition = TopicPartition { topic: TOPIC, partition: PartitionId(2) };

/// Target, name and bytes of every seed. The same bytes each time.
pub(crate) fn all() -> Seeds {
    let mut seeds = vec![
        ("address", "multiaddr", format!("/ip4/127.0.0.1/tcp/7300/p2p/{}", peer()).into_bytes()),
        ("address", "socket", b"[::1]:7300".to_vec()),
        ("address", "name", b"dns:rafka.example:7301".to_vec()),
        ("address", "service", b"srv:_rafka._tcp.example".to_vec()),
        ("config", "defaults", rafka_node::config::default_yaml().into_bytes()),
        ("config", "small", b"mesh:\n  listen: [\"127.0.0.1:0\"]\ncache: {}\n".to_vec()),
        ("certificate", "node", certified()),
        ("log_recovery", "segment", segment()),
        ("metadata", "image", encode_image(&image()).expect("encodes")),
        ("metadata", "founding", encode_entry(&founding()).expect("encodes")),
    ];
    seeds.extend(batches());
    seeds.extend(shapes());
    seeds.extend(frames());
    seeds.extend(lanes());
    seeds.extend(hellos());
    seeds.extend(registers());
    seeds.extend(watches());
    seeds.extend(resolves());
    seeds.extend(admins());
    seeds.extend(produces());
    seeds.extend(fetches());
    seeds.extend(groups());
    seeds.extend(group_log::seeds(&image()));
    seeds.extend(hints());
    seeds.extend(records());
    seeds.extend(kafka());
    seeds
}

fn batch(codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(codec).idempotent(ProducerId(9), 1, 4);
    let header = Header { key: "trace".to_owned(), value: Some(Bytes::from_static(b"1")) };
    builder.push(Timestamp(1_000), Some(b"a"), Some(b"{\"id\":1}"), &[header]);
    builder.push(Timestamp(1_001), None, None, &[]);
    builder.push(Timestamp(1_002), Some(b"b"), Some(&[b'x'; 200]), &[]);
    builder.build().bytes().clone()
}

fn batches() -> Seeds {
    vec![
        ("batch", "plain", batch(Compression::None).to_vec()),
        ("batch", "gzip", batch(Compression::Gzip).to_vec()),
        ("batch", "snappy", batch(Compression::Snappy).to_vec()),
        ("batch", "lz4", batch(Compression::Lz4).to_vec()),
        ("batch", "zstd", batch(Compression::Zstd).to_vec()),
        ("batch", "two", [batch(Compression::None), batch(Compression::Zstd)].concat()),
    ]
}

/// Three batches with the offsets that follow one another, as in a segment.
fn segment() -> Vec<u8> {
    let disk = Arc::new(rafka_log::disk::MemoryDisk::new());
    let (mut log, _) = rafka_log::PartitionLog::open(
        disk.clone(),
        Path::new("logs/p"),
        &rafka_log::LogConfig::default(),
        Timestamp(0),
        rafka_log::Shutdown::MemoryKept,
    )
    .expect("opens");
    for codec in [Compression::None, Compression::Lz4, Compression::None] {
        let parsed = rafka_model::RecordBatch::parse(batch(codec)).expect("a batch");
        log.append(LeaderEpoch(1), parsed, Timestamp(2_000)).expect("appended");
    }
    log.close_clean().expect("closed");
    disk.bytes(Path::new("logs/p/00000000000000000000.log")).expect("a segment")
}

fn shapes() -> Seeds {
    let encoded = |shape: Shape| cbor::encode(&shape, 4096).expect("encodes");
    vec![
        ("cbor", "number", encoded(Shape::Number(u64::MAX))),
        ("cbor", "text", encoded(Shape::Text("größe".to_owned()))),
        ("cbor", "blob", encoded(Shape::Blob(vec![7; 40].into()))),
        ("cbor", "list", encoded(Shape::List(vec![(-1, None), (2, Some("two".to_owned()))]))),
        ("cbor", "named", encoded(Shape::Named { fixed: [1; 16], maybe: Some(true) })),
    ]
}

/// A frame as `targets::arrived` takes it apart.
fn parts(frame: &Frame) -> Vec<u8> {
    let length = u16::try_from(frame.header().len()).expect("a small header");
    [&length.to_be_bytes()[..], frame.header(), &frame.body()].concat()
}

/// A frame as it is on a substream, behind the number of its protocol.
fn wire(protocol: u8, frame: &Frame) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).expect("small").to_be_bytes();
    let (header, body) = (frame.header(), frame.body());
    [&[protocol][..], &length(header.len()), header, &length(body.len()), &body].concat()
}

fn lanes() -> Seeds {
    use rafka_protocols::Protocol;
    use rafka_protocols::lane::Class;
    use rafka_protocols::lane::wire::{Message, Writer};
    let said = |messages: &[Message]| {
        let mut writer = Writer::default();
        messages.iter().for_each(|message| writer.push(message));
        [&[13][..], writer.next()].concat()
    };
    let grant = Message::Grant { class: Class::Produce, requests: 1024, bytes: 1 << 24 };
    let request =
        |id| Message::Request { id, protocol: Protocol::Produce, frame: produce::encode_request(&produced()) };
    let reply = |id, protocol| Message::Reply { id, protocol, frame: Frame::default() };
    vec![
        ("lane", "grant", said(std::slice::from_ref(&grant))),
        ("lane", "requests", said(&[grant.clone(), request(0), request(1), request(2), request(7)])),
        (
            "lane",
            "replies",
            said(&[
                grant.clone(),
                reply(0, Protocol::Produce),
                reply(1, Protocol::Fetch),
                Message::NotServed { id: 2 },
            ]),
        ),
        ("lane", "words", said(&[grant, request(2), Message::Cancel { id: 2 }, Message::Idle, Message::Close])),
    ]
}

fn frames() -> Seeds {
    vec![
        ("frame", "hello", wire(0, &hello::encode_request())),
        ("frame", "produce", wire(5, &produce::encode_request(&produced()))),
        ("frame", "empty", wire(3, &Frame::default())),
    ]
}

fn failure() -> Failure {
    Failure::new(ErrorCode::NotLeaderOrFollower, "node 2 leads it").with_leader(LeaderHint {
        node: Some(NodeId(2)),
        epoch: LeaderEpoch(4),
        peer_id: Some(peer().to_string()),
        addresses: vec!["/ip4/10.0.0.2/tcp/7300".to_owned()],
    })
}

fn hellos() -> Seeds {
    let hello = Hello {
        cluster: Some(ClusterKey::new(Signer::new(&CLUSTER_SEED).public_key())),
        members: vec![Member {
            peer_id: peer().to_string(),
            addresses: vec!["/ip4/127.0.0.1/tcp/7300".to_owned()],
            voter: true,
        }],
        nominee: Some(peer().to_string()),
        version: "0.1.0".to_owned(),
        admission: Admission::Token,
    };
    vec![
        ("hello", "request", parts(&hello::encode_request())),
        ("hello", "reply", parts(&hello::encode_reply(&Ok(hello)))),
        ("hello", "failure", parts(&hello::encode_reply(&Err(failure())))),
    ]
}

fn registers() -> Seeds {
    let node = node(1);
    let joiner = register::Joiner {
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
        unclean: false,
    };
    let request = |request| parts(&register::encode_request(&request));
    let reply = |reply| parts(&register::encode_reply(&Ok(reply)));
    let (id, epoch, index) = (NodeId(1), BrokerEpoch(1), MetadataIndex(7));
    let joined =
        register::Reply::Joined { certificate: certified().into(), node: id, epoch, index, snapshot: Some(index) };
    vec![
        ("register", "join", request(register::Request::Join { proof: Some([3; 32]), node: Box::new(joiner) })),
        ("register", "present", request(register::Request::Present { certificate: certified().into() })),
        ("register", "client", request(register::Request::PresentClient { proof: None })),
        ("register", "heartbeat", request(register::Request::Heartbeat { node: id, epoch, index })),
        ("register", "leave", request(register::Request::Leave { node: id, epoch })),
        ("register", "joined", reply(joined)),
        ("register", "presented", reply(register::Reply::Presented { certificate: certified().into() })),
        ("register", "alive", reply(register::Reply::Alive { fenced: true, index })),
        ("register", "failure", parts(&register::encode_reply(&Err(failure())))),
    ]
}

fn watches() -> Seeds {
    let entry = Bytes::from(encode_entry(&founding()).expect("encodes"));
    let request =
        Watch { from: MetadataIndex(3), wait_ms: 500, view: View::Full, resume: Some((MetadataIndex(9), 4096)) };
    let feed = |content, records| parts(&watch::encode_reply(&Ok(Feed { index: MetadataIndex(9), content, records })));
    let chunk = Bytes::from_static(b"part of an image");
    let snapshot = Content::Snapshot { index: MetadataIndex(9), bytes_total: 100, offset: 10, chunk };
    vec![
        ("watch", "request", parts(&watch::encode_request(&request))),
        ("watch", "entries", feed(Content::Entries(vec![entry.clone(), entry]), vec![Bytes::from_static(b"record")])),
        ("watch", "snapshot", feed(snapshot, Vec::new())),
    ]
}

fn resolves() -> Seeds {
    let subjects = [
        Subject::Quorum,
        Subject::Topic(TopicName::new("orders").expect("legal")),
        Subject::TopicId(TOPIC),
        Subject::Shard(TOPIC, 1),
        Subject::Node(NodeId(2)),
    ];
    let records = vec![Ok(Bytes::from_static(b"a signed record")), Err(failure())];
    vec![
        ("resolve", "request", parts(&resolve::encode_request(&subjects))),
        ("resolve", "reply", parts(&resolve::encode_reply(&Ok(records)))),
    ]
}

fn described() -> TopicDescription {
    TopicDescription {
        id: TOPIC,
        name: TopicName::new("orders").expect("legal"),
        configs: BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]),
        replication_factor: 1,
        partitions: vec![(PartitionId(0), state(1))],
    }
}

fn admins() -> Seeds {
    let configs = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
    let topic = NewTopic {
        name: "orders".to_owned(),
        partitions: Some(3),
        replication_factor: Some(1),
        configs,
        assignments: vec![vec![NodeId(1)], vec![NodeId(2)]],
    };
    let changes = BTreeMap::from([
        ("cleanup.policy".to_owned(), ConfigChange::Append("compact".to_owned())),
        ("retention.ms".to_owned(), ConfigChange::Reset),
        ("segment.bytes".to_owned(), ConfigChange::Set("4096".to_owned())),
    ]);
    let name = "orders".to_owned();
    let (replace, validate_only) = (true, false);
    let alter = Admin::AlterConfigs { name: name.clone(), changes, replace, validate_only };
    let assignments = vec![vec![NodeId(1)]];
    let add = Admin::AddPartitions { name: name.clone(), total: 12, assignments, validate_only };
    let cluster = ClusterDescription {
        cluster_id: Signer::new(&CLUSTER_SEED).cluster_id(),
        controller: Some(NodeId(1)),
        voters: vec![NodeId(1)],
        nodes: vec![node(1), node(2)],
        answered_by: NodeId(2),
        index: MetadataIndex(12),
        topics: 1,
        partitions: 3,
        offline_partitions: 1,
        under_replicated: 0,
        unreachable: vec![NodeId(2)],
    };
    let request = |request| parts(&admin::encode_request(&request));
    let reply = |reply| parts(&admin::encode_reply(&Ok(reply)));
    let replies = vec![
        TopicReply { name: name.clone(), result: Ok((described(), MetadataIndex(5))) },
        TopicReply { name: "öäü".to_owned(), result: Err(failure()) },
    ];
    vec![
        ("admin", "create", request(Admin::CreateTopics { topics: vec![topic], validate_only: true })),
        ("admin", "delete", request(Admin::DeleteTopics { names: vec![name.clone()], validate_only: false })),
        ("admin", "delete_by_id", request(Admin::DeleteTopicsById { ids: vec![TOPIC] })),
        ("admin", "alter", request(alter)),
        ("admin", "add", request(add)),
        ("admin", "describe", request(Admin::DescribeTopics { names: vec![name], since: MetadataIndex(0) })),
        ("admin", "cluster", request(Admin::DescribeCluster)),
        ("admin", "topics", reply(AdminReply::Topics(replies))),
        ("admin", "described", reply(AdminReply::Described(vec![Ok(described()), Err(failure())]))),
        ("admin", "described_cluster", reply(AdminReply::Cluster(Box::new(cluster)))),
    ]
}

fn produced() -> Produce {
    let part = |partition, codec| ProducePartition {
        partition: TopicPartition { topic: TOPIC, partition: PartitionId(partition) },
        leader_epoch: Some(LeaderEpoch(4)),
        records: batch(codec),
    };
    let partitions = vec![part(0, Compression::None), part(1, Compression::Lz4)];
    Produce { acks: Acks::All, timeout_ms: 1_000, partitions }
}

fn produces() -> Seeds {
    let done = Produced { base_offset: Offset(7), append_time: Some(Timestamp(5)), log_start: Offset(1) };
    let replies = vec![
        PartitionReply { partition: AT, result: Ok(done) },
        PartitionReply { partition: AT, result: Err(failure()) },
    ];
    vec![
        ("produce", "request", parts(&produce::encode_request(&produced()))),
        ("produce", "reply", parts(&produce::encode_reply(&Ok(replies)))),
        ("produce", "failure", parts(&produce::encode_reply(&Err(failure())))),
    ]
}

fn fetches() -> Seeds {
    let wanted = FetchPartition { partition: AT, leader_epoch: None, offset: Offset(3), max_bytes: 1 << 20 };
    let wanted = Fetch { max_wait_ms: 500, min_bytes: 1, max_bytes: 1 << 24, partitions: vec![wanted] };
    let specs = [OffsetSpec::Earliest, OffsetSpec::Latest, OffsetSpec::At(Timestamp(9)), OffsetSpec::MaxTimestamp];
    let list = ListOffsets { partitions: specs.map(|spec| (AT, Some(LeaderEpoch(2)), spec)).to_vec() };
    let delete = DeleteRecords { partitions: vec![(AT, Some(Offset(3))), (AT, None)] };
    let fetched = Fetched {
        high_watermark: Offset(9),
        last_stable_offset: Offset(9),
        log_start: Offset(0),
        records: batch(Compression::None).into(),
    };
    let found = FoundOffset { offset: Some(Offset(1)), timestamp: Timestamp(4), leader_epoch: LeaderEpoch(2) };
    let request = |request| parts(&fetch::encode_request(&request));
    let reply = |reply| parts(&fetch::encode_reply(&Ok(reply)));
    fn one<T>(value: T) -> Vec<PartitionReply<T>> {
        vec![
            PartitionReply { partition: AT, result: Ok(value) },
            PartitionReply { partition: AT, result: Err(failure()) },
        ]
    }
    vec![
        ("fetch", "request", request(fetch::Request::Fetch(wanted))),
        ("fetch", "list", request(fetch::Request::ListOffsets(list))),
        ("fetch", "delete", request(fetch::Request::DeleteRecords(delete))),
        ("fetch", "fetched", reply(fetch::Reply::Fetched(one(fetched)))),
        ("fetch", "offsets", reply(fetch::Reply::Offsets(one(found)))),
        ("fetch", "deleted", reply(fetch::Reply::Deleted(one(Offset(4))))),
    ]
}

fn groups() -> Seeds {
    let (group, member_id) = ("billing".to_owned(), "m-1".to_owned());
    let owned = vec![TopicPartitions { topic: TOPIC, partitions: vec![PartitionId(0), PartitionId(2)] }];
    let caller = Caller { client_id: "app".to_owned(), client_host: "/10.0.0.1".to_owned() };
    let protocol = Protocol { name: "range".to_owned(), metadata: Bytes::from_static(b"metadata") };
    let join = Join { group: group.clone(), protocols: vec![protocol], caller: caller.clone(), ..Join::default() };
    let assignments = vec![(member_id.clone(), Bytes::from_static(b"assignment"))];
    let sync = Sync { group: group.clone(), member_id: member_id.clone(), assignments, ..Sync::default() };
    let heartbeat = ConsumerHeartbeat {
        group: group.clone(),
        member_id: member_id.clone(),
        subscribed_topics: Some(vec!["orders".to_owned()]),
        owned: Some(owned.clone()),
        ..ConsumerHeartbeat::default()
    };
    let offset = OffsetToCommit { topic: "orders".to_owned(), offset: 7, ..OffsetToCommit::default() };
    let commit = Commit { group: group.clone(), offsets: vec![offset], ..Commit::default() };
    let topics = Some(vec![("orders".to_owned(), vec![PartitionId(0)])]);
    let asked = OffsetsAsked { group: group.clone(), topics, ..OffsetsAsked::default() };
    let stored = CommittedOffset { topic: "orders".to_owned(), topic_id: Some(TOPIC), ..CommittedOffset::default() };
    let alive = ConsumerHeartbeatReply {
        member_id: member_id.clone(),
        assignment: Some(owned.clone()),
        ..ConsumerHeartbeatReply::default()
    };
    let (state, kind) = (GroupState::Stable, GroupKind::Consumer);
    let listed = Listed { group: group.clone(), protocol_type: "consumer".to_owned(), state, kind };
    let member = ConsumerMember { member_id, caller, assignment: owned, ..ConsumerMember::default() };
    let described = ConsumerDescription {
        group: group.clone(),
        state,
        group_epoch: 3,
        assignment_epoch: 3,
        assignor: "uniform".to_owned(),
        members: vec![member],
    };
    let ask = |request| parts(&group::encode_request(&group::Request::Group(request)));
    let tell = |reply| parts(&group::encode_reply(&Ok(group::Reply::Group(reply))));
    vec![
        ("group", "join", ask(GroupRequest::Join(join))),
        ("group", "sync", ask(GroupRequest::Sync(sync))),
        ("group", "heartbeat", ask(GroupRequest::ConsumerHeartbeat(heartbeat))),
        ("group", "commit", ask(GroupRequest::Commit(commit))),
        ("group", "offsets", ask(GroupRequest::Offsets(asked))),
        ("group", "coordinator", parts(&group::encode_request(&group::Request::Coordinator { group }))),
        ("group", "alive", tell(GroupReply::ConsumerHeartbeat(alive))),
        ("group", "stored", tell(GroupReply::Offsets(vec![stored]))),
        ("group", "described", tell(GroupReply::Describe(GroupDescription::Consumer(described)))),
        ("group", "listed", parts(&group::encode_reply(&Ok(group::Reply::List(vec![listed]))))),
    ]
}

fn hints() -> Seeds {
    let encoded = |channel: u8, hint| [&[channel][..], &gossip::encode(&hint)].concat();
    let meta = MetaHint {
        prev_index: MetadataIndex(7),
        index: MetadataIndex(9),
        fenced: vec![NodeId(2)],
        unfenced: vec![NodeId(3)],
        topics: vec![TOPIC],
        more: true,
    };
    let addresses = vec!["/ip4/10.0.0.3/tcp/7300".to_owned()];
    let join = ClusterHint::Join { node: NodeId(3), peer_id: peer().to_string(), addresses };
    let load = LoadHint { node: NodeId(1), partitions_led: 12, in_bytes_per_s: 1 << 20, ..LoadHint::default() };
    vec![
        ("gossip", "meta", encoded(0, Hint::Meta(meta))),
        ("gossip", "join", encoded(1, Hint::Cluster(join))),
        ("gossip", "drain", encoded(1, Hint::Cluster(ClusterHint::Drain(NodeId(4))))),
        ("gossip", "load", encoded(2, Hint::Load(load))),
    ]
}

fn certified() -> Vec<u8> {
    let signer = Signer::new(&CLUSTER_SEED);
    let certificate = Certificate {
        cluster_id: signer.cluster_id(),
        peer_id: peer().to_string(),
        node: Some(NodeId(1)),
        role: certificate::Role::Node,
        not_after_ms: 4_000_000_000_000,
        serial: 1,
    };
    certificate.sign(|message| signer.sign_bytes(message)).expect("fits")
}

/// What an image says must be in the DHT: a record of every kind.
fn records() -> Seeds {
    let signer = Signer::new(&CLUSTER_SEED);
    let bodies = directory::records_of(&image(), directory::Quorum { generation: 0, term: 3 });
    let mut kinds = BTreeMap::new();
    for body in bodies {
        let kind = match body.key {
            rafka_dht::Key::Quorum => "quorum",
            rafka_dht::Key::Node(_) => "node",
            rafka_dht::Key::Topic(_) => "topic",
            rafka_dht::Key::Shard(..) => "shard",
            rafka_dht::Key::Name(_) => "name",
        };
        let key = body.key.text(&body.cluster);
        let record = signer.sign(body).expect("fits");
        let length = u8::try_from(key.len()).expect("short");
        kinds.entry(kind).or_insert_with(|| [&[length][..], key.as_bytes(), record.bytes()].concat());
    }
    kinds.into_iter().map(|(kind, bytes)| ("dht_record", kind, bytes)).collect()
}

fn node(id: u64) -> Node {
    Node {
        id: NodeId(id),
        peer_id: peer().to_string(),
        directory: DirectoryId([1; 16]),
        epoch: BrokerEpoch(id),
        boot: BootId([2; 16]),
        incarnation: [3; 16],
        addresses: vec![format!("/ip4/10.0.0.{id}/tcp/7300")],
        lanes: vec![format!("/ip4/10.0.0.{id}/tcp/7400")],
        kafka: BTreeMap::from([("external".to_owned(), "10.0.0.1:9092".to_owned())]),
        ops: Some("10.0.0.1:9644".to_owned()),
        rack: Some("north".to_owned()),
        weight_milli: 1000,
        role: Role::Broker,
        version: "0.1.0".to_owned(),
        fenced: false,
        draining: false,
        features_max: 1,
    }
}

fn state(leader: u64) -> PartitionState {
    PartitionState {
        replicas: vec![NodeId(leader)],
        leader: Some(NodeId(leader)),
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(1),
        isr: vec![NodeId(leader)],
        elr: Vec::new(),
        ..PartitionState::default()
    }
}

fn founding() -> Entry {
    let signer = Signer::new(&CLUSTER_SEED);
    let founded = Delta::ClusterFounded {
        cluster_id: signer.cluster_id(),
        public_key: signer.public_key(),
        join_token_hash: Some([4; 32]),
        feature_level: 1,
    };
    let deltas = vec![
        founded,
        Delta::NodeRegistered(Node { fenced: true, ..node(1) }),
        Delta::VotersChanged { voters: vec![NodeId(1)] },
        Delta::NodeUnfenced { id: NodeId(1) },
    ];
    Entry { index: MetadataIndex(1), deltas }
}

/// A founded cluster with a topic of more than one shard.
fn image() -> Image {
    let mut image = Image::default();
    image.apply(&founding()).expect("founds");
    let name = TopicName::new("orders").expect("legal");
    let partitions = vec![state(1); 130];
    let (configs, changed) = (BTreeMap::new(), MetadataIndex(2));
    let topic = Topic { id: TOPIC, name, configs, replication_factor: 1, partitions, changed };
    let entry = Entry { index: MetadataIndex(2), deltas: vec![Delta::TopicCreated(topic)] };
    image.apply(&entry).expect("a topic");
    image
}

/// Messages of random values, so that every field of a few rich APIs is there.
fn kafka() -> Seeds {
    let apis = [
        ("api_versions", ApiKey::ApiVersions),
        ("consumer_group_describe", ApiKey::ConsumerGroupDescribe),
        ("consumer_group_heartbeat", ApiKey::ConsumerGroupHeartbeat),
        ("create_topics", ApiKey::CreateTopics),
        ("describe_topic_partitions", ApiKey::DescribeTopicPartitions),
        ("fetch", ApiKey::Fetch),
        ("join_group", ApiKey::JoinGroup),
        ("metadata", ApiKey::Metadata),
        ("offset_commit", ApiKey::OffsetCommit),
        ("offset_fetch", ApiKey::OffsetFetch),
        ("produce", ApiKey::Produce),
    ];
    let mut seeds = Vec::new();
    for (name, key) in apis {
        let place = ApiKey::ALL.iter().position(|known| *known == key).expect("known") as u8;
        let version = *key.versions().end();
        for (target, part) in [("kafka_request", Part::Request), ("kafka_response", Part::Response)] {
            let sample = (codec(key, part).sample)(key, version, &mut Chance::new(7)).expect("encodes").concat();
            seeds.push((target, name, [&[place, (version - key.versions().start()) as u8], &sample[..]].concat()));
        }
    }
    seeds
}
