//! Joining, measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use libp2p::PeerId;
use libp2p::kad::KBucketKey;
use rafka_model::limits::{DHT_HOLDERS, FULL_MESH_NODES_MAX};
use rafka_node::mesh::{Mesh, Snapshot};

use super::peer::Peer;
use super::{SETTLE, Swarm};
use crate::progress::Progress;
use crate::report::Join;
use crate::stats::{Summary, ms};

/// Nodes that join at the same time, unless all do.
const JOINING_MAX: usize = 8;

impl Swarm {
    /// Founds the cluster and lets everybody join through the founder's address.
    pub(super) async fn join(&mut self, progress: Progress) -> Result<Join, String> {
        let nodes = self.config.nodes;
        let began = Instant::now();
        let bar = progress.phase(&format!("{nodes} nodes join"), nodes);
        let founder = self.origin(0, None);
        let founder = Peer::start(founder, &self.around).await?;
        let door = founder.address();
        self.peers[0] = Some(founder);
        bar.inc(1);
        let origins: Vec<_> = (1..nodes).map(|number| self.origin(number, Some(door.clone()))).collect();
        let width = if self.config.at_once { nodes } else { JOINING_MAX };
        let around = &self.around;
        let starts =
            origins.into_iter().map(|origin| async move { (origin.number, Peer::start(origin, around).await) });
        let mut starting = futures::stream::iter(starts).buffer_unordered(width.max(1));
        while let Some((number, started)) = starting.next().await {
            self.peers[number] = Some(started.map_err(|reason| format!("node {number} did not join: {reason}"))?);
            bar.inc(1);
        }
        drop(starting);
        let known = self.neighbours_known(progress).await?;
        let all_ms = ms(began.elapsed());
        bar.finish_and_clear();
        let (mut tables, mut connected) = (Vec::new(), Vec::new());
        for mesh in self.meshes() {
            let snapshot = mesh.snapshot().await.ok_or("a swarm ended")?;
            tables.push(snapshot.routing_table as f64);
            connected.push(snapshot.peers.len() as f64);
        }
        Ok(Join {
            registered_ms: Summary::of_ms(self.alive().map(|peer| peer.registered_in)),
            known_ms: Summary::of_ms(known),
            all_ms,
            neighbours: neighbour_count(nodes),
            routing_table: Summary::of(tables),
            connected: Summary::of(connected),
        })
    }

    /// Waits until every node holds its neighbours and is held by them; the ages at which that came true.
    pub(super) async fn neighbours_known(&self, progress: Progress) -> Result<Vec<Duration>, String> {
        let bar = progress.phase("neighbours get to know each other", self.config.nodes);
        let by_id = self.by_id();
        let mut waiting: FuturesUnordered<_> = self.alive().map(|peer| known(peer, &by_id)).collect();
        let mut ages = Vec::new();
        let all = async {
            while let Some(age) = waiting.next().await {
                ages.push(age?);
                bar.inc(1);
            }
            Ok::<(), String>(())
        };
        match tokio::time::timeout(SETTLE, all).await {
            Ok(done) => done?,
            Err(_) => {
                let (known, nodes) = (ages.len(), self.config.nodes);
                return Err(format!("{known} of {nodes} nodes knew their neighbours after {} s", SETTLE.as_secs()));
            }
        }
        bar.finish_and_clear();
        Ok(ages)
    }
}

fn neighbour_count(nodes: usize) -> usize {
    if nodes <= FULL_MESH_NODES_MAX { nodes.saturating_sub(1) } else { DHT_HOLDERS }
}

/// Those with whom `local` must be acquainted: everybody in a small swarm, else the holders of what lies next to it.
fn neighbours(local: PeerId, all: &BTreeMap<PeerId, Mesh>) -> Vec<PeerId> {
    let here = KBucketKey::from(local);
    let mut near: Vec<PeerId> = all.keys().copied().filter(|peer| *peer != local).collect();
    near.sort_by_key(|peer| here.distance(&KBucketKey::from(*peer)));
    near.truncate(neighbour_count(all.len()));
    near
}

/// The age of `peer` at which it holds its neighbours and they hold it. A swarm does not tell when its tables are
/// complete, so it is asked.
async fn known(peer: &Peer, all: &BTreeMap<PeerId, Mesh>) -> Result<Duration, String> {
    let near = neighbours(peer.id, all);
    let mut tick =
        tokio::time::interval(Duration::from_millis(if all.len() <= FULL_MESH_NODES_MAX { 10 } else { 100 }));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let own = peer.mesh.snapshot().await.ok_or("a swarm ended")?;
        if !near.iter().all(|other| holds(&own, other)) {
            continue;
        }
        let mut held = true;
        for other in near.iter().filter_map(|other| all.get(other)) {
            held = held && holds(&other.snapshot().await.ok_or("a swarm ended")?, &peer.id);
        }
        if held {
            return Ok(peer.age());
        }
    }
}

/// Connected, authenticated as a member, and in the routing table.
fn holds(snapshot: &Snapshot, other: &PeerId) -> bool {
    snapshot.peers.iter().any(|info| info.peer == *other && info.member && info.in_routing_table)
}
