//! Every bound of the system, in one place; relations between them are checked at compile time.
//!
//! Sizes are bytes unless the name says otherwise, times are milliseconds (`_ms`).

mod relations;

// Names and records -----------------------------------------------------------------------------

/// Longest topic name (Kafka's).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Header of a record batch v2, up to and with the record count.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Largest record batch that any topic may allow (`max.message.bytes` is at most this).
pub const BATCH_BYTES_MAX: u32 = 64 * MIB as u32;
/// Kafka's default of `max.message.bytes`.
pub const BATCH_BYTES_DEFAULT: u32 = 1_048_588;
/// Records one batch may claim.
pub const BATCH_RECORDS_MAX: u32 = 1_000_000;
/// Bytes that one batch may decompress to; a bomb is refused here.
pub const BATCH_DECOMPRESSED_BYTES_MAX: usize = 256 * MIB;
/// Headers of one record.
pub const RECORD_HEADERS_MAX: usize = 10_000;

// Topics ----------------------------------------------------------------------------------------

/// Partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: u32 = 10_000;
/// Topics of a cluster.
pub const TOPICS_MAX: usize = 100_000;
/// Nodes of a cluster, fenced ones with it.
pub const NODES_MAX: usize = 10_000;
/// Log directories of one node, and …
pub const LOG_DIRS_MAX: usize = 64;
/// … logs in them, that it tells of at once.
pub const LOGS_TOLD_MAX: usize = 100_000;
/// Config overrides of one topic.
pub const TOPIC_CONFIGS_MAX: usize = 128;
/// Bytes of one config value.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4096;

// Log -------------------------------------------------------------------------------------------

/// A segment is preallocated in chunks of at most this.
pub const PREALLOCATE_BYTES_MAX: u64 = MIB as u64;
/// One entry of the offset and time indexes for this many bytes of segment (`index.interval.bytes`).
pub const INDEX_INTERVAL_BYTES: u32 = 4096;
/// Bytes that one read of a log returns at most, unless a single batch is larger.
pub const READ_BYTES_MAX: u32 = 4 * MIB as u32;
/// A dirty log is flushed at the latest after this time …
pub const FLUSH_DIRTY_MS_MAX: u64 = 5_000;
/// … or once this much is dirty.
pub const FLUSH_DIRTY_BYTES_MAX: u64 = 64 * MIB as u64;
/// Fsyncs of replicated topics a second and node.
pub const FLUSHES_PER_SECOND_MAX: u32 = 200;
/// Entries of one index; a segment that has more is closed.
pub const INDEX_ENTRIES_MAX: u32 = 1 << 20;
/// Files of closed segments that one log keeps open for readers.
pub const SEALED_FILES_MAX: usize = 4;
/// The leader-epoch cache of one log, as a file.
pub const EPOCH_CACHE_BYTES_MAX: usize = 16 * MIB;
/// A produce of more bytes than this is appended off the async threads.
pub const APPEND_INLINE_BYTES_MAX: usize = MIB;
/// Reads of a node's logs that miss the cache and run at once.
pub const COLD_READS_MAX: usize = 32;
/// What is appended to a partition goes into the cache until this much was appended since anybody read there.
pub const CACHE_UNREAD_BYTES_MAX: u64 = MIB as u64;
/// Appended batches of one partition that wait for the high watermark one by one; beyond, they are counted together.
pub const UNCOMMITTED_BATCHES_MAX: usize = 4096;
/// Threads that open or close a node's partitions.
pub const OPEN_THREADS_MAX: usize = 16;

// Replication -----------------------------------------------------------------------------------

/// A follower that lags behind its leader for longer leaves the in-sync set (`replica.lag.time.max.ms`).
pub const REPLICA_LAG_MS_MAX: u64 = 10_000;
/// A follower gives a fetch up that is not answered for so long.
pub const REPLICA_FETCH_TIMEOUT_MS: u64 = 3_000;
/// A leader sends its proposal of an in-sync set again after a failure of unknown outcome …
pub const ALTER_PARTITION_RETRY_MS: u64 = 500;
/// … and if nothing came of it, neither an answer nor another state of the partition.
pub const ALTER_PARTITION_TIMEOUT_MS: u64 = 3_000;
/// A replica that the controller would not take into the in-sync set is not proposed again for so long, unless nodes came
/// or went.
pub const INELIGIBLE_REPLICA_MS: u64 = 1_000;

