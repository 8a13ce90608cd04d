//! A libp2p peer without manners: sends whatever it is told to, and says what became of it.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, GetRecordOk, QueryResult, RecordKey};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, gossipsub, identity::Keypair};
use rafka_model::ClusterId;
use rafka_protocols::gossip::{self, Channel};
use rafka_protocols::rpc::{self, CallError};
use rafka_protocols::transport::{swarm_config, transport};
use rafka_protocols::{Frame, Protocol};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::{DEADLINE, Node};

/// Longer than a node takes to refuse what it need not read to the end.
const PATIENCE: Duration = Duration::from_secs(3);

/// Streams open at once; a connection carries more.
const STREAMS: usize = 64;

/// Bytes as they are, both ways.
#[derive(Clone)]
pub(crate) struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> io::Result<Vec<u8>> {
        Err(io::Error::other("answers nobody"))
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        io.take(1 << 20).read_to_end(&mut answer).await.map(|_| answer)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        // Whoever hangs up before the end has been told enough.
        let _ = io.write_all(&bytes).await;
        Ok(())
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        _: Vec<u8>,
    ) -> io::Result<()> {
        Ok(())
    }
}

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    kad: kad::Behaviour<MemoryStore>,
    gossip: gossipsub::Behaviour,
    raw: request_response::Behaviour<Raw>,
    rpc: rpc::Behaviour,
}

/// Connected with one node, of which it knows the address and the cluster's id.
pub(crate) struct Peer {
    swarm: Swarm<Behaviour>,
    node: PeerId,
    address: Multiaddr,
    since: Instant,
    /// Gossip messages that came in.
    pub(crate) heard: usize,
}

impl Peer {
    /// Connects; `raw` is the protocol that [`Self::raw`] speaks.
    pub(crate) async fn connect(node: &Node, cluster: &ClusterId, raw: StreamProtocol) -> Self {
        let key = Keypair::generate_ed25519();
        let local = key.public().to_peer_id();
        let mut kad = kad::Behaviour::with_config(
            local,
            MemoryStore::new(local),
            kad::Config::new(rafka_dht::protocol_name(cluster)),
        );
        kad.set_mode(Some(kad::Mode::Client));
        let signed = gossipsub::MessageAuthenticity::Signed(key.clone());
        let mut gossip = gossipsub::Behaviour::new(signed, gossip::config(cluster)).expect("a good configuration");
        for channel in Channel::ALL {
            gossip.subscribe(&channel.topic(cluster)).expect("a topic");
        }
        let raw = request_response::Behaviour::with_codec(
            Raw,
            [(raw, ProtocolSupport::Outbound)],
            request_response::Config::default(),
        );
        let behaviour = Behaviour { kad, gossip, raw, rpc: rpc::Behaviour::cluster(cluster, false) };
        let connections = transport(&key).expect("a key that signs");
        let swarm = Swarm::new(connections, behaviour, local, swarm_config(DEADLINE));
        let address = node.multiaddr().parse().expect("an address");
        let mut peer = Self { swarm, node: node.peer(), address, since: Instant::now(), heard: 0 };
        peer.dial().await;
        peer
    }

