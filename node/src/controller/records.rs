//! What the controller signs for the directory, and who publishes it.
//!
//! Records are made when somebody asks, from the image: the same state makes the same bytes, so nothing needs to be kept
//! but the tombstones of topics that no image names any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rafka_broker::metadata::{Delta, Entry, Image, Topic};
use rafka_dht::directory::{self, Quorum};
use rafka_dht::{Body, Key, Version};
use rafka_model::limits::{DHT_SHARD_PARTITIONS, TOMBSTONES_MAX};
use rafka_model::{MetadataIndex, NodeId};

use super::ClusterKey;
use crate::image::ImageStore;

/// Signs what the image says must be in the directory.
pub struct Records {
    key: Arc<ClusterKey>,
    images: Arc<ImageStore>,
    term: AtomicU64,
    tombstones: Mutex<VecDeque<Tombstone>>,
}

struct Tombstone {
    index: MetadataIndex,
    publisher: NodeId,
    record: Bytes,
}

impl Records {
    pub(super) fn new(key: Arc<ClusterKey>, images: Arc<ImageStore>) -> Self {
        Self { key, images, term: AtomicU64::new(0), tombstones: Mutex::default() }
    }

    pub(super) fn set_term(&self, term: u64) {
        self.term.store(term, Ordering::Relaxed);
    }

    /// The record that `image` makes for `key`; `None` if there is no such thing in it.
    #[must_use]
    pub fn sign(&self, image: &Image, key: &Key) -> Option<Bytes> {
        self.signed(directory::body_of(image, self.quorum(), key)?)
    }

    /// The records that `node` shall publish and that are newer than `since`, the last entry that it has. One that
    /// registered after that has lost what it held, and gets all of its records.
    #[must_use]
    pub fn records_for(&self, node: NodeId, since: MetadataIndex) -> Vec<Bytes> {
        let image = self.images.current();
        let Some(registered) = image.nodes.get(&node) else { return Vec::new() };
        let anew = since.0 < registered.epoch.0;
        let since = if anew { MetadataIndex(0) } else { since };
        let topics = image.topics.iter().filter(|(_, topic)| topic.changed > since);
        let changed = Image {
            voters: image.voters.clone(),
            topics: topics.map(|(id, topic)| (*id, topic.clone())).collect(),
            ..Image::default()
        };
        let keys = directory::published_by(&changed, node);
        let own = anew.then_some(Key::Node(node));
        let bodies = own.iter().chain(&keys).filter_map(|key| directory::body_of(&image, self.quorum(), key));
        let mut records: Vec<Bytes> = bodies.filter_map(|body| self.signed(body)).collect();
        let tombstones = self.tombstones.lock();
        let is_due = |index| index > since && index <= image.index;
        let buried = tombstones.iter().filter(|tombstone| tombstone.publisher == node && is_due(tombstone.index));
        records.extend(buried.map(|tombstone| tombstone.record.clone()));
        records
    }

    /// Notes an entry that is about to be applied to `before`: topics that it deletes leave tombstones, to be published
    /// by who published the topics.
    pub(super) fn note(&self, entry: &Entry, before: &Image) {
        let version = Version::new(self.quorum().generation, entry.index);
        for delta in &entry.deltas {
            let Delta::TopicDeleted { id } = delta else { continue };
            let Some((cluster, topic)) = before.cluster.as_ref().zip(before.topics.get(id)) else { continue };
            for body in directory::tombstones(cluster.id, version, topic) {
                let Some(publisher) = publisher(before, topic, &body.key) else { continue };
                let Some(record) = self.signed(body) else { continue };
                let mut tombstones = self.tombstones.lock();
                tombstones.push_back(Tombstone { index: entry.index, publisher, record });
                if tombstones.len() > TOMBSTONES_MAX {
                    tombstones.pop_front();
                }
            }
        }
    }

    /// The entry at `index` was not applied, as far as this controller knows.
    pub(super) fn forget(&self, index: MetadataIndex) {
        self.tombstones.lock().retain(|tombstone| tombstone.index != index);
    }

    fn quorum(&self) -> Quorum {
        Quorum { generation: 0, term: self.term.load(Ordering::Relaxed) }
    }

    fn signed(&self, body: Body) -> Option<Bytes> {
        let key = body.key.clone();
        match self.key.signer().sign(body) {
            Ok(record) => Some(record.bytes().clone()),
            Err(error) => {
                tracing::error!(%key, %error, "record not signed");
                None
            }
        }
    }
}

/// Who published a topic's record: the leader of the shard's first live partition, or else the first voter.
fn publisher(image: &Image, topic: &Topic, key: &Key) -> Option<NodeId> {
    let shard = match key {
        Key::Shard(_, shard) => *shard as usize,
        _ => 0,
    };
    let states = topic.partitions.chunks(DHT_SHARD_PARTITIONS as usize).nth(shard)?;
    states.iter().find_map(|state| state.leader).or(image.voters.first().copied())
}
