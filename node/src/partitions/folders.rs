//! Folders of partitions that go: marked first, emptied, then removed, so that a crash leaves either a whole partition
//! or one that is known to be doomed.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rafka_log::disk::Disk;
use rafka_model::TopicPartition;

use super::meta::{self, Meta};

/// In a folder: its partition is deleted, what is left goes too.
const DOOMED: &str = "partition.deleted";

/// The folders of partitions, with what their `partition.meta` says.
pub(super) fn scan(disk: &dyn Disk, logs: &Path) -> BTreeMap<TopicPartition, Option<Meta>> {
    let names = disk.list(logs).unwrap_or_else(|error| {
        tracing::warn!(dir = %logs.display(), %error, "cannot list partitions");
        Vec::new()
    });
    let partitions = names.iter().filter_map(|name| meta::partition_of(name));
    partitions.map(|at| (at, Meta::read(disk, &logs.join(meta::folder(at))))).collect()
}

/// Was its deletion begun?
pub(super) fn is_doomed(disk: &dyn Disk, dir: &Path) -> bool {
    disk.exists(&dir.join(DOOMED)).unwrap_or(false)
}

/// Begins the deletion. A rename, so that it needs no space on a full disk.
fn mark(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if is_doomed(disk, dir) {
        return Ok(());
    }
    let mark = dir.join(DOOMED);
    match disk.rename(&Meta::path(dir), &mark) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&mark).map(drop),
        done => done,
    }
}

/// Deletes the folder with all in it. May be repeated after an error.
pub(super) fn remove(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if !disk.exists(dir)? {
        return Ok(());
    }
    mark(disk, dir)?;
    for name in disk.list(dir)? {
        if name == DOOMED {
            continue;
        }
        match disk.remove(&dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    disk.remove_dir_all(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::Arc;

    use rafka_log::disk::{FaultyDisk, MemoryDisk};
    use rafka_model::{ClusterId, MetadataIndex, PartitionId, TopicId, TopicName};

    #[test]
    fn a_deletion_that_stops_anywhere_is_known_or_has_not_begun() {
        let at = TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(0) };
        let (logs, dir) = (PathBuf::from("/logs"), PathBuf::from("/logs").join(meta::folder(at)));
        let meta = Meta {
            topic: TopicName::new("t").expect("legal"),
            partition: at,
            cluster: ClusterId([2; 32]),
            index: MetadataIndex(3),
        };
        for stop in 0.. {
            let memory = Arc::new(MemoryDisk::new());
            memory.create_dir_all(&dir).expect("creates");
            meta.write(&*memory, &dir).expect("writes");
            for name in ["00000000000000000000.log", "00000000000000000000.index"] {
                memory.create(&dir.join(name)).expect("creates");
            }
            let (disk, faults) = FaultyDisk::new(memory.clone());
            faults.halt_at(stop);
            let removed = remove(&disk, &dir);
            let found = scan(&*memory, &logs);
            if removed.is_ok() {
                assert!(found.is_empty());
                break;
            }
            let whole = found.get(&at) == Some(&Some(meta.clone())) && memory.list(&dir).expect("lists").len() == 3;
            assert!(whole || is_doomed(&*memory, &dir), "stopped at {stop}");
            remove(&*memory, &dir).expect("can be repeated");
            assert!(scan(&*memory, &logs).is_empty());
        }
    }
}
