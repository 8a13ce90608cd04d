//! The table of keys: one row is a field, its type, its legal values, its default, its flag and its words.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use rafka_broker::group::config::MigrationPolicy;
use rafka_broker::metadata::Role;
use rafka_model::ClusterId;
use rafka_model::limits::{
    BATCH_BYTES_MAX, COMPACTION_BUFFER_BYTES_MAX, COMPACTION_BUFFER_BYTES_MIN, FLUSH_DIRTY_BYTES_MAX,
    FLUSH_DIRTY_MS_MAX, KAFKA_REQUEST_BYTES_MAX, METRIC_PARTITIONS_MAX, NODES_MAX, OPS_CONNECTIONS_MAX,
    TOPIC_PARTITIONS_MAX,
};
use rafka_protocols::address::{AdvertisedAddress, BootstrapAddress, ListenAddress};

use super::error::Problem;
use super::kafka::{KafkaAdvertise, KafkaListen, KafkaRouting};
use super::key::{Key, Kind, Preset, Unit};
use super::load::{Settings, Shown};
use super::security::Door;
use super::topic::Topic;
use super::value::{Label, LogFormat, LogLevel, OpsListen, Secret};

macro_rules! section {
    ($(#[doc = $about:literal])+ $type:ident $name:literal {
        $($(#[doc = $doc:literal])+ $field:ident: $of:ty, $kind:expr, $preset:expr, $flag:literal;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $type { $($(#[doc = $doc])+ pub $field: $of,)+ }

        impl $type {
            const ABOUT: &'static str = concat!($($about, "\n"),+);
            const KEYS: &'static [Key] = &[$(Key {
                section: $name,
                name: Cow::Borrowed(stringify!($field)),
                kind: $kind,
                preset: $preset,
                flag: $flag,
                doc: Cow::Borrowed(concat!($($doc, "\n"),+)),
            }),+];

            pub(super) fn resolve(settings: &Settings, problems: &mut Vec<Problem>) -> Option<Self> {
                $(let $field = settings.field(concat!($name, ".", stringify!($field)), problems);)+
                Some(Self { $($field: $field?),+ })
            }
        }
    };
}

const fn is(text: &'static str) -> Preset {
    Preset::Is(Cow::Borrowed(text))
}

const fn count(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max, unit: Unit::Count }
}

const fn milliseconds(min: i64, max: i64) -> Kind {
    Kind::Integer { min, max, unit: Unit::Milliseconds }
}

const fn bytes(min: i64) -> Kind {
    Kind::Integer { min, max: i64::MAX, unit: Unit::Bytes }
}

section! {
    /// The process: where it keeps its data, what part it plays, how it logs.
    Node "node" {
        /// Directory of everything that the node keeps: identity, metadata, records. One process at a time.
        data_dir: PathBuf, Kind::Path,
            Preset::Found("$STATE_DIRECTORY, /var/lib/rafka for root and in containers, else the user's data directory"), "--data-dir";
        /// Part that the node plays: a broker owns partitions, a gateway owns none.
        roles: Role, Kind::Choice(&["broker", "gateway"]), is("broker"), "--roles";
        /// Failure domain. Replicas are spread over racks.
        rack: Option<Label>, Kind::Text("a name without spaces"), Preset::None, "--rack";
        /// Share of partitions relative to other nodes, in thousandths: a node with 2000 gets twice as many as one with 1000.
        weight_milli: u32, count(1, 1_000_000), is("1000"), "";
        /// What is logged: a level (off, error, warn, info, debug, trace), perhaps with exceptions by module, such as `info,rafka_node=debug`.
        /// Can be changed while the node runs (`PUT /loglevel` of the ops door).
        log_level: LogLevel, Kind::Text("a log level"), is("info"), "--log-level";
        /// How log lines on standard error look; `auto` is pretty on a terminal and JSON otherwise.
        log_format: LogFormat, Kind::Choice(LogFormat::WORDS), is("auto"), "--log-format";
        /// Written when the node is ready: one JSON object with node id, peer id, cluster id and every bound address.
        ready_file: Option<PathBuf>, Kind::Path, Preset::None, "--ready-file";
        /// Longest time that a shutdown may take, from the signal to the end of the process.
        shutdown_ms: u64, milliseconds(0, 3_600_000), is("20000"), "";
    }
}