// Producers -------------------------------------------------------------------------------------

/// Producer ids that a node gets from the controller at once.
pub const PRODUCER_IDS_BLOCK: u32 = 1_000;
/// Latest batches of a producer that a partition remembers to know a repetition by: as many as Kafka's producers have
/// in flight (KIP-98).
pub const PRODUCER_BATCHES_KEPT: usize = 5;
/// Producers that a partition remembers; beyond, those are forgotten that were silent longest.
pub const PRODUCERS_MAX: usize = 10_000;
/// A producer is forgotten after silence of this length (`producer.id.expiration.ms`, KIP-854).
pub const PRODUCER_EXPIRATION_MS: u64 = 24 * 3_600_000;
/// Bytes of one producer in a snapshot, at most.
pub const PRODUCER_SNAPSHOT_ENTRY_BYTES_MAX: usize = 192;
/// A snapshot of a partition's producers.
pub const PRODUCER_SNAPSHOT_BYTES_MAX: usize = 64 + PRODUCERS_MAX * PRODUCER_SNAPSHOT_ENTRY_BYTES_MAX;
/// Batches behind the latest snapshot at which a checkpoint takes another: a restart reads the headers of about so many.
pub const PRODUCER_SNAPSHOT_BATCHES: u64 = 256;
/// Smallest memory that a compaction may be given for its map of keys.
pub const COMPACTION_BUFFER_BYTES_MIN: usize = 64 * KIB;
/// Largest memory of the same.
pub const COMPACTION_BUFFER_BYTES_MAX: usize = 4096 * MIB;
/// Segments that compaction merges into one.
pub const COMPACTION_MERGED_MAX: usize = 64;
/// Producers whose last batch one compaction round looks for; of more, every batch counts as the last.
pub const COMPACTION_PRODUCERS_MAX: usize = 100_000;
/// Transactions that one compaction round keeps account of; the round ends where there are more.
pub const COMPACTION_TRANSACTIONS_MAX: usize = 100_000;

// Coordinators of groups ------------------------------------------------------------------------

/// Requests that wait for one coordinator; who comes then waits at its door.
pub const GROUP_QUEUE_MAX: usize = 4096;
/// Requests whose records a coordinator appends together …
pub const GROUP_BATCH_REQUESTS_MAX: usize = 1024;
/// … and the bytes of their records; a single request may bring more.
pub const GROUP_BATCH_BYTES: usize = 512 * KIB;
/// Records of one request are split into batches of this size.
pub const GROUP_RECORDS_BYTES_MAX: usize = 16 * MIB;
/// Appends of one coordinator that wait to be committed.
pub const GROUP_APPENDS_MAX: usize = 16;
/// Coordinators of a node that read their logs at once.
pub const GROUP_LOADS_MAX: usize = 2;
/// A coordinator that failed begins again after this time, doubled each time up to …
pub const GROUP_RELOAD_MS: u64 = 100;
/// … this.
pub const GROUP_RELOAD_MS_MAX: u64 = 10_000;
/// Longest wait for the topic of groups to be known once it is made.
pub const GROUP_TOPIC_MS_MAX: u64 = 5_000;
/// "The topic of groups cannot be made" is believed for this long.
pub const GROUP_TOPIC_NEGATIVE_MS: u64 = 500;
/// The leaders of partitions that groups read are asked this often where those end, for metrics …
pub const GROUP_ENDS_MS: u64 = 10_000;
/// … and have so long to answer …
pub const GROUP_ENDS_MS_MAX: u64 = 2_000;
/// … so many of them at once …
pub const GROUP_ENDS_LEADERS_MAX: usize = 64;
/// … until so many rounds have passed without a look at the metrics.
pub const GROUP_ENDS_IDLE_ROUNDS: u32 = 30;
/// Committed offsets that have metrics of their own.
pub const METRIC_GROUP_OFFSETS_MAX: usize = 2_000;

// Groups ----------------------------------------------------------------------------------------

