//! The task that owns the swarm: microseconds of work for each event, never a wait, never record bytes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub, identify, ping};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::ClusterId;
use rafka_protocols::Protocol;
use rafka_protocols::gossip::{self, Channel};
use rafka_protocols::rpc::{self, Inbound};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::admission::{self, Standing};
use super::behaviour::{Behaviour, BehaviourEvent};
use super::membership::{Member, Membership};
use super::recorder::SwarmRecorder;
use super::{Command, GossipMessage, PeerInfo, Request, Snapshot};

/// How often members that are not connected are dialled and strangers are shown out.
const TICK: Duration = Duration::from_millis(100);

/// What the swarm task works on.
pub(super) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) cluster: ClusterId,
    pub(super) queries: rafka_dht::Queries,
    pub(super) admission: admission::Shared,
    pub(super) membership: Membership,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) members: watch::Receiver<Vec<Member>>,
    pub(super) inbound: mpsc::Sender<Request>,
    pub(super) gossip: mpsc::Sender<GossipMessage>,
    pub(super) connected: mpsc::Sender<PeerId>,
    pub(super) listening: watch::Sender<Vec<Multiaddr>>,
    pub(super) recorder: SwarmRecorder,
    pub(super) peers: HashMap<PeerId, PeerInfo>,
    pub(super) held: watch::Sender<rafka_dht::Held>,
}

