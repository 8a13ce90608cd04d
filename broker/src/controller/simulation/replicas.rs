//! What the replicas have: a model of logs by their lengths, and of leaders that hear of the metadata late.

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::{
    BrokerEpoch, Durability, LeaderEpoch, NodeId, Offset, PartitionEpoch, PartitionId, TopicConfig, TopicPartition,
    UncleanRecovery,
};

use super::Simulation;
use crate::controller::{Answer, Command, Event, LogEnd};
use crate::metadata::{Delta, Entry, Image, PartitionState};
use crate::replication::AlterPartition;

/// Proposals that may be under way.
const PROPOSALS: usize = 12;

#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// Registration of the process that has a node's data directory.
    pub(super) running: BTreeMap<NodeId, BrokerEpoch>,
    /// The metadata as far as each node has heard of it.
    views: BTreeMap<NodeId, Image>,
    /// Length of each log, or its flushed part where that is what counts.
    ends: BTreeMap<(TopicPartition, NodeId), u64>,
    leaders: BTreeMap<(TopicPartition, NodeId), Leader>,
    /// Acknowledged up to here.
    acknowledged: BTreeMap<TopicPartition, u64>,
    /// What leaders before this epoch acknowledged was lost by an unclean election.
    floor: BTreeMap<TopicPartition, LeaderEpoch>,
    /// Unclean elections that were decided and are not committed yet.
    decided: BTreeMap<TopicPartition, LeaderEpoch>,
    /// Unclean elections whose leaders have not heard of it yet.
    unclean: BTreeMap<TopicPartition, LeaderEpoch>,
    /// Some replica has lost records.
    pub(super) spoiled: BTreeSet<TopicPartition>,
    /// Logs that could not be recovered, which the controller has not heard yet.
    failing: BTreeSet<(TopicPartition, NodeId)>,
    /// Such logs begin anew behind this epoch only.
    barred: BTreeMap<(TopicPartition, NodeId), LeaderEpoch>,
    proposals: Vec<AlterPartition>,
    log_ends: Vec<LogEnd>,
}

/// A leader as the replication machine is, in essence.
#[derive(Clone, Debug)]
struct Leader {
    epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    replicas: Vec<NodeId>,
    isr: Vec<NodeId>,
    maximal: BTreeSet<NodeId>,
    min_insync: usize,
    recovering: bool,
    /// Log end at the election.
    start: u64,
    high_watermark: u64,
    followers: BTreeMap<NodeId, (u64, BrokerEpoch)>,
}

impl Replicas {
    pub(super) fn forget_elections(&mut self) {
        self.decided.clear();
    }

    pub(super) fn note_committed(&mut self, image: &Image) {
        let committed = |at: &TopicPartition, epoch: &LeaderEpoch| {
            image.partition(*at).is_some_and(|state| state.leader_epoch >= *epoch)
        };
        let done: Vec<_> = self.decided.iter().filter(|(at, epoch)| committed(at, epoch)).map(|(at, _)| *at).collect();
        self.unclean.extend(done.iter().map(|at| (*at, self.decided[at])));
        self.decided.retain(|at, _| !done.contains(at));
    }

    fn end(&self, at: TopicPartition, node: NodeId) -> u64 {
        self.ends.get(&(at, node)).copied().unwrap_or_default()
    }

    fn acknowledged(&self, at: TopicPartition) -> u64 {
        self.acknowledged.get(&at).copied().unwrap_or_default()
    }

    /// Raises the leader's high watermark as far as it may.
    fn advance(&mut self, at: TopicPartition, node: NodeId) -> Result<(), String> {
        let own = self.end(at, node);
        let Some(leader) = self.leaders.get_mut(&(at, node)) else { return Ok(()) };
        if leader.isr.len() < leader.min_insync.min(leader.replicas.len()) {
            return Ok(());
        }
        let position = |id: &NodeId| match *id == node {
            true => own,
            false => leader.followers.get(id).map_or(0, |(end, _)| *end),
        };
        let all_have = leader.maximal.iter().map(position).min().unwrap_or_default();
        leader.high_watermark = leader.high_watermark.max(all_have);
        let (epoch, high_watermark) = (leader.epoch, leader.high_watermark);
        if self.floor.get(&at).is_some_and(|floor| epoch < *floor) {
            return Ok(());
        }
        let acknowledged = self.acknowledged.entry(at).or_default();
        *acknowledged = high_watermark.max(*acknowledged);
        let later = self.leaders.iter().filter(|((other, _), leader)| *other == at && leader.epoch > epoch);
        for ((_, id), later) in later {
            if self.end(at, *id) < high_watermark {
                return Err(format!("{at}: {node} acknowledged {high_watermark}, which {id} lacks: {later:?}"));
            }
        }
        Ok(())
    }
}