/// A group's name.
pub const GROUP_ID_BYTES_MAX: usize = 1024;
/// Other texts of a group's member: client id, instance id, protocol type, name of a protocol. Kafka's records hold
/// texts of less than 32 KiB.
pub const GROUP_TEXT_BYTES_MAX: usize = 4096;
/// Bytes of a client's id that become part of a member id.
pub const GROUP_MEMBER_ID_PREFIX_BYTES_MAX: usize = 255;
/// Members of one group, whatever `group.max.size` allows.
pub const GROUP_MEMBERS_MAX: usize = 20_000;
/// Members of all groups of one partition of the offsets topic.
pub const GROUPS_MEMBERS_MAX: usize = 100_000;
/// Member ids of one group that were given out and not used yet.
pub const GROUP_PENDING_MAX: usize = 20_000;
/// A new member whose JoinGroup still waits is forgotten after this time (Kafka's).
pub const GROUP_NEW_MEMBER_MS_MAX: u64 = 300_000;
/// Assignment protocols of one member.
pub const GROUP_PROTOCOLS_MAX: usize = 64;
/// Metadata of one member, all its protocols together.
pub const GROUP_METADATA_BYTES_MAX: usize = MIB;
/// Assignment of one member.
pub const GROUP_ASSIGNMENT_BYTES_MAX: usize = MIB;
/// What is kept of the members of one group: it becomes one record.
pub const GROUP_BYTES_MAX: usize = 32 * MIB;
/// The same of all groups of one partition of the offsets topic.
pub const GROUPS_BYTES_MAX: usize = 256 * MIB;
/// Groups of one partition of the offsets topic.
pub const GROUPS_MAX: usize = 100_000;
/// Committed offsets in one partition of the offsets topic.
pub const GROUPS_OFFSETS_MAX: usize = 4_000_000;
/// Offsets that one request stores, reads or forgets.
pub const GROUP_COMMIT_OFFSETS_MAX: usize = 100_000;
/// Members named by one LeaveGroup.
pub const GROUP_LEAVING_MAX: usize = 20_000;
/// Topics in the subscription of one member.
pub const GROUP_TOPICS_MAX: usize = 100_000;
/// Offsets that are looked at in one go when expired ones are sought.
pub const GROUP_SWEEP_OFFSETS: usize = 10_000;
/// A regular expression that stands for topics …
pub const GROUP_REGEX_BYTES_MAX: usize = 4 * KIB;
/// … compiled.
pub const GROUP_REGEX_COMPILED_BYTES_MAX: usize = MIB;
/// Different expressions of one group: each is compiled again whenever topics come or go.
pub const GROUP_REGEXES_MAX: usize = 64;
/// How deep the brackets of an expression may go.
pub const GROUP_REGEX_NESTING_MAX: u32 = 64;

// Wire ------------------------------------------------------------------------------------------

