//! Load: each member tells by gossip how busy it is, each remembers what it was told last. For people and dashboards;
//! nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rafka_broker::metadata::Image;
use rafka_model::NodeId;
use rafka_model::limits::LOAD_HINT_MS;
use rafka_protocols::gossip::{Hint, LoadHint};
use tokio::time::MissedTickBehavior;

use super::Cluster;
use crate::datadir::DataDir;
use crate::mesh::PeerId;
use crate::metrics::Metrics;
use crate::partitions::Partitions;

/// Words heard this many intervals ago say nothing any more.
const INTERVALS_KEPT: u64 = 3;

/// What the members last told, by node.
#[derive(Debug, Default)]
pub struct Loads(Mutex<BTreeMap<NodeId, (Instant, LoadHint)>>);

impl Loads {
    /// Takes what `source` tells of itself; what it tells of others is ignored.
    pub fn heard(&self, image: &Image, source: &PeerId, load: LoadHint) {
        let speaks_for_itself = image.nodes.get(&load.node).is_some_and(|node| node.peer_id == source.to_string());
        if speaks_for_itself {
            self.0.lock().insert(load.node, (Instant::now(), load));
        }
    }

    /// What is known of members that were heard lately, by node id.
    #[must_use]
    pub fn known(&self) -> Vec<LoadHint> {
        let kept = Duration::from_millis(LOAD_HINT_MS * INTERVALS_KEPT);
        let mut loads = self.0.lock();
        loads.retain(|_, (heard, _)| heard.elapsed() < kept);
        loads.values().map(|(_, load)| *load).collect()
    }
}

/// Where a node's own load is read from.
pub struct Source {
    /// Records in and out.
    pub partitions: Arc<Partitions>,
    /// The disk.
    pub data: Arc<DataDir>,
    /// Requests.
    pub metrics: Arc<Metrics>,
}

/// Counters at one moment; a load is the difference of two.
struct Counted {
    at: Instant,
    in_bytes: u64,
    out_bytes: u64,
    requests: u64,
}

impl Source {
    fn count(&self) -> Counted {
        let totals = self.partitions.totals();
        Counted {
            at: Instant::now(),
            in_bytes: totals.produced_bytes,
            out_bytes: totals.fetched_bytes,
            requests: self.metrics.requests(),
        }
    }

    fn load(&self, image: &Image, node: NodeId, before: &Counted, now: &Counted) -> LoadHint {
        let ms = u64::try_from((now.at - before.at).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = |now: u64, before: u64| now.saturating_sub(before).saturating_mul(1000) / ms;
        let states = image.topics.values().flat_map(|topic| &topic.partitions);
        let led = states.filter(|state| state.leader == Some(node)).count();
        let space = self.data.space().unwrap_or_default();
        LoadHint {
            node,
            partitions_led: u32::try_from(led).unwrap_or(u32::MAX),
            in_bytes_per_s: rate(now.in_bytes, before.in_bytes),
            out_bytes_per_s: rate(now.out_bytes, before.out_bytes),
            requests_per_s: u32::try_from(rate(now.requests, before.requests)).unwrap_or(u32::MAX),
            disk_used_bytes: space.total_bytes.saturating_sub(space.free_bytes),
            disk_total_bytes: space.total_bytes,
        }
    }
}

/// Tells this node's load for as long as it is a member, to itself as well.
pub async fn tell(cluster: Arc<Cluster>, source: Source) {
    let mut ticks = tokio::time::interval(Duration::from_millis(LOAD_HINT_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = source.count();
    loop {
        ticks.tick().await;
        let Some(node) = cluster.standing().node else { continue };
        let now = source.count();
        let image = cluster.images.current();
        let load = source.load(&image, node, &before, &now);
        cluster.loads.heard(&image, &cluster.mesh.local(), load);
        cluster.mesh.publish(Hint::Load(load));
        before = now;
    }
}
