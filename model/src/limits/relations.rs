//! Limits that must fit together.

use super::*;

const _: () = {
    assert!(BATCH_BYTES_DEFAULT <= BATCH_BYTES_MAX);
    assert!((BATCH_BYTES_MAX as usize) < FRAME_BODY_BYTES_MAX, "a frame carries a largest batch");
    assert!(LONG_POLL_MS_MAX < EXCHANGE_MS_MAX, "a long poll ends before its exchange does");
    assert!(GROUP_BATCH_BYTES < APPEND_INLINE_BYTES_MAX, "commits are appended without a change of threads");
    assert!(GROUP_RECORDS_BYTES_MAX < BATCH_BYTES_MAX as usize);
    assert!(METRIC_GROUP_OFFSETS_MAX <= REQUEST_PARTITIONS_MAX, "one request asks a leader for all ends");
    assert!(GROUP_ENDS_MS_MAX < GROUP_ENDS_MS);
    assert!(CONTROL_DEADLINE_MS < EXCHANGE_MS_MAX);
    assert!(DHT_RECORD_BYTES_MAX * 2 <= DHT_PACKET_BYTES_MAX, "a packet carries a record and peers");
    assert!(HEARTBEAT_MS * 4 <= SESSION_MS, "a session survives lost heartbeats");
    assert!(SUSPICION_MS_MAX < SESSION_MS, "a suspicion ends before the session does");
    assert!(VOTER_PROVEN_MS < VOTER_LOST_MS && VOTER_LOST_MS < NODE_LOST_MS);
    assert!(REPLICA_FETCH_TIMEOUT_MS < SESSION_MS && REPLICA_FETCH_TIMEOUT_MS * 2 < REPLICA_LAG_MS_MAX);
    assert!(PEER_REQUESTS_MAX <= PEER_STREAMS_MAX);
    assert!(KAFKA_DECODED_BYTES_MIN < KAFKA_DECODED_BYTES_MAX);
    assert!(KAFKA_READ_BYTES <= KAFKA_FRAME_FREE_BYTES && KAFKA_FRAME_FREE_BYTES < KAFKA_FRAME_BYTES_MAX);
    assert!(KAFKA_FRAME_BYTES_MAX <= KAFKA_REQUEST_BYTES_MAX && KAFKA_REQUEST_BYTES_MAX < u32::MAX as usize);
    assert!(PEER_STREAMS_MAX < 512, "yamux kills a connection of more substreams");
    assert!(PEER_REQUESTS_MAX <= PEER_CALLS_MAX);
    assert!(2 * PEER_CALLS_MAX + 64 < 512, "calls of both sides, kad and gossip share a connection");
    assert!(REQUEST_ROOM_MS_MAX < FRAME_STEP_MS_MAX);
    assert!(RESOLVE_SUBJECTS_MAX * DHT_RECORD_BYTES_MAX * 3 / 2 < CONTROL_HEADER_BYTES_MAX);
    assert!(REQUEST_PARTITIONS_MAX * 64 < REQUEST_HEADER_BYTES_MAX);
    assert!(FRAME_BODY_BYTES_MAX < NODE_REQUEST_BYTES_MAX);
    assert!(GROUP_REQUEST_BYTES_MAX <= FRAME_BODY_BYTES_MAX && GROUP_REPLY_BYTES_MAX <= FRAME_BODY_BYTES_MAX);
    assert!(FRAME_BODY_BYTES_MAX + FRAME_HEADER_BYTES_MAX < STRANGER_REQUEST_BYTES_MAX);
    assert!(LANE_REPLIES_BYTES_MAX <= LANE_REPLIES_HELD_MAX);
    assert!(LANE_REQUESTS_MAX as usize <= LANE_CALLS_MAX, "credit, not places, is what callers wait for");
    assert!(LANE_BEAT_MS * 3 < LANE_SILENCE_MS_MAX, "a lane survives a late beat");
    assert!(FRAME_STEP_MS_MAX < LANE_SILENCE_MS_MAX && LANE_READ_BYTES < FRAME_READ_STEP_BYTES);
    assert!(OPS_REQUEST_MS_MAX < OPS_IDLE_MS_MAX, "an answer comes before its connection is closed");
    assert!(ENTRY_BYTES_MAX <= METADATA_RECENT_BYTES_MAX && ENTRY_BYTES_MAX <= METADATA_CACHE_BYTES);
    assert!(RAFT_HEARTBEAT_MS * 3 < RAFT_ELECTION_MS_MIN, "an election needs more than a lost heartbeat or two");
    assert!(SNAPSHOT_ENTRIES_KEPT < SNAPSHOT_ENTRIES);
    assert!(GROUP_BYTES_MAX * 3 / 2 < BATCH_BYTES_MAX as usize, "a group is one record");
    assert!(GROUP_METADATA_BYTES_MAX + GROUP_ASSIGNMENT_BYTES_MAX < GROUP_BYTES_MAX);
    assert!(GROUP_TEXT_BYTES_MAX + 64 < i16::MAX as usize && GROUP_ID_BYTES_MAX <= GROUP_TEXT_BYTES_MAX);
};