/// Header (prost) of a mesh frame.
pub const FRAME_HEADER_BYTES_MAX: usize = 4 * MIB;
/// Body (raw record bytes) of a mesh frame: one largest batch and a little company.
pub const FRAME_BODY_BYTES_MAX: usize = 80 * MIB;
/// A frame is read in steps of this, so that a claimed length allocates nothing by itself.
pub const FRAME_READ_STEP_BYTES: usize = 256 * KIB;
/// Header of a frame of the small protocols (hello, register, resolve, admin).
pub const CONTROL_HEADER_BYTES_MAX: usize = 4 * MIB;
/// Header of a hello, the one frame that a stranger may send, and of frames whose message is the body.
pub const HELLO_HEADER_BYTES_MAX: usize = 64 * KIB;
/// Header of a produce or fetch request: [`REQUEST_PARTITIONS_MAX`] partitions fit.
pub const REQUEST_HEADER_BYTES_MAX: usize = MIB;
/// [`FRAME_READ_STEP_BYTES`] of a frame, or all of a smaller one, arrive within this time.
pub const FRAME_STEP_MS_MAX: u64 = 10_000;
/// Longest wait for room among [`NODE_REQUEST_BYTES_MAX`] before a request is answered "busy".
pub const REQUEST_ROOM_MS_MAX: u64 = 1_000;
/// Outstanding requests to one peer, all protocols.
pub const PEER_CALLS_MAX: usize = 192;
/// Outstanding requests to one peer and protocol.
pub const PEER_REQUESTS_MAX: usize = 64;
/// Substreams of one protocol on one connection, both directions together.
pub const PEER_STREAMS_MAX: usize = 256;
/// Requests being served by a node at once, all protocols.
pub const NODE_REQUESTS_MAX: usize = 4096;
/// Bytes of request bodies held by a node at once.
pub const NODE_REQUEST_BYTES_MAX: usize = 512 * MIB;
/// The same for connections on which no request was granted yet: they may be a stranger's.
pub const STRANGER_REQUEST_BYTES_MAX: usize = 96 * MIB;
/// Longest exchange of a request-response protocol.
pub const EXCHANGE_MS_MAX: u64 = 60_000;
/// Deadline of a control request when the caller names none.
pub const CONTROL_DEADLINE_MS: u64 = 10_000;
/// Longest wait of a description for the metadata that its asker has seen already; below any client's first attempt.
pub const METADATA_SINCE_MS_MAX: u64 = 2_000;
/// Longest wait of a member for the others of its group, over a lane (Kafka's longest session).
pub const GROUP_WAIT_MS_MAX: u64 = 1_800_000;
/// Longest wait of a fetch or watch for news; below [`EXCHANGE_MS_MAX`].
pub const LONG_POLL_MS_MAX: u64 = 30_000;
/// Members named by a hello.
pub const HELLO_MEMBERS_MAX: usize = 32;
/// Subjects of one resolve.
pub const RESOLVE_SUBJECTS_MAX: usize = 128;
/// Entries, and DHT records, in one answer to a watch.
pub const WATCH_ENTRIES_MAX: usize = 4096;
/// Words of an error.
pub const FAILURE_BYTES_MAX: usize = 1024;
/// A node certificate, signature with it.
pub const CERTIFICATE_BYTES_MAX: usize = 4 * KIB;
/// Partitions named by one produce or fetch.
pub const REQUEST_PARTITIONS_MAX: usize = 10_000;
/// A request to a group's coordinator.
pub const GROUP_REQUEST_BYTES_MAX: usize = 16 * MIB;
/// The answer: a description of all members, or all offsets of a group.
pub const GROUP_REPLY_BYTES_MAX: usize = 64 * MIB;
/// A text in either: Kafka's strings are no longer.
pub const GROUP_STRING_BYTES_MAX: usize = i16::MAX as usize;
/// Topics, partitions, members and protocols in one such request …
pub const GROUP_REQUEST_ITEMS_MAX: usize = 20_000;
/// … and in one answer.
pub const GROUP_REPLY_ITEMS_MAX: usize = 1_000_000;

// Lanes ------------------------------------------------------------------------------------------

/// Requests that an end of a lane lets the other have under way …
pub const LANE_REQUESTS_MAX: u32 = 1024;
/// … and their bytes; one request of any size is always allowed.
pub const LANE_CREDIT_BYTES: u64 = 16 * MIB as u64;
/// What a request weighs on top of its bytes, as credit counts.
pub const LANE_REQUEST_BYTES: u64 = 256;
/// Callers that may wait on one lane.
pub const LANE_CALLS_MAX: usize = 2048;
/// Bytes of answers that wait for a lane's reader; beyond, no further request of it is begun.
pub const LANE_REPLIES_BYTES_MAX: usize = 16 * MIB;
/// The same, beyond which answers with a body to requests that were begun before become "busy".
pub const LANE_REPLIES_HELD_MAX: usize = 64 * MIB;
/// Read at once from a lane while no large body is on its way, and written at once.
pub const LANE_READ_BYTES: usize = 64 * KIB;
/// A lane on which nothing is asked is closed after this time.
pub const LANE_IDLE_MS: u64 = 60_000;
/// An end of a lane that has nothing to say says so this often.
pub const LANE_BEAT_MS: u64 = 5_000;
/// A lane from which nothing comes for this long is dead.
pub const LANE_SILENCE_MS_MAX: u64 = 20_000;
/// Lanes that one connection may bring in.
pub const LANE_STREAMS_MAX: usize = 4;
/// Lanes to one peer and class that are kept, whoever opened them.
pub const LANES_KEPT_MAX: usize = 4;
/// First pause after a lane could not be opened; doubled up to …
pub const LANE_RETRY_MS: u64 = 200;
/// … this.
pub const LANE_RETRY_MS_MAX: u64 = 5_000;

// Kafka door -------------------------------------------------------------------------------------

