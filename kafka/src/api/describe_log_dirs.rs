//! DescribeLogDirs: how large the logs on this node's disks are.

use std::collections::BTreeMap;

use rafka_broker::metadata::Image;
use rafka_broker::request::LogDir;

use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic, Request, Response,
};
use crate::wire::Str;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let dirs = door.desk.log_dirs().await;
    let (image, wanted) = (door.desk.image(), request.topics.as_deref());
    let results = dirs.into_iter().map(|dir| result(&image, dir, wanted));
    Response { results: results.collect(), ..Response::default() }
}

fn result(image: &Image, dir: LogDir, wanted: Option<&[DescribableLogDirTopic]>) -> DescribeLogDirsResult {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    if let Some(failure) = dir.failure {
        let error_code = error::admin(failure.code);
        return DescribeLogDirsResult { error_code, log_dir: dir.path.into(), ..DescribeLogDirsResult::default() };
    }
    // A log whose topic is gone is about to go too.
    let known = dir.partitions.iter().filter_map(|(at, size)| {
        let index = i32::try_from(at.partition.0).unwrap_or(i32::MAX);
        Some(((image.topics.get(&at.topic)?.name.as_str(), index), bytes(*size)))
    });
    let mut sizes: BTreeMap<(&str, i32), i64> = known.collect();
    if let Some(wanted) = wanted {
        // Taken out once, however often it is asked for.
        let named = wanted.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&*topic.topic, *index)));
        sizes = named.filter_map(|at| sizes.remove_entry(&at)).collect();
    }
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for ((name, partition_index), partition_size) in sizes {
        let one = DescribeLogDirsPartition { partition_index, partition_size, ..Default::default() };
        topics.entry(name).or_default().push(one);
    }
    let topic = |(name, partitions): (&str, _)| DescribeLogDirsTopic { name: Str::from(name.to_owned()), partitions };
    DescribeLogDirsResult {
        log_dir: dir.path.into(),
        topics: topics.into_iter().map(topic).collect(),
        total_bytes: bytes(dir.total_bytes),
        usable_bytes: bytes(dir.usable_bytes),
        ..DescribeLogDirsResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding_with};
    use rafka_broker::{ErrorCode, Failure};
    use rafka_model::{PartitionId, TopicId, TopicPartition};

    fn bad(path: &str, code: ErrorCode) -> LogDir {
        LogDir { path: path.to_owned(), failure: Some(Failure::new(code, "gone")), ..LogDir::default() }
    }

    #[tokio::test]
    async fn sizes_are_told_by_topic_and_broken_disks_as_broken() {
        let door = deciding_with(|fake| {
            let stray = TopicPartition { topic: TopicId([9; 16]), partition: PartitionId(0) };
            let partitions = vec![(fake.orders(0), 100), (fake.orders(1), 50), (stray, 7)];
            fake.log_dirs = vec![
                LogDir { path: "/data".to_owned(), total_bytes: 1000, usable_bytes: 600, failure: None, partitions },
                bad("/bad", ErrorCode::StorageError),
                bad("node-3", ErrorCode::OutcomeUnknown),
            ];
        });
        for version in [1, 5] {
            let told = ask(&door, version, &Request { topics: None }).await;
            assert_eq!(told.results.iter().map(|dir| dir.error_code).collect::<Vec<_>>(), [0, 56, 7]);
            let topic = &told.results[0].topics[0];
            let sizes: Vec<_> = topic.partitions.iter().map(|one| (one.partition_index, one.partition_size)).collect();
            assert_eq!((&*topic.name, sizes, told.results[0].topics.len()), ("orders", vec![(0, 100), (1, 50)], 1));
            assert_eq!(told.results[0].usable_bytes, if version >= 4 { 600 } else { -1 });
            let some = DescribableLogDirTopic { topic: "orders".into(), partitions: vec![1, 8] };
            let told = ask(&door, version, &Request { topics: Some(vec![some]) }).await;
            assert_eq!(told.results[0].topics[0].partitions.len(), 1);
            let none = ask(&door, version, &Request { topics: Some(Vec::new()) }).await;
            assert!(none.results[0].topics.is_empty());
        }
    }
}
