//! Follows leadership: a coordinator for each partition of the offsets topic that this node leads, and for no other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rafka_model::limits::GROUP_RELOAD_MS_MAX;
use rafka_model::{LeaderEpoch, PartitionId, TopicPartition};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::shard::{self, Shard};
use super::{Inner, topic};

/// A coordinator's task.
struct Running {
    shard: Arc<Shard>,
    task: AbortHandle,
}

pub(super) async fn keep(inner: Arc<Inner>) {
    let mut changes = inner.partitions.changes();
    // Dropped with this future: then every coordinator ends.
    let mut tasks = JoinSet::new();
    let mut running: HashMap<TopicPartition, Running> = HashMap::new();
    loop {
        changes.borrow_and_update();
        let led = led(&inner);
        running.retain(|at, Running { shard, task }| {
            let stays = led.get(at) == Some(&shard.epoch);
            if !stays {
                tracing::info!(partition = %at.partition, "no longer the coordinator of this partition's groups");
                task.abort();
                if let Some(machine) = shard.machine.lock().take() {
                    inner.figures.dropped(&machine);
                }
            }
            stays
        });
        for (at, epoch) in led {
            running.entry(at).or_insert_with(|| start(&inner, &mut tasks, at, epoch, Duration::ZERO));
        }
        if inner.stopping.load(Ordering::Acquire) {
            return;
        }
        let shards = running.iter().map(|(at, running)| (*at, running.shard.clone())).collect();
        inner.shards.store(Arc::new(shards));
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next_with_id() => restart(&inner, &mut tasks, &mut running, ended),
        }
    }
}

/// The partitions of the offsets topic that this node leads, and in which epoch.
fn led(inner: &Inner) -> BTreeMap<TopicPartition, LeaderEpoch> {
    let image = inner.images.current();
    let Some(topic) = topic::find(&image) else { return BTreeMap::new() };
    let places = (0..).zip(&topic.partitions).map(|(index, _)| PartitionId(index));
    let places = places.map(|partition| TopicPartition { topic: topic.id, partition });
    places.filter_map(|at| Some((at, inner.partitions.leads_in(at)?))).collect()
}

fn start(
    inner: &Arc<Inner>,
    tasks: &mut JoinSet<()>,
    at: TopicPartition,
    epoch: LeaderEpoch,
    pause: Duration,
) -> Running {
    let (shard, queue) = Shard::new(at, epoch);
    let task = tasks.spawn(shard::run(inner.clone(), shard.clone(), queue, pause));
    Running { shard, task }
}

/// A coordinator ended: another takes its place, unless it was replaced already. One that panicked rests first.
fn restart(
    inner: &Arc<Inner>,
    tasks: &mut JoinSet<()>,
    running: &mut HashMap<TopicPartition, Running>,
    ended: Result<(Id, ()), JoinError>,
) {
    let (id, panicked) = match &ended {
        Ok((id, ())) => (*id, false),
        Err(error) => (error.id(), error.is_panic()),
    };
    let found = running.iter().find(|(_, running)| running.task.id() == id);
    let Some((at, epoch)) = found.map(|(at, running)| (*at, running.shard.epoch)) else { return };
    running.remove(&at);
    if panicked {
        tracing::error!(partition = %at.partition, "a coordinator of groups died; another takes its place");
    }
    if inner.partitions.leads_in(at) == Some(epoch) {
        let pause = if panicked { Duration::from_millis(GROUP_RELOAD_MS_MAX) } else { Duration::ZERO };
        running.insert(at, start(inner, tasks, at, epoch, pause));
    }
}
