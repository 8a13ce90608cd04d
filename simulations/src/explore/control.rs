//! The real controller, one decision at a time: each time a new one takes over from what was committed, so that nothing
//! can rest on what a controller remembers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::ErrorCode;
use rafka_broker::controller::{self, Answer, Command, Controller, Registration};
use rafka_broker::invariants::transition;
use rafka_broker::metadata::{Delta, Entry, Image, PartitionState, Role, Topic, encode_image};
use rafka_broker::replication::{AlterPartition, Members};
use rafka_model::{
    BootId, BrokerEpoch, DirectoryId, Durability, MetadataIndex, Monotonic, NodeId, PartitionEpoch, PartitionId,
    TopicId, TopicName, TopicPartition,
};

use super::search::Broken;

/// The partition.
pub(super) const AT: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(0) };

/// `min.insync.replicas`.
pub(super) const MIN_INSYNC: u32 = 2;

/// Its replicas.
pub(super) const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// A committed state of the cluster.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) image: Image,
    pub(super) members: Members,
}

impl Version {
    fn new(image: Image) -> Self {
        let served = image.nodes.values().filter(|node| !node.fenced);
        let members: BTreeMap<_, _> = served.map(|node| (node.id, node.epoch)).collect();
        Self { image, members: Arc::new(members) }
    }

    pub(super) fn partition(&self) -> &PartitionState {
        self.image.partition(AT).expect("the topic is never deleted")
    }

    /// The registration that counts.
    pub(super) fn epoch(&self, node: NodeId) -> BrokerEpoch {
        self.image.nodes.get(&node).map(|node| node.epoch).unwrap_or_default()
    }

    pub(super) fn is_fenced(&self, node: NodeId) -> bool {
        self.image.nodes.get(&node).is_none_or(|node| node.fenced)
    }
}

/// What the controller is asked.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Ask {
    /// By a leader.
    Alter(AlterPartition),
    /// By a process that starts: the how-manieth of its node, after how many power cuts, the last of which it has not
    /// recovered from yet.
    Register { node: NodeId, start: u8, boot: u8, unclean: bool },
    /// By a fenced node in this registration.
    Heartbeat { node: NodeId, epoch: BrokerEpoch },
    /// By nobody: a node was silent for a session.
    Fence(NodeId),
}

/// What came of it: new versions, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Decided {
    pub(super) versions: Vec<u32>,
    pub(super) reply: Reply,
}

/// What the controller answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Nothing,
    Registered(BrokerEpoch),
    Altered(Result<PartitionEpoch, ErrorCode>),
}

/// All versions that any schedule has led to, and what the controller decided on each.
pub(super) struct Control {
    rules: controller::Rules,
    versions: Vec<Arc<Version>>,
    numbers: HashMap<Vec<u8>, u32>,
    decided: HashMap<(u32, Ask), Arc<Result<Decided, Broken>>>,
}

/// When every controller takes over.
const TAKES_OVER: Monotonic = Monotonic(1_000_000_000_000);

impl Control {
    pub(super) fn new(rules: controller::Rules) -> Self {
        Self { rules, versions: Vec::new(), numbers: HashMap::new(), decided: HashMap::new() }
    }

    pub(super) fn version(&self, number: u32) -> &Arc<Version> {
        &self.versions[number as usize]
    }

    fn number(&mut self, image: Image) -> u32 {
        let bytes = encode_image(&image).expect("an image can be encoded");
        *self.numbers.entry(bytes).or_insert_with(|| {
            self.versions.push(Arc::new(Version::new(image)));
            (self.versions.len() - 1) as u32
        })
    }

    /// Three nodes in service, and the partition, led by the first.
    pub(super) fn found(&mut self, durability: Durability) -> u32 {
        let mut controller = self.controller(Image::default());
        let founding = Command::Found {
            public_key: [7; 32],
            join_token_hash: None,
            feature_level: 1,
            founder: registration(NODES[0], 0, 0, false),
        };
        controller.evaluate(founding, TAKES_OVER);
        for node in &NODES[1..] {
            controller.evaluate(Command::Register(registration(*node, 0, 0, false)), TAKES_OVER);
        }
        let mut image = Image::default();
        let apply = |controller: &mut Controller, image: &mut Image| {
            controller
                .take_entries()
                .iter()
                .for_each(|entry| image.apply(entry).expect("the controller writes what applies"));
        };
        apply(&mut controller, &mut image);
        for node in NODES {
            let epoch = image.nodes[&node].epoch;
            controller.heartbeat(node, epoch, image.index, TAKES_OVER).expect("it has just registered");
        }
        apply(&mut controller, &mut image);
        let index = MetadataIndex(image.index.0 + 1);
        image.apply(&Entry { index, deltas: vec![Delta::TopicCreated(topic(durability, index))] }).expect("applies");
        self.number(image)
    }

