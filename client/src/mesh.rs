//! The client's own small swarm: one task, no listener, a key pair that lives as long as the client.
//!
//! Calls pass the swarm as pointers: frames are written and read in the tasks of their connections.

mod book;
mod connect;
mod lanes;
mod names;
mod task;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::{Found, Key, Version};
use rafka_model::ClusterId;
use rafka_model::limits::CONTROL_DEADLINE_MS;
use rafka_protocols::hello::{self, ClusterKey};
use rafka_protocols::rpc::{CallError, Limiter};
use rafka_protocols::{Answer, DecodeError, Frame, Protocol, certificate, register};
use tokio::sync::{OnceCell, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use self::book::{Book, without_peer};
use crate::backoff::{Backoff, Random};
use crate::{Error, ErrorKind};

pub(crate) use connect::connect;

/// Longest time for the first connection to a node while others could be asked instead.
const ATTEMPT_MAX: Duration = Duration::from_secs(4);

/// What the swarm task can be asked.
enum Command {
    Call {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        protocol: Protocol,
        frame: Frame,
        reply: oneshot::Sender<Result<Frame, CallError>>,
    },
    Get {
        key: Key,
        min: Version,
        reply: oneshot::Sender<Found>,
    },
    /// A node to put into the Kademlia table.
    Learned(PeerId, Vec<Multiaddr>),
    /// Addresses whose peers are not known.
    Dial(Vec<Multiaddr>),
}

/// Why an exchange brought nothing.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    Call(CallError),
    Refused(Failure),
    Malformed(DecodeError),
}

impl Trouble {
    /// As the user sees it.
    pub(crate) fn into_error(self, what: impl Into<String>) -> Error {
        match self {
            Self::Call(error) => Error::call(what, &error),
            Self::Refused(failure) => Error::refused(what, &failure, None),
            Self::Malformed(error) => Error::new(ErrorKind::Failed, what).because(error.to_string()),
        }
    }

    /// True if another node may do better with the same request, without doing it twice.
    fn may_ask_another(&self, intent: Intent) -> bool {
        match self {
            Self::Call(error) => intent == Intent::Read || !error.is_outcome_unknown(),
            Self::Refused(failure) => match failure.code {
                ErrorCode::Busy | ErrorCode::NotReady | ErrorCode::NotController | ErrorCode::ControllerUnavailable => {
                    true
                }
                ErrorCode::ClusterAuthorizationFailed => false,
                code => intent == Intent::Read && code.is_retriable(),
            },
            Self::Malformed(_) => intent == Intent::Read,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Refused(failure) => failure.fmt(f),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

/// Whether asking twice does harm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Intent {
    /// It does not.
    Read,
    /// Repeated only when it certainly was not done.
    Change,
}

/// A node as the client's swarm knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerInfo {
    /// Its identity.
    pub peer: PeerId,
    /// Where it is dialled, the likeliest address first.
    pub addresses: Vec<Multiaddr>,
    /// A connection stands.
    pub connected: bool,
}

/// The swarm's handle. Cheap to clone; the swarm task ends with the last one.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<Shared>);

struct Shared {
    local: PeerId,
    cluster: ClusterKey,
    token_hash: Option<[u8; 32]>,
    commands: mpsc::Sender<Command>,
    limiter: Limiter,
    lanes: lanes::Lanes,
    book: Mutex<Book>,
    /// Peers that let this client in, as long as they are connected.
    admitted: Mutex<HashMap<PeerId, Arc<OnceCell<()>>>>,
    /// Changes whenever a connection comes or goes.
    connections: watch::Sender<()>,
    random: Mutex<Random>,
    backoff: Backoff,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("local", &self.local).field("cluster", &self.cluster.id).finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn local(&self) -> PeerId {
        self.0.local
    }

    pub(crate) fn cluster_id(&self) -> ClusterId {
        self.0.cluster.id
    }

    /// A node is at these addresses.
    pub(crate) fn learn(&self, peer: PeerId, addresses: &[Multiaddr]) {
        let addresses: Vec<_> = addresses.iter().map(without_peer).collect();
        if self.0.book.lock().learn(peer, &addresses) {
            // A full queue costs Kademlia a hint, no more: calls carry their addresses along.
            let _ = self.0.commands.try_send(Command::Learned(peer, addresses));
        }
    }

    /// A node takes lanes at these addresses; with none, nothing new is known.
    pub(crate) fn learn_lanes(&self, peer: PeerId, addresses: &[Multiaddr]) {
        self.0.lanes.learn(peer, addresses);
    }

    /// Every node that is known.
    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let book = self.0.book.lock();
        let info = |(peer, addresses): (&PeerId, &Vec<Multiaddr>)| PeerInfo {
            peer: *peer,
            addresses: addresses.clone(),
            connected: book.is_connected(peer),
        };
        book.members().map(info).collect()
    }

    /// Looks `key` up in the DHT. Finds nothing when the swarm has stopped.
    ///
    /// Cancel safe: the query runs on and its result is dropped.
    pub(crate) async fn dht_get(&self, key: Key, min: Version) -> Found {
        let (reply, answer) = oneshot::channel();
        if self.0.commands.send(Command::Get { key, min, reply }).await.is_err() {
            return Found::default();
        }
        answer.await.unwrap_or_default()
    }

