use std::collections::BTreeSet;

use rafka_model::{NodeId, Offset, PartitionId};
use rafka_protocols::gossip::LoadHint;

use super::*;

fn led(partition: u32) -> PartitionSample {
    PartitionSample {
        topic: "orders".parse().expect("a name"),
        partition: PartitionId(partition),
        log_start: Offset(5),
        high_watermark: Offset(42),
        bytes: 1024,
    }
}

fn sample() -> Sample {
    let cache = rafka_cache::Stats { hits: 7, ..Default::default() };
    let load = LoadHint { node: NodeId(2), in_bytes_per_s: 9, ..Default::default() };
    Sample {
        partitions_led: 3,
        disk_full: true,
        cache,
        loads: vec![load],
        led: (0..3).map(led).collect(),
        ..Default::default()
    }
}

#[test]
fn figures_appear_under_our_names_and_kafkas() {
    let metrics = Metrics::new();
    metrics.sample(10, sample);
    metrics.request(Protocol::Produce, None, Duration::from_millis(2));
    metrics.request(Protocol::Fetch, Some(ErrorCode::OffsetOutOfRange), Duration::ZERO);
    metrics.exchanges(Arc::default());
    let text = metrics.encode();
    for line in [
        "rafka_disk_full 1",
        "rafka_cache_hits_total 7",
        "rafka_member_in_bytes_per_second{node=\"2\"} 9",
        "kafka_server_replicamanager_underreplicatedpartitions 0",
        "kafka_controller_kafkacontroller_offlinepartitionscount 0",
        "kafka_topic_partition_current_offset{topic=\"orders\",partition=\"2\"} 42",
        "rafka_request_duration_seconds_bucket{le=\"0.0025\",protocol=\"produce\"} 1",
        "rafka_request_errors_total{protocol=\"fetch\",error=\"OFFSET_OUT_OF_RANGE\"} 1",
        "rafka_mesh_sent_bytes_total{protocol=\"hello\"} 0",
        "rafka_metric_partitions_omitted 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("process_resident_memory_bytes ") && text.ends_with("# EOF\n"));
}

#[test]
fn partitions_beyond_the_cap_have_no_series() {
    let metrics = Metrics::new();
    metrics.sample(2, sample);
    let text = metrics.encode();
    assert_eq!(text.lines().filter(|line| line.starts_with("kafka_topic_partition_current_offset{")).count(), 2);
    assert!(text.contains("rafka_metric_partitions_omitted 1"));
}

#[test]
fn no_metric_is_told_twice() {
    let metrics = Metrics::new();
    metrics.sample(2, sample);
    metrics.exchanges(Arc::default());
    let recorder = SwarmRecorder::new(&metrics);
    let text = metrics.encode();
    let mut seen = BTreeSet::new();
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        assert!(seen.insert(name.to_owned()), "{name} twice");
    }
    assert!(text.contains("# TYPE libp2p_"), "libp2p's metrics share the registry");
    drop(recorder);
}
