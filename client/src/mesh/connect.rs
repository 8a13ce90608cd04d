//! From bootstrap addresses to a running swarm: hello on a swarm that speaks nothing else, then the real one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm};
use parking_lot::Mutex;
use rafka_dht::{Clock, Mode, Verifier};
use rafka_model::limits::SWARM_COMMANDS_MAX;
use rafka_protocols::address::BootstrapAddress;
use rafka_protocols::hello::{self, Admission, ClusterKey, Hello};
use rafka_protocols::rpc::{self, CallError, Limiter};
use rafka_protocols::{Frame, Protocol, certificate, transport};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, info_span};

use super::book::Book;
use super::lanes::Lanes;
use super::task::{self, Task};
use super::{Handle, Shared, names};
use crate::backoff::{Backoff, Random};
use crate::config::ClientConfig;
use crate::{Error, ErrorKind};

/// Pause before nodes that were not ready, or not there, are asked again.
const AGAIN: Duration = Duration::from_millis(250);
/// Connections without streams are closed after this time; the swarm keeps one to somebody.
const IDLE: Duration = Duration::from_secs(60);

/// Finds the cluster, starts the swarm, and waits until a first node has let this client in.
pub(crate) async fn connect(config: &ClientConfig, clock: Clock) -> Result<(Handle, Verifier), Error> {
    let bootstrap = names::parse(&config.bootstrap)?;
    let key = Keypair::generate_ed25519();
    let end = Instant::now() + Duration::from_millis(config.connect_timeout_ms);
    let greeted = Search::new(config, &bootstrap, &key)?.run(end).await?;
    let cluster = greeted.cluster;
    let token_hash = config.token.as_deref().map(certificate::token_hash);
    if greeted.hello.admission == Admission::Token && token_hash.is_none() {
        return Err(Error::new(ErrorKind::Denied, format!("cluster {} asks for its join token", cluster.id.short()))
            .hint("give the token that the founder wrote"));
    }
    let verifier = Verifier::new(cluster.id, &cluster.public_key).map_err(|error| {
        Error::new(ErrorKind::Failed, format!("{} shows a key that is none", greeted.address))
            .because(error.to_string())
    })?;
    let (commands, queue) = mpsc::channel(SWARM_COMMANDS_MAX);
    let local = key.public().to_peer_id();
    let handle = Handle(Arc::new(Shared {
        local,
        cluster,
        token_hash,
        commands,
        limiter: Limiter::default(),
        lanes: Lanes::new(key.clone(), cluster.id),
        book: Mutex::new(Book::default()),
        admitted: Mutex::new(HashMap::new()),
        connections: watch::Sender::new(()),
        random: Mutex::new(Random::from_system()),
        backoff: Backoff::new(config.retry_backoff_ms, config.retry_backoff_ms_max),
    }));
    let kad = rafka_dht::behaviour(local, verifier.clone(), Mode::Client, clock);
    let behaviour = task::Behaviour { kad, rpc: rpc::Behaviour::cluster(&cluster.id, false) };
    let swarm = Swarm::new(connections(&key)?, behaviour, local, transport::swarm_config(IDLE));
    let queries = rafka_dht::Queries::new(local, verifier.clone());
    let task = Task::new(swarm, queries, queue, Arc::downgrade(&handle.0), bootstrap);
    let span = info_span!("mesh", cluster = %cluster.id.short(), peer = %local);
    // Ends by itself when the last handle is dropped.
    tokio::spawn(task.run().instrument(span));

    for member in &greeted.hello.members {
        if let Some(peer) = member.peer() {
            handle.learn(peer, &member.multiaddrs());
        }
    }
    // The address that has just worked goes first.
    handle.learn(greeted.peer, std::slice::from_ref(&greeted.address));
    let admitted = tokio::time::timeout_at(end, handle.admit(greeted.peer)).await;
    let refused = format!("{} does not let this client in", greeted.address);
    match admitted {
        Ok(Ok(())) => Ok((handle, verifier)),
        Ok(Err(trouble)) => Err(trouble.into_error(refused)),
        Err(_) => Err(Error::new(ErrorKind::Timeout, refused).because("no answer in time")),
    }
}

