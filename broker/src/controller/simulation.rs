//! Claim: under random commands, lost drivers, silent and doubled processes, the controller's entries keep every
//! invariant, and the same seed gives the same entries. Each rule of [`Rule`] is needed: without it some seed fails.

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::{BootId, DirectoryId, ProducerId, TopicId};

use super::*;
use crate::invariants::transition;
use crate::metadata::{Image, Role, encode_entry};
use crate::placement::Loads;
use crate::request::{Admin, AdminReply, ConfigChange, NewTopic};
use crate::testing::Random;
use rules::{Rule, Rules};

/// One process; several may share the identity `who`.
#[derive(Clone, Debug)]
struct Process {
    who: u8,
    incarnation: u8,
    registered: Option<Registered>,
    /// Last time that the present controller heard it gladly.
    heard: Option<Monotonic>,
}

struct Simulation {
    random: Random,
    rules: Rules,
    now: Monotonic,
    controller: Controller,
    committed: Image,
    trace: Vec<Vec<u8>>,
    processes: Vec<Process>,
    /// Last time that the present controller heard any process of a node.
    heard: BTreeMap<NodeId, Monotonic>,
    /// Answers that wait for their entry.
    pending: Vec<(usize, Decision)>,
    node_ids: BTreeMap<NodeId, u8>,
    topic_ids: BTreeSet<TopicId>,
    epochs: BTreeSet<BrokerEpoch>,
    /// First ids of the blocks that nodes were told they own.
    blocks: BTreeSet<ProducerId>,
}

const CONFIG: Config = Config {
    session_ms: 6_000,
    num_partitions: 2,
    replication_factor_max: 1,
    dead_node_ms: 900_000,
    leader_balance_ms: 300_000,
};
const IDENTITIES: u64 = 6;

