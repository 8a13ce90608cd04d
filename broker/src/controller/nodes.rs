//! Nodes come, fall silent and come back; leaderships follow.

use rafka_model::limits::NODES_MAX;
use rafka_model::{BrokerEpoch, ClusterId, Monotonic, NodeId, PartitionId, TopicPartition};

use super::rules::Rule;
use super::{Controller, Registered, Registration};
use crate::metadata::{Delta, Image, Node, PartitionState};
use crate::{ErrorCode, Failure};

impl Controller {
    pub(super) fn found(
        &mut self,
        public_key: [u8; 32],
        join_token_hash: Option<[u8; 32]>,
        feature_level: u32,
        founder: Registration,
        now: Monotonic,
    ) -> Result<Registered, Failure> {
        if let Some(cluster) = &self.overlay().cluster {
            return Err(Failure::new(ErrorCode::InvalidRequest, format!("cluster {} is founded already", cluster.id)));
        }
        founder.check()?;
        let cluster_id = ClusterId::of_public_key(&public_key);
        let registered = Registered { node: NodeId(1), epoch: BrokerEpoch(1) };
        self.journal.write_together(vec![
            Delta::ClusterFounded { cluster_id, public_key, join_token_hash, feature_level },
            Delta::NodeRegistered(founder.node(registered.node, registered.epoch)),
            Delta::VotersChanged { voters: vec![registered.node] },
        ])?;
        self.sessions.confirm(registered.node, now);
        Ok(registered)
    }

    pub(super) fn register(&mut self, registration: Registration, now: Monotonic) -> Result<Registered, Failure> {
        registration.check()?;
        let Some(known) = self.overlay().node_by_peer(&registration.peer_id).cloned() else {
            if self.overlay().nodes.len() >= NODES_MAX {
                let text = format!("the cluster has {NODES_MAX} registered nodes, which is the limit");
                return Err(Failure::new(ErrorCode::InvalidRequest, text));
            }
            return Ok(self.write_registration(None, &registration, now));
        };
        if known.directory != registration.directory {
            let text = format!(
                "node {} is registered with data directory {}, not {}: bring the old directory back, or start with a new identity",
                known.id, known.directory, registration.directory
            );
            return Err(Failure::new(ErrorCode::InvalidRequest, text));
        }
        let same_process = known.incarnation == registration.incarnation && known.boot == registration.boot;
        if !same_process && self.sessions.is_live(known.id, now) && self.rules.hold(Rule::LiveIdentitiesAreUnique) {
            let text = format!(
                "another process is alive with the identity of node {} (peer {}): stop it, or wait {} ms after its end",
                known.id,
                known.peer_id,
                self.config.session_ms / 4
            );
            return Err(Failure::new(ErrorCode::DuplicateBrokerRegistration, text));
        }
        let unchanged = Node { fenced: known.fenced, ..registration.node(known.id, known.epoch) } == known;
        if unchanged {
            // Sent again because the answer was lost.
            self.sessions.confirm(known.id, now);
            return Ok(Registered { node: known.id, epoch: known.epoch });
        }
        self.fence(known.id);
        Ok(self.write_registration(Some(known.id), &registration, now))
    }

    fn write_registration(&mut self, known: Option<NodeId>, registration: &Registration, now: Monotonic) -> Registered {
        let mut registered = Registered { node: NodeId(0), epoch: BrokerEpoch(0) };
        let node = known.unwrap_or_else(|| self.overlay().next_node());
        self.journal.register(self.rules, |index| {
            registered = Registered { node, epoch: BrokerEpoch(index.0) };
            registration.node(registered.node, registered.epoch)
        });
        self.sessions.confirm(registered.node, now);
        registered
    }

    pub(super) fn leave(&mut self, node: NodeId, epoch: BrokerEpoch) -> Result<(), Failure> {
        self.registered(node, epoch)?;
        self.sessions.end(node);
        self.fence(node);
        Ok(())
    }

