//! A cluster of whole brokers in one process, whose nodes are killed and come back while records are published.
//!
//! What it claims: every acknowledged record is read back, at the offset that was acknowledged; records of one key keep
//! their order; records come twice only by a producer's retries, which are counted; and a node that comes back goes on
//! with the partitions that it had.

mod ledger;
mod nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rafka_client::{
    Client, ClientConfig, Consumer, ConsumerConfig, NewTopic, Offset, PartitionId, Producer, ProducerConfig, Record,
    Start, TopicName,
};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::progress::Progress;
use crate::stats::{Summary, ms};
use ledger::{Ledger, Read};
use nodes::Nodes;

/// Longest wait for anything that a healthy cluster does.
const DEADLINE: Duration = Duration::from_secs(60);
/// Keys that records are spread over.
const KEYS: u64 = 64;
/// Records that may be under way.
const WINDOW: usize = 512;
/// Nodes that join at once must know each other within this time, in swarms of up to five.
const JOIN_BAR: Duration = Duration::from_secs(2);

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Config {
    /// Brokers.
    pub nodes: usize,
    /// Records to publish at least; they are spread evenly over the kills, and each kill falls into the middle of a share.
    pub records: u64,
    /// Kills; nodes take turns, the founder first.
    pub kills: usize,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Fixes the order of the kills.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { nodes: 3, records: 30_000, kills: 3, partitions: 12, seed: 1 }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Brokers.
    pub nodes: usize,
    /// From the start of all nodes at once until each held all others, authenticated, in its routing table, ms.
    pub join_ms: f64,
    /// Records sent.
    pub sent: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records whose delivery failed for good, in words.
    pub refused: Vec<String>,
    /// Kills, each followed by a return.
    pub kills: usize,
    /// From a kill until the node was in service again, ms.
    pub return_ms: Summary,
    /// From the return until each of the node's partitions had taken a record, ms.
    pub continued_ms: Summary,
    /// Records that the subscriber read, which was there all the time.
    pub read_live: usize,
    /// Records that a new client read from the beginning.
    pub read_again: usize,
    /// Records that came more than once.
    pub duplicates: u64,
    /// Time of the whole run, s.
    pub wall_s: f64,
    /// What must not be, in words.
    pub violations: Vec<String>,
}

/// Runs the cluster.
///
/// # Errors
/// What went so wrong that there is nothing to check.
pub async fn run(config: &Config, progress: Progress) -> Result<Report, String> {
    let began = Instant::now();
    let bar = progress.phase(&format!("{} brokers join", config.nodes), config.nodes);
    let (nodes, join) = Nodes::start(config.nodes).await?;
    bar.finish_and_clear();
    let mut run = Run::prepare(config, nodes).await?;
    let (reads, mut live) = mpsc::unbounded_channel();
    let consumer = run.subscribe(&run.client, false).await?;
    let subscriber = tokio::spawn(follow(consumer, reads));
    let bar = progress.phase("records are published, nodes are killed", config.kills);
    let (mut returns, mut continued) = (Vec::new(), Vec::new());
    let order: Vec<usize> = turns(config);
    let share = config.records / (order.len() as u64 + 1);
    for victim in order {
        let halfway = run.acknowledged() + share / 2;
        let publishing = run.publish(share);
        run.reached(halfway).await?;
        returns.push(run.nodes.kill_and_restart(victim).await?);
        let back = Instant::now();
        run.partitions_continue(victim).await?;
        continued.push(back.elapsed());
        run.published(publishing).await?;
        bar.inc(1);
    }
    let publishing = run.publish(share);
    run.published(publishing).await?;
    bar.finish_and_clear();

    let bar = progress.phase("what was read is checked", 2);
    let live = run.read_until_complete(&mut live).await;
    subscriber.abort();
    let again = run.read_from_the_beginning().await?;
    bar.finish_and_clear();
    let mut report = Report {
        nodes: config.nodes,
        join_ms: ms(join),
        sent: run.next.load(Ordering::Relaxed),
        acknowledged: run.ledger.acknowledged(),
        refused: std::mem::take(&mut run.refused),
        kills: returns.len(),
        return_ms: Summary::of_ms(returns),
        continued_ms: Summary::of_ms(continued),
        read_live: live.len(),
        read_again: again.len(),
        ..Report::default()
    };
    for (who, reads) in [("the subscriber", &live), ("a new client", &again)] {
        let found = run.ledger.check(reads);
        report.duplicates = report.duplicates.max(found.duplicates);
        report.violations.extend(found.violations.into_iter().map(|words| format!("{who}: {words}")));
    }
    report.violations.extend(report.refused.iter().take(5).map(|words| format!("a record was not taken: {words}")));
    if config.nodes <= 5 && join > JOIN_BAR {
        report.violations.push(format!(
            "{} nodes knew each other after {:.0} ms, not within 2 s",
            config.nodes,
            ms(join)
        ));
    }
    run.nodes.shutdown().await;
    report.wall_s = began.elapsed().as_secs_f64();
    Ok(report)
}

