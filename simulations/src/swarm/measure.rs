//! Lookups, routes and hints, measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use rafka_broker::metadata::Image;
use rafka_dht::{Key, Route, Source, Version};
use rafka_model::{MetadataIndex, PartitionId, TopicName, TopicPartition};
use rafka_node::mesh::Mesh;
use rafka_protocols::gossip::{Hint, MetaHint};

use super::Swarm;
use super::peer::{ColdResolver, Surroundings, cold_resolver};
use crate::progress::Progress;
use crate::report::{Gossip, Lookups, Resolve};
use crate::stats::{Summary, ms};

/// Lookups under way at once.
const LOOKUPS_AT_ONCE: usize = 8;
/// Nodes that resolve at once.
const RESOLVING_AT_ONCE: usize = 8;
/// A hint that has not arrived by then is lost.
const HINT_LOST: Duration = Duration::from_secs(5);
/// Attempts at one route: a client that is redirected looks again.
const ATTEMPTS_MAX: usize = 4;
/// Time in which gossip must have formed its mesh: its first heartbeat comes after five seconds.
const GOSSIP_FORMS: Duration = Duration::from_secs(30);

/// One lookup.
pub(super) struct Sample {
    found: bool,
    hops: u32,
    asked: usize,
    took: Duration,
}

/// Looks the record of `topic` up; `None` if the node ended meanwhile.
pub(super) async fn look_up(mesh: &Mesh, topic: TopicName) -> Option<Sample> {
    let began = Instant::now();
    let found = mesh.dht_get(Key::Topic(topic), Version::ANY).await;
    let took = began.elapsed();
    let sample = Sample { found: found.record.is_some(), hops: found.hops, asked: found.asked.len(), took };
    // A swarm that ended answers with nothing.
    if sample.found || mesh.snapshot().await.is_some() { Some(sample) } else { None }
}

/// The figures of these lookups.
pub(super) fn lookups_of(samples: &[Sample]) -> Lookups {
    let found = || samples.iter().filter(|sample| sample.found);
    let mut by_hops = vec![0; found().map(|sample| sample.hops as usize + 1).max().unwrap_or(0)];
    found().for_each(|sample| by_hops[sample.hops as usize] += 1);
    Lookups {
        made: samples.len(),
        found: found().count(),
        hops: Summary::of(found().map(|sample| f64::from(sample.hops))),
        by_hops,
        asked: Summary::of(found().map(|sample| sample.asked as f64)),
        ms: Summary::of_ms(found().map(|sample| sample.took)),
    }
}

impl Swarm {
    /// Looks random topics up from random nodes.
    pub(super) async fn look_up(&mut self, progress: Progress) -> Lookups {
        let bar = progress.phase("lookups", self.config.lookups);
        let meshes = self.meshes();
        let pairs: Vec<_> = (0..self.config.lookups)
            .map(|_| {
                let mesh = meshes[self.random.below(meshes.len())].clone();
                (mesh, self.topics[self.random.below(self.topics.len())].clone())
            })
            .collect();
        let lookups = pairs.into_iter().map(|(mesh, topic)| {
            let bar = &bar;
            async move {
                let sample = look_up(&mesh, topic).await;
                bar.inc(1);
                sample
            }
        });
        let samples = futures::stream::iter(lookups).buffer_unordered(LOOKUPS_AT_ONCE);
        let samples: Vec<Sample> = samples.filter_map(|sample| async { sample }).collect().await;
        bar.finish_and_clear();
        lookups_of(&samples)
    }