impl Task {
    /// Runs until every handle is dropped.
    pub(super) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                Ok(()) = self.members.changed() => self.on_members(),
                _ = tick.tick() => self.on_tick(),
            }
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        self.held.send_replace(self.swarm.behaviour_mut().kad.store_mut().stats());
        let overdue = self.admission.lock().overdue(now);
        for peer in overdue {
            debug!(%peer, "disconnecting a peer that did not register in time");
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let swarm = &self.swarm;
        let due = self.membership.due(now, |peer| swarm.is_connected(peer));
        for member in due {
            self.dial(member);
        }
    }

    fn dial(&mut self, member: Member) {
        let dial = DialOpts::peer_id(member.peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(member.addresses)
            .build();
        match self.swarm.dial(dial) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(_) => self.membership.failed(&member.peer, Instant::now()),
        }
    }

    fn on_members(&mut self) {
        let members = self.members.borrow_and_update().clone();
        self.admission.lock().set_members(members.iter().map(|member| member.peer));
        members.iter().for_each(|member| self.swarm.behaviour_mut().admit(&member.peer));
        let local = *self.swarm.local_peer_id();
        let others = members.iter().filter(|member| member.peer != local);
        self.swarm.behaviour_mut().kad.set_members(others.map(|m| (m.peer, m.addresses.clone())));
        self.membership.set(members);
        self.on_tick();
    }

    fn on_command(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        match command {
            Command::Call { peer, addresses, protocol, frame, reply } => {
                let known = self.membership.addresses(&peer).map(<[_]>::to_vec);
                behaviour.rpc.send(peer, known.unwrap_or(addresses), protocol, frame, reply);
            }
            Command::Get { key, min, reply } => self.queries.get(&mut behaviour.kad, key, min, reply),
            Command::Put { record, holders, reply } => {
                self.queries.put(&mut behaviour.kad, &record, holders, reply);
            }
            Command::Dial { address } => {
                if let Err(error) = self.swarm.dial(DialOpts::unknown_peer_id().address(address).build()) {
                    debug!(%error, "dial refused");
                }
            }
            Command::Publish { hint } => {
                let topic = gossip::channel(&hint).topic(&self.cluster);
                // Nobody to tell is no error: hints are lossy by design.
                if let Err(error) = behaviour.gossip.publish(topic, gossip::encode(&hint)) {
                    debug!(%error, "gossip was not published");
                }
            }
            Command::Certify { peer, until } => {
                self.admission.lock().certify(peer, until);
                behaviour.admit(&peer);
            }
            Command::AdmitClient { peer } => {
                self.admission.lock().admit_client(peer);
                behaviour.admit(&peer);
            }
            Command::Snapshot { reply } => {
                let snapshot = self.snapshot();
                let _ = reply.send(snapshot);
            }
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let now = Instant::now();
        let behaviour = self.swarm.behaviour_mut();
        let routing = behaviour.kad.table();
        let gossip: Vec<PeerId> = behaviour.gossip.all_mesh_peers().copied().collect();
        let peers = self
            .peers
            .iter()
            .map(|(peer, info)| PeerInfo {
                member: self.admission.lock().standing(peer, now) == Standing::Member,
                in_routing_table: routing.contains(peer),
                in_gossip_mesh: gossip.contains(peer),
                ..info.clone()
            })
            .collect();
        Snapshot { listening: self.swarm.listeners().cloned().collect(), peers, routing_table: routing.len() }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        self.recorder.swarm(&event);
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => {
                info!(%address, "listening");
                self.swarm.add_external_address(address);
                self.listening.send_replace(self.swarm.listeners().cloned().collect());
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.swarm.remove_external_address(&address);
                self.listening.send_replace(self.swarm.listeners().cloned().collect());
            }
            SwarmEvent::ListenerError { error, .. } => warn!(%error, "a listener failed"),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, num_established, .. } => {
                let now = Instant::now();
                self.admission.lock().connected(peer_id, &endpoint, now);
                if self.admission.lock().standing(&peer_id, now) == Standing::Stranger {
                    self.swarm.behaviour_mut().hold(peer_id);
                }
                self.membership.connected(&peer_id);
                let info = self.peers.entry(peer_id).or_insert_with(|| PeerInfo::new(peer_id));
                info.connections = num_established.get();
                info.address = Some(endpoint.get_remote_address().clone());
                if num_established.get() == 1 {
                    // A full queue only delays a greeting: the peer's registration admits us as well.
                    let _ = self.connected.try_send(peer_id);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => {
                if num_established == 0 {
                    self.peers.remove(&peer_id);
                    self.admission.lock().disconnected(&peer_id);
                } else if let Some(info) = self.peers.get_mut(&peer_id) {
                    info.connections = num_established;
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                debug!(%peer, %error, "dial failed");
                self.membership.failed(&peer, Instant::now());
            }
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Rpc(rpc::Event::Inbound(inbound)) => self.on_inbound(inbound),
            BehaviourEvent::Kad(event) => {
                self.recorder.kad(&event);
                self.queries.on_event(&mut self.swarm.behaviour_mut().kad, event);
            }
            BehaviourEvent::Gossip(event) => {
                self.recorder.gossip(&event);
                if let gossipsub::Event::Message { propagation_source, message_id, message } = event {
                    self.on_gossip(&propagation_source, &message_id, message);
                }
            }
            BehaviourEvent::Ping(event) => {
                self.recorder.ping(&event);
                if let ping::Event { peer, result: Ok(round_trip), .. } = event
                    && let Some(info) = self.peers.get_mut(&peer)
                {
                    info.round_trip = Some(round_trip);
                }
            }
            BehaviourEvent::Identify(event) => {
                self.recorder.identify(&event);
                if let identify::Event::Received { peer_id, info, .. } = event
                    && let Some(peer) = self.peers.get_mut(&peer_id)
                {
                    peer.agent = Some(info.agent_version.chars().take(80).collect());
                }
            }
            _ => {}
        }
    }

    fn on_inbound(&mut self, inbound: Inbound) {
        let standing = self.admission.lock().standing(&inbound.peer, Instant::now());
        hand_over(&self.inbound, standing, inbound);
    }

    fn on_gossip(&mut self, from: &PeerId, id: &gossipsub::MessageId, message: gossipsub::Message) {
        let now = Instant::now();
        let member = message.source.filter(|source| self.admission.lock().standing(source, now) == Standing::Member);
        let decoded = member.and_then(|source| {
            let channel = Channel::ALL.into_iter().find(|c| c.topic(&self.cluster).hash() == message.topic)?;
            let hint = gossip::decode(channel, &message.data).ok()?;
            Some(GossipMessage { source, hint })
        });
        let verdict = match decoded {
            // A full queue drops the hint, here only: others still get it.
            Some(hint) => {
                let _ = self.gossip.try_send(hint);
                gossipsub::MessageAcceptance::Accept
            }
            // A source that this node does not know yet is no reason to punish whoever forwards it.
            None if member.is_none() => gossipsub::MessageAcceptance::Ignore,
            None => gossipsub::MessageAcceptance::Reject,
        };
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, from, verdict);
    }
}

/// Gives a request to those who serve it, if its sender may ask, and answers it if not.
pub(super) fn hand_over(queue: &mpsc::Sender<Request>, standing: Standing, inbound: Inbound) {
    let Inbound { peer, protocol, frame, respond } = inbound;
    if standing == Standing::Stranger && !matches!(protocol, Protocol::Hello | Protocol::Register) {
        let failure =
            Failure::new(ErrorCode::ClusterAuthorizationFailed, "register first: this cluster wants a join token");
        respond.respond(Err(failure));
        return;
    }
    let request = Request { peer, standing, protocol, frame, respond };
    if let Err(full) = queue.try_send(request) {
        let request = full.into_inner();
        let failure = Failure::new(ErrorCode::Busy, "too many requests wait on this node");
        request.respond.respond(Err(failure));
    }
}