/// The founder first, then the others in turn, beginning where the seed says.
fn turns(config: &Config) -> Vec<usize> {
    let others = config.nodes.saturating_sub(1).max(1);
    let begin = config.seed as usize % others;
    let of = |kill: usize| match kill % config.nodes {
        0 => 0,
        turn => 1 + (begin + turn - 1) % others,
    };
    (0..config.kills).map(of).collect()
}

struct Run {
    nodes: Nodes,
    client: Client,
    producer: Producer,
    topic: TopicName,
    /// By partition: whose it is.
    owners: Vec<u64>,
    ledger: Ledger,
    /// Sequence number of the next record.
    next: Arc<AtomicU64>,
    refused: Vec<String>,
    count: watch::Sender<u64>,
}

/// A share of the records on its way.
struct Publishing {
    /// Set when no more than the share need be published.
    enough: Arc<AtomicBool>,
    task: JoinHandle<Vec<Sent>>,
}

/// What became of one record.
struct Sent {
    sequence: u64,
    key: String,
    fate: Result<(PartitionId, Offset), String>,
}

impl Run {
    async fn prepare(config: &Config, nodes: Nodes) -> Result<Self, String> {
        let client = connect(&nodes).await?;
        let topic = TopicName::new("orders").expect("legal");
        let new = NewTopic {
            name: topic.to_string(),
            partitions: Some(config.partitions),
            replication_factor: Some(1),
            ..NewTopic::default()
        };
        let made = client.admin().create_topic(new, false).await.map_err(|error| error.to_string())?;
        let owners = made.partitions.iter().map(|(_, state)| state.replicas.first().map_or(0, |id| id.0)).collect();
        let producer = client.producer(ProducerConfig::default());
        let (ledger, next, count) = (Ledger::default(), Arc::default(), watch::Sender::new(0));
        Ok(Self { nodes, client, producer, topic, owners, ledger, next, refused: Vec::new(), count })
    }

    fn acknowledged(&self) -> u64 {
        *self.count.borrow()
    }

    /// Begins to publish `share` records, and more until there are enough: what happens meanwhile finds records on
    /// their way, however fast they go.
    fn publish(&self, share: u64) -> Publishing {
        let (producer, topic) = (self.producer.clone(), self.topic.clone());
        let (next, count, enough) = (self.next.clone(), self.count.clone(), Arc::new(AtomicBool::new(false)));
        let told = enough.clone();
        let task = tokio::spawn(async move {
            let (mut fates, mut under_way) = (Vec::new(), FuturesUnordered::new());
            let mut taken = 0;
            while taken < share || !told.load(Ordering::Relaxed) {
                taken += 1;
                let sequence = next.fetch_add(1, Ordering::Relaxed);
                let key = format!("key-{}", sequence % KEYS);
                let record = Record::new(topic.clone(), sequence.to_string()).key(key.clone());
                match producer.enqueue(record).await {
                    Ok(pending) => under_way.push(async move { (sequence, key, pending.await) }),
                    Err(error) => fates.push(Sent { sequence, key, fate: Err(error.to_string()) }),
                }
                while under_way.len() >= WINDOW {
                    fates.extend(under_way.next().await.map(|done| sent(done, &count)));
                }
            }
            while let Some(done) = under_way.next().await {
                fates.push(sent(done, &count));
            }
            fates
        });
        Publishing { enough, task }
    }

    /// Waits until so many records were acknowledged.
    async fn reached(&self, count: u64) -> Result<(), String> {
        let mut seen = self.count.subscribe();
        match tokio::time::timeout(DEADLINE, seen.wait_for(|now| *now >= count)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{} of {count} records were acknowledged in time", self.acknowledged())),
        }
    }