/// Nobody but `node` may have all records, or is to have them.
fn is_sole(state: &PartitionState, node: NodeId) -> bool {
    let others = |id: &NodeId| *id != node;
    !state.replicas.iter().any(|id| others(id) && !state.adding.contains(id))
        && !state.isr.iter().chain(&state.elr).any(others)
}

impl Simulation {
    /// A process takes the data directory: whatever had it before is gone, and perhaps some of what it wrote.
    pub(super) fn begin(&mut self, i: usize, node: NodeId, mut moved: bool) {
        let (who, directory, unclean) = (self.processes[i].who, self.processes[i].directory, self.processes[i].unclean);
        let first = !std::mem::replace(&mut self.processes[i].began, true);
        moved |= self.directories.insert(who, directory).is_some_and(|old| old != directory);
        if first {
            self.replicas.running.remove(&node);
            self.replicas.leaders.retain(|(_, id), _| *id != node);
        }
        if !unclean && !moved {
            return;
        }
        if unclean && first {
            self.torn.insert(who);
        }
        for (j, other) in self.processes.iter_mut().enumerate() {
            if j != i && other.who == who && other.began {
                (other.retired, other.heard) = (true, None);
            }
        }
        self.lose(node, moved, first);
        if unclean {
            self.excuse_sole(node);
        }
    }

    /// What a node lost, and (if it has lost it only now) how much.
    fn lose(&mut self, node: NodeId, moved: bool, first: bool) {
        for topic in self.controller.overlay().topics.values() {
            let config = TopicConfig::resolve(&topic.configs).unwrap_or_default();
            for (partition, state) in (0..).map(PartitionId).zip(&topic.partitions) {
                let at = TopicPartition { topic: topic.id, partition };
                let torn = config.durability == Durability::Replicated;
                if !state.replicas.contains(&node) || !moved && !torn {
                    continue;
                }
                if moved || !is_sole(state, node) {
                    self.replicas.spoiled.insert(at);
                }
                if first {
                    let end = self.replicas.ends.entry((at, node)).or_default();
                    *end = if moved { 0 } else { self.random.below(*end + 1) };
                }
            }
        }
    }

    /// A sole replica leads with what is left to it.
    fn excuse_sole(&mut self, node: NodeId) {
        for topic in self.controller.overlay().topics.values() {
            for (partition, state) in (0..).map(PartitionId).zip(&topic.partitions) {
                let at = TopicPartition { topic: topic.id, partition };
                let fsync = topic.configs.get("durability").is_some_and(|value| value == "fsync");
                if is_sole(state, node) && !fsync && state.elr.contains(&node) {
                    let end = self.replicas.end(at, node);
                    self.replicas.acknowledged.entry(at).and_modify(|offset| *offset = (*offset).min(end));
                }
            }
        }
    }

    /// A node hears of the metadata; leaders begin, go on, and end by it.
    pub(super) fn watch(&mut self) -> Result<(), String> {
        let running: Vec<_> = self.replicas.running.keys().copied().collect();
        if running.is_empty() {
            return Ok(());
        }
        if self.random.one_in(2) {
            return running.into_iter().try_for_each(|node| self.watch_node(node));
        }
        let node = running[self.random.below(running.len() as u64) as usize];
        self.watch_node(node)
    }

    pub(super) fn watch_node(&mut self, node: NodeId) -> Result<(), String> {
        let image = self.committed.clone();
        let replicas = &mut self.replicas;
        replicas.leaders.retain(|(at, id), leader| {
            let state = image.partition(*at);
            *id != node || state.is_some_and(|state| state.leader == Some(node) && state.leader_epoch == leader.epoch)
        });
        // In a registration that is not the latest, it knows that it does not lead.
        let current = image.nodes.get(&node).map(|node| node.epoch) == replicas.running.get(&node).copied();
        let mut leads = Vec::new();
        for topic in image.topics.values().filter(|_| current) {
            for (partition, state) in (0..).map(PartitionId).zip(&topic.partitions) {
                let at = TopicPartition { topic: topic.id, partition };
                if state.replicas.contains(&node) {
                    replicas.ends.entry((at, node)).or_insert(0);
                } else {
                    replicas.ends.remove(&(at, node));
                }
                if state.leader == Some(node) && !replicas.failing.contains(&(at, node)) {
                    leads.push((at, state.clone(), topic.min_insync()));
                }
            }
        }
        for (at, state, min_insync) in leads {
            self.lead(at, node, &state, min_insync)?;
        }
        self.replicas.views.insert(node, image);
        Ok(())
    }

