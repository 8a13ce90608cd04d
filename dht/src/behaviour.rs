//! The only Kademlia configuration of the project, as one libp2p behaviour.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::kad::{self, Mode, QueryId};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use rafka_model::ClusterId;
use rafka_model::limits::{
    DHT_BOOTSTRAP_MS, DHT_HOLDERS, DHT_PACKET_BYTES_MAX, DHT_PARALLELISM, DHT_PEER_ADDRESSES_MAX, DHT_QUERY_MS_MAX,
};

use crate::store::{Limits, ValidatingStore};
use crate::walk::Walk;
use crate::{Clock, Verifier};

type Kad = kad::Behaviour<ValidatingStore>;
// kad's handler events cannot be named, but their variants can be matched and made through the traits.
type FromHandler = THandlerOutEvent<Kad>;
type ToHandler = THandlerInEvent<Kad>;

/// How the routing table is filled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    /// From the registry, by [`Behaviour::set_members`] alone: only admitted members are in it. Nothing that a walk
    /// finds could get in, so there are none (kad would dial the whole cluster for nothing).
    Members,
    /// By use: whom this node has dialled, by walks when the first few are there, and by more walks at this interval.
    Walks {
        /// `None`: no further walks.
        interval: Option<Duration>,
    },
}

/// What differs between nodes.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Servers answer and hold records; light clients only ask.
    pub mode: Mode,
    /// How the routing table is filled.
    pub table: Table,
    /// Bounds of the record store.
    pub store: Limits,
}

impl Config {
    /// The usual settings: servers have the registry, clients learn by use.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        let table = if mode == Mode::Server { Table::Members } else { Table::Walks { interval: None } };
        Self { mode, table, store: Limits::default() }
    }

    /// The settings of a node that has no registry and yet serves: it walks every 20 s.
    #[must_use]
    pub fn walking(mode: Mode) -> Self {
        let interval = Some(Duration::from_millis(DHT_BOOTSTRAP_MS));
        Self { table: Table::Walks { interval }, ..Self::new(mode) }
    }
}

/// Name of the Kademlia protocol of `cluster`.
#[must_use]
pub fn protocol_name(cluster: &ClusterId) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/rafka/{}/kad/1", cluster.short())).expect("begins with a slash")
}

/// The behaviour with the usual settings of `mode`.
#[must_use]
pub fn behaviour(local: PeerId, verifier: Verifier, mode: Mode, clock: Clock) -> Behaviour {
    Behaviour::new(local, verifier, Config::new(mode), clock)
}

/// libp2p's Kademlia with our store, the addresses of the members, and an account of who told of whom.
/// Everything of `kad::Behaviour` is reachable through it.
pub struct Behaviour {
    kad: Kad,
    members: HashMap<PeerId, Vec<Multiaddr>>,
    walks: HashMap<QueryId, Walk>,
    cluster: ClusterId,
    local: PeerId,
    table: Table,
    /// Walks of kad's own that were ended before they began.
    forestalled: HashSet<QueryId>,
}

impl Behaviour {
    /// A behaviour for the node `local`.
    #[must_use]
    pub fn new(local: PeerId, verifier: Verifier, config: Config, clock: Clock) -> Self {
        const HOLDERS: NonZeroUsize = NonZeroUsize::new(DHT_HOLDERS).expect("more than none");
        const PARALLELISM: NonZeroUsize = NonZeroUsize::new(DHT_PARALLELISM).expect("more than none");
        let cluster = verifier.cluster_id();
        let mut settings = kad::Config::new(protocol_name(&cluster));
        settings
            .set_replication_factor(HOLDERS)
            .set_parallelism(PARALLELISM)
            .set_query_timeout(Duration::from_millis(DHT_QUERY_MS_MAX))
            // A peer that hangs is given up while the query can still go on without it.
            .set_substreams_timeout(Duration::from_millis(DHT_QUERY_MS_MAX / 2))
            .set_max_packet_size(DHT_PACKET_BYTES_MAX)
            .set_record_filtering(kad::StoreInserts::Unfiltered)
            .set_caching(kad::Caching::Disabled)
            // Ours to decide by kind of record, and ours to refresh: kad would clone the whole store for it.
            .set_record_ttl(None)
            .set_replication_interval(None)
            .set_publication_interval(None)
            .set_provider_record_ttl(None)
            .set_provider_publication_interval(None)
            .set_periodic_bootstrap_interval(match config.table {
                Table::Members => None,
                Table::Walks { interval } => interval,
            })
            .set_kbucket_inserts(match config.table {
                Table::Members => kad::BucketInserts::Manual,
                Table::Walks { .. } => kad::BucketInserts::OnConnected,
            });
        let store = ValidatingStore::new(local, verifier, clock, config.store);
        let mut kad = kad::Behaviour::with_config(local, store, settings);
        kad.set_mode(Some(config.mode));
        Self {
            kad,
            members: HashMap::new(),
            walks: HashMap::new(),
            cluster,
            local,
            table: config.table,
            forestalled: HashSet::new(),
        }
    }