section! {
    /// The mesh: the node's door to its peers and to mesh clients.
    Mesh "mesh" {
        /// Addresses to listen on: `/ip4/…/tcp/PORT` or `HOST:PORT`. Port 0 takes any free one. Beyond loopback a join token is needed.
        listen: Vec<ListenAddress>, Kind::List("addresses, each /ip4/…/tcp/PORT, /ip6/…/tcp/PORT or HOST:PORT"), is("127.0.0.1:7300"), "--listen";
        /// Addresses that other nodes are told to dial, when they differ from those listened on (a name in Kubernetes, a forwarded port).
        advertise: Vec<AdvertisedAddress>, Kind::List("addresses, each /ip4/…/tcp/PORT, /dns4/NAME/tcp/PORT or HOST:PORT"), Preset::None, "--advertise";
        /// Addresses of the lanes, by which nodes and busy clients carry records. Without any: those of `mesh.listen`, 100 ports higher.
        lanes_listen: Vec<ListenAddress>, Kind::List("addresses, each /ip4/…/tcp/PORT, /ip6/…/tcp/PORT or HOST:PORT"), Preset::None, "--lane-listen";
        /// Addresses of the lanes that others are told to dial. Without any: the hosts that they are told for the mesh, with the port of the lanes.
        lanes_advertise: Vec<AdvertisedAddress>, Kind::List("addresses, each /ip4/…/tcp/PORT, /dns4/NAME/tcp/PORT or HOST:PORT"), Preset::None, "";
        /// Where a first peer may be found; they need not be up yet. Without any, an empty node founds a cluster of its own.
        /// Names are resolved again at each attempt, and every address of a name is tried.
        bootstrap: Vec<BootstrapAddress>,
            Kind::List("addresses, each a multiaddr with or without /p2p/PEER, HOST:PORT, dns:NAME[:PORT] or srv:NAME"), Preset::None, "--bootstrap";
    }
}

section! {
    /// The Kafka door: where Kafka's own clients and tools connect.
    Kafka "kafka" {
        /// Addresses to listen on, `IP:PORT` or `NAME=IP:PORT`; `none` keeps the door shut. Port 0 takes any free one.
        /// A client is told addresses of the listener (by name) that it came by. Beyond loopback the door must be named in `security.allow_anonymous`.
        listen: Vec<KafkaListen>, Kind::List("addresses, each [NAME=]IP:PORT or [NAME=]localhost:PORT; or none"), is("127.0.0.1:9092"), "--kafka-listen";
        /// What clients of a listener are told to dial, when that differs from what they find by themselves.
        /// Without it a client is told the address that it used, and for other nodes their registered Kafka port at the host of their mesh address.
        advertise: Vec<KafkaAdvertise>, Kind::List("addresses, each [NAME=]HOST:PORT"), Preset::None, "--kafka-advertise";
        /// How a listener's requests find the leaders of partitions. `direct`, the default: clients are told of every node and must reach it.
        /// `mesh`: clients are told of this node only, which relays through the mesh what others lead. On a gateway (`node.roles`) every listener is `mesh`.
        routing: Vec<KafkaRouting>, Kind::List("routings, each [NAME=]direct or [NAME=]mesh"), Preset::None, "--kafka-routing";
        /// Make topics that a client asks for and that do not exist, with `topic.num_partitions` partitions, if the client allows it.
        auto_create_topics: bool, Kind::Boolean, is("true"), "";
        /// Connections in total; more are closed at once.
        connections_max: usize, count(1, 1_000_000), is("16384"), "";
        /// Connections from one address; more are closed at once.
        connections_per_address_max: usize, count(1, 1_000_000), is("16384"), "";
        /// A connection on which no request comes for this long is closed.
        idle_ms: u64, milliseconds(100, 86_400_000), is("600000"), "";
        /// Largest request.
        request_bytes_max: usize, Kind::Integer { min: 1024, max: KAFKA_REQUEST_BYTES_MAX as i64, unit: Unit::Bytes }, is("104857600"), "";
        /// Memory for requests of all connections together; who needs more waits. At least one largest request.
        requests_bytes_max: usize, Kind::Integer { min: BATCH_BYTES_MAX as i64, max: u32::MAX as i64, unit: Unit::Bytes }, is("268435456"), "";
    }
}

section! {
    /// Founding, joining and staying in a cluster.
    Cluster "cluster" {
        /// The cluster that the node may join, and no other: 64 hex digits.
        id: Option<ClusterId>, Kind::Text("64 hex digits"), Preset::None, "--cluster-id";
        /// Found a new cluster if the data directory is empty, even though bootstrap addresses are given.
        init: bool, Kind::Boolean, is("false"), "--init";
        /// Found a new cluster together with other empty nodes, once this many (this one included) have found each other.
        bootstrap_expect: Option<u32>, count(1, NODES_MAX as i64), Preset::None, "--bootstrap-expect";
        /// Secret that lets nodes and clients join. The founder's token becomes the cluster's. Better kept in a file.
        join_token: Option<Secret>, Kind::Secret, Preset::None, "";
        /// File that holds the join token.
        join_token_file: Option<PathBuf>, Kind::Path, Preset::None, "--join-token-file";
        /// How often the node tells the controller that it lives.
        heartbeat_ms: u64, milliseconds(10, 60_000), is("500"), "";
        /// Silence after which the controller takes a node out of service. At least four heartbeats.
        session_ms: u64, milliseconds(100, 600_000), is("6000"), "";
    }
}

