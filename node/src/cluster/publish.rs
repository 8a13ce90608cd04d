//! Puts this node's share of the directory to its holders, and keeps it alive there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rafka_dht::{Due, Key, Publisher, SignedRecord, Stored, directory};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use super::Cluster;

/// Records put at once.
const PUTS_MAX: usize = 16;

/// Publishes what comes through `records` and is still this node's to publish; refreshes it; follows the members.
/// Ends with the sender of `records`.
pub async fn run(cluster: Arc<Cluster>, mut records: mpsc::Receiver<Vec<SignedRecord>>) {
    let mut publisher = Publisher::new(cluster.id);
    let mut images = cluster.images.subscribe();
    let mut puts: JoinSet<(Due, Stored)> = JoinSet::new();
    set_members(&cluster, &mut publisher);
    loop {
        let now = (cluster.clock)();
        if puts.len() < PUTS_MAX {
            for due in publisher.due(now) {
                let mesh = cluster.mesh.clone();
                puts.spawn(async move {
                    let stored = mesh.dht_put(due.record.clone(), due.holders.clone()).await.unwrap_or_default();
                    (due, stored)
                });
            }
        }
        let wait = publisher.next_due().map_or(Duration::from_secs(3600), |due| due.since(now));
        tokio::select! {
            batch = records.recv() => match batch {
                Some(batch) => batch.into_iter().for_each(|record| publisher.add(record, (cluster.clock)())),
                None => return,
            },
            Ok(()) = images.changed() => {
                set_members(&cluster, &mut publisher);
                retain(&cluster, &mut publisher);
            }
            Some(done) = puts.join_next() => {
                if let Ok((due, stored)) = done {
                    debug!(key = %due.record.key(), stored = stored.stored.len(), offered = stored.offered, "record put");
                    publisher.done(&due, &stored, (cluster.clock)());
                }
            }
            () = tokio::time::sleep(wait), if puts.len() < PUTS_MAX => {}
        }
    }
}

/// Holders are chosen among the nodes in service: a record at a silent node is found by nobody.
fn set_members(cluster: &Cluster, publisher: &mut Publisher) {
    let image = cluster.images.current();
    let members = image.nodes.values().filter(|node| !node.fenced).filter_map(|node| node.peer_id.parse().ok());
    publisher.set_members(members, (cluster.clock)());
}

/// Stops refreshing what another node publishes now. Tombstones go on: no image names them.
fn retain(cluster: &Cluster, publisher: &mut Publisher) {
    let Some(me) = cluster.standing().node else { return };
    let image = cluster.images.current();
    let mine: BTreeSet<Key> = directory::published_by(&image, me);
    let gone = |key: &Key| match key {
        Key::Topic(name) => image.topic(name).is_none(),
        Key::Shard(id, _) | Key::Name(id) => !image.topics.contains_key(id),
        Key::Quorum | Key::Node(_) => false,
    };
    publisher.retain(|key| mine.contains(key) || gone(key));
}
