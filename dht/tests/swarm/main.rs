//! Real swarms in one process: libp2p over a memory transport with Noise and Yamux.

mod peer;
mod records;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use futures::future::join_all;
use libp2p::kad::{Quorum, Record};
use rafka_dht::{
    Body, Clock, Key, Mode, NoFallback, NoHosted, Resolver, SignedRecord, Signer, Source, Verifier, Version, holders,
    protocol_name,
};
use rafka_model::limits::{DHT_HOLDERS, DHT_TTL_MS};
use rafka_model::{Monotonic, NodeId, PartitionId, TopicName};

use peer::Peer;
use records::{at, cluster_records, name_record};

/// A cluster of servers that share a clock which only tests move.
struct Cluster {
    signer: Signer,
    now: Arc<AtomicU64>,
    peers: Vec<Arc<Peer>>,
}

impl Cluster {
    async fn of(size: u64) -> Self {
        let mut cluster = Self { signer: Signer::new(&[7; 32]), now: Arc::default(), peers: Vec::new() };
        for number in 1..=size {
            let peer = cluster.spawn(number, Mode::Server).await;
            cluster.peers.push(peer);
        }
        cluster
    }

    async fn spawn(&self, number: u64, mode: Mode) -> Arc<Peer> {
        let now = self.now.clone();
        let clock: Clock = Arc::new(move || Monotonic(now.load(SeqCst)));
        Arc::new(Peer::spawn(number, mode, self.verifier(), clock).await)
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(self.signer.cluster_id(), &self.signer.public_key()).expect("matches")
    }

    /// Everybody knows everybody.
    async fn introduce(&self) {
        let members: Vec<_> = self.peers.iter().map(|peer| peer.member()).collect();
        for peer in &self.peers {
            peer.knows(members.clone()).await;
        }
    }

    fn advance(&self, by: Duration) {
        self.now.fetch_add(u64::try_from(by.as_nanos()).expect("short"), SeqCst);
    }

    fn holders(&self, key: &Key) -> Vec<libp2p::PeerId> {
        holders(&self.signer.cluster_id(), key, self.peers.iter().map(|peer| peer.id))
    }

    fn record(&self, id: u8, index: u64) -> SignedRecord {
        name_record(&self.signer, id, index)
    }

    fn peer(&self, id: &libp2p::PeerId) -> &Peer {
        self.peers.iter().find(|peer| peer.id == *id).expect("a member")
    }
}

#[tokio::test]
async fn what_one_of_five_puts_every_other_finds() {
    let cluster = Cluster::of(5).await;
    cluster.introduce().await;
    let record = cluster.record(1, 5);
    let stored = cluster.peers[0].put(&record, cluster.holders(record.key())).await;
    assert!(stored.everywhere() && stored.offered == 5, "{stored:?}");
    for peer in &cluster.peers {
        let found = peer.get(record.key(), at(5)).await;
        assert_eq!((found.record, found.hops, found.asked.len()), (Some(record.clone()), 0, 0), "each is a holder");
    }
    let missing = cluster.peers[0].get(cluster.record(2, 5).key(), Version::ANY).await;
    assert!(missing.record.is_none());
    assert_eq!((missing.answered, missing.hops), (4, 1), "all of the others said no");
}

#[tokio::test]
async fn a_light_client_reads_through_one_address_and_no_table_holds_it() {
    let cluster = Cluster::of(12).await;
    cluster.introduce().await;
    let client = cluster.spawn(99, Mode::Client).await;
    client.knows(vec![cluster.peers[3].member()]).await;
    for id in 0..10 {
        let record = cluster.record(id, 5);
        cluster.peers[0].put(&record, cluster.holders(record.key())).await;
        let found = client.get(record.key(), Version::ANY).await;
        assert_eq!(found.record, Some(record));
        assert!((1..=2).contains(&found.hops), "{} hops", found.hops);
    }
    for peer in &cluster.peers {
        assert!(!peer.run(|swarm, _| swarm.behaviour_mut().table()).await.contains(&client.id));
    }
    assert_eq!(client.stats().records, 0);
}