/// Memory that the arrays of a Kafka frame may take once decoded: the frame's bytes times this …
pub const KAFKA_DECODED_FACTOR: usize = 32;
/// … and this, so that no small frame is refused …
pub const KAFKA_DECODED_BYTES_MIN: usize = 64 * KIB;
/// … but at most this.
pub const KAFKA_DECODED_BYTES_MAX: usize = 64 * MIB;

/// Largest Kafka frame that is read, unless configured otherwise (Kafka's `socket.request.max.bytes`).
pub const KAFKA_FRAME_BYTES_MAX: usize = 100 * MIB;
/// Bytes of Kafka requests that a node holds at once, unless configured otherwise.
pub const KAFKA_REQUEST_BYTES_MAX: usize = 256 * MIB;
/// A Kafka frame takes memory from what all connections share once more of it than this is there or announced.
pub const KAFKA_FRAME_FREE_BYTES: usize = 64 * KIB;
/// Read at once from a Kafka connection while no large frame is on its way.
pub const KAFKA_READ_BYTES: usize = 16 * KIB;
/// Replies of one Kafka connection that wait for replicas or for the client …
pub const KAFKA_PIPELINE_MAX: usize = 128;
/// … and their bytes: beyond, no further request is begun until the client has taken some.
pub const KAFKA_PIPELINE_BYTES_MAX: usize = MIB;
/// Topics and partitions of a request that may wait for other nodes beside those that come behind it.
pub const KAFKA_AHEAD_PARTITIONS_MAX: usize = 256;
/// Bytes of replies that all Kafka clients together have not taken, beyond which everybody is given less at a time …
pub const KAFKA_REPLY_BYTES_PRESSED: usize = 256 * MIB;
/// … namely this much by one fetch.
pub const KAFKA_FETCH_BYTES_PRESSED: u32 = 64 * KIB as u32;
/// A Kafka connection on which nothing comes is closed after this time, unless configured otherwise.
pub const KAFKA_IDLE_MS: u64 = 600_000;
/// A Kafka client takes some of its replies within this time.
pub const KAFKA_SEND_MS_MAX: u64 = 60_000;
/// Kafka connections of a node, unless configured otherwise.
pub const KAFKA_CONNECTIONS_MAX: usize = 16_384;
/// Longest wait of a Metadata request for the topics that it made.
pub const KAFKA_AUTO_CREATE_MS_MAX: u64 = 3_000;
/// Topics that one Metadata request may make.
pub const KAFKA_AUTO_CREATE_TOPICS_MAX: usize = 100;
/// Changes of one Kafka request that wait for the controller at once.
pub const KAFKA_CHANGES_MAX: usize = 64;
/// Partitions in one page of DescribeTopicPartitions (Kafka's `max.request.partition.size.limit`).
pub const KAFKA_PAGE_PARTITIONS_MAX: usize = 2000;

// Gateway ---------------------------------------------------------------------------------------

/// Bytes of records on their way to one leader, waiting ones with them.
pub const GATEWAY_PEER_BYTES_MAX: usize = 64 * MIB;
/// Relayed produces to one leader at once; no two of them carry the same partition.
pub const GATEWAY_CALLS_MAX: usize = 16;
/// Bytes, and …
pub const GATEWAY_CALL_BYTES_MAX: usize = MIB;
/// … parts, of produces of several clients that travel in one relayed produce.
pub const GATEWAY_CALL_PARTS_MAX: usize = 1024;
/// Shortest time that a relayed produce is given, whatever its client says.
pub const GATEWAY_RELAY_MS_MIN: u64 = 5_000;
/// Time beyond what the client allows the leader for the answer to travel.
pub const GATEWAY_TRAVEL_MS: u64 = 500;
/// First pause before a request goes to another leader, or the same again; doubled up to …
pub const GATEWAY_RETRY_MS: u64 = 20;
/// … this.
pub const GATEWAY_RETRY_MS_MAX: u64 = 500;
/// Attempts of a relayed read.
pub const GATEWAY_ATTEMPTS_MAX: u32 = 6;
/// Cached records are given out for this long after their leader was last heard of the partition.
pub const GATEWAY_MARK_MS_MAX: u64 = 1_000;
/// Longest wait for leaders when a fetch can be answered without them.
pub const GATEWAY_GRACE_MS: u64 = 2;
/// When a fetch can be answered without them, leaders are not asked about a partition of which they told the end so
/// lately.
pub const GATEWAY_FRESH_MS_MAX: u64 = 10;
/// A relayed long poll that nobody waits for any more ends after this time, unless somebody comes back to it.
pub const GATEWAY_ABANDONED_MS: u64 = 1_000;