    fn lead(&mut self, at: TopicPartition, node: NodeId, state: &PartitionState, min: usize) -> Result<(), String> {
        let replicas = &mut self.replicas;
        let end = replicas.end(at, node);
        if let Some(epoch) = replicas.unclean.remove(&at) {
            replicas.floor.insert(at, epoch);
            replicas.acknowledged.insert(at, end.min(replicas.acknowledged(at)));
        }
        let acknowledged = replicas.acknowledged(at);
        let maximal = state.isr.iter().chain(&state.elr).copied().chain([node]).collect();
        match replicas.leaders.get_mut(&(at, node)) {
            Some(leader) if leader.epoch == state.leader_epoch => {
                if state.partition_epoch > leader.partition_epoch {
                    leader.partition_epoch = state.partition_epoch;
                    (leader.isr, leader.maximal) = (state.isr.clone(), maximal);
                    (leader.replicas, leader.recovering) = (state.replicas.clone(), state.recovering);
                }
                leader.min_insync = min;
            }
            _ => {
                if end < acknowledged {
                    return Err(format!("{at}: {node} leads with {end} of {acknowledged} acknowledged: {state:?}"));
                }
                let leader = Leader {
                    epoch: state.leader_epoch,
                    partition_epoch: state.partition_epoch,
                    replicas: state.replicas.clone(),
                    isr: state.isr.clone(),
                    maximal,
                    min_insync: min,
                    recovering: state.recovering,
                    start: end,
                    high_watermark: 0,
                    followers: BTreeMap::new(),
                };
                replicas.leaders.insert((at, node), leader);
            }
        }
        replicas.advance(at, node)
    }

    fn some_leader(&mut self) -> Option<(TopicPartition, NodeId)> {
        let count = self.replicas.leaders.len() as u64;
        let nth = self.random.below(count.max(1)) as usize;
        self.replicas.leaders.keys().nth(nth).copied()
    }

    pub(super) fn produce(&mut self) -> Result<(), String> {
        let Some((at, node)) = self.some_leader() else { return Ok(()) };
        self.produce_to(at, node)
    }

    fn produce_to(&mut self, at: TopicPartition, node: NodeId) -> Result<(), String> {
        *self.replicas.ends.entry((at, node)).or_default() += 1 + self.random.below(4);
        self.replicas.advance(at, node)
    }

    pub(super) fn fetch(&mut self) -> Result<(), String> {
        let Some((at, node)) = self.some_leader() else { return Ok(()) };
        let replicas = self.replicas.leaders[&(at, node)].replicas.clone();
        let follower = replicas[self.random.below(replicas.len() as u64) as usize];
        for _ in 0..self.random.below(4) {
            if self.random.one_in(3) {
                self.produce_to(at, node)?;
            }
            let bytes = self.random.below(6);
            self.fetch_from(at, node, follower, bytes)?;
        }
        if self.random.one_in(4) {
            self.propose_set(at, node, false, true);
            if self.random.one_in(2) {
                return self.deliver();
            }
        }
        Ok(())
    }

    /// `follower` says how far it is, and gets a little more.
    pub(super) fn fetch_from(
        &mut self,
        at: TopicPartition,
        node: NodeId,
        follower: NodeId,
        more: u64,
    ) -> Result<(), String> {
        let replicas = &mut self.replicas;
        let Some(epoch) = replicas.running.get(&follower).copied() else { return Ok(()) };
        let Some(state) = replicas.views.get(&follower).and_then(|view| view.partition(at)) else { return Ok(()) };
        let barred = replicas.barred.get(&(at, follower)).is_some_and(|epoch| state.leader_epoch <= *epoch);
        let believes = (state.leader, state.leader_epoch);
        let (own, end) = (replicas.end(at, node), replicas.end(at, follower));
        let leader = replicas.leaders.get_mut(&(at, node)).expect("it was picked");
        let failing = replicas.failing.contains(&(at, follower));
        if follower == node || barred || failing || believes != (Some(node), leader.epoch) {
            return Ok(());
        }
        // What the follower has beyond the start of the epoch may differ.
        let known = leader.followers.contains_key(&follower);
        let agreed = end.min(if known { own } else { leader.start });
        leader.followers.insert(follower, (agreed, epoch));
        replicas.ends.insert((at, follower), own.min(agreed + more));
        replicas.advance(at, node)
    }