impl Simulation {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let rules = Rules { broken };
        let now = Monotonic(1);
        Self {
            random: Random(seed),
            rules,
            now,
            controller: Controller::with_rules(Image::default(), CONFIG, now, rules),
            committed: Image::default(),
            trace: Vec::new(),
            processes: Vec::new(),
            heard: BTreeMap::new(),
            pending: Vec::new(),
            node_ids: BTreeMap::new(),
            topic_ids: BTreeSet::new(),
            epochs: BTreeSet::new(),
            blocks: BTreeSet::new(),
        }
    }

    fn run(&mut self, steps: u32) -> Result<(), String> {
        for _ in 0..steps {
            match self.random.below(100) {
                0..8 => self.start_process(),
                8..10 if !self.processes.is_empty() => {
                    let dies = self.random.below(self.processes.len() as u64) as usize;
                    self.processes.remove(dies);
                    self.pending.retain(|(process, _)| *process != dies);
                    self.pending.iter_mut().for_each(|(process, _)| *process -= usize::from(*process > dies));
                }
                10..30 => self.register()?,
                30..60 => self.heartbeat()?,
                60..75 => self.change_topics()?,
                75..77 => self.leave(),
                77..80 => self.allocate(),
                80..90 => self.pass_time()?,
                90..99 => self.commit(false)?,
                _ => self.crash()?,
            }
        }
        self.commit(false)?;
        self.finish()
    }

    fn start_process(&mut self) {
        if self.processes.len() < 9 {
            let who = self.random.below(IDENTITIES) as u8;
            let incarnation = self.random.below(256) as u8;
            self.processes.push(Process { who, incarnation, registered: None, heard: None });
        }
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.processes.is_empty()).then(|| self.random.below(self.processes.len() as u64) as usize)
    }

    fn register(&mut self) -> Result<(), String> {
        let Some(i) = self.pick() else { return Ok(()) };
        let Process { who, incarnation, .. } = self.processes[i];
        let registration = Registration {
            peer_id: format!("peer-{who}"),
            directory: DirectoryId([who; 16]),
            boot: BootId([0; 16]),
            incarnation: [incarnation; 16],
            addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", self.random.below(3))],
            lanes: Vec::new(),
            kafka: BTreeMap::new(),
            ops: None,
            rack: (who % 2 == 0).then(|| "even".to_owned()),
            weight_milli: 1000,
            role: if who == 5 { Role::Gateway } else { Role::Broker },
            version: String::new(),
            features_max: 1,
            unclean: false,
        };
        let command = match self.controller.overlay().cluster {
            None => {
                Command::Found { public_key: [1; 32], join_token_hash: None, feature_level: 1, founder: registration }
            }
            Some(_) => Command::Register(registration),
        };
        let decision = self.controller.evaluate(command, self.now);
        if let Answer::Registered(registered) = &decision.answer {
            self.heard.insert(registered.node, self.now);
            let live = |other: &Process| other.heard.is_some_and(|heard| self.now.since(heard) < self.session() / 4);
            let same = |other: &&Process| other.who == who && other.incarnation != incarnation;
            if let Some(other) = self.processes.iter().filter(same).find(|other| live(other)) {
                return Err(format!("two live processes of identity {who}: {other:?} and {incarnation}"));
            }
            self.processes[i].heard = Some(self.now);
        }
        self.pending.push((i, decision));
        Ok(())
    }

    fn heartbeat(&mut self) -> Result<(), String> {
        let Some(i) = self.pick() else { return Ok(()) };
        let Some(Registered { node, epoch }) = self.processes[i].registered else { return Ok(()) };
        let applied = if self.random.one_in(4) { MetadataIndex(1) } else { self.committed.index };
        let latest = self.controller.overlay().nodes.get(&node).map(|node| node.epoch);
        match self.controller.heartbeat(node, epoch, applied, self.now) {
            Ok(_) if latest != Some(epoch) => return Err(format!("node {node} was heard as {epoch}, now {latest:?}")),
            Ok(_) => {
                self.processes[i].heard = Some(self.now);
                self.heard.insert(node, self.now);
            }
            Err(_) if latest == Some(epoch) => return Err(format!("node {node} was refused in its epoch {epoch}")),
            Err(_) => {}
        }
        Ok(())
    }

    fn leave(&mut self) {
        let Some(i) = self.pick() else { return };
        if let Some(Registered { node, epoch }) = self.processes[i].registered {
            let decision = self.controller.evaluate(Command::Leave { node, epoch }, self.now);
            if matches!(decision.answer, Answer::Left) {
                let who = self.processes[i].who;
                self.processes.iter_mut().filter(|other| other.who == who).for_each(|other| other.heard = None);
            }
        }
    }

    fn change_topics(&mut self) -> Result<(), String> {
        let name = format!("t{}", self.random.below(5));
        let validate_only = self.random.one_in(5);
        let request = match self.random.below(6) {
            0..3 => {
                let partitions = Some(self.random.below(6) as u32);
                let new = NewTopic { name, partitions, ..NewTopic::default() };
                Admin::CreateTopics { topics: vec![new], validate_only }
            }
            3 => Admin::DeleteTopics { names: vec![name], validate_only },
            4 => {
                let (total, assignments) = (self.random.below(12) as u32, Vec::new());
                Admin::AddPartitions { name, total, assignments, validate_only }
            }
            _ => {
                let change = match self.random.one_in(3) {
                    true => ConfigChange::Reset,
                    false => ConfigChange::Set(self.random.below(3).to_string()),
                };
                let changes = BTreeMap::from([("retention.ms".to_owned(), change)]);
                Admin::AlterConfigs { name, changes, replace: self.random.one_in(4), validate_only }
            }
        };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let before = self.controller.overlay().clone();
        let decision = self.controller.evaluate(Command::Admin { request, seed }, self.now);
        let Answer::Admin(AdminReply::Topics(replies)) = decision.answer else { return Ok(()) };
        let done = replies.iter().any(|reply| reply.result.is_ok()) && !validate_only;
        if !done && before != *self.controller.overlay() {
            return Err("a refused or merely checked change left a trace".to_owned());
        }
        Ok(())
    }

    fn allocate(&mut self) {
        let Some(i) = self.pick() else { return };
        let command = Command::Admin { request: Admin::AllocateProducerIds, seed: [0; 32] };
        let decision = self.controller.evaluate(command, self.now);
        self.pending.push((i, decision));
    }

    fn session(&self) -> Duration {
        Duration::from_millis(CONFIG.session_ms)
    }

    fn pass_time(&mut self) -> Result<(), String> {
        let until = self.now.plus(Duration::from_millis(self.random.below(3_000)));
        while let Some(deadline) = self.controller.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.controller.tick(self.now);
        }
        self.now = until;
        for node in self.controller.overlay().nodes.values().filter(|node| !node.fenced) {
            let heard = self.heard.get(&node.id);
            if heard.is_some_and(|heard| self.now.since(*heard) > self.session()) {
                return Err(format!("node {} is silent since {heard:?}, but not fenced at {:?}", node.id, self.now));
            }
        }
        Ok(())
    }

    /// Applies what was decided, all of it or (when the driver dies) only a first part.
    fn commit(&mut self, dies: bool) -> Result<(), String> {
        let entries = self.controller.take_entries();
        let count = if dies { self.random.below(entries.len() as u64 + 1) as usize } else { entries.len() };
        for entry in &entries[..count] {
            let before = self.committed.clone();
            self.committed.apply(entry).map_err(|error| error.to_string())?;
            self.committed.check_invariants().map_err(|violation| violation.to_string())?;
            transition(&before, &self.committed).map_err(|violation| violation.to_string())?;
            self.check_history(&before)?;
            self.trace.push(encode_entry(entry).map_err(|error| error.to_string())?);
        }
        let index = self.committed.index;
        for (process, decision) in std::mem::take(&mut self.pending) {
            match decision.answer {
                _ if decision.index > index => {}
                Answer::Registered(registered) => self.processes[process].registered = Some(registered),
                Answer::Admin(AdminReply::ProducerIds(block)) if !self.blocks.insert(block.first) => {
                    return Err(format!("the producer ids from {} were given out twice", block.first));
                }
                _ => {}
            }
        }
        if !dies && self.committed != *self.controller.overlay() {
            return Err("the overlay differs from what was committed".to_owned());
        }
        let unled = self.committed.unled().count();
        if !dies && unled > 0 {
            return Err(format!("{unled} partitions have no leader, but could have one"));
        }
        Ok(())
    }

    /// Ids are never used twice, not even by what is long gone.
    fn check_history(&mut self, before: &Image) -> Result<(), String> {
        for (id, node) in &self.committed.nodes {
            let who = node.peer_id.bytes().last().unwrap_or_default();
            if *self.node_ids.entry(*id).or_insert(who) != who {
                return Err(format!("node id {id} was used twice"));
            }
            let known = before.nodes.get(id).is_some_and(|old| old.epoch == node.epoch);
            if !known && !self.epochs.insert(node.epoch) {
                return Err(format!("broker epoch {} was used twice", node.epoch));
            }
        }
        for id in self.committed.topics.keys() {
            if !before.topics.contains_key(id) && !self.topic_ids.insert(*id) {
                return Err(format!("topic id {id} was used twice"));
            }
        }
        Ok(())
    }

    /// The driver dies in the middle of a commit; another controller goes on from what was committed.
    fn crash(&mut self) -> Result<(), String> {
        self.commit(true)?;
        self.controller = Controller::with_rules(self.committed.clone(), CONFIG, self.now, self.rules);
        self.processes.iter_mut().for_each(|process| process.heard = None);
        self.heard.clear();
        self.commit(false)
    }

    /// Heals: with every node's process alive and heard, all partitions have leaders.
    fn finish(&mut self) -> Result<(), String> {
        self.pass_time()?;
        for node in self.controller.overlay().nodes.clone().into_values() {
            let index = self.committed.index;
            self.controller.heartbeat(node.id, node.epoch, index, self.now).map_err(|failure| failure.to_string())?;
        }
        self.commit(false)?;
        let states = self.committed.topics.values().flat_map(|topic| &topic.partitions);
        if states.clone().any(|state| state.leader.is_none()) {
            return Err("a partition has no leader after all nodes came back".to_owned());
        }
        let mut loads = Loads::default();
        states.for_each(|state| loads.add(state.goal()));
        if loads != self.controller.journal.standing().loads {
            return Err("loads do not match the image".to_owned());
        }
        Ok(())
    }
}