#[tokio::test]
async fn hops_are_the_length_of_the_chain_of_referrals() {
    let cluster = Cluster::of(4).await;
    let record = cluster.record(1, 5);
    // 0 knows 1, 1 knows 2, 2 knows 3, and only 3 holds the record.
    for (knower, known) in cluster.peers.iter().zip(&cluster.peers[1..]) {
        knower.knows(vec![known.member()]).await;
    }
    cluster.peers[3].put(&record, vec![cluster.peers[3].id]).await;
    for (from, hops) in [(0, 3), (1, 2), (2, 1), (3, 0)] {
        let found = cluster.peers[from].get(record.key(), Version::ANY).await;
        let chain: Vec<_> = cluster.peers[from + 1..].iter().map(|peer| peer.id).collect();
        assert_eq!((found.record.as_ref(), found.hops, found.asked), (Some(&record), hops, chain), "from {from}");
        assert_eq!(found.answered, hops);
    }
}

#[tokio::test]
async fn forged_and_foreign_records_are_refused_at_the_put() {
    let cluster = Cluster::of(5).await;
    cluster.introduce().await;
    let good = cluster.record(1, 5);
    let others: Vec<_> = cluster.peers[1..].iter().map(|peer| peer.id).collect();
    let name = good.key().record_key(&cluster.signer.cluster_id());
    let mut forged = good.bytes().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let mallory = Signer::new(&[8; 32]);
    let foreign = mallory.sign(Body { cluster: mallory.cluster_id(), ..good.body().clone() }).expect("fits");
    for (bytes, takers) in [
        (forged, Some(0)),
        (foreign.bytes().to_vec(), Some(0)),
        (b"junk".to_vec(), Some(0)),
        (good.bytes().to_vec(), None),
    ] {
        let record = Record::new(name.clone(), bytes);
        let peers = others.clone();
        let put = move |swarm: &mut peer::Swarm, _: &mut _| {
            swarm.behaviour_mut().put_record_to(record, peers.into_iter(), Quorum::All)
        };
        let query = cluster.peers[0].run(put).await;
        let ended = tokio::time::timeout(Duration::from_secs(4), cluster.peers[0].ended(query)).await;
        assert_eq!(ended, Ok(takers), "holders that acknowledged; and a refusal is said, not waited out");
    }
    for peer in &cluster.peers[1..] {
        let stats = peer.stats();
        assert_eq!((stats.records, stats.refused_invalid), (1, 3));
    }
}

#[tokio::test]
async fn a_stale_put_is_refused_and_a_reader_gets_the_newest_and_mends_the_rest() {
    let cluster = Cluster::of(4).await;
    cluster.introduce().await;
    let (old, new) = (cluster.record(1, 5), cluster.record(1, 6));
    let [reader, a, b, c] = &cluster.peers[..] else { panic!("four") };
    a.put(&new, vec![a.id, b.id]).await;
    let refused = a.put(&old, vec![a.id, b.id, c.id]).await;
    assert_eq!((refused.stored, refused.offered), (vec![c.id], 3));
    let found = reader.get(old.key(), at(6)).await;
    assert_eq!(found.record, Some(new.clone()), "at least this version was asked for");
    // Nobody has version 7: all three answers are compared, and the holder of the old one is told.
    let found = reader.get(old.key(), at(7)).await;
    assert_eq!((found.record, found.answered), (Some(new.clone()), 3));
    c.until(|stats| stats.stored == 2).await;
    assert_eq!(c.get(old.key(), Version::ANY).await.record, Some(new));
}

#[tokio::test]
async fn refreshes_keep_a_record_alive_and_silence_lets_it_go() {
    let cluster = Cluster::of(5).await;
    cluster.introduce().await;
    let record = cluster.record(1, 5);
    let holders = cluster.holders(record.key());
    let client = cluster.spawn(99, Mode::Client).await;
    client.knows(vec![cluster.peers[2].member()]).await;
    for _ in 0..4 {
        assert!(cluster.peers[0].put(&record, holders.clone()).await.everywhere());
        cluster.advance(Duration::from_millis(DHT_TTL_MS - 1));
        assert_eq!(client.get(record.key(), at(5)).await.record, Some(record.clone()));
    }
    assert!(cluster.peers.iter().all(|peer| peer.stats().refreshed == 3));
    cluster.advance(Duration::from_millis(1));
    assert_eq!(client.get(record.key(), at(5)).await.record, None);
}