/// All nodes that are asked of their disks must have answered by then.
pub const GATEWAY_SURVEY_MS: u64 = 5_000;
/// Nodes asked of their disks at once.
pub const GATEWAY_SURVEY_NODES: usize = 64;

// Swarm -----------------------------------------------------------------------------------------

/// Connections of one peer.
pub const PEER_CONNECTIONS_MAX: u32 = 8;
/// Longest dial and handshake.
pub const CONNECT_MS_MAX: u64 = 10_000;
/// Connections being set up, each direction.
pub const PENDING_CONNECTIONS_MAX: u32 = 64;
/// Established connections of a node.
pub const CONNECTIONS_MAX: u32 = 4096;
/// An unadmitted peer is disconnected after this time.
pub const ADMISSION_MS_MAX: u64 = 5_000;
/// What one unadmitted peer said to a protocol that is not for it, kept until it is admitted …
pub const STRANGER_EVENTS_MAX: usize = 32;
/// … and what all of them said, for each of these protocols.
pub const STRANGERS_EVENTS_MAX: usize = 1024;
/// Members with which a node keeps a connection at all times; beyond, connections follow use.
pub const FULL_MESH_NODES_MAX: usize = 16;
/// Commands waiting for the swarm task.
pub const SWARM_COMMANDS_MAX: usize = 1024;
/// A gossip message.
pub const GOSSIP_BYTES_MAX: usize = 16 * KIB;
/// Time between two words of a member on its load.
pub const LOAD_HINT_MS: u64 = 5_000;
/// Addresses a node may register.
pub const NODE_ADDRESSES_MAX: usize = 16;
/// Bytes of one address as text.
pub const ADDRESS_BYTES_MAX: usize = 512;
/// Bytes of a rack, role or other short label.
pub const LABEL_BYTES_MAX: usize = 249;

// DHT -------------------------------------------------------------------------------------------

/// Holders of a record: Kademlia's k.
pub const DHT_HOLDERS: usize = 8;
/// Parallel requests of one lookup: Kademlia's alpha.
pub const DHT_PARALLELISM: usize = 3;
/// A record, signature and envelope with it.
pub const DHT_RECORD_BYTES_MAX: usize = 16 * KIB;
/// A Kademlia packet: a record and the addresses of k peers fit.
pub const DHT_PACKET_BYTES_MAX: usize = 64 * KIB;
/// Records that one node stores for others.
pub const DHT_RECORDS_MAX: usize = 65_536;
/// Bytes of records that one node stores for others.
pub const DHT_STORE_BYTES_MAX: usize = 256 * MIB;
/// Partitions in one shard of a topic's record.
pub const DHT_SHARD_PARTITIONS: u32 = 128;
/// Life of node, topic and shard records; refreshed at a third of it.
pub const DHT_TTL_MS: u64 = 30 * 60_000;
/// Life of the quorum record; refreshed at a fifth of it.
pub const DHT_QUORUM_TTL_MS: u64 = 10 * 60_000;
/// Resolved routes a node or client keeps.
pub const ROUTE_CACHE_TOPICS_MAX: usize = 10_000;
/// A lookup or store in the DHT ends after this time.
pub const DHT_QUERY_MS_MAX: u64 = 10_000;
/// Interval of the walks by which a node without a registry fills its routing table.
pub const DHT_BOOTSTRAP_MS: u64 = 20_000;
/// Valid answers a reader compares when none is new enough.
pub const DHT_READ_HOLDERS: usize = 3;
/// Addresses of one peer that are passed on to others.
pub const DHT_PEER_ADDRESSES_MAX: usize = 4;
/// Peers one lookup keeps account of.
pub const DHT_WALK_PEERS_MAX: usize = 1024;
/// Signatures remembered as checked.
pub const DHT_VERIFIED_MAX: usize = 4096;
/// Records handed out for publication at once.
pub const DHT_DUE_MAX: usize = 64;
/// First wait before a failed publication is tried again; doubled up to …
pub const DHT_REPUBLISH_MS: u64 = 1_000;
/// … this.
pub const DHT_REPUBLISH_MS_MAX: u64 = 60_000;
/// Records that move to a new holder are spread over this time for each of them …
pub const DHT_SPREAD_MS: u64 = 1;
/// … and all of them over this at most.
pub const DHT_SPREAD_MS_MAX: u64 = 2_000;
/// Times a record that must exist is looked for again before another way is tried …
pub const DHT_RETRIES_MAX: u32 = 5;
/// … after a wait of this, doubled each time.
pub const DHT_RETRY_MS: u64 = 30;
/// Lookups repeated for a key of which nobody holds any record.
pub const DHT_MISS_RETRIES_MAX: u32 = 2;
/// "Not there" is believed for this long, and one key is asked of the fallback at most this often in doubt.
pub const DHT_NEGATIVE_MS: u64 = 1_000;
/// A cached route is looked up again after this time.
pub const ROUTE_AGE_MS_MAX: u64 = 5 * 60_000;
/// Fallback lookups of a resolver at once.
pub const DHT_FALLBACKS_MAX: usize = 8;