fn simulate(seed: u64, broken: Option<Rule>) -> Result<Vec<Vec<u8>>, String> {
    let mut simulation = Simulation::new(seed, broken);
    simulation.run(400)?;
    Ok(simulation.trace)
}

#[test]
fn every_seed_keeps_the_invariants_and_repeats() {
    let mut entries = 0;
    for seed in 0..150 {
        let trace = simulate(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert_eq!(Ok(&trace), simulate(seed, None).as_ref(), "seed {seed} is not deterministic");
        entries += trace.len();
    }
    assert!(entries > 5_000, "only {entries} entries: the simulation does too little");
}

#[test]
fn every_rule_is_needed() {
    for rule in [
        Rule::FencedNodesLeadNothing,
        Rule::UnfencedNodesLeadAgain,
        Rule::ElectionsBumpTheLeaderEpoch,
        Rule::ChangesBumpThePartitionEpoch,
        Rule::OneRegistrationPerEntry,
        Rule::FencedNodesGetNothing,
        Rule::StaleEpochsAreRefused,
        Rule::LiveIdentitiesAreUnique,
        Rule::SilentNodesAreFenced,
        Rule::ProducerIdsAreWrittenDown,
    ] {
        // A mutant may also die of the controller's own expectations.
        let dies = |seed| std::panic::catch_unwind(|| simulate(seed, Some(rule))).map_or(true, |run| run.is_err());
        assert!((0..50).any(dies), "{rule:?} can be dropped without anyone noticing");
    }
}
