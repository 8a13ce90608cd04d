//! Nodes come, fall silent and come back; leaderships follow.

use rafka_model::limits::NODES_MAX;
use rafka_model::{BrokerEpoch, ClusterId, Durability, Monotonic, NodeId, StorageEngine};

use super::change::Change;
use super::rules::Rule;
use super::{Controller, Registered, Registration};
use crate::metadata::{Delta, Node, PartitionState};
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
            Delta::NodeRegistered(founder.node(registered.node, registered.epoch, false)),
            Delta::VotersChanged { voters: vec![registered.node] },
        ])?;
        self.sessions.confirm(registered.node, now);
        Ok(registered)
    }

    pub(super) fn register(&mut self, registration: Registration, now: Monotonic) -> Result<Registered, Failure> {
        registration.check()?;
        self.check_features(&format!("the node of peer {}", registration.peer_id), registration.features_max)?;
        let Some(known) = self.overlay().node_by_peer(&registration.peer_id).cloned() else {
            if self.overlay().nodes.len() >= NODES_MAX {
                let text = format!("the cluster has {NODES_MAX} registered nodes, which is the limit");
                return Err(Failure::new(ErrorCode::InvalidRequest, text));
            }
            return Ok(self.write_registration(None, &registration, now));
        };
        let moved = known.directory != registration.directory;
        let same_process = known.incarnation == registration.incarnation && known.boot == registration.boot && !moved;
        let alive = self.sessions.is_live(known.id, now) || moved && !known.fenced;
        if !same_process && alive && self.rules.hold(Rule::LiveIdentitiesAreUnique) {
            // What another directory holds is not what the old one held: wait until that is surely out of service.
            let wait_ms = if moved { self.config.session_ms } else { self.config.session_ms / 4 };
            let text = format!(
                "another process is alive with the identity of node {} (peer {}): stop it, or wait {wait_ms} ms after its end",
                known.id, known.peer_id,
            );
            return Err(Failure::new(ErrorCode::DuplicateBrokerRegistration, text));
        }
        let unchanged =
            Node { fenced: known.fenced, ..registration.node(known.id, known.epoch, known.draining) } == known;
        if unchanged {
            // Sent again because the answer was lost.
            self.sessions.confirm(known.id, now);
            return Ok(Registered { node: known.id, epoch: known.epoch });
        }
        self.fence(known.id, now);
        if !same_process {
            self.exclude(known.id, registration.unclean, moved);
        }
        Ok(self.write_registration(Some(known.id), &registration, now))
    }

    /// Takes a node that comes back out of in-sync sets and eligibility, wherever it lost what it had: all of it with its
    /// directory, or what was not flushed when its machine went down, or what was in memory only.
    fn exclude(&mut self, node: NodeId, unclean: bool, moved: bool) {
        let lost = |change: &Change<'_>| {
            let memory = change.policy.engine == StorageEngine::Memory;
            let empty = moved || memory && !change.is_sole(node);
            let torn = unclean && change.policy.durability == Durability::Replicated && !change.is_sole(node);
            empty && self.rules.hold(Rule::NewDirectoriesHoldNothing)
                || torn && self.rules.hold(Rule::UncleanReplicasAreExcluded)
        };
        let holds = |state: &PartitionState| state.isr.contains(&node) || state.elr.contains(&node);
        let changes = self.changes_where(holds, |change| {
            if lost(change) {
                change.remove(node, true);
                change.elect();
            }
        });
        changes.into_iter().for_each(|(at, changed)| self.write_change(at, changed));
    }

    fn write_registration(&mut self, known: Option<NodeId>, registration: &Registration, now: Monotonic) -> Registered {
        let mut registered = Registered { node: NodeId(0), epoch: BrokerEpoch(0) };
        let node = known.unwrap_or_else(|| self.overlay().next_node());
        let draining = self.overlay().nodes.get(&node).is_some_and(|node| node.draining);
        self.journal.register(self.rules, |index| {
            registered = Registered { node, epoch: BrokerEpoch(index.0) };
            registration.node(registered.node, registered.epoch, draining)
        });
        self.sessions.confirm(registered.node, now);
        self.absent.entry(registered.node).or_insert(now);
        registered
    }

    pub(super) fn leave(&mut self, node: NodeId, epoch: BrokerEpoch, now: Monotonic) -> Result<(), Failure> {
        self.registered(node, epoch)?;
        self.sessions.end(node);
        self.fence(node, now);
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
    pub(super) fn fence(&mut self, node: NodeId, now: Monotonic) {
        if self.overlay().nodes.get(&node).is_none_or(|node| node.fenced) {
            return;
        }
        if self.rules.hold(Rule::FencedNodesLeadNothing) {
            let serves = |state: &PartitionState| state.leader == Some(node) || state.isr.contains(&node);
            self.change_where(serves, |change| change.fence(node));
        }
        self.journal.write(Delta::NodeFenced { id: node });
        self.absent.insert(node, now);
    }

    /// Takes a node into service.
    pub(super) fn unfence(&mut self, node: NodeId) {
        self.journal.write(Delta::NodeUnfenced { id: node });
        self.absent.remove(&node);
        if self.gone.remove(&node) {
            self.stay(node);
        }
        self.replan = true;
        if self.rules.hold(Rule::UnfencedNodesLeadAgain) {
            self.elect_unled();
        }
    }

    /// Earlier versions left the last in-sync replica in its set when it was fenced.
    pub(super) fn mend(&mut self) {
        let fenced = |id: &NodeId| self.overlay().nodes.get(id).is_some_and(|node| node.fenced);
        let left: std::collections::BTreeSet<NodeId> = self.overlay().nodes.keys().copied().filter(fenced).collect();
        self.change_where(
            |state| state.isr.iter().any(|id| left.contains(id)),
            |change| {
                let away: Vec<_> = change.before.isr.iter().filter(|id| left.contains(id)).copied().collect();
                away.into_iter().for_each(|id| change.fence(id));
            },
        );
    }
}