section! {
    /// The logs of partitions on this node's disk.
    Log "log" {
        /// Time between two looks for segments that retention removes.
        retention_check_ms: u64, milliseconds(1, i64::MAX), is("300000"), "";
        /// Time between two writes of recovery points; after a crash at most what came later is scanned.
        checkpoint_ms: u64, milliseconds(10, 3_600_000), is("5000"), "";
        /// Time after which an appended record is flushed to disk, whatever its topic says.
        flush_ms: u64, milliseconds(1, FLUSH_DIRTY_MS_MAX as i64), is("5000"), "";
        /// Bytes of one partition that may wait for the flush.
        flush_bytes: u64, Kind::Integer { min: 1, max: FLUSH_DIRTY_BYTES_MAX as i64, unit: Unit::Bytes }, is("67108864"), "";
        /// Flushes a second of topics with `durability=replicated`.
        flushes_per_second: u32, count(1, 100_000), is("200"), "";
        /// Threads that flush topics with `durability=fsync`.
        fsync_threads: usize, count(1, 64), is("8"), "";
        /// Threads that open partitions at the start.
        open_threads: usize, count(1, 64), is("4"), "";
        /// Silence after which a partition forgets a producer id, and with it what it would know a repetition by.
        producer_id_expiration_ms: u64, milliseconds(1, i64::MAX), is("86400000"), "";
        /// Time between two looks for logs to compact.
        cleaner_check_ms: u64, milliseconds(1, i64::MAX), is("15000"), "";
        /// Memory that compaction uses for keys, 24 bytes each; a round that meets more of them goes on in the next.
        cleaner_buffer_bytes: usize, Kind::Integer { min: COMPACTION_BUFFER_BYTES_MIN as i64, max: COMPACTION_BUFFER_BYTES_MAX as i64, unit: Unit::Bytes }, is("16777216"), "";
        /// Bytes a second that compaction reads and writes; 0 is no limit.
        cleaner_bytes_per_second: u64, bytes(0), is("67108864"), "";
    }
}

section! {
    /// Consumer groups, and the topic in which their coordinators keep offsets.
    Groups "groups" {
        /// Time that a coordinator waits for more members before an empty group begins its first generation.
        initial_rebalance_delay_ms: u64, milliseconds(0, 3_600_000), is("3000"), "";
        /// Shortest session that a member of a classic group may ask for.
        min_session_timeout_ms: i32, milliseconds(1, i32::MAX as i64), is("6000"), "";
        /// Longest session that a member of a classic group may ask for.
        max_session_timeout_ms: i32, milliseconds(1, i32::MAX as i64), is("1800000"), "";
        /// Members of a classic group.
        max_size: usize, count(1, i32::MAX as i64), is("2147483647"), "";
        /// Silence after which a member of a group of the new protocol (KIP-848) counts as dead.
        consumer_session_timeout_ms: u64, milliseconds(1, i32::MAX as i64), is("45000"), "";
        /// How often a member of a group of the new protocol is told to say that it lives.
        consumer_heartbeat_interval_ms: i32, milliseconds(1, i32::MAX as i64), is("5000"), "";
        /// Members of a group of the new protocol.
        consumer_max_size: usize, count(1, i32::MAX as i64), is("2147483647"), "";
        /// Shortest time between two assignments of a group of the new protocol.
        consumer_assignment_interval_ms: u64, milliseconds(0, 60_000), is("1000"), "";
        /// Whether a group whose members come and go changes its protocol: to the new one when the first member that speaks it joins
        /// (`upgrade`), back when the last one has left (`downgrade`).
        consumer_migration_policy: MigrationPolicy, Kind::Choice(&["bidirectional", "upgrade", "downgrade", "disabled"]), is("bidirectional"), "";
        /// Bytes of the words that a client may commit with an offset.
        offset_metadata_max_bytes: usize, Kind::Integer { min: 0, max: i32::MAX as i64, unit: Unit::Bytes }, is("4096"), "";
        /// Minutes for which offsets of a group without members, and of partitions that no member reads, are kept.
        offsets_retention_minutes: u64, count(1, i32::MAX as i64), is("10080"), "";
        /// Time between two looks for offsets to forget.
        offsets_retention_check_interval_ms: u64, milliseconds(1, i64::MAX), is("600000"), "";
        /// Longest wait for a commit to be safe. Later than that the coordinator begins again from its log.
        offsets_commit_timeout_ms: u32, milliseconds(1, 30_000), is("5000"), "";
        /// Partitions of the offsets topic, when it is made: with the first group.
        offsets_topic_num_partitions: u32, count(1, TOPIC_PARTITIONS_MAX as i64), is("50"), "";
        /// Replicas of the offsets topic, if there are as many nodes when it is made.
        offsets_topic_replication_factor: u16, count(1, 16), is("3"), "";
        /// Bytes of a segment of the offsets topic, when it is made. Small ones are compacted, and loaded, sooner.
        offsets_topic_segment_bytes: u64, Kind::Integer { min: 1024 * 1024, max: i32::MAX as i64, unit: Unit::Bytes }, is("104857600"), "";
    }
}