    /// A leader proposes another set.
    pub(super) fn propose(&mut self) {
        let Some((at, node)) = self.some_leader() else { return };
        let shrinks = self.random.one_in(4);
        let careful = self.random.one_in(2);
        self.propose_set(at, node, shrinks, careful);
    }

    /// Who is `careful` proposes nobody who is out of service as far as it has heard.
    pub(super) fn propose_set(&mut self, at: TopicPartition, node: NodeId, shrinks: bool, careful: bool) {
        let leader = &self.replicas.leaders[&(at, node)];
        let view = self.replicas.views.get(&node);
        let known = |id: NodeId| view.and_then(|view| view.nodes.get(&id));
        let mut isr: BTreeSet<NodeId> = leader.isr.iter().copied().chain([node]).collect();
        if shrinks {
            let nth = self.random.below(isr.len() as u64) as usize;
            let dropped = isr.iter().nth(nth).copied().filter(|id| *id != node);
            isr.retain(|id| Some(*id) != dropped);
        } else if !leader.recovering {
            let least = leader.high_watermark.max(leader.start);
            let reaches = leader.followers.iter().filter(|(_, (end, _))| *end >= least).map(|(id, _)| *id);
            let serves = |id: &NodeId| !careful || known(*id).is_some_and(|node| !node.fenced);
            isr.extend(reaches.filter(|id| leader.replicas.contains(id) && serves(id)));
        }
        let registered = |id: NodeId| known(id).map(|node| node.epoch);
        let own = self.replicas.running.get(&node).copied();
        let epoch = |id: NodeId| match id == node {
            true => own,
            false => leader.followers.get(&id).map(|(_, epoch)| *epoch).or(registered(id)),
        };
        let proposal = AlterPartition {
            at,
            leader: node,
            broker_epoch: own.unwrap_or_default(),
            leader_epoch: leader.epoch,
            partition_epoch: leader.partition_epoch,
            isr: isr.iter().map(|id| (*id, epoch(*id).unwrap_or_default())).collect(),
            recovered: leader.recovering,
        };
        self.replicas.leaders.get_mut(&(at, node)).expect("just read").maximal.extend(isr);
        self.replicas.proposals.push(proposal);
    }

    /// A proposal arrives, perhaps late, perhaps not for the last time.
    pub(super) fn deliver(&mut self) -> Result<(), String> {
        if self.replicas.proposals.is_empty() {
            return Ok(());
        }
        // Most arrive soon, some late.
        let count = self.replicas.proposals.len();
        self.replicas.proposals.drain(..count.saturating_sub(PROPOSALS));
        let last = self.replicas.proposals.len() - 1;
        let nth = if self.random.one_in(2) { last } else { self.random.below(last as u64 + 1) as usize };
        let proposal = self.replicas.proposals.remove(nth);
        match self.random.below(4) {
            0 => return Ok(()),
            1 => self.replicas.proposals.insert(0, proposal.clone()),
            _ => {}
        }
        self.deliver_proposal(proposal)
    }

    pub(super) fn deliver_all(&mut self) -> Result<(), String> {
        std::mem::take(&mut self.replicas.proposals)
            .into_iter()
            .try_for_each(|proposal| self.deliver_proposal(proposal))
    }

    fn deliver_proposal(&mut self, proposal: AlterPartition) -> Result<(), String> {
        let (at, before) = (proposal.at, proposal.partition_epoch);
        match self.evaluate(Command::AlterPartition(proposal), None, false)? {
            Answer::Altered(after) if after <= before => Err(format!("{at} was altered and is still at {after}")),
            Answer::Altered(_) => self.check_members(at),
            _ => Ok(()),
        }
    }