    /// Waits for a share and notes what became of it.
    async fn published(&mut self, publishing: Publishing) -> Result<(), String> {
        publishing.enough.store(true, Ordering::Relaxed);
        let sent = tokio::time::timeout(2 * DEADLINE, publishing.task).await;
        let sent = sent.map_err(|_| "publishing did not end in time")?.map_err(|error| error.to_string())?;
        self.note(sent);
        Ok(())
    }

    fn note(&mut self, sent: Vec<Sent>) {
        for Sent { sequence, key, fate } in sent {
            let acknowledged = fate.map_err(|words| self.refused.push(words)).ok();
            self.ledger.sent(sequence, &key, acknowledged);
        }
    }

    /// Each partition of a node takes a record again, behind what it had acknowledged before.
    async fn partitions_continue(&mut self, node: usize) -> Result<(), String> {
        let id = self.nodes.id(node);
        for partition in (0u32..).zip(self.owners.clone()).filter(|(_, owner)| *owner == id).map(|(number, _)| number) {
            let (sequence, partition) = (self.next.fetch_add(1, Ordering::Relaxed), PartitionId(partition));
            let key = format!("probe-{partition}");
            let record = Record::new(self.topic.clone(), sequence.to_string()).key(key.clone()).partition(partition);
            let delivered = tokio::time::timeout(DEADLINE, self.producer.send(record)).await;
            let done = delivered.map_err(|_| format!("partition {partition} of node {id} takes no records"))?;
            let sent = sent((sequence, key, done), &self.count);
            self.note(vec![sent]);
        }
        Ok(())
    }

    async fn subscribe(&self, client: &Client, exit_at_end: bool) -> Result<Consumer, String> {
        let topics = ConsumerConfig::topics([self.topic.clone()]);
        let config = ConsumerConfig { start: Start::Earliest, exit_at_end, ..topics };
        client.consumer(config).await.map_err(|error| error.to_string())
    }

    /// Takes what the subscriber has read until nothing acknowledged is missing, or the time is up.
    async fn read_until_complete(&self, live: &mut mpsc::UnboundedReceiver<Read>) -> Vec<Read> {
        let (mut reads, mut missing) = (Vec::new(), self.ledger.acknowledged_sequences());
        let complete = async {
            while !missing.is_empty()
                && let Some(read) = live.recv().await
            {
                missing.remove(&read.sequence);
                reads.push(read);
            }
        };
        // What is missing is found by the check.
        let _ = tokio::time::timeout(DEADLINE, complete).await;
        reads
    }

    async fn read_from_the_beginning(&self) -> Result<Vec<Read>, String> {
        let client = connect(&self.nodes).await?;
        let mut consumer = self.subscribe(&client, true).await?;
        let mut reads = Vec::new();
        let all = async {
            while let Some(record) = consumer.next().await {
                reads.push(Read::of(&record.map_err(|error| error.to_string())?)?);
            }
            Ok::<(), String>(())
        };
        tokio::time::timeout(DEADLINE, all).await.map_err(|_| "reading from the beginning did not end in time")??;
        Ok(reads)
    }
}

fn sent(
    (sequence, key, fate): (u64, String, Result<rafka_client::Delivery, rafka_client::Error>),
    count: &watch::Sender<u64>,
) -> Sent {
    let fate = match fate {
        Ok(delivery) => delivery.offset.map(|offset| (delivery.partition, offset)).ok_or("no offset".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    count.send_modify(|count| *count += u64::from(fate.is_ok()));
    Sent { sequence, key, fate }
}

async fn connect(nodes: &Nodes) -> Result<Client, String> {
    let config = ClientConfig { bootstrap: nodes.addresses(), wait_for_nodes: true, ..ClientConfig::default() };
    Client::connect(config).await.map_err(|error| error.to_string())
}

/// Reads for ever; errors are items, a subscriber goes on after them.
async fn follow(mut consumer: Consumer, reads: mpsc::UnboundedSender<Read>) {
    while let Some(record) = consumer.next().await {
        match record.map_err(|error| error.to_string()).and_then(|record| Read::of(&record)) {
            Ok(read) => drop(reads.send(read)),
            Err(error) => tracing::warn!(error, "the subscriber could not read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_founder_and_then_every_other_node_has_its_turn() {
        let of = |seed| turns(&Config { nodes: 3, kills: 6, seed, ..Config::default() });
        assert_eq!(of(0), [0, 1, 2, 0, 1, 2]);
        assert_eq!(of(1), [0, 2, 1, 0, 2, 1]);
    }
}
