//! Claim: under random commands, lost drivers, silent, doubled and torn processes, stale leaders and late messages, the
//! controller's entries keep every invariant, whoever leads has all that was acknowledged, and the same seed gives the same
//! entries. Each rule of [`Rule`] is needed: without it some seed fails.

mod finish;
mod replicas;
mod topics;

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::{BootId, DirectoryId, ProducerId, TopicId};

use super::*;
use crate::invariants::transition;
use crate::metadata::{Image, Role, encode_entry};
use crate::request::AdminReply;
use crate::samples::Random;
use replicas::Replicas;
use rules::{Rule, Rules};

/// One process; several may share the identity `who`.
#[derive(Clone, Debug)]
struct Process {
    who: u8,
    incarnation: u16,
    directory: u16,
    /// Its machine had lost power.
    unclean: bool,
    features_max: u32,
    /// It has the data directory: what it lost is lost.
    began: bool,
    /// Another process has its data directory now.
    retired: bool,
    registered: Option<Registered>,
    /// Last time that the present controller heard it gladly.
    heard: Option<Monotonic>,
}

struct Simulation {
    random: Random,
    rules: Rules,
    config: Config,
    now: Monotonic,
    controller: Controller,
    committed: Image,
    trace: Vec<Vec<u8>>,
    processes: Vec<Process>,
    /// Processes so far.
    started: u16,
    /// Last time that the present controller heard any process of a node.
    heard: BTreeMap<NodeId, Monotonic>,
    /// Answers that wait for their entry.
    pending: Vec<(Option<usize>, Decision)>,
    node_ids: BTreeMap<NodeId, u8>,
    topic_ids: BTreeSet<TopicId>,
    epochs: BTreeSet<BrokerEpoch>,
    /// First ids of the blocks that nodes were told they own.
    blocks: BTreeSet<ProducerId>,
    /// What identities have as their data directory.
    directories: BTreeMap<u8, u16>,
    /// Identities whose machines went down, and no registration has told so yet.
    torn: BTreeSet<u8>,
    replicas: Replicas,
}

const CONFIG: Config = Config {
    session_ms: 6_000,
    num_partitions: 2,
    replication_factor_max: 4,
    dead_node_ms: 40_000,
    leader_balance_ms: 30_000,
};
const IDENTITIES: u64 = 6;