    /// Who is in sync has what is acknowledged, as far as the controller has heard of all that went down.
    fn check_members(&self, at: TopicPartition) -> Result<(), String> {
        let image = self.controller.overlay();
        let Some(state) = image.partition(at) else { return Ok(()) };
        let known = |id: &&NodeId| {
            let registered = image.nodes.get(id).map(|node| node.epoch);
            self.replicas.running.get(id).copied() == registered && !self.replicas.failing.contains(&(at, **id))
        };
        let acknowledged = self.replicas.acknowledged(at);
        let lacks = |id: &&NodeId| self.replicas.end(at, **id) < acknowledged;
        let uncertain = self.replicas.decided.contains_key(&at) || self.replicas.unclean.contains_key(&at);
        match state.isr.iter().filter(known).find(lacks) {
            Some(id) if !uncertain => Err(format!("{at}: {id} is in sync without all {acknowledged}: {state:?}")),
            _ => Ok(()),
        }
    }

    /// A log cannot be recovered; until the controller has heard so, again and again.
    pub(super) fn fail_replica(&mut self) -> Result<(), String> {
        let Some((at, leader)) = self.some_leader() else { return self.report_failures() };
        let replicas = &self.replicas.leaders[&(at, leader)].replicas;
        let others: Vec<_> = replicas.iter().copied().filter(|id| *id != leader).collect();
        let leads = others.is_empty() || self.random.one_in(4);
        let node = if leads { leader } else { others[self.random.below(others.len() as u64) as usize] };
        let view = self.replicas.views.get(&node).and_then(|view| view.partition(at));
        let epoch = view.filter(|state| state.replicas.contains(&node)).map(|state| state.leader_epoch);
        self.fetch_from(at, leader, node, 9)?;
        self.fetch_from(at, leader, node, 0)?;
        if let Some(epoch) = epoch.filter(|_| self.replicas.running.contains_key(&node)) {
            self.replicas.barred.insert((at, node), epoch);
            self.replicas.ends.insert((at, node), 0);
            self.replicas.leaders.remove(&(at, node));
            self.replicas.spoiled.insert(at);
            self.replicas.failing.insert((at, node));
        }
        self.report_failures()?;
        self.hear_and_propose(at, leader, false)
    }

    /// The leader hears of the metadata, proposes a set, and the controller hears that, if all goes well.
    fn hear_and_propose(&mut self, at: TopicPartition, leader: NodeId, shrinks: bool) -> Result<(), String> {
        self.commit(false)?;
        if self.replicas.running.contains_key(&leader) {
            self.watch_node(leader)?;
        }
        if !self.replicas.leaders.contains_key(&(at, leader)) {
            return Ok(());
        }
        self.propose_set(at, leader, shrinks, true);
        let proposal = self.replicas.proposals.last().cloned().expect("just proposed");
        self.deliver_proposal(proposal)?;
        self.commit(false)
    }

    /// A proposal arrives once more, when what it proposed has been undone.
    pub(super) fn repeat_late(&mut self) -> Result<(), String> {
        let Some((at, leader)) = self.some_leader() else { return Ok(()) };
        let replicas = self.replicas.leaders[&(at, leader)].replicas.clone();
        for follower in replicas {
            self.fetch_from(at, leader, follower, 9)?;
            self.fetch_from(at, leader, follower, 0)?;
        }
        self.hear_and_propose(at, leader, false)?;
        let copy = self.replicas.proposals.last().cloned();
        self.hear_and_propose(at, leader, true)?;
        if self.replicas.running.contains_key(&leader) {
            self.watch_node(leader)?;
        }
        if self.replicas.leaders.contains_key(&(at, leader)) {
            self.produce_to(at, leader)?;
        }
        copy.into_iter().try_for_each(|copy| self.deliver_proposal(copy))
    }

    pub(super) fn report_failures(&mut self) -> Result<(), String> {
        for (at, node) in self.replicas.failing.clone() {
            if self.committed.partition(at).is_none() {
                self.replicas.failing.remove(&(at, node));
                continue;
            }
            let Some(epoch) = self.replicas.running.get(&node).copied() else { continue };
            let command = Command::ReplicaFailed { node, epoch, partitions: vec![at] };
            if let Answer::Done = self.evaluate(command, None, false)? {
                let index = self.controller.overlay().index;
                self.commit(false)?;
                if self.committed.index >= index {
                    self.replicas.failing.remove(&(at, node));
                }
            }
        }
        Ok(())
    }

