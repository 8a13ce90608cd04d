//! A swarm of real nodes in one process.
//!
//! Each node is the control swarm of `rafka_node`, with its admission, membership, DHT, gossip and request-response, over
//! connections with Noise and Yamux. Nodes find the cluster through one address (hello), register over the mesh and
//! show up in each other's routing tables; the [`registry`] decides as a founder's controller does. What is left out is
//! what the mesh does not see: partitions, disks, ops HTTP, and the transport of the metadata feed.

mod churn;
mod join;
mod measure;
mod peer;
mod publish;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use rafka_broker::request::NewTopic;
use rafka_model::TopicName;
use rafka_node::mesh::Mesh;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::process::Usage;
use crate::progress::Progress;
use crate::random::Random;
use crate::report::{Cost, SwarmReport};
use peer::{Heard, Origin, Peer, Surroundings};
use registry::Registry;

/// Longest time for records to reach their holders, and for a swarm to heal.
const SETTLE: Duration = Duration::from_secs(300);

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Config {
    /// Nodes, the founder with them.
    pub nodes: usize,
    /// Topics.
    pub topics: usize,
    /// Partitions of each topic.
    pub partitions: u32,
    /// Lookups from random nodes.
    pub lookups: usize,
    /// Hints published.
    pub hints: usize,
    /// How long nodes come and go; zero for never.
    pub churn: Duration,
    /// Fixes identities and choices.
    pub seed: u64,
    /// Loopback TCP instead of memory.
    pub tcp: bool,
    /// All nodes join at the same moment.
    pub at_once: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: 25,
            topics: 20,
            partitions: 6,
            lookups: 1_000,
            hints: 30,
            churn: Duration::ZERO,
            seed: 1,
            tcp: false,
            at_once: false,
        }
    }
}

/// A running swarm.
struct Swarm {
    config: Config,
    around: Surroundings,
    keys: Vec<Keypair>,
    /// By number; `None` while a node is down.
    peers: Vec<Option<Peer>>,
    heard: mpsc::UnboundedReceiver<Heard>,
    random: Random,
    topics: Vec<TopicName>,
    registry: JoinHandle<()>,
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.registry.abort();
    }
}

/// Runs one swarm from its founding to the report.
///
/// # Errors
/// What went so wrong that there is nothing to report; missed bars are in [`SwarmReport::missed`].
pub async fn run(config: &Config, progress: Progress) -> Result<SwarmReport, String> {
    let (began, before) = (Instant::now(), Usage::now());
    let mut swarm = Swarm::new(config.clone());
    let mut report = SwarmReport {
        nodes: config.nodes,
        topics: config.topics,
        partitions: config.partitions,
        transport: if config.tcp { "tcp" } else { "memory" }.to_owned(),
        at_once: config.at_once,
        seed: config.seed,
        ..SwarmReport::default()
    };
    let per_node = |bytes: u64| bytes as f64 / 1024.0 / config.nodes as f64;
    report.join = swarm.join(progress).await?;
    let joined = Usage::now();
    report.cost.join_cpu_s = joined.cpu_seconds - before.cpu_seconds;
    report.cost.join_rss_kib = per_node(joined.resident_bytes.saturating_sub(before.resident_bytes));

    let mut spent = joined.cpu_seconds;
    let mut phase = |costs: &mut Cost, name: &str| {
        let now = Usage::now().cpu_seconds;
        costs.phases_cpu_s.insert(name.to_owned(), now - std::mem::replace(&mut spent, now));
    };
    report.publish = swarm.publish(progress).await?;
    phase(&mut report.cost, "publish");
    // Before the lookups: they leave connections behind, and hints go to every connected peer.
    report.gossip = swarm.gossip(progress).await;
    phase(&mut report.cost, "gossip");
    report.lookups = swarm.look_up(progress).await;
    phase(&mut report.cost, "lookups");
    report.resolve = swarm.resolve_all(progress).await;
    phase(&mut report.cost, "resolve");
    if !config.churn.is_zero() && config.nodes > 2 {
        report.churn = Some(swarm.churn(progress).await?);
        phase(&mut report.cost, "churn");
    }
    let lookups_cpu_s = report.cost.phases_cpu_s["lookups"];
    report.cost.lookup_cpu_ms = lookups_cpu_s * 1e3 / config.lookups.max(1) as f64;
    let after = Usage::now();
    report.cost = Cost {
        cpu_s: after.cpu_seconds - before.cpu_seconds,
        rss_kib: per_node(after.resident_bytes.saturating_sub(before.resident_bytes)),
        wall_s: began.elapsed().as_secs_f64(),
        ..report.cost
    };
    report.missed = missed(&report);
    Ok(report)
}