    /// The cluster whose directory this is.
    #[must_use]
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster
    }

    /// Makes the routing table of a server that of these members: adds and re-addresses them, forgets all others.
    /// All of them can be dialled afterwards, also those that found no room in their bucket. For calls when the
    /// membership changed; this node itself is skipped. (A client begins with `add_address` and learns by use.)
    pub fn set_members(&mut self, members: impl IntoIterator<Item = (PeerId, Vec<Multiaddr>)>) {
        let mut fresh: HashMap<PeerId, Vec<Multiaddr>> = HashMap::new();
        for (peer, mut addresses) in members.into_iter().filter(|(peer, _)| *peer != self.local) {
            addresses.truncate(DHT_PEER_ADDRESSES_MAX);
            fresh.insert(peer, addresses);
        }
        let known: HashSet<PeerId> = self.table().into_iter().collect();
        for peer in known.iter().filter(|peer| !fresh.contains_key(peer)) {
            self.kad.remove_peer(peer);
        }
        for (peer, addresses) in &fresh {
            let moved = self.members.get(peer).is_some_and(|old| old != addresses);
            if moved && known.contains(peer) {
                // kad only ever adds addresses; a node that moved would be dialled at its old place first.
                self.kad.remove_peer(peer);
            }
            if moved || !known.contains(peer) {
                for address in addresses {
                    self.kad.add_address(peer, address.clone());
                }
            }
        }
        self.members = fresh;
        self.forestall_walks();
    }

    /// kad (0.49) sets out on a walk half a second after a peer entered a small table or a listener began, and has no
    /// setting against it. Beginning one ourselves clears that timer; ended at once, it sends nothing.
    fn forestall_walks(&mut self) {
        if self.table == Table::Members
            && let Ok(walk) = self.kad.bootstrap()
        {
            self.end(walk);
            self.forestalled.insert(walk);
        }
    }

    fn end(&mut self, query: QueryId) {
        if let Some(mut query) = self.kad.query_mut(&query) {
            query.finish();
        }
    }

    /// True if `event` is about a forestalled walk, which goes on to the next bucket each time it is ended.
    fn is_forestalled(&mut self, event: &kad::Event) -> bool {
        let kad::Event::OutboundQueryProgressed { id, step, .. } = event else { return false };
        if !self.forestalled.contains(id) {
            return false;
        }
        if step.last {
            self.forestalled.remove(id);
        } else {
            self.end(*id);
        }
        true
    }

    /// The peers in the routing table.
    pub fn table(&mut self) -> Vec<PeerId> {
        self.kad
            .kbuckets()
            .flat_map(|bucket| bucket.iter().map(|e| *e.node.key.preimage()).collect::<Vec<_>>())
            .collect()
    }

    pub(crate) fn watch(&mut self, query: QueryId, walk: Walk) {
        self.walks.insert(query, walk);
    }

    pub(crate) fn walk(&self, query: &QueryId) -> Option<&Walk> {
        self.walks.get(query)
    }

    pub(crate) fn unwatch(&mut self, query: &QueryId) -> Walk {
        self.walks.remove(query).unwrap_or_default()
    }

    fn note(&mut self, peer: PeerId, event: &FromHandler) {
        match event {
            FromHandler::GetRecordRes { closer_peers, query_id, .. } => {
                if let Some(walk) = self.walks.get_mut(query_id) {
                    walk.answered(peer, closer_peers.iter().map(|closer| closer.node_id));
                }
            }
            FromHandler::QueryError { query_id, .. } => {
                if let Some(walk) = self.walks.get_mut(query_id) {
                    walk.failed(peer);
                }
            }
            _ => {}
        }
    }
}

impl Deref for Behaviour {
    type Target = Kad;

    fn deref(&self) -> &Kad {
        &self.kad
    }
}

impl DerefMut for Behaviour {
    fn deref_mut(&mut self) -> &mut Kad {
        &mut self.kad
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Kad as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let mut known = self.kad.handle_pending_outbound_connection(connection, peer, addresses, role)?;
        if let Some(peer) = peer
            && let Some(registered) = self.members.get(&peer)
        {
            let full = registered.iter().filter_map(|address| address.clone().with_p2p(peer).ok());
            let missing: Vec<_> = full.filter(|address| !known.contains(address)).collect();
            known.extend(missing);
        }
        Ok(known)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.kad.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        self.kad.on_swarm_event(event);
        if matches!(event, FromSwarm::NewListenAddr(_)) {
            self.forestall_walks();
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.note(peer, &event);
        self.kad.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            return match self.kad.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) if self.is_forestalled(&event) => continue,
                // kad resets the exchange of a put that the store refused, but wakes nobody to do so (0.49): the sender
                // would wait for its timeout. It is answered as if it had looked for peers instead, which ends its
                // request and does not count as stored.
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event: ToHandler::Reset(request_id) }) => {
                    let event = ToHandler::FindNodeRes { closer_peers: Vec::new(), request_id };
                    Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event })
                }
                other => other,
            };
        }
    }
}