    /// Nodes say how far their logs reach; what they say may come late.
    pub(super) fn answer_questions(&mut self) -> Result<(), String> {
        for question in self.controller.take_questions() {
            let (at, node) = (question.at, question.node);
            if self.replicas.running.get(&node) == Some(&question.broker_epoch) {
                self.replicas.log_ends.push(LogEnd {
                    at,
                    node,
                    broker_epoch: question.broker_epoch,
                    partition_epoch: question.partition_epoch,
                    last_epoch: Some(LeaderEpoch(0)),
                    end: Offset(self.replicas.end(at, node) as i64),
                });
            }
        }
        while !self.replicas.log_ends.is_empty() && !self.random.one_in(4) {
            let nth = self.random.below(self.replicas.log_ends.len() as u64) as usize;
            let answer = self.replicas.log_ends.swap_remove(nth);
            if self.random.one_in(4) {
                self.replicas.log_ends.push(answer);
            }
            let latest = self.controller.overlay().nodes.get(&answer.node).map(|node| node.epoch);
            if let Answer::Done = self.evaluate(Command::LogEnd(answer), None, false)?
                && latest != Some(answer.broker_epoch)
            {
                return Err(format!("{answer:?} was heard, of {latest:?}"));
            }
        }
        Ok(())
    }

    /// Unclean elections are asked for, by the topic or by an operator, and marked.
    pub(super) fn note_events(&mut self, by_operator: bool) -> Result<(), String> {
        for event in self.controller.take_events() {
            let Event::UncleanElection { at, leader, leader_epoch, last_known } = event else { continue };
            let image = self.controller.overlay();
            let (Some(topic), Some(state)) = (image.topics.get(&at.topic), image.partition(at)) else { continue };
            let strategy = TopicConfig::resolve(&topic.configs).unwrap_or_default().unclean_recovery;
            if strategy == UncleanRecovery::None && !by_operator {
                return Err(format!("{at}: {leader} was elected uncleanly, and nobody asked for it"));
            }
            if state.leader_epoch == leader_epoch && !state.recovering {
                return Err(format!("{at}: {leader} was elected uncleanly, and does not recover"));
            }
            let registered = |id: &NodeId| image.nodes.get(id).map(|node| node.epoch);
            let knows = last_known.iter().all(|id| self.replicas.running.get(id).copied() == registered(id));
            let most = last_known.iter().map(|id| self.replicas.end(at, *id)).max().unwrap_or_default();
            if strategy == UncleanRecovery::Balanced && !by_operator && knows && self.replicas.end(at, leader) < most {
                return Err(format!("{at}: {leader} was elected, of {last_known:?} another has {most}"));
            }
            self.replicas.decided.insert(at, leader_epoch);
        }
        Ok(())
    }

    /// What an entry may not say.
    pub(super) fn check_entry(&self, entry: &Entry) -> Result<(), String> {
        let mut image = self.committed.clone();
        for delta in &entry.deltas {
            if let Delta::PartitionChanged { partition: at, state } = delta {
                let old = image.partition(*at).map_or(Vec::new(), |old| [old.goal(), &old.replicas].concat());
                let drains = |id: &NodeId| image.nodes.get(id).is_some_and(|node| node.draining);
                if let Some(id) = state.goal().iter().find(|id| !old.contains(id) && drains(id)) {
                    return Err(format!("{at} goes to {id}, which is being drained"));
                }
                let done = state.target.iter().all(|id| state.isr.contains(id)) && !state.recovering;
                if state.is_moving() && done {
                    return Err(format!("{at} is reassigned and still moving: {state:?}"));
                }
            }
            image.apply_delta(entry.index, delta).map_err(|error| error.to_string())?;
        }
        let mut joining: BTreeMap<NodeId, usize> = BTreeMap::new();
        for state in image.topics.values().flat_map(|topic| &topic.partitions) {
            state.adding.iter().for_each(|id| *joining.entry(*id).or_default() += 1);
        }
        match joining.iter().find(|(_, count)| **count > rafka_model::limits::REASSIGNMENTS_PER_NODE_MAX) {
            Some((id, count)) => Err(format!("{count} partitions move to node {id} at once")),
            None => Ok(()),
        }
    }

    /// Everybody hears everything, fetches all there is, and says so.
    pub(super) fn replicate_all(&mut self) -> Result<(), String> {
        for node in self.replicas.running.keys().copied().collect::<Vec<_>>() {
            self.watch_node(node)?;
        }
        for (at, node) in self.replicas.leaders.keys().copied().collect::<Vec<_>>() {
            for follower in self.replicas.leaders[&(at, node)].replicas.clone() {
                self.fetch_from(at, node, follower, u64::MAX / 2)?;
                self.fetch_from(at, node, follower, 0)?;
            }
            self.propose_set(at, node, false, true);
        }
        Ok(())
    }
}