// Memory ----------------------------------------------------------------------------------------

/// A piece of memory of this size or more is given back to the system as soon as it is freed.
pub const MEMORY_MAPPED_BYTES_MIN: usize = 4 * MIB;
/// Freed memory that is kept for what comes next.
pub const MEMORY_KEPT_BYTES: usize = 64 * MIB;
/// How often a node looks whether it should give freed memory back.
pub const MEMORY_CHECK_MS: u64 = 30_000;
/// A node that produces and fetches more than this in that time is too busy for it.
pub const MEMORY_BUSY_BYTES: u64 = 64 * MIB as u64;

// Metadata log ----------------------------------------------------------------------------------

/// Deltas of one entry.
pub const ENTRY_DELTAS_MAX: usize = 4096;
/// Bytes of one entry.
pub const ENTRY_BYTES_MAX: usize = 8 * MIB;
/// Bytes of a metadata snapshot.
pub const SNAPSHOT_BYTES_MAX: usize = 512 * MIB;
/// Entries after which a snapshot is taken.
pub const SNAPSHOT_ENTRIES: u64 = 10_000;
/// Nesting of a CBOR value.
pub const CBOR_DEPTH_MAX: usize = 32;
/// A node says that it lives this often …
pub const HEARTBEAT_MS: u64 = 500;
/// … and is fenced after silence of this length (KIP-631 calls it the session).
pub const SESSION_MS: u64 = 6_000;
/// Reassignments that one node takes part in at once; others wait.
pub const REASSIGNMENTS_PER_NODE_MAX: usize = 5;
/// Replicas of a node that has been out of service for this long move to others.
pub const DEAD_NODE_MS: u64 = 15 * 60_000;
/// The controller looks this often whether preferred leaders should lead again (Kafka's) …
pub const LEADER_BALANCE_MS: u64 = 300_000;
/// … and moves leaderships where more than this share of a node's is elsewhere, in percent …
pub const LEADER_IMBALANCE_PERCENT_MAX: usize = 10;
/// … at most so many at once.
pub const LEADER_BALANCE_MOVES_MAX: usize = 1000;
/// A replica that did not say how far its log reaches is asked again after this time.
pub const RECOVERY_ASK_MS: u64 = 2_000;
/// Replicas of one partition, those that come and go with it.
pub const PARTITION_REPLICAS_MAX: usize = 32;
/// Replicas of a partition of an internal topic, where there are so many brokers.
pub const INTERNAL_REPLICATION_FACTOR: u16 = 3;
/// Requests the controller folds into one entry.
pub const CONTROLLER_BATCH_MAX: usize = 1000;
/// Admin requests waiting for the controller.
pub const CONTROLLER_QUEUE_MAX: usize = 4096;
/// A segment of the consensus log is closed once it holds this.
pub const METADATA_SEGMENT_BYTES: u64 = 8 * MIB as u64;
/// Consensus log entries kept in memory for readers.
pub const METADATA_CACHE_BYTES: usize = 16 * MIB;
/// Bytes that one read of the consensus log returns, unless a single entry is larger.
pub const METADATA_READ_BYTES_MAX: usize = 4 * MIB;
/// Bytes of consensus log that one fsync covers, unless a single append is larger.
pub const METADATA_GROUP_BYTES_MAX: usize = 16 * MIB;
/// Writes waiting for the consensus log's disk thread.
pub const METADATA_WRITES_MAX: usize = 1024;
/// Recent entries kept for the watch feed …
pub const METADATA_RECENT_ENTRIES_MAX: usize = 10_000;
/// … and their bytes; who is further behind gets a snapshot.
pub const METADATA_RECENT_BYTES_MAX: usize = 16 * MIB;
/// Entries that stay in the consensus log behind a snapshot, for voters that are a little late.
pub const SNAPSHOT_ENTRIES_KEPT: u64 = 1_000;
/// Heartbeat of the consensus leader.
pub const RAFT_HEARTBEAT_MS: u64 = 100;
/// Shortest silence of the leader before a voter stands for election …
pub const RAFT_ELECTION_MS_MIN: u64 = 400;
/// … and the longest.
pub const RAFT_ELECTION_MS_MAX: u64 = 800;
/// The controller drains its queue for at most this long before it proposes what it has.
pub const CONTROLLER_DRAIN_MS_MAX: u64 = 5;
/// The image of a node that does not vote is saved at most this often.
pub const IMAGE_SAVE_MS: u64 = 1_000;
/// Life of a node certificate; a node gets a new one with each registration.
pub const CERTIFICATE_MS: u64 = 365 * 24 * 3_600_000;
/// Tombstones of deleted topics kept for their publishers.
pub const TOMBSTONES_MAX: usize = 10_000;