/// Bars that this swarm missed.
fn missed(report: &SwarmReport) -> Vec<String> {
    let mut missed = Vec::new();
    let mut bar = |holds: bool, words: String| {
        if !holds {
            missed.push(words);
        }
    };
    if report.at_once && report.nodes <= 5 {
        let ms = report.join.all_ms;
        bar(ms <= 2_000.0, format!("the nodes knew each other after {ms:.0} ms, not within 2 s"));
    }
    let lookups = &report.lookups;
    bar(lookups.found == lookups.made, format!("{} of {} lookups found the record", lookups.found, lookups.made));
    let (hops, limit) = (report.hops_max(), report.hops_limit());
    bar(hops <= limit, format!("a lookup took {hops} hops, log2 n is {limit:.2}"));
    let calm = &report.resolve;
    let first = calm.right - calm.redirected;
    let words =
        format!("{first} of {} routes were right at once, {} fallbacks were wanted", calm.routes, calm.fallbacks);
    bar(first == calm.routes && calm.fallbacks == 0, words);
    if let Some(healed) = report.churn.as_ref().map(|churn| &churn.resolve) {
        let words = format!("{} of {} routes were right after the churn", healed.right, healed.routes);
        bar(healed.right == healed.routes, words);
    }
    missed
}

impl Swarm {
    fn new(config: Config) -> Self {
        let mut random = Random::new(config.seed);
        let registry = Arc::new(Registry::new(&random.bytes()));
        let (sender, heard) = mpsc::unbounded_channel();
        let listen = if config.tcp { "/ip4/127.0.0.1/tcp/0" } else { "/memory/0" };
        let around = Surroundings {
            registry: registry.clone(),
            clock: rafka_dht::clock::system(),
            heard: sender,
            listen: listen.parse().expect("a constant"),
        };
        let key = |random: &mut Random| Keypair::ed25519_from_bytes(random.bytes::<32>()).expect("32 bytes are a seed");
        Self {
            keys: (0..config.nodes).map(|_| key(&mut random)).collect(),
            peers: (0..config.nodes).map(|_| None).collect(),
            topics: Vec::new(),
            registry: tokio::spawn(registry.run()),
            around,
            heard,
            random,
            config,
        }
    }

    /// What node `number` starts from.
    fn origin(&mut self, number: usize, bootstrap: Option<Multiaddr>) -> Origin {
        Origin { number, key: self.keys[number].clone(), incarnation: self.random.bytes(), bootstrap }
    }

    /// The running nodes.
    fn alive(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().flatten()
    }

    fn meshes(&self) -> Vec<Mesh> {
        self.alive().map(|peer| peer.mesh.clone()).collect()
    }

    fn by_id(&self) -> BTreeMap<PeerId, Mesh> {
        self.alive().map(|peer| (peer.id, peer.mesh.clone())).collect()
    }

    /// Makes the topics, and waits until the directory holds all that is to be known of them.
    async fn publish(&mut self, progress: Progress) -> Result<crate::report::Publish, String> {
        let bar = progress.phase("publishing topics", self.config.nodes);
        let began = Instant::now();
        let names = (0..self.config.topics).map(|number| format!("topic-{number}"));
        self.topics = names.map(|name| TopicName::new(&name).expect("legal")).collect();
        let topics = self.topics.iter().map(|name| NewTopic {
            name: name.to_string(),
            partitions: Some(self.config.partitions),
            replication_factor: Some(1),
            ..NewTopic::default()
        });
        let seed = self.random.bytes();
        let made = self.around.registry.create_topics(topics.collect(), seed);
        made.map_err(|failure| format!("topics were not made: {failure}"))?;
        self.settled().await?;
        bar.finish_and_clear();
        Ok(crate::report::Publish {
            records: self.around.registry.record_count(),
            ms: began.elapsed().as_secs_f64() * 1e3,
        })
    }

    /// Waits until every node has published its share of the image as it is now.
    async fn settled(&self) -> Result<(), String> {
        let index = self.around.registry.images().index();
        let waits = self.alive().map(|peer| {
            let mut settled = peer.settled.clone();
            async move { settled.wait_for(|state| state.quiet && state.index >= index).await.map(drop) }
        });
        let all = futures::future::try_join_all(waits);
        match tokio::time::timeout(SETTLE, all).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("a node stopped publishing".to_owned()),
            Err(_) => Err(format!("records were not at their holders after {} s", SETTLE.as_secs())),
        }
    }
}
