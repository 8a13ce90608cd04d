//! A peer in a task of its own, as `node` and `client` run theirs: the task only forwards.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol as Part;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm};
use rafka_model::ClusterId;
use rafka_protocols::rpc::{Behaviour, CallError, Config, Counters, Event, Inbound, Limiter};
use rafka_protocols::transport::{memory_transport, swarm_config};
use rafka_protocols::{Frame, Protocol};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub(crate) const CLUSTER: ClusterId = ClusterId([0xab; 32]);
/// Far longer than anything takes: a test that gets here hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) type Called = Result<Frame, CallError>;

#[derive(Debug)]
enum Command {
    Call(PeerId, Vec<Multiaddr>, Protocol, Frame, oneshot::Sender<Called>),
    /// Do nothing until the sender is dropped.
    Pause(oneshot::Sender<()>, oneshot::Receiver<()>),
    Outstanding(oneshot::Sender<usize>),
}

/// A running peer; dropping it ends its swarm.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) address: Multiaddr,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limiter: Limiter,
    /// Requests that came in.
    pub(crate) inbox: mpsc::UnboundedReceiver<Inbound>,
    /// Connections made and closed so far.
    pub(crate) connections: Arc<[AtomicUsize; 2]>,
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
}

impl Peer {
    pub(crate) async fn start(cluster: Option<&ClusterId>, config: Config) -> Self {
        let keypair = Keypair::generate_ed25519();
        let id = keypair.public().to_peer_id();
        let counters = Arc::clone(&config.counters);
        let transport = memory_transport(&keypair).expect("a keypair that signs");
        let behaviour = Behaviour::new(cluster, config);
        let mut swarm = Swarm::new(transport, behaviour, id, swarm_config(Duration::from_secs(60)));
        swarm.listen_on(Part::Memory(0).into()).expect("a memory address");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (commands, inputs) = mpsc::unbounded_channel();
        let (requests, inbox) = mpsc::unbounded_channel();
        let connections: Arc<[AtomicUsize; 2]> = Arc::default();
        let task = tokio::spawn(drive(swarm, inputs, requests, Arc::clone(&connections)));
        Self { id, address, counters, limiter: Limiter::default(), inbox, connections, commands, task }
    }

    pub(crate) async fn member() -> Self {
        Self::start(Some(&CLUSTER), Config::default()).await
    }

    /// Begins a call; dropping the receiver ends it.
    pub(crate) fn begin(&self, to: &Self, protocol: Protocol, frame: Frame) -> oneshot::Receiver<Called> {
        self.begin_at(to.id, to.address.clone(), protocol, frame)
    }

    pub(crate) fn begin_at(
        &self,
        peer: PeerId,
        address: Multiaddr,
        protocol: Protocol,
        frame: Frame,
    ) -> oneshot::Receiver<Called> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Call(peer, vec![address], protocol, frame, reply));
        answer
    }

    pub(crate) async fn call(&self, to: &Self, protocol: Protocol, frame: Frame) -> Called {
        soon(self.begin(to, protocol, frame)).await.expect("every call is completed")
    }

    /// Stops the swarm's task until what is returned is dropped.
    pub(crate) async fn pause(&self) -> oneshot::Sender<()> {
        let (paused, is_paused) = oneshot::channel();
        let (resume, resumed) = oneshot::channel();
        self.command(Command::Pause(paused, resumed));
        soon(is_paused).await.expect("the task runs");
        resume
    }

    pub(crate) async fn calls_outstanding(&self) -> usize {
        let (reply, count) = oneshot::channel();
        self.command(Command::Outstanding(reply));
        soon(count).await.expect("the task runs")
    }

    pub(crate) async fn next(&mut self) -> Inbound {
        soon(self.inbox.recv()).await.expect("the task runs")
    }

    /// Answers every request from now on with its own frame.
    pub(crate) fn echo(&mut self) {
        let (_, empty) = mpsc::unbounded_channel();
        let mut inbox = std::mem::replace(&mut self.inbox, empty);
        tokio::spawn(async move {
            while let Some(request) = inbox.recv().await {
                request.respond.respond(Ok(request.frame));
            }
        });
    }

    pub(crate) fn made_and_closed(&self) -> (usize, usize) {
        (self.connections[0].load(Ordering::SeqCst), self.connections[1].load(Ordering::SeqCst))
    }

    fn command(&self, command: Command) {
        self.commands.send(command).expect("the task runs");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn drive(
    mut swarm: Swarm<Behaviour>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    requests: mpsc::UnboundedSender<Inbound>,
    connections: Arc<[AtomicUsize; 2]>,
) {
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Call(peer, addresses, protocol, frame, reply)) => {
                    swarm.behaviour_mut().send(peer, addresses, protocol, frame, reply);
                }
                Some(Command::Pause(paused, resumed)) => {
                    paused.send(()).expect("somebody waits");
                    let _ = resumed.await;
                }
                Some(Command::Outstanding(reply)) => {
                    reply.send(swarm.behaviour().calls_outstanding()).expect("somebody waits");
                }
                None => pending().await,
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(Event::Inbound(inbound)) => {
                    // Without a reader the request is dropped, and so answered.
                    let _ = requests.send(inbound);
                }
                SwarmEvent::ConnectionEstablished { .. } => {
                    connections[0].fetch_add(1, Ordering::SeqCst);
                }
                SwarmEvent::ConnectionClosed { .. } => {
                    connections[1].fetch_add(1, Ordering::SeqCst);
                }
                _ => {}
            },
        }
    }
}

/// Fails the test instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("a test does not take this long")
}

pub(crate) fn frame(body: usize) -> Frame {
    Frame::new(Bytes::from_static(b"header"), vec![7; body].into())
}

/// Yields until `done`; for state that follows an event of another task.
pub(crate) async fn until(mut done: impl AsyncFnMut() -> bool) {
    soon(async {
        while !done().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