section! {
    /// The cache of committed batches, used by every fetch.
    Cache "cache" {
        /// Memory that it may use; 0 turns it off.
        bytes_max: usize, bytes(0), is("67108864"), "";
        /// Memory for batches of partitions that other nodes lead, kept by listeners with `kafka.routing` `mesh`; 0 turns it off.
        relayed_bytes_max: usize, bytes(0), is("67108864"), "";
    }
}

section! {
    /// Ops HTTP: metrics, health, status, log level.
    Ops "ops" {
        /// Where it listens: `IP:PORT`, `localhost:PORT`, or `none`. Port 0 takes any free one. Beyond loopback it must be named in `security.allow_anonymous`.
        listen: OpsListen, Kind::Text("IP:PORT, localhost:PORT or none"), is("127.0.0.1:9644"), "--ops-listen";
        /// Connections served at once; more wait.
        connections_max: usize, count(1, OPS_CONNECTIONS_MAX as i64), is("64"), "";
        /// Partitions that get metrics of their own; those beyond are only counted in the totals.
        metric_partitions_max: usize, count(0, METRIC_PARTITIONS_MAX as i64), is("1000"), "";
    }
}

section! {
    /// Who may use which door.
    Security "security" {
        /// Doors that may be reached from other machines without authentication: `kafka`, `ops`.
        allow_anonymous: Vec<Door>, Kind::List("doors: kafka, ops"), Preset::None, "--allow-anonymous";
        /// Open every door to everybody, and let nodes join without a token. For tests on closed networks.
        insecure: bool, Kind::Boolean, is("false"), "--insecure";
    }
}

/// Everything that can be configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Section `node`.
    pub node: Node,
    /// Section `mesh`.
    pub mesh: Mesh,
    /// Section `kafka`.
    pub kafka: Kafka,
    /// Section `cluster`.
    pub cluster: Cluster,
    /// Section `log`.
    pub log: Log,
    /// Section `topic`.
    pub topic: Topic,
    /// Section `groups`.
    pub groups: Groups,
    /// Section `cache`.
    pub cache: Cache,
    /// Section `ops`.
    pub ops: Ops,
    /// Section `security`.
    pub security: Security,
    /// Every key with its value as text and where it was said; secrets are masked.
    pub shown: Arc<[Shown]>,
}

impl Config {
    pub(super) fn resolve(settings: &Settings, problems: &mut Vec<Problem>) -> Option<Self> {
        let node = Node::resolve(settings, problems);
        let mesh = Mesh::resolve(settings, problems);
        let kafka = Kafka::resolve(settings, problems);
        let cluster = Cluster::resolve(settings, problems);
        let log = Log::resolve(settings, problems);
        let topic = Topic::resolve(settings, problems);
        let groups = Groups::resolve(settings, problems);
        let cache = Cache::resolve(settings, problems);
        let ops = Ops::resolve(settings, problems);
        let security = Security::resolve(settings, problems);
        Some(Self {
            node: node?,
            mesh: mesh?,
            kafka: kafka?,
            cluster: cluster?,
            log: log?,
            topic: topic?,
            groups: groups?,
            cache: cache?,
            ops: ops?,
            security: security?,
            shown: settings.shown().into(),
        })
    }
}

/// A section of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its keys, in the order of the documentation.
    pub keys: &'static [Key],
}

/// Every section, in the order of the documentation.
pub static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(|| {
    vec![
        Section { name: "node", about: Node::ABOUT, keys: Node::KEYS },
        Section { name: "mesh", about: Mesh::ABOUT, keys: Mesh::KEYS },
        Section { name: "kafka", about: Kafka::ABOUT, keys: Kafka::KEYS },
        Section { name: "cluster", about: Cluster::ABOUT, keys: Cluster::KEYS },
        Section { name: "log", about: Log::ABOUT, keys: Log::KEYS },
        Section { name: "topic", about: Topic::ABOUT, keys: super::topic::keys() },
        Section { name: "groups", about: Groups::ABOUT, keys: Groups::KEYS },
        Section { name: "cache", about: Cache::ABOUT, keys: Cache::KEYS },
        Section { name: "ops", about: Ops::ABOUT, keys: Ops::KEYS },
        Section { name: "security", about: Security::ABOUT, keys: Security::KEYS },
    ]
});

/// Every key, section by section.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}