fn connections(key: &Keypair) -> Result<transport::Connections, Error> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Failed, "no transport").because(error.to_string());
    transport::transport(key).map_err(failed)
}

/// Who answered.
struct Greeted {
    hello: Hello,
    cluster: ClusterKey,
    peer: PeerId,
    address: Multiaddr,
}

type Reply = (PeerId, Multiaddr, Result<Frame, CallError>);

struct Search<'a> {
    config: &'a ClientConfig,
    bootstrap: &'a [BootstrapAddress],
    swarm: Swarm<rpc::Behaviour>,
    dialling: HashMap<ConnectionId, Multiaddr>,
    asked: HashMap<PeerId, Multiaddr>,
    /// Why addresses did not work out, for the message.
    failures: Vec<String>,
    /// Somebody is there who may have a cluster soon.
    not_ready: bool,
}

impl<'a> Search<'a> {
    fn new(config: &'a ClientConfig, bootstrap: &'a [BootstrapAddress], key: &Keypair) -> Result<Self, Error> {
        let local = key.public().to_peer_id();
        let swarm = Swarm::new(connections(key)?, rpc::Behaviour::hello_only(), local, transport::swarm_config(IDLE));
        let (dialling, asked, failures) = Default::default();
        Ok(Self { config, bootstrap, swarm, dialling, asked, failures, not_ready: false })
    }

    async fn run(mut self, end: Instant) -> Result<Greeted, Error> {
        loop {
            if let Some(greeted) = self.round(end).await? {
                return Ok(greeted);
            }
            let again = Instant::now() + AGAIN;
            if !(self.config.wait_for_nodes || self.not_ready) || again >= end {
                return Err(self.unreachable());
            }
            tokio::time::sleep_until(again).await;
        }
    }