    /// The node, if `epoch` is its latest registration.
    pub(super) fn registered(&self, node: NodeId, epoch: BrokerEpoch) -> Result<&Node, Failure> {
        let stale = |text| Failure::new(ErrorCode::StaleBrokerEpoch, text);
        let found = self.overlay().nodes.get(&node).ok_or_else(|| stale(format!("node {node} is not registered")))?;
        if found.epoch != epoch && self.rules.hold(Rule::StaleEpochsAreRefused) {
            return Err(stale(format!("node {node} registered as epoch {}, not {epoch}", found.epoch)));
        }
        Ok(found)
    }

    /// Takes a node out of service. Its leaderships go first: however the entries are cut, no fenced node ever leads.
    pub(super) fn fence(&mut self, node: NodeId) {
        if self.overlay().nodes.get(&node).is_none_or(|node| node.fenced) {
            return;
        }
        if self.rules.hold(Rule::FencedNodesLeadNothing) {
            self.change_partitions(|image, state| without(image, state, node));
        }
        self.journal.write(Delta::NodeFenced { id: node });
    }

    /// Takes a node into service.
    pub(super) fn unfence(&mut self, node: NodeId) {
        self.journal.write(Delta::NodeUnfenced { id: node });
        if self.rules.hold(Rule::UnfencedNodesLeadAgain) {
            self.elect_unled();
        }
    }

    /// Elects a leader wherever there is none and could be one.
    pub(super) fn elect_unled(&mut self) {
        self.change_partitions(|image, state| match state.leader {
            Some(_) => None,
            None => elect(image, state).map(|leader| PartitionState { leader: Some(leader), ..state.clone() }),
        });
    }

    /// Writes what `change` makes of each partition, epochs stepped; `None` leaves it as it is.
    fn change_partitions(&mut self, change: impl Fn(&Image, &PartitionState) -> Option<PartitionState>) {
        let image = self.overlay();
        let mut deltas = Vec::new();
        for topic in image.topics.values() {
            for (i, state) in (0..).map(PartitionId).zip(&topic.partitions) {
                if let Some(after) = change(image, state) {
                    let partition = TopicPartition { topic: topic.id, partition: i };
                    deltas.push(Delta::PartitionChanged { partition, state: self.step_epochs(state, after) });
                }
            }
        }
        deltas.into_iter().for_each(|delta| self.journal.write(delta));
    }

    fn step_epochs(&self, before: &PartitionState, mut after: PartitionState) -> PartitionState {
        if self.rules.hold(Rule::ChangesBumpThePartitionEpoch) {
            after.partition_epoch.0 = before.partition_epoch.0.saturating_add(1);
        }
        let elected = after.leader.is_some() && after.leader != before.leader;
        if elected && self.rules.hold(Rule::ElectionsBumpTheLeaderEpoch) {
            after.leader_epoch.0 = before.leader_epoch.0.saturating_add(1);
        }
        after
    }
}

/// The first replica in order of preference that is in sync and in service.
fn elect(image: &Image, state: &PartitionState) -> Option<NodeId> {
    let serves = |id: &&NodeId| image.nodes.get(id).is_some_and(|node| !node.fenced);
    state.replicas.iter().filter(|id| state.isr.contains(id)).find(serves).copied()
}

/// The partition without `node` as leader or in-sync replica; the last in-sync replica stays, as it alone has the data.
fn without(image: &Image, state: &PartitionState, node: NodeId) -> Option<PartitionState> {
    let leads = state.leader == Some(node);
    let leaves = state.isr.contains(&node) && state.isr.len() > 1;
    if !leads && !leaves {
        return None;
    }
    let mut after = state.clone();
    if leaves {
        after.isr.retain(|id| *id != node);
    }
    if leads {
        let others =
            PartitionState { isr: after.isr.iter().copied().filter(|id| *id != node).collect(), ..after.clone() };
        after.leader = elect(image, &others);
    }
    Some(after)
}