    fn controller(&self, image: Image) -> Controller {
        Controller::with_rules(image, controller::Config::default(), TAKES_OVER, self.rules)
    }

    /// What the controller decides on `number`.
    pub(super) fn decide(&mut self, number: u32, ask: Ask) -> Result<Decided, Broken> {
        let key = (number, ask);
        if let Some(decided) = self.decided.get(&key) {
            return Result::clone(decided);
        }
        let decided = self.evaluate(number, &key.1);
        self.decided.insert(key, Arc::new(decided.clone()));
        decided
    }

    fn evaluate(&mut self, number: u32, ask: &Ask) -> Result<Decided, Broken> {
        let mut image = self.version(number).image.clone();
        let mut controller = self.controller(image.clone());
        let mut versions = Vec::new();
        let reply = carry_out(&mut controller, &image, ask);
        for entry in controller.take_entries() {
            let before = image.clone();
            let broken = |invariant, text: String| Broken { invariant, text };
            image.apply(&entry).map_err(|error| broken(13, error.to_string()))?;
            image.check_invariants().map_err(|violation| broken(9, violation.0))?;
            transition(&before, &image).map_err(|violation| broken(7, violation.0))?;
            versions.push(self.number(image.clone()));
        }
        Ok(Decided { versions, reply })
    }
}

fn carry_out(controller: &mut Controller, image: &Image, ask: &Ask) -> Reply {
    match ask {
        Ask::Alter(alter) => {
            let decision = controller.evaluate(Command::AlterPartition(alter.clone()), TAKES_OVER);
            Reply::Altered(match decision.answer {
                Answer::Altered(epoch) => Ok(epoch),
                Answer::Refused(failure) => Err(failure.code),
                _ => Err(ErrorCode::InvalidRequest),
            })
        }
        Ask::Register { node, start, boot, unclean } => {
            let registration = registration(*node, *start, *boot, *unclean);
            match controller.evaluate(Command::Register(registration), TAKES_OVER).answer {
                Answer::Registered(registered) => Reply::Registered(registered.epoch),
                _ => Reply::Nothing,
            }
        }
        Ask::Heartbeat { node, epoch } => {
            // Refused if the node has registered again since.
            let _ = controller.heartbeat(*node, *epoch, image.index, TAKES_OVER);
            Reply::Nothing
        }
        Ask::Fence(silent) => {
            let session = Duration::from_millis(controller::Config::default().session_ms);
            for node in image.nodes.values().filter(|node| node.id != *silent && !node.fenced) {
                let soon = TAKES_OVER.plus(Duration::from_millis(1));
                controller.heartbeat(node.id, node.epoch, image.index, soon).expect("it is registered");
            }
            controller.tick(TAKES_OVER.plus(session));
            Reply::Nothing
        }
    }
}

fn registration(node: NodeId, start: u8, boot: u8, unclean: bool) -> Registration {
    let who = node.0 as u8;
    Registration {
        peer_id: format!("peer-{node}"),
        directory: DirectoryId([who; 16]),
        boot: BootId([boot; 16]),
        incarnation: [start; 16],
        addresses: vec!["/ip4/127.0.0.1/tcp/7300".to_owned()],
        lanes: Vec::new(),
        kafka: BTreeMap::new(),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: String::new(),
        features_max: 1,
        unclean,
    }
}

fn topic(durability: Durability, index: MetadataIndex) -> Topic {
    let state = PartitionState {
        replicas: NODES.to_vec(),
        leader: Some(NODES[0]),
        isr: NODES.to_vec(),
        ..PartitionState::default()
    };
    let durability = crate::hunt::mode_name(durability).to_owned();
    let configs = [("durability".to_owned(), durability), ("min.insync.replicas".to_owned(), MIN_INSYNC.to_string())];
    Topic {
        id: AT.topic,
        name: TopicName::new("t").expect("legal"),
        configs: configs.into(),
        replication_factor: NODES.len() as u16,
        partitions: vec![state],
        changed: index,
    }
}