// Care of the cluster ---------------------------------------------------------------------------

/// Moves of replicas that a node takes part in at once.
pub const MOVES_PER_NODE_MAX: u32 = 5;
/// A node that is fenced for this long is taken for dead: its replicas move.
pub const NODE_LOST_MS: u64 = 15 * 60_000;
/// Voters of the metadata quorum.
pub const VOTERS_MAX: usize = 5;
/// A learner that becomes a voter has been in service for this long.
pub const VOTER_PROVEN_MS: u64 = 30_000;
/// A voter that is fenced for this long is replaced.
pub const VOTER_LOST_MS: u64 = 5 * 60_000;
/// A learner is caught up if it misses at most so many entries.
pub const VOTER_LAG_ENTRIES_MAX: u64 = 64;
/// Signs that a process died count together if they came within this time.
pub const SUSPICION_MS_MAX: u64 = 2_000;
/// A sync that takes this long makes a node give its leaderships away …
pub const FLUSH_MS_MAX: u64 = 5_000;
/// … until its disk was well for this long.
pub const DISK_WELL_MS: u64 = 60_000;
/// A process to which nothing happened for this long was asleep.
pub const SLEEP_MS_MIN: u64 = 1_000;

// Configuration and ops --------------------------------------------------------------------------

/// A configuration file, or a file that holds one value.
pub const CONFIG_FILE_BYTES_MAX: usize = MIB;
/// Texts in one list of the configuration (listen or bootstrap addresses).
pub const CONFIG_LIST_MAX: usize = 256;
/// Addresses that one bootstrap name may resolve to; more are ignored.
pub const BOOTSTRAP_RESOLVED_MAX: usize = 256;
/// A name must resolve within this time.
pub const BOOTSTRAP_RESOLVE_MS_MAX: u64 = 5_000;
/// Connections that ops HTTP may be configured to serve at once.
pub const OPS_CONNECTIONS_MAX: usize = 4096;
/// Body of an ops request.
pub const OPS_BODY_BYTES_MAX: usize = 16 * KIB;
/// An ops request is answered within this time.
pub const OPS_REQUEST_MS_MAX: u64 = 10_000;
/// An ops connection is closed after silence of this length.
pub const OPS_IDLE_MS_MAX: u64 = 30_000;
/// Partitions that may have metrics of their own.
pub const METRIC_PARTITIONS_MAX: usize = 100_000;

// Units -----------------------------------------------------------------------------------------

/// 1024 bytes.
pub const KIB: usize = 1024;
/// 1024 KiB.
pub const MIB: usize = 1024 * KIB;
