//! Puts a node's share of the directory to its holders, by the publisher of `rafka_dht`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rafka_dht::{Clock, Due, Key, Publisher, Stored, Version};
use rafka_model::limits::DHT_SPREAD_MS_MAX;
use rafka_model::{MetadataIndex, NodeId};
use rafka_node::mesh::Mesh;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::registry::{Registry, View};

/// Records put at once.
const PUTS_MAX: usize = 16;
/// Nothing due for this long: what is due later are refreshes.
const QUIET: Duration = Duration::from_millis(DHT_SPREAD_MS_MAX + 500);

/// How far a node's publishing has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Settled {
    /// Records up to this image are known to the publisher …
    pub(super) index: MetadataIndex,
    /// … and every holder has them.
    pub(super) quiet: bool,
}

/// Publishes what the registry signs for `node`, follows the members, for ever.
pub(super) async fn run(
    registry: Arc<Registry>,
    mesh: Mesh,
    node: NodeId,
    clock: Clock,
    settled: watch::Sender<Settled>,
) {
    let mut publisher = Publisher::new(registry.cluster());
    let mut views = registry.views();
    let mut given: BTreeMap<Key, Version> = BTreeMap::new();
    let mut unfinished: BTreeSet<Key> = BTreeSet::new();
    let mut puts: JoinSet<(Due, Stored)> = JoinSet::new();
    let mut known = take(&registry, &mut publisher, &views.borrow_and_update().clone(), node, &mut given, &clock);
    loop {
        let now = clock();
        if puts.len() < PUTS_MAX {
            for due in publisher.due(now) {
                unfinished.insert(due.record.key().clone());
                let mesh = mesh.clone();
                puts.spawn(async move {
                    let stored = mesh.dht_put(due.record.clone(), due.holders.clone()).await.unwrap_or_default();
                    (due, stored)
                });
            }
        }
        let wait = publisher.next_due().map_or(Duration::from_secs(3600), |due| due.since(now));
        let quiet = unfinished.is_empty() && wait > QUIET;
        settled.send_if_modified(|last| std::mem::replace(last, Settled { index: known, quiet }) != *last);
        tokio::select! {
            Ok(()) = views.changed() => {
                let view = views.borrow_and_update().clone();
                known = take(&registry, &mut publisher, &view, node, &mut given, &clock);
            }
            Some(Ok((due, stored))) = puts.join_next() => {
                if stored.everywhere() {
                    unfinished.remove(due.record.key());
                }
                publisher.done(&due, &stored, clock());
                unfinished.retain(|key| given.contains_key(key));
            }
            () = tokio::time::sleep(wait), if puts.len() < PUTS_MAX => {}
        }
    }
}

/// Takes a new image: who may hold records, and which are this node's to publish.
fn take(
    registry: &Registry,
    publisher: &mut Publisher,
    view: &View,
    node: NodeId,
    given: &mut BTreeMap<Key, Version>,
    clock: &Clock,
) -> MetadataIndex {
    publisher.set_members(view.in_service.iter().copied(), clock());
    for record in registry.records_for(&view.image, node, given) {
        publisher.add(record, clock());
    }
    publisher.retain(|key| given.contains_key(key));
    view.image.index
}
