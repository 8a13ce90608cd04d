//! A computer: its disk with what is on it, its clocks. Processes come and go on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rafka_log::Shutdown;
use rafka_log::disk::{Crash, Disk, Faults, FaultyDisk, MemoryDisk};
use rafka_model::{BrokerEpoch, Monotonic, NodeId, Offset, Timestamp, TopicPartition};

use super::tempo::MS;

/// 2026 or so.
const EPOCH_MS: i64 = 1_790_000_000_000;

#[derive(Debug)]
pub(super) struct Machine {
    memory: Arc<MemoryDisk>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) faults: Arc<Faults>,
    /// Which boot this is.
    pub(super) boot: u64,
    /// On disk: the boot in which everything here was recovered and registered last.
    pub(super) known_boot: Option<u64>,
    /// On disk: stopped in order.
    pub(super) clean: bool,
    /// On disk: which data directory this is; another one after the disk was lost.
    pub(super) directory: u64,
    /// On disk: who this is.
    pub(super) identity: Option<(NodeId, BrokerEpoch)>,
    /// On disk: high watermarks, and as they were written before.
    pub(super) checkpoint: BTreeMap<TopicPartition, Offset>,
    pub(super) old_checkpoint: BTreeMap<TopicPartition, Offset>,
    /// Its monotonic clock runs so fast, thousandths.
    pub(super) rate: u64,
    /// Its wall clock is so wrong, ms.
    pub(super) skew: i64,
    /// Syncs take longer by so much, ns.
    pub(super) slow: u64,
    /// Nothing runs before this.
    pub(super) paused_until: u64,
    /// When the machine stops in the middle of something: it loses its power, by this seed, or just the process dies.
    pub(super) halts_with: Option<Option<u64>>,
}

impl Machine {
    pub(super) fn new(rate: u64, directory: u64) -> Self {
        let memory = Arc::new(MemoryDisk::new());
        let (disk, faults) = FaultyDisk::new(memory.clone());
        Self {
            memory,
            disk: Arc::new(disk),
            faults,
            boot: 1,
            known_boot: None,
            clean: false,
            directory,
            identity: None,
            checkpoint: BTreeMap::new(),
            old_checkpoint: BTreeMap::new(),
            rate,
            skew: 0,
            slow: 0,
            paused_until: 0,
            halts_with: None,
        }
    }

    /// Its monotonic clock.
    pub(super) fn clock(&self, now: u64) -> Monotonic {
        Monotonic((u128::from(now) * u128::from(self.rate) / 1000) as u64)
    }

    /// When its monotonic clock shows this, at the earliest.
    pub(super) fn when(&self, local: Monotonic) -> u64 {
        (u128::from(local.0) * 1000).div_ceil(u128::from(self.rate)) as u64
    }

    /// Its wall clock.
    pub(super) fn wall(&self, now: u64) -> Timestamp {
        Timestamp(EPOCH_MS + (now / MS) as i64 + self.skew)
    }

    /// How it stopped last.
    pub(super) fn shutdown(&self) -> Shutdown {
        Shutdown::new(self.clean, self.known_boot == Some(self.boot))
    }

    /// Its replicas may lack what they had said to have in memory.
    pub(super) fn is_unclean(&self) -> bool {
        !self.clean && self.known_boot.is_some() && self.known_boot != Some(self.boot)
    }

    /// The process is gone; files are as they were.
    pub(super) fn kill(&mut self) {
        let (disk, faults) = FaultyDisk::new(self.memory.clone());
        (self.disk, self.faults) = (Arc::new(disk), faults);
        self.halts_with = None;
    }

    /// The power fails; `seed` decides what of the unsynced survives.
    pub(super) fn lose_power(&mut self, seed: u64) {
        self.memory = Arc::new(self.memory.crash(Crash::Power { seed }));
        self.kill();
        self.boot += 1;
        if seed & 1 == 0 {
            self.checkpoint = self.old_checkpoint.clone();
        }
    }

    /// Another, empty disk takes the place of the one that was.
    pub(super) fn lose_disk(&mut self, directory: u64) {
        self.memory = Arc::new(MemoryDisk::new());
        self.kill();
        (self.known_boot, self.clean, self.identity, self.directory) = (None, false, None, directory);
        self.checkpoint.clear();
        self.old_checkpoint.clear();
    }

    pub(super) fn save_checkpoint(&mut self, now: BTreeMap<TopicPartition, Offset>) {
        self.old_checkpoint = std::mem::replace(&mut self.checkpoint, now);
    }

    /// Where the log of a partition lives.
    pub(super) fn dir(at: TopicPartition) -> PathBuf {
        let id = at.topic.0;
        let name: u32 = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
        Path::new("/d").join(format!("{name:08x}-{}", at.partition.0))
    }

    /// Removes what is left of a partition.
    pub(super) fn remove(&self, at: TopicPartition) {
        let _ = self.disk.remove_dir_all(&Self::dir(at));
    }
}
