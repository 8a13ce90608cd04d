//! `partition.meta`: says, for people and tools, whose partition a folder is, and since when.
//!
//! It is also the proof needed before a folder that no metadata names is deleted: only an image at least as new as the
//! one that created it, of the same cluster, can say that it is gone for good.

use std::path::{Path, PathBuf};

use rafka_log::disk::Disk;
use rafka_model::{ClusterId, MetadataIndex, PartitionId, TopicId, TopicName, TopicPartition};

const FILE: &str = "partition.meta";
const BYTES_MAX: u64 = 4096;

/// What the file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Meta {
    /// The topic's name.
    pub(super) topic: TopicName,
    /// Which partition.
    pub(super) partition: TopicPartition,
    /// Whose.
    pub(super) cluster: ClusterId,
    /// Metadata index of the image that first placed it here.
    pub(super) index: MetadataIndex,
}

/// Name of a partition's folder.
pub(super) fn folder(at: TopicPartition) -> String {
    format!("{}-{}", at.topic, at.partition)
}

/// The partition whose folder has this name.
pub(super) fn partition_of(folder: &str) -> Option<TopicPartition> {
    let (topic, partition) = folder.rsplit_once('-')?;
    let at = TopicPartition { topic: topic.parse::<TopicId>().ok()?, partition: PartitionId(partition.parse().ok()?) };
    (self::folder(at) == folder).then_some(at)
}

impl Meta {
    /// Where it is in a partition's folder.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Is there one?
    pub(super) fn exists(disk: &dyn Disk, dir: &Path) -> bool {
        disk.exists(&Self::path(dir)).unwrap_or(false)
    }

    /// Reads the file of a partition's folder; `None` if it is missing or not understood.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Option<Self> {
        let file = disk.open(&Self::path(dir)).ok()?;
        let length = file.len().ok().filter(|bytes| *bytes <= BYTES_MAX)?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        let read = file.read_at(&mut bytes, 0).ok()?;
        bytes.truncate(read);
        Self::parse(std::str::from_utf8(&bytes).ok()?)
    }

    /// Writes the file, all or nothing. Not synced: losing it costs a name, never a record.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> std::io::Result<()> {
        let temporary = dir.join("partition.meta.tmp");
        let file = disk.create(&temporary)?;
        file.write_at(&[self.text().as_bytes()], 0)?;
        disk.rename(&temporary, &Self::path(dir))
    }

    fn text(&self) -> String {
        let Self { topic, partition: at, cluster, index } = self;
        format!(
            "version: 1\ntopic: {topic}\ntopic_id: {}\npartition: {}\ncluster_id: {cluster}\nmetadata_index: {index}\n",
            at.topic, at.partition
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            text.lines().find_map(|line| line.split_once(": ").filter(|(name, _)| *name == key).map(|(_, value)| value))
        };
        Some(Self {
            topic: value("topic")?.parse().ok()?,
            partition: TopicPartition {
                topic: value("topic_id")?.parse().ok()?,
                partition: PartitionId(value("partition")?.parse().ok()?),
            },
            cluster: value("cluster_id")?.parse().ok()?,
            index: MetadataIndex(value("metadata_index")?.parse().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> TopicPartition {
        TopicPartition { topic: TopicId([0x5a; 16]), partition: PartitionId(42) }
    }

    #[test]
    fn the_text_comes_back() {
        let topic = TopicName::new("orders-v1").expect("legal");
        let meta = Meta { topic, partition: at(), cluster: ClusterId([7; 32]), index: MetadataIndex(9) };
        assert_eq!(Meta::parse(&meta.text()), Some(meta));
        assert_eq!(Meta::parse("topic: x"), None);
    }

    #[test]
    fn only_names_that_we_would_write_are_ours() {
        assert_eq!(partition_of(&folder(at())), Some(at()));
        for other in ["lost+found", "", &format!("{}-007", at().topic), &format!("{}.deleted", folder(at()))] {
            assert_eq!(partition_of(other), None, "{other}");
        }
    }
}