#[tokio::test]
async fn liars_cost_a_reader_an_answer_each_and_nothing_more() {
    let cluster = Cluster::of(5).await;
    cluster.introduce().await;
    let (old, new, other) = (cluster.record(1, 5), cluster.record(1, 6), cluster.record(2, 9));
    cluster.peers[0].put(&new, cluster.holders(new.key())).await;
    let mut forged = old.bytes().to_vec();
    forged[20] ^= 1;
    let mallory = Signer::new(&[8; 32]);
    let foreign = mallory.sign(Body { cluster: mallory.cluster_id(), ..new.body().clone() }).expect("fits");
    let lies = [forged, foreign.bytes().to_vec(), other.bytes().to_vec(), b"junk".to_vec(), old.bytes().to_vec()];
    let honest: Vec<_> = cluster.peers.iter().map(|peer| peer.member()).collect();
    let id = cluster.signer.cluster_id();
    let (name, protocol) = (new.key().record_key(&id), protocol_name(&id));
    let mut liars = Vec::new();
    for (number, lie) in (70..).zip(lies) {
        liars.push(peer::liar(number, protocol.clone(), (name.clone(), lie), &honest).await);
    }
    // The reader knows liars only; an honest answer is one referral away.
    let reader = cluster.spawn(99, Mode::Client).await;
    reader.knows(liars.clone()).await;
    let found = reader.get(new.key(), at(6)).await;
    assert_eq!((found.record.as_ref(), found.hops), (Some(&new), 2));
    assert!(found.asked.len() <= liars.len() + honest.len());
    // Alone, they lead to nothing but the oldest true record.
    let reader = cluster.spawn(98, Mode::Client).await;
    reader.knows(liars[..4].to_vec()).await;
    drop(cluster);
    let found = reader.get(new.key(), at(6)).await;
    assert_eq!((found.record, found.invalid), (None, 4));
    reader.knows(liars).await;
    assert_eq!(reader.get(new.key(), at(6)).await.record, Some(old), "old, not wrong");
}

#[tokio::test]
async fn holders_that_are_gone_cost_no_record() {
    let mut cluster = Cluster::of(6).await;
    cluster.introduce().await;
    let record = cluster.record(1, 5);
    let holders = cluster.holders(record.key());
    cluster.peers[0].put(&record, holders.clone()).await;
    let client = cluster.spawn(99, Mode::Client).await;
    let last = *holders.last().expect("six");
    client.knows(vec![cluster.peer(&last).member()]).await;
    cluster.peers.retain(|peer| peer.id == last);
    assert_eq!(client.get(record.key(), at(5)).await.record, Some(record.clone()));
    let stored = cluster.peers[0].put(&record, holders).await;
    assert_eq!((stored.stored, stored.offered), (vec![last], 6), "the dead are reported, not waited for");
}

#[tokio::test]
async fn a_node_that_comes_back_at_another_address_is_reached_and_one_that_left_is_forgotten() {
    let mut cluster = Cluster::of(4).await;
    cluster.introduce().await;
    let record = cluster.record(1, 5);
    cluster.peers[0].put(&record, cluster.holders(record.key())).await;
    cluster.peers.truncate(2);
    let back = cluster.spawn(3, Mode::Server).await;
    cluster.peers.push(back);
    cluster.introduce().await;
    let mut table = cluster.peers[0].run(|swarm, _| swarm.behaviour_mut().table()).await;
    table.sort_unstable();
    let mut others = vec![cluster.peers[1].id, cluster.peers[2].id];
    others.sort_unstable();
    assert_eq!(table, others);
    let stored = cluster.peers[0].put(&record, cluster.holders(record.key())).await;
    assert!(stored.everywhere() && stored.offered == 3, "{stored:?}");
    assert_eq!(cluster.peers[2].stats().stored, 1);
}

