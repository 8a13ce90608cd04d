//! The swarm task: forwards commands and events, does nothing that takes time.

use std::sync::Weak;
use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm};
use rafka_protocols::address::BootstrapAddress;
use rafka_protocols::rpc;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, trace};

use super::{Command, Handle, Shared, names};

/// How often connections are looked after.
const CARE_EVERY: Duration = Duration::from_millis(500);
/// How often a node is asked who the members are.
const REFRESH_EVERY: u32 = 60;

/// Everything a client's swarm speaks.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) kad: rafka_dht::Behaviour,
    pub(super) rpc: rpc::Behaviour,
}

pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    queries: rafka_dht::Queries,
    commands: mpsc::Receiver<Command>,
    shared: Weak<Shared>,
    bootstrap: Vec<BootstrapAddress>,
    ticks: u32,
    /// Ticks without any connection.
    alone: u32,
}

impl Task {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        queries: rafka_dht::Queries,
        commands: mpsc::Receiver<Command>,
        shared: Weak<Shared>,
        bootstrap: Vec<BootstrapAddress>,
    ) -> Self {
        Self { swarm, queries, commands, shared, bootstrap, ticks: 0, alone: 0 }
    }

    pub(super) async fn run(mut self) {
        let mut care = interval(CARE_EVERY);
        care.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
                _ = care.tick() => self.care(),
            }
        }
        debug!("the last handle is gone, the swarm ends");
    }

    fn on_command(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        match command {
            Command::Call { peer, addresses, protocol, frame, reply } => {
                behaviour.rpc.send(peer, addresses, protocol, frame, reply);
            }
            Command::Get { key, min, reply } => self.queries.get(&mut behaviour.kad, key, min, reply),
            Command::Learned(peer, addresses) => {
                for address in addresses {
                    behaviour.kad.add_address(&peer, address);
                }
            }
            Command::Dial(addresses) => {
                for address in addresses {
                    let failed = self.swarm.dial(DialOpts::from(address)).err();
                    failed.into_iter().for_each(|error| trace!(%error, "not dialled"));
                }
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => {
                self.queries.on_event(&mut self.swarm.behaviour_mut().kad, event);
            }
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, num_established, .. }
                if num_established.get() == 1 =>
            {
                self.on_connected(peer_id, endpoint.get_remote_address());
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                debug!(peer = %peer_id, cause = ?cause.map(|error| error.to_string()), "disconnected");
                if let Some(shared) = self.shared.upgrade() {
                    shared.book.lock().disconnected(&peer_id);
                    shared.admitted.lock().remove(&peer_id);
                    shared.connections.send_replace(());
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                debug!(peer = ?peer_id, %error, "dial failed");
            }
            _ => {}
        }
    }

    /// Kademlia dials nodes by itself; whoever it is, it disconnects clients that do not present themselves.
    fn on_connected(&mut self, peer: PeerId, address: &Multiaddr) {
        let Some(shared) = self.shared.upgrade() else { return };
        debug!(%peer, %address, "connected");
        shared.book.lock().connected(peer);
        shared.connections.send_replace(());
        let (handle, address) = (Handle(shared), address.clone());
        tokio::spawn(async move {
            match handle.admit(peer).await {
                Ok(()) => handle.learn(peer, &[address]),
                Err(trouble) => debug!(%peer, %trouble, "not admitted"),
            }
        });
    }

    /// Keeps a connection to somebody, and the list of members young: today's nodes may all be gone next week.
    fn care(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        self.ticks = self.ticks.wrapping_add(1);
        let (alone, members) = {
            let book = shared.book.lock();
            (!book.any_connected(), book.candidates(&mut shared.random.lock()))
        };
        self.alone = if alone { self.alone + 1 } else { 0 };
        let handle = Handle(shared);
        // At once, and then less and less often: after 0.5, 1, 2, 4 and every 8 seconds.
        if alone && (self.alone.is_power_of_two() && self.alone < 16 || self.alone.is_multiple_of(16)) {
            for peer in members.iter().take(2 + self.alone as usize) {
                let addresses = handle.0.book.lock().addresses(peer);
                let options = DialOpts::peer_id(*peer).addresses(addresses).build();
                let failed = self.swarm.dial(options).err();
                failed.into_iter().for_each(|error| trace!(%error, "not dialled"));
            }
            if self.alone > 1 {
                let bootstrap = self.bootstrap.clone();
                tokio::spawn(async move {
                    for address in &bootstrap {
                        if let Ok(found) = names::resolve(address).await {
                            let _ = handle.0.commands.send(Command::Dial(found)).await;
                        }
                    }
                });
            }
        } else if !alone && self.ticks.is_multiple_of(REFRESH_EVERY) {
            tokio::spawn(async move {
                if let Err(trouble) = handle.refresh().await {
                    debug!(%trouble, "members not refreshed");
                }
            });
        }
    }
}