    /// One exchange with `peer`, which lets this client in first if it must.
    ///
    /// Cancel safe: dropping the future resets the substream; the peer may still carry the request out.
    pub(crate) async fn exchange<T>(
        &self,
        peer: PeerId,
        protocol: Protocol,
        frame: &Frame,
        deadline: Duration,
        decode: impl Fn(&Frame) -> Result<Answer<T>, DecodeError>,
    ) -> Result<T, Trouble> {
        let exchange = async {
            self.admit(peer).await?;
            match self.bare(peer, protocol, frame.clone(), &decode).await {
                // Admitted over a connection that is gone: show the proof again, once.
                Err(Trouble::Refused(failure)) if failure.code == ErrorCode::ClusterAuthorizationFailed => {
                    self.forget(&peer);
                    self.admit(peer).await?;
                    self.bare(peer, protocol, frame.clone(), &decode).await
                }
                done => done,
            }
        };
        timeout(deadline, exchange).await.unwrap_or(Err(Trouble::Call(CallError::Timeout)))
    }

    async fn bare<T>(
        &self,
        peer: PeerId,
        protocol: Protocol,
        frame: Frame,
        decode: &impl Fn(&Frame) -> Result<Answer<T>, DecodeError>,
    ) -> Result<T, Trouble> {
        let closed = || Trouble::Call(CallError::ConnectionClosed);
        let understood = |frame: Frame| decode(&frame).map_err(Trouble::Malformed)?.map_err(Trouble::Refused);
        if let Some(ended) = self.0.lanes.call(peer, protocol, &frame).await {
            return understood(ended.map_err(Trouble::Call)?);
        }
        let _counted = self.0.lanes.count(peer);
        let _place = self.0.limiter.acquire(peer, protocol).await;
        let addresses = self.0.book.lock().addresses(&peer);
        let (reply, answer) = oneshot::channel();
        let command = Command::Call { peer, addresses, protocol, frame, reply };
        self.0.commands.send(command).await.map_err(|_| closed())?;
        understood(answer.await.map_err(|_| closed())?.map_err(Trouble::Call)?)
    }

    /// Proves to `peer` that this client may be here; once for each connection, whoever asks.
    async fn admit(&self, peer: PeerId) -> Result<(), Trouble> {
        let cell = Arc::clone(self.0.admitted.lock().entry(peer).or_default());
        let Shared { local, cluster, token_hash, .. } = &*self.0;
        let present = || async {
            let proof = token_hash.as_ref().map(|hash| certificate::proof(hash, &cluster.id, local, &peer));
            let frame = register::encode_request(&register::Request::PresentClient { proof });
            self.bare(peer, Protocol::Register, frame, &register::decode_reply).await.map(drop)
        };
        cell.get_or_try_init(present).await.map(drop)
    }

    fn forget(&self, peer: &PeerId) {
        self.0.admitted.lock().remove(peer);
    }

    /// Asks any node, another one when the first does not answer, until the deadline. Returns who answered, too.
    ///
    /// Cancel safe as far as the request is.
    pub(crate) async fn ask_any<T>(
        &self,
        protocol: Protocol,
        frame: &Frame,
        deadline: Duration,
        intent: Intent,
        decode: impl Fn(&Frame) -> Result<Answer<T>, DecodeError>,
    ) -> Result<(T, PeerId), Trouble> {
        let end = Instant::now() + deadline;
        let mut last = Trouble::Call(CallError::Dial("no node is known".to_owned()));
        let mut rounds = 0;
        let mut connections = self.0.connections.subscribe();
        loop {
            let candidates = self.0.book.lock().candidates(&mut self.0.random.lock());
            for peer in candidates {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(last);
                }
                // A change is not repeated after a timeout, so it gets all the time there is.
                let attempt = if intent == Intent::Read { left.min(ATTEMPT_MAX) } else { left };
                match self.exchange(peer, protocol, frame, attempt, &decode).await {
                    Ok(answer) => return Ok((answer, peer)),
                    Err(trouble) if trouble.may_ask_another(intent) => last = trouble,
                    Err(trouble) => return Err(trouble),
                }
            }
            rounds += 1;
            let pause = self.0.backoff.after(rounds, &mut self.0.random.lock());
            if Instant::now() + pause >= end {
                return Err(last);
            }
            // A connection that came meanwhile is tried at once.
            connections.mark_unchanged();
            let _ = timeout(pause, connections.changed()).await;
        }
    }

    /// Asks a node whom it knows, and takes note.
    async fn refresh(&self) -> Result<(), Trouble> {
        let deadline = Duration::from_millis(CONTROL_DEADLINE_MS);
        let frame = hello::encode_request();
        let (hello, _) = self.ask_any(Protocol::Hello, &frame, deadline, Intent::Read, hello::decode_reply).await?;
        if hello.cluster.is_some_and(|cluster| cluster.id == self.cluster_id()) {
            for member in hello.members {
                if let Some(peer) = member.peer() {
                    self.learn(peer, &member.multiaddrs());
                }
            }
        }
        Ok(())
    }

    /// Round trip of a small exchange over a standing connection.
    pub(crate) async fn ping(&self, peer: PeerId, deadline: Duration) -> Result<Duration, Trouble> {
        let frame = hello::encode_request();
        let mut taken = Duration::ZERO;
        // The first one may have to connect.
        for _ in 0..2 {
            let start = Instant::now();
            self.exchange(peer, Protocol::Hello, &frame, deadline, hello::decode_reply).await?;
            taken = start.elapsed();
        }
        Ok(taken)
    }
}