#[tokio::test]
async fn a_table_of_members_needs_no_walks() {
    let cluster = Cluster::of(5).await;
    cluster.introduce().await;
    // kad's own walk would begin half a second after the last member was added.
    let connected = |swarm: &mut peer::Swarm, _: &mut _| swarm.connected_peers().count();
    tokio::time::sleep(Duration::from_millis(700)).await;
    for peer in &cluster.peers {
        assert_eq!(peer.run(connected).await, 0, "nobody was dialled");
        assert_eq!(peer.run(|swarm, _| swarm.behaviour_mut().table().len()).await, 4);
    }
}

#[tokio::test]
async fn twenty_five_nodes_that_each_know_five_find_everything_in_few_hops() {
    const NODES: usize = 25;
    let cluster = Cluster::of(NODES as u64).await;
    let members: Vec<_> = cluster.peers.iter().map(|peer| peer.member()).collect();
    for (number, peer) in cluster.peers.iter().enumerate().skip(1) {
        let known = [1, 2, 4, 8, 16].map(|step| members[(number + step) % NODES].clone());
        peer.knows(known.to_vec()).await;
    }
    cluster.peers[0].knows(members.clone()).await;
    let records: Vec<_> = (0..20).map(|id| cluster.record(id, 5)).collect();
    for record in &records {
        let stored = cluster.peers[0].put(record, cluster.holders(record.key())).await;
        assert!(stored.everywhere() && stored.offered == DHT_HOLDERS);
    }
    let lookups = cluster.peers.iter().flat_map(|peer| records.iter().map(move |record| (peer, record)));
    let found =
        join_all(lookups.map(|(peer, record)| async move { (peer.get(record.key(), at(5)).await, record) })).await;
    for (found, record) in &found {
        assert_eq!(found.record.as_ref(), Some(*record));
        assert!(f64::from(found.hops) <= (NODES as f64).log2(), "{} hops", found.hops);
    }
    assert!(found.iter().any(|(found, _)| found.hops > 1), "some were not one hop away");
    let held: usize = cluster.peers.iter().map(|peer| peer.stats().records).sum();
    assert_eq!(held, records.len() * DHT_HOLDERS, "lookups leave no copies behind");
}

#[tokio::test]
async fn a_cold_client_routes_every_partition_through_the_dht_alone() {
    let cluster = Cluster::of(5).await;
    cluster.introduce().await;
    let members: Vec<_> =
        cluster.peers.iter().map(|peer| (NodeId(peer.number), peer.id, peer.address.clone())).collect();
    for record in cluster_records(&cluster.signer, &members, "orders", 20, 40) {
        assert!(cluster.peers[1].put(&record, cluster.holders(record.key())).await.everywhere());
    }
    let client = cluster.spawn(99, Mode::Client).await;
    client.knows(vec![cluster.peers[4].member()]).await;
    let clock = rafka_dht::clock::system();
    let resolver = Resolver::new(client.clone(), NoFallback, NoHosted, cluster.verifier(), clock);
    let orders = TopicName::new("orders").expect("legal");
    for partition in 0..20 {
        let route = resolver.route(&orders, PartitionId(partition), at(40)).await.expect("found");
        let (leader, peer, address) = &members[partition as usize % 5];
        assert_eq!((route.leader, route.peer, &route.addresses[..]), (*leader, *peer, std::slice::from_ref(address)));
        assert_eq!(route.origin, Source::Dht);
    }
    let counts = resolver.counts();
    assert_eq!((counts.dht, counts.cache, counts.lookups, counts.fallbacks), (5, 15, 6, 0), "a topic and five nodes");
    // All holders fall back to an older state; the resolver does not.
    let (old, fresh) = (cluster.spawn(50, Mode::Server).await, resolver.topic(&orders, at(40)).await.expect("cached"));
    for record in cluster_records(&cluster.signer, &members, "orders", 20, 39) {
        old.put(&record, vec![old.id]).await;
    }
    client.knows(vec![old.member()]).await;
    drop(cluster.peers);
    let route = resolver.route(&orders, PartitionId(7), at(41)).await.expect("stale is better than none");
    assert_eq!((route.version, fresh.version), (at(40), at(40)));
}
