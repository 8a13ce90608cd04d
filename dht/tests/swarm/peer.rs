//! One libp2p node with nothing but the directory, driven by a task of its own.

use std::time::Duration;

use futures::StreamExt;
use libp2p::core::Transport;
use libp2p::core::transport::MemoryTransport;
use libp2p::core::upgrade::Version as Upgrade;
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, RecordStore};
use libp2p::kad::{self, Event, PutRecordError, QueryId, QueryResult, Record, RecordKey};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, noise, yamux};
use rafka_dht::store::Stats;
use rafka_dht::{
    Behaviour, Clock, Found, Key, Lookup, Mode, Queries, SignedRecord, Stored, Verifier, Version, behaviour,
};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) type Swarm = libp2p::Swarm<Behaviour>;
type Command = Box<dyn FnOnce(&mut Swarm, &mut Queries) + Send>;

pub(crate) struct Peer {
    pub(crate) number: u64,
    pub(crate) id: PeerId,
    pub(crate) address: Multiaddr,
    commands: mpsc::UnboundedSender<Command>,
    stats: watch::Receiver<Stats>,
    /// Puts that ended: with every holder (`None`), or with this many.
    ended: watch::Receiver<Vec<(QueryId, Option<usize>)>>,
}

impl Peer {
    pub(crate) async fn spawn(number: u64, mode: Mode, verifier: Verifier, clock: Clock) -> Self {
        let (mut swarm, id) = swarm_of(number, |id| behaviour(id, verifier.clone(), mode, clock));
        let queries = Queries::new(id, verifier);
        let address = listen(&mut swarm).await;
        let (commands, orders) = mpsc::unbounded_channel();
        let (stats_out, stats) = watch::channel(Stats::default());
        let (ended_out, ended) = watch::channel(Vec::new());
        tokio::spawn(drive(swarm, queries, orders, stats_out, ended_out));
        Self { number, id, address, commands, stats, ended }
    }

    pub(crate) fn member(&self) -> (PeerId, Vec<Multiaddr>) {
        (self.id, vec![self.address.clone()])
    }

    /// Makes these the members that this node knows, itself left out.
    pub(crate) async fn knows(&self, members: Vec<(PeerId, Vec<Multiaddr>)>) {
        let me = self.id;
        self.run(move |swarm, _| swarm.behaviour_mut().set_members(members.into_iter().filter(|(id, _)| *id != me)))
            .await;
    }

    pub(crate) async fn run<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Swarm, &mut Queries) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = oneshot::channel();
        let command: Command = Box::new(move |swarm, queries| drop(reply.send(command(swarm, queries))));
        self.commands.send(command).expect("the node runs");
        answer.await.expect("the node runs")
    }

    pub(crate) async fn get(&self, key: &Key, min: Version) -> Found {
        let ((reply, answer), key) = (oneshot::channel(), key.clone());
        self.run(move |swarm, queries| queries.get(swarm.behaviour_mut(), key, min, reply)).await;
        answer.await.expect("every get is answered")
    }

    pub(crate) async fn put(&self, record: &SignedRecord, holders: Vec<PeerId>) -> Stored {
        let ((reply, answer), record) = (oneshot::channel(), record.clone());
        self.run(move |swarm, queries| queries.put(swarm.behaviour_mut(), &record, holders, reply)).await;
        answer.await.expect("every put is answered")
    }

    pub(crate) fn stats(&self) -> Stats {
        *self.stats.borrow()
    }

    pub(crate) async fn until(&self, holds: impl FnMut(&Stats) -> bool) {
        let mut stats = self.stats.clone();
        let waiting = tokio::time::timeout(Duration::from_secs(10), stats.wait_for(holds));
        waiting.await.expect("soon").expect("the node runs");
    }

    /// Waits for the end of a raw put: `None` if every holder acknowledged it, else how many did.
    pub(crate) async fn ended(&self, query: QueryId) -> Option<usize> {
        let mut ended = self.ended.clone();
        let of =
            |ended: &[(QueryId, Option<usize>)]| ended.iter().find(|(id, _)| *id == query).map(|(_, takers)| *takers);
        let ended = ended.wait_for(|ended| of(ended).is_some()).await.expect("the node runs");
        of(&ended).expect("waited for")
    }
}

impl Lookup for Peer {
    async fn get(&self, key: Key, min: Version) -> Found {
        Peer::get(self, &key, min).await
    }
}

/// A server that answers every lookup of `key` with these bytes, and refers to `friends`. Not our store: libp2p's own.
pub(crate) async fn liar(
    number: u64,
    protocol: StreamProtocol,
    (key, bytes): (RecordKey, Vec<u8>),
    friends: &[(PeerId, Vec<Multiaddr>)],
) -> (PeerId, Vec<Multiaddr>) {
    let (mut swarm, id) = swarm_of(number, |id| {
        let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), kad::Config::new(protocol));
        kad.set_mode(Some(Mode::Server));
        kad.store_mut().put(Record::new(key, bytes)).expect("room for one");
        for (peer, addresses) in friends {
            kad.add_address(peer, addresses[0].clone());
        }
        kad
    });
    let address = listen(&mut swarm).await;
    tokio::spawn(swarm.for_each(|_| async {}));
    (id, vec![address])
}

fn swarm_of<B: NetworkBehaviour>(number: u64, make: impl FnOnce(PeerId) -> B) -> (libp2p::Swarm<B>, PeerId) {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let key = Keypair::ed25519_from_bytes(seed).expect("32 bytes");
    let id = key.public().to_peer_id();
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|key| {
            MemoryTransport::default()
                .upgrade(Upgrade::V1)
                .authenticate(noise::Config::new(key).expect("a key"))
                .multiplex(yamux::Config::default())
        })
        .expect("infallible")
        .with_behaviour(|_| make(id))
        .expect("infallible")
        .build();
    (swarm, id)
}

async fn listen<B: NetworkBehaviour>(swarm: &mut libp2p::Swarm<B>) -> Multiaddr {
    swarm.listen_on("/memory/0".parse().expect("legal")).expect("memory is free");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address;
        }
    }
}

async fn drive(
    mut swarm: Swarm,
    mut queries: Queries,
    mut orders: mpsc::UnboundedReceiver<Command>,
    stats: watch::Sender<Stats>,
    ended: watch::Sender<Vec<(QueryId, Option<usize>)>>,
) {
    loop {
        tokio::select! {
            command = orders.recv() => match command {
                Some(command) => command(&mut swarm, &mut queries),
                // The peer was dropped: the node dies like one whose process was killed.
                None => return,
            },
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(event) = event {
                    if let Event::OutboundQueryProgressed { id, result: QueryResult::PutRecord(result), .. } = &event {
                        let takers = match result {
                            Ok(_) => None,
                            Err(PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. }) => Some(success.len()),
                        };
                        ended.send_modify(|ended| ended.push((*id, takers)));
                    }
                    queries.on_event(swarm.behaviour_mut(), event);
                }
            }
        }
        stats.send_replace(swarm.behaviour_mut().store_mut().stats());
    }
}