impl Simulation {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let rules = Rules { broken };
        let now = Monotonic(1);
        // Every fifth seed is the cluster of today.
        let config = Config { replication_factor_max: if seed.is_multiple_of(5) { 1 } else { 4 }, ..CONFIG };
        Self {
            random: Random(seed),
            rules,
            config,
            now,
            controller: Controller::with_rules(Image::default(), config, now, rules),
            committed: Image::default(),
            trace: Vec::new(),
            processes: Vec::new(),
            started: 0,
            heard: BTreeMap::new(),
            pending: Vec::new(),
            node_ids: BTreeMap::new(),
            topic_ids: BTreeSet::new(),
            epochs: BTreeSet::new(),
            blocks: BTreeSet::new(),
            directories: BTreeMap::new(),
            torn: BTreeSet::new(),
            replicas: Replicas::default(),
        }
    }

    fn run(&mut self, steps: u32) -> Result<(), String> {
        for _ in 0..steps {
            match self.random.below(200) {
                0..8 => self.start_process(),
                8..10 if !self.processes.is_empty() => {
                    let dies = self.random.below(self.processes.len() as u64) as usize;
                    self.processes[dies].heard = None;
                    self.processes[dies].retired = true;
                }
                10..34 => self.register()?,
                34..50 => self.heartbeat()?,
                50..57 => self.change_topics()?,
                57..59 => self.leave()?,
                59..61 => self.allocate(),
                61..72 => self.pass_time()?,
                72..90 => self.commit(false)?,
                90..91 => self.crash()?,
                91..98 => self.operate()?,
                98..120 => self.watch()?,
                120..130 => self.produce()?,
                130..175 => self.fetch()?,
                175..182 => self.propose(),
                182..193 => self.deliver()?,
                193..195 => self.fail_replica()?,
                195..197 => self.repeat_late()?,
                _ => self.answer_questions()?,
            }
        }
        self.commit(false)?;
        self.finish()
    }

    fn start_process(&mut self) {
        self.processes.retain(|process| !process.retired || !process.began);
        self.pending.iter_mut().for_each(|(process, _)| *process = None);
        if self.processes.len() < 9 {
            let who = self.random.below(IDENTITIES) as u8;
            self.add_process(who);
        }
    }

    fn add_process(&mut self, who: u8) {
        self.started += 1;
        let incarnation = self.started;
        let kept = self.directories.get(&who).copied().unwrap_or_default();
        let directory = if self.random.one_in(8) { self.started } else { kept };
        let unclean = self.random.one_in(2) || self.torn.contains(&who);
        let features_max = 1 + u32::from(!self.random.one_in(8));
        let (began, retired, registered, heard) = (false, false, None, None);
        let process = Process { who, incarnation, directory, unclean, features_max, began, retired, registered, heard };
        self.processes.push(process);
    }

    fn pick(&mut self) -> Option<usize> {
        let able: Vec<_> = (0..self.processes.len()).filter(|i| !self.processes[*i].retired).collect();
        (!able.is_empty()).then(|| able[self.random.below(able.len() as u64) as usize])
    }

    fn register(&mut self) -> Result<(), String> {
        let Some(i) = self.pick() else { return Ok(()) };
        self.register_process(i)
    }

    fn register_process(&mut self, i: usize) -> Result<(), String> {
        // A directory that was given up is not taken again.
        let latest = self.directories.get(&self.processes[i].who).copied().unwrap_or_default();
        self.processes[i].directory = self.processes[i].directory.max(latest);
        let Process { who, incarnation, directory, unclean, features_max, .. } = self.processes[i];
        let registration = Registration {
            peer_id: format!("peer-{who}"),
            directory: DirectoryId(u128::from(directory).to_be_bytes()),
            boot: BootId([0; 16]),
            incarnation: u128::from(incarnation).to_be_bytes(),
            addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", self.random.below(3))],
            lanes: Vec::new(),
            kafka: BTreeMap::new(),
            ops: None,
            rack: (who % 2 == 0).then(|| "even".to_owned()),
            weight_milli: 1000,
            role: if who == 5 { Role::Gateway } else { Role::Broker },
            version: String::new(),
            features_max,
            unclean,
        };
        let command = match self.controller.overlay().cluster {
            None => {
                Command::Found { public_key: [1; 32], join_token_hash: None, feature_level: 1, founder: registration }
            }
            Some(_) => Command::Register(registration),
        };
        let peer = format!("peer-{who}");
        let known = self.controller.overlay().node_by_peer(&peer).map(|node| node.directory);
        let decision = self.evaluate(command, Some(i), false)?;
        if let Answer::Registered(registered) = decision {
            self.heard.insert(registered.node, self.now);
            let live = |other: &Process| other.heard.is_some_and(|heard| self.now.since(heard) < self.session() / 4);
            let same = |other: &&Process| other.who == who && other.incarnation != incarnation;
            if let Some(other) = self.processes.iter().filter(same).find(|other| live(other)) {
                return Err(format!("two live processes of identity {who}: {other:?} and {incarnation}"));
            }
            self.processes[i].heard = Some(self.now);
            let moved = known.is_some_and(|known| known != DirectoryId(u128::from(directory).to_be_bytes()));
            self.begin(i, registered.node, moved);
        }
        Ok(())
    }

    /// Has a command decided; what comes of it is heard once it is committed.
    fn evaluate(&mut self, command: Command, process: Option<usize>, by_operator: bool) -> Result<Answer, String> {
        let decision = self.controller.evaluate(command, self.now);
        let answer = decision.answer.clone();
        self.pending.push((process, decision));
        self.note_events(by_operator)?;
        Ok(answer)
    }

    fn heartbeat(&mut self) -> Result<(), String> {
        let Some(i) = self.pick() else { return Ok(()) };
        self.heartbeat_of(i)?;
        for i in 0..self.processes.len() {
            if !self.processes[i].retired && self.random.one_in(2) {
                self.heartbeat_of(i)?;
            }
        }
        Ok(())
    }

    fn heartbeat_of(&mut self, i: usize) -> Result<(), String> {
        let Some(Registered { node, epoch }) = self.processes[i].registered else { return Ok(()) };
        let applied = if self.random.one_in(4) { MetadataIndex(1) } else { self.committed.index };
        let latest = self.controller.overlay().nodes.get(&node).map(|node| (node.epoch, node.features_max));
        let level = self.controller.overlay().cluster.as_ref().map_or(0, |cluster| cluster.feature_level);
        match self.controller.heartbeat(node, epoch, applied, self.now) {
            Ok(_) if latest.map(|(epoch, _)| epoch) != Some(epoch) => {
                return Err(format!("node {node} was heard as {epoch}, now {latest:?}"));
            }
            Ok(_) => {
                self.processes[i].heard = Some(self.now);
                self.heard.insert(node, self.now);
            }
            Err(_) if latest.is_some_and(|(now, known)| now == epoch && known >= level) => {
                return Err(format!("node {node} was refused in its epoch {epoch}"));
            }
            Err(_) => {}
        }
        self.note_events(false)
    }

    fn leave(&mut self) -> Result<(), String> {
        let Some(i) = self.pick() else { return Ok(()) };
        let Some(Registered { node, epoch }) = self.processes[i].registered else { return Ok(()) };
        if let Answer::Left = self.evaluate(Command::Leave { node, epoch }, None, false)? {
            let who = self.processes[i].who;
            self.processes.iter_mut().filter(|other| other.who == who).for_each(|other| other.heard = None);
        }
        Ok(())
    }

    fn allocate(&mut self) {
        let command = Command::Admin { request: crate::request::Admin::AllocateProducerIds, seed: [0; 32] };
        let decision = self.controller.evaluate(command, self.now);
        self.pending.push((None, decision));
    }

    fn session(&self) -> Duration {
        Duration::from_millis(self.config.session_ms)
    }

    fn pass_time(&mut self) -> Result<(), String> {
        let ms = self.random.below(3_000);
        self.advance(ms)
    }

    fn advance(&mut self, ms: u64) -> Result<(), String> {
        let until = self.now.plus(Duration::from_millis(ms));
        while let Some(deadline) = self.controller.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.controller.tick(self.now);
            self.note_events(false)?;
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
            self.check_entry(entry)?;
            self.committed.apply(entry).map_err(|error| error.to_string())?;
            self.committed.check_invariants().map_err(|violation| violation.to_string())?;
            transition(&before, &self.committed).map_err(|violation| violation.to_string())?;
            self.check_history(&before)?;
            self.replicas.note_committed(&self.committed);
            self.trace.push(encode_entry(entry).map_err(|error| error.to_string())?);
        }
        let index = self.committed.index;
        for (process, decision) in std::mem::take(&mut self.pending) {
            match decision.answer {
                _ if decision.index > index => {}
                Answer::Registered(registered) => {
                    let process = process.and_then(|process| self.processes.get_mut(process));
                    if let Some(process) = process.filter(|process| !process.retired) {
                        process.registered = Some(registered);
                        self.torn.remove(&process.who);
                        self.replicas.running.insert(registered.node, registered.epoch);
                    }
                }
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
        self.replicas.forget_elections();
        self.controller = Controller::with_rules(self.committed.clone(), self.config, self.now, self.rules);
        self.processes.iter_mut().for_each(|process| process.heard = None);
        self.heard.clear();
        self.note_events(false)?;
        self.commit(false)
    }
}

/// Runs one seed, with all rules or without one.
///
/// # Errors
/// What went wrong, in words.
pub fn simulate(seed: u64, broken: Option<Rule>) -> Result<(), String> {
    trace(seed, broken).map(drop)
}

/// The entries that were committed.
fn trace(seed: u64, broken: Option<Rule>) -> Result<Vec<Vec<u8>>, String> {
    let mut simulation = Simulation::new(seed, broken);
    simulation.run(800)?;
    Ok(simulation.trace)
}

#[test]
fn every_seed_keeps_the_invariants_and_repeats() {
    let mut entries = 0;
    for seed in 0..100 {
        let entries_of = trace(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert_eq!(Ok(&entries_of), trace(seed, None).as_ref(), "seed {seed} is not deterministic");
        entries += entries_of.len();
    }
    assert!(entries > 5_000, "only {entries} entries: the simulation does too little");
}

#[test]
fn every_rule_is_needed() {
    for rule in Rule::ALL {
        // A mutant may also die of the controller's own expectations.
        let dies = |seed| std::panic::catch_unwind(|| simulate(seed, Some(*rule))).map_or(true, |run| run.is_err());
        assert!((0..200).any(dies), "{rule:?} can be dropped without anyone noticing");
    }
}
