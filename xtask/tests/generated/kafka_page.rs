//! The page of Kafka's APIs: what is served, in which versions, and which of them clients use.

use std::fmt::Write as _;

use rafka_kafka::{ApiKey, SERVED};

/// Clients, and where their versions are written: in their sources, read in 2026.
const CLIENTS: [&str; 5] = ["librdkafka 2.15", "sarama 1.46", "kafkajs 2.2", "aiokafka 0.14", "rskafka 0.6"];

/// Highest version that each of [`CLIENTS`] sends, by API; `None` if it never asks. The Java client 4.3, franz-go and
/// kafka-python 3 send the highest of all.
const SENT: &[(ApiKey, [Option<i16>; 5])] = &[
    (ApiKey::Produce, [Some(10), Some(10), Some(7), Some(8), Some(7)]),
    (ApiKey::Fetch, [Some(16), Some(12), Some(11), Some(11), Some(4)]),
    (ApiKey::ListOffsets, [Some(7), Some(6), Some(3), Some(5), Some(3)]),
    (ApiKey::Metadata, [Some(13), Some(11), Some(6), Some(5), Some(4)]),
    (ApiKey::OffsetCommit, [Some(9), Some(8), Some(5), Some(3), None]),
    (ApiKey::OffsetFetch, [Some(9), Some(8), Some(4), Some(3), None]),
    (ApiKey::FindCoordinator, [Some(2), Some(3), Some(2), Some(1), None]),
    (ApiKey::JoinGroup, [Some(5), Some(8), Some(5), Some(5), None]),
    (ApiKey::Heartbeat, [Some(3), Some(4), Some(3), Some(1), None]),
    (ApiKey::LeaveGroup, [Some(1), Some(5), Some(3), Some(1), None]),
    (ApiKey::SyncGroup, [Some(3), Some(5), Some(3), Some(3), None]),
    (ApiKey::DescribeGroups, [Some(5), Some(5), Some(2), Some(3), None]),
    (ApiKey::ListGroups, [Some(4), Some(5), Some(2), Some(1), None]),
    (ApiKey::ApiVersions, [Some(3), Some(4), Some(2), Some(2), Some(3)]),
    (ApiKey::CreateTopics, [Some(4), Some(7), Some(3), Some(3), Some(5)]),
    (ApiKey::DeleteTopics, [Some(4), Some(6), Some(1), Some(3), Some(5)]),
    (ApiKey::DeleteRecords, [Some(2), Some(2), Some(1), Some(2), Some(2)]),
    (ApiKey::InitProducerId, [Some(4), Some(4), Some(1), Some(0), None]),
    (ApiKey::OffsetForLeaderEpoch, [Some(2), None, None, None, None]),
    (ApiKey::DescribeAcls, [Some(2), Some(2), Some(1), Some(2), None]),
    (ApiKey::CreateAcls, [Some(2), Some(2), Some(1), Some(1), None]),
    (ApiKey::DeleteAcls, [Some(2), Some(2), Some(1), Some(1), None]),
    (ApiKey::DescribeConfigs, [Some(1), Some(4), Some(2), Some(2), None]),
    (ApiKey::AlterConfigs, [Some(2), Some(2), Some(1), Some(1), None]),
    (ApiKey::DescribeLogDirs, [None, Some(4), None, None, None]),
    (ApiKey::CreatePartitions, [Some(2), Some(3), Some(1), Some(1), None]),
    (ApiKey::DeleteGroups, [Some(2), Some(2), Some(1), Some(1), None]),
    (ApiKey::ElectLeaders, [Some(2), Some(2), None, None, None]),
    (ApiKey::IncrementalAlterConfigs, [Some(1), Some(1), None, None, None]),
    (ApiKey::ListPartitionReassignments, [None, Some(0), Some(0), Some(0), None]),
    (ApiKey::OffsetDelete, [Some(0), Some(0), None, None, None]),
    (ApiKey::DescribeClientQuotas, [None, Some(1), None, Some(0), None]),
    (ApiKey::AlterClientQuotas, [None, Some(1), None, None, None]),
    (ApiKey::DescribeUserScramCredentials, [Some(0), Some(0), None, None, None]),
    (ApiKey::AlterUserScramCredentials, [Some(0), Some(0), None, None, None]),
    (ApiKey::UpdateFeatures, [None, Some(0), None, None, None]),
    (ApiKey::DescribeCluster, [None, Some(2), None, None, None]),
    (ApiKey::DescribeProducers, [None, Some(0), None, None, None]),
    (ApiKey::ConsumerGroupHeartbeat, [Some(1), None, None, None, None]),
    (ApiKey::ConsumerGroupDescribe, [Some(0), None, None, None, None]),
];

const HEAD: &str = "# Kafka APIs\n\n\
    What the Kafka door serves, and in which versions: the ranges of Kafka 4.3. A client and a node agree on the highest \
    version\nthat both know. The columns of clients show the version that comes out for each; the Java client 4.3 and the \
    tools that are\nbuilt on it, franz-go and kafka-python 3 use the highest of the range. What is not in the table is not \
    advertised, and asking\nfor it ends the connection, as Kafka does.\n\n";

const FOOT: &str = "\nProduce 0 to 2 are advertised and refused with `UNSUPPORTED_VERSION`, as by Kafka 4: older librdkafka \
    would otherwise send\nuncompressed records \
    ([KAFKA-18659](https://issues.apache.org/jira/browse/KAFKA-18659)). Fetch before 4, records before\nformat v2 and the \
    other versions that Kafka 4 dropped ([KIP-896](https://cwiki.apache.org/confluence/display/KAFKA/KIP-896%3A+Remove+old+client+protocol+API+versions+in+Kafka+4.0)) are not served.\n";

pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    let _ = writeln!(page, "| Key | API | Versions | {} | What it does here |", CLIENTS.join(" | "));
    let _ = writeln!(page, "|---|---|---|{}---|", "---|".repeat(CLIENTS.len()));
    for key in SERVED {
        let range = key.advertised();
        let versions = match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{}–{}", range.start(), range.end()),
        };
        let sent = SENT.iter().find(|(api, _)| api == key).map_or([None; 5], |(_, sent)| *sent);
        let used = sent.map(|sent| sent.map_or_else(|| "–".to_owned(), |sent| agreed(*key, sent).to_string()));
        let _ = writeln!(page, "| {} | {key} | {versions} | {} | {} |", key.number(), used.join(" | "), words(*key));
    }
    page.push_str(FOOT);
    page
}

/// The version on which a client that sends `sent` at most agrees with a node.
fn agreed(key: ApiKey, sent: i16) -> i16 {
    let served = key.versions();
    assert!(sent >= *served.start(), "{key}: a client of the table is too old for {served:?}");
    sent.min(*served.end())
}

/// What the first line of the API's module says behind its name.
fn words(key: ApiKey) -> String {
    let mut module = String::new();
    for letter in key.name().chars() {
        if letter.is_ascii_uppercase() && !module.is_empty() {
            module.push('_');
        }
        module.push(letter.to_ascii_lowercase());
    }
    let path = xtask::root().join("kafka/src/api").join(format!("{module}.rs"));
    let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let first = source.lines().next().unwrap_or_default();
    let words = first.strip_prefix(&format!("//! {key}: "));
    let words = words.unwrap_or_else(|| panic!("{} begins with `//! {key}: …`", path.display()));
    let mut letters = words.chars();
    letters.next().map(|letter| letter.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