    /// Asks every address once; the first answer of a cluster wins.
    async fn round(&mut self, end: Instant) -> Result<Option<Greeted>, Error> {
        self.failures.clear();
        self.not_ready = false;
        let mut names: FuturesUnordered<_> = self.bootstrap.iter().map(names::resolve).collect();
        let mut answers: FuturesUnordered<futures::future::BoxFuture<'static, Reply>> = FuturesUnordered::new();
        for (peer, address) in self.asked.clone() {
            answers.push(self.ask(peer, address));
        }
        while !(names.is_empty() && self.dialling.is_empty() && answers.is_empty()) {
            tokio::select! {
                () = sleep_until(end) => return Ok(None),
                Some(resolved) = names.next() => match resolved {
                    Ok(addresses) => addresses.into_iter().for_each(|address| self.dial(address)),
                    Err(error) => self.failures.push(error.to_string()),
                },
                Some((peer, address, answer)) = answers.next() => {
                    if let Some(greeted) = self.heard(peer, address, answer)? {
                        return Ok(Some(greeted));
                    }
                }
                event = self.swarm.select_next_some() => match event {
                    SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                        self.dialling.remove(&connection_id);
                        let address = endpoint.get_remote_address().clone();
                        if self.asked.insert(peer_id, address.clone()).is_none() {
                            answers.push(self.ask(peer_id, address));
                        }
                    }
                    SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                        if let Some(address) = self.dialling.remove(&connection_id) {
                            self.failures.push(format!("{address}: {}", reason(&error)));
                        }
                    }
                    SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                        self.asked.remove(&peer_id);
                    }
                    _ => {}
                },
            }
        }
        Ok(None)
    }

    fn dial(&mut self, address: Multiaddr) {
        if self.asked.values().any(|known| *known == address) {
            return;
        }
        let options = DialOpts::from(address.clone());
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dialling.insert(id, address);
            }
            Err(error) => self.failures.push(format!("{address}: {}", reason(&error))),
        }
    }

    fn ask(&mut self, peer: PeerId, address: Multiaddr) -> futures::future::BoxFuture<'static, Reply> {
        let (reply, answer) = oneshot::channel();
        self.swarm.behaviour_mut().send(peer, Vec::new(), Protocol::Hello, hello::encode_request(), reply);
        Box::pin(async move { (peer, address, answer.await.unwrap_or(Err(CallError::ConnectionClosed))) })
    }

    fn heard(
        &mut self,
        peer: PeerId,
        address: Multiaddr,
        answer: Result<Frame, CallError>,
    ) -> Result<Option<Greeted>, Error> {
        let hello = match answer.map(|frame| hello::decode_reply(&frame)) {
            Ok(Ok(Ok(hello))) => hello,
            Ok(Ok(Err(failure))) => return Ok(self.failed(&address, &failure)),
            Ok(Err(error)) => return Ok(self.failed(&address, &error)),
            Err(error) => {
                self.asked.remove(&peer);
                return Ok(self.failed(&address, &error));
            }
        };
        let Some(cluster) = hello.cluster else {
            self.not_ready = true;
            return Ok(self.failed(&address, &"is not part of a cluster yet"));
        };
        match self.config.cluster_id {
            Some(pinned) if pinned != cluster.id => {
                Ok(self.failed(&address, &format!("is of cluster {}, not {}", cluster.id.short(), pinned.short())))
            }
            _ => {
                debug!(%peer, %address, cluster = %cluster.id, "greeted");
                Ok(Some(Greeted { hello, cluster, peer, address }))
            }
        }
    }

    fn failed(&mut self, address: &Multiaddr, why: &dyn std::fmt::Display) -> Option<Greeted> {
        self.failures.push(format!("{address}: {why}"));
        None
    }

    fn unreachable(mut self) -> Error {
        self.failures.extend(self.dialling.values().map(|address| format!("{address}: no answer in time")));
        self.failures.sort();
        self.failures.dedup();
        let what = match &self.config.bootstrap[..] {
            [one] => format!("no node of Rafka answers at {one}"),
            several => format!("no node of Rafka answers at any of {}", several.join(", ")),
        };
        let causes = if self.failures.is_empty() { "no answer in time".to_owned() } else { self.failures.join("; ") };
        Error::new(ErrorKind::Unreachable, what)
            .because(causes)
            .hint("is a node running there? start one with `rafka dev`, or name another with --bootstrap")
    }
}

/// libp2p's words for a failed dial are those of its types; the operating system's are in there somewhere.
fn reason(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => match attempts.first() {
            Some((_, error)) => deepest(error),
            None => "no address".to_owned(),
        },
        other => other.to_string(),
    }
}

fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::Client;

    fn config(bootstrap: Vec<String>) -> ClientConfig {
        ClientConfig { bootstrap, connect_timeout_ms: 400, ..ClientConfig::default() }
    }

    async fn refused(config: ClientConfig) -> Error {
        Client::connect(config).await.err().expect("nobody is there")
    }

    /// An address that nobody listens on.
    async fn dead() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        listener.local_addr().expect("is bound").to_string()
    }

    #[tokio::test]
    async fn every_dead_address_is_told_with_its_cause() {
        let addresses = vec![dead().await, dead().await];
        let error = refused(ClientConfig { connect_timeout_ms: 60_000, ..config(addresses.clone()) }).await;
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        let cause = error.cause().expect("has causes").to_string();
        assert_eq!(cause.matches("refused").count(), 2, "{cause}");
        assert!(addresses.iter().all(|address| error.what().contains(address)), "{error}");
    }

    #[tokio::test]
    async fn a_listener_that_is_no_node_does_not_hold_a_client_up() {
        let mute = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let error = refused(config(vec![mute.local_addr().expect("is bound").to_string()])).await;
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.to_string().contains("no answer in time"), "{error}");
    }

    #[tokio::test]
    async fn nodes_that_are_starting_are_waited_for() {
        let wait = ClientConfig { wait_for_nodes: true, ..config(vec![dead().await]) };
        let start = Instant::now();
        let error = refused(wait).await;
        assert!(start.elapsed() >= AGAIN, "was tried again");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