    /// Connects anew, if the node has hung up.
    pub(crate) async fn dial(&mut self) {
        if self.swarm.is_connected(&self.node) {
            return;
        }
        let dial = DialOpts::peer_id(self.node).addresses(vec![self.address.clone()]).build();
        self.swarm.dial(dial).expect("an address");
        loop {
            match self.next().await {
                SwarmEvent::ConnectionEstablished { .. } => break,
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
        }
        self.since = Instant::now();
        self.swarm.behaviour_mut().kad.add_address(&self.node, self.address.clone());
    }

    pub(crate) fn id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    async fn next(&mut self) -> SwarmEvent<BehaviourEvent> {
        let event = timeout(DEADLINE, self.swarm.select_next_some()).await.expect("something happens in time");
        let is_gossip =
            matches!(event, SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { .. })));
        self.heard += usize::from(is_gossip);
        event
    }

    /// One exchange as a client would make it.
    pub(crate) async fn call(&mut self, protocol: Protocol, frame: Frame) -> Result<Frame, CallError> {
        let (reply, mut answer) = oneshot::channel();
        self.swarm.behaviour_mut().rpc.send(self.node, Vec::new(), protocol, frame, reply);
        loop {
            tokio::select! {
                answer = &mut answer => return answer.expect("every call is completed"),
                _ = self.next() => {}
            }
        }
    }

    /// Opens a stream for each of `messages`, many at once, and waits until the node has done with them, or long
    /// enough; how many were answered with something.
    pub(crate) async fn raw(&mut self, messages: Vec<Vec<u8>>) -> usize {
        let mut answered = 0;
        for some in messages.chunks(STREAMS) {
            answered += self.raw_at_once(some.to_vec()).await;
        }
        answered
    }

    async fn raw_at_once(&mut self, messages: Vec<Vec<u8>>) -> usize {
        self.dial().await;
        let raw = &mut self.swarm.behaviour_mut().raw;
        let mut open: HashSet<_> = messages.into_iter().map(|bytes| raw.send_request(&self.node, bytes)).collect();
        let mut answered = 0;
        let _ = timeout(PATIENCE, async {
            while !open.is_empty() {
                match self.swarm.select_next_some().await {
                    SwarmEvent::Behaviour(BehaviourEvent::Raw(request_response::Event::Message {
                        message: request_response::Message::Response { request_id, response },
                        ..
                    })) => {
                        open.remove(&request_id);
                        answered += usize::from(!response.is_empty());
                    }
                    SwarmEvent::Behaviour(BehaviourEvent::Raw(request_response::Event::OutboundFailure {
                        request_id,
                        ..
                    })) => drop(open.remove(&request_id)),
                    _ => {}
                }
            }
        })
        .await;
        answered
    }

    /// Puts a record to the node; true if it was taken.
    pub(crate) async fn put(&mut self, key: &RecordKey, bytes: &[u8]) -> bool {
        let record = kad::Record::new(key.clone(), bytes.to_vec());
        let to = [self.node].into_iter();
        let query = self.swarm.behaviour_mut().kad.put_record_to(record, to, kad::Quorum::One);
        loop {
            if let SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                id,
                result: QueryResult::PutRecord(result),
                ..
            })) = self.next().await
                && id == query
            {
                return result.is_ok();
            }
        }
    }

    /// What the node gives for a key of the directory.
    pub(crate) async fn get(&mut self, key: &RecordKey) -> Option<Vec<u8>> {
        let query = self.swarm.behaviour_mut().kad.get_record(key.clone());
        loop {
            if let SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                id,
                result: QueryResult::GetRecord(result),
                ..
            })) = self.next().await
                && id == query
            {
                return match result {
                    Ok(GetRecordOk::FoundRecord(found)) => Some(found.record.value),
                    _ => None,
                };
            }
        }
    }

    /// Gossips, once the node has told that it listens.
    pub(crate) async fn publish(&mut self, topic: gossipsub::IdentTopic, data: Vec<u8>) {
        let began = Instant::now();
        while let Err(error) = self.swarm.behaviour_mut().gossip.publish(topic.clone(), data.clone()) {
            assert!(began.elapsed() < DEADLINE, "nobody to gossip with: {error}");
            self.next().await;
        }
        // What is queued leaves with the events that follow.
        let _ = timeout(Duration::from_millis(100), async {
            loop {
                self.swarm.select_next_some().await;
            }
        })
        .await;
    }

    /// Waits until the node hangs up; how long it had been connected.
    pub(crate) async fn hung_up(&mut self) -> Duration {
        while self.swarm.is_connected(&self.node) {
            self.next().await;
        }
        self.since.elapsed()
    }

    /// Waits for a gossip message.
    pub(crate) async fn hears(&mut self) {
        let before = self.heard;
        while self.heard == before {
            self.next().await;
        }
    }
}