    /// Resolves a partition of every topic from every node, each with an empty cache and nobody to fall back on.
    pub(super) async fn resolve_all(&self, progress: Progress) -> Resolve {
        let bar = progress.phase("every node resolves every topic", self.config.nodes);
        let image = self.around.registry.images().current();
        let resolving = self.alive().map(|peer| {
            let (bar, image, around, topics) = (&bar, image.clone(), &self.around, &self.topics);
            async move {
                let resolved = resolve(peer.node.0 as usize, &peer.mesh, topics, &image, around).await;
                bar.inc(1);
                resolved
            }
        });
        let nodes = futures::stream::iter(resolving).buffer_unordered(RESOLVING_AT_ONCE);
        let nodes: Vec<(Vec<Outcome>, u64)> = nodes.collect().await;
        bar.finish_and_clear();
        let outcomes = || nodes.iter().flat_map(|(outcomes, _)| outcomes);
        let right = || outcomes().filter(|outcome| outcome.verdict == Verdict::Right);
        let failure = |outcome: &Outcome| match &outcome.verdict {
            Verdict::Right => None,
            Verdict::Wrong(words) | Verdict::Failed(words) => Some(words.clone()),
        };
        Resolve {
            routes: outcomes().count(),
            right: right().count(),
            redirected: right().filter(|outcome| outcome.attempts > 1).count(),
            wrong: outcomes().filter(|outcome| matches!(outcome.verdict, Verdict::Wrong(_))).count(),
            failed: outcomes().filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_))).count(),
            fallbacks: nodes.iter().map(|(_, fallbacks)| fallbacks).sum(),
            hops: Summary::of(right().map(|outcome| f64::from(outcome.hops))),
            ms: Summary::of_ms(right().map(|outcome| outcome.took)),
            failures: outcomes().filter_map(failure).take(5).collect(),
        }
    }

    /// Publishes hints from random nodes, one after the other, and follows them to the others.
    pub(super) async fn gossip(&mut self, progress: Progress) -> Gossip {
        let hints = self.config.hints;
        let bar = progress.phase("hints spread", hints);
        let began = Instant::now();
        let mut gossip = Gossip { hints, ..Gossip::default() };
        let (mut delays, mut lasts) = (Vec::new(), Vec::new());
        let mut number = 0;
        // Until the first hint reaches everybody, gossip is still finding its peers.
        while began.elapsed() < GOSSIP_FORMS {
            number += 1;
            if self.spread(number, Duration::from_secs(1)).await.len() + 1 == self.config.nodes {
                gossip.first_complete_ms = ms(began.elapsed());
                break;
            }
        }
        for _ in 0..hints {
            number += 1;
            let arrived = self.spread(number, HINT_LOST).await;
            gossip.expected += self.config.nodes - 1;
            gossip.delivered += arrived.len();
            lasts.extend(arrived.values().max().copied());
            delays.extend(arrived.into_values());
            bar.inc(1);
        }
        bar.finish_and_clear();
        (gossip.ms, gossip.last_ms) = (Summary::of_ms(delays), Summary::of_ms(lasts));
        gossip
    }

    /// Publishes one hint; how long it took to each of the others, by number, as far as it came in time.
    async fn spread(&mut self, number: u64, limit: Duration) -> BTreeMap<usize, Duration> {
        let index = MetadataIndex(number);
        let publisher = self.random.below(self.config.nodes);
        let Some(peer) = &self.peers[publisher] else { return BTreeMap::new() };
        let mut arrived = BTreeMap::new();
        let others = self.config.nodes - 1;
        let began = Instant::now();
        peer.mesh.publish(Hint::Meta(MetaHint { index, ..MetaHint::default() }));
        let heard = &mut self.heard;
        let collect = async {
            while arrived.len() < others
                && let Some(hint) = heard.recv().await
            {
                if hint.index == index {
                    arrived.insert(hint.number, hint.at.duration_since(began));
                }
            }
        };
        // What came until then is in `arrived`; the rest is lost.
        let _ = tokio::time::timeout(limit, collect).await;
        arrived
    }
}

#[derive(Eq, PartialEq)]
enum Verdict {
    Right,
    Wrong(String),
    Failed(String),
}

struct Outcome {
    verdict: Verdict,
    attempts: usize,
    hops: u32,
    took: Duration,
}

/// Resolves a partition of every topic, another one at each node; counts the questions that went to no DHT.
async fn resolve(
    offset: usize,
    mesh: &Mesh,
    topics: &[TopicName],
    image: &Arc<Image>,
    around: &Surroundings,
) -> (Vec<Outcome>, u64) {
    let resolver = cold_resolver(mesh, around);
    let mut outcomes = Vec::with_capacity(topics.len());
    for (number, name) in topics.iter().enumerate() {
        let count = image.topic(name).map_or(1, |topic| topic.partitions.len());
        let partition = PartitionId(((offset + number) % count.max(1)) as u32);
        let began = Instant::now();
        let (mut attempts, mut hops) = (0, 0);
        let verdict = loop {
            attempts += 1;
            let verdict = match resolver.route(name, partition, Version::ANY).await {
                Err(error) => Verdict::Failed(error.to_string()),
                Ok(route) => {
                    hops = hops.max(route.hops);
                    judge(&route, image, &resolver)
                }
            };
            if verdict == Verdict::Right || attempts == ATTEMPTS_MAX {
                break verdict;
            }
        };
        outcomes.push(Outcome { verdict, attempts, hops, took: began.elapsed() });
    }
    (outcomes, resolver.counts().fallbacks)
}

/// Compares a route with the registry; tells the resolver what a client would find out at the end of a wrong one.
fn judge(route: &Route, image: &Image, resolver: &ColdResolver) -> Verdict {
    let at = TopicPartition { topic: route.topic, partition: route.partition };
    let leads = image.partition(at).and_then(|state| state.leader) == Some(route.leader);
    let listens = image.nodes.get(&route.leader).map(|node| node.addresses.clone()).unwrap_or_default();
    let told: Vec<String> = route.addresses.iter().map(ToString::to_string).collect();
    match (listens == told, leads) {
        (true, true) if route.source != Source::Quorum => return Verdict::Right,
        (true, _) => resolver.doubt(route),
        (false, _) => resolver.unreachable(route),
    }
    let Route { name, partition, leader, version, source, .. } = route;
    Verdict::Wrong(format!("{name}/{partition}: node {leader} at {told:?} by {source}, version {version}"))
}
