//! The one definition of how connections are made, for nodes, clients and simulations alike.

mod any_port;
mod muxer;
mod read_ahead;

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, MemoryTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, dns, noise, swarm, tcp};
use rafka_model::limits::{CONNECT_MS_MAX, PEER_STREAMS_MAX};

use any_port::AnyPort;
pub(crate) use muxer::FRAME_BYTES as MUXER_FRAME_BYTES;
use muxer::Yamux;
use read_ahead::ReadAhead;

/// What a swarm is built on.
pub type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// Commands and events that may wait between the task of the swarm and that of one connection. While a connection's
/// queue is full the swarm polls no behaviour, so there is room for every call that a peer may have outstanding.
const CONNECTION_QUEUE: NonZeroUsize = NonZeroUsize::new(PEER_STREAMS_MAX).expect("not zero");

/// TCP (no delay) with DNS names, Noise, Yamux.
///
/// # Errors
/// When Noise cannot sign with `keypair`.
pub fn transport(keypair: &Keypair) -> io::Result<Connections> {
    match dns::tokio::Transport::system(tcp()) {
        Ok(named) => secured(named, keypair),
        Err(error) => {
            // An empty root has no /etc/resolv.conf: addresses work all the same, only names do not.
            tracing::warn!(%error, "no DNS configuration, host names cannot be dialled");
            secured(nameless(), keypair)
        }
    }
}

fn tcp() -> AnyPort<tcp::tokio::Transport> {
    AnyPort::new(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)))
}

/// TCP with a resolver that has nobody to ask.
fn nameless() -> dns::tokio::Transport<AnyPort<tcp::tokio::Transport>> {
    let nobody = dns::ResolverConfig::from_parts(None, Vec::new(), Vec::new());
    dns::tokio::Transport::custom(tcp(), nobody, dns::ResolverOpts::default())
}

/// In-process connections (`/memory/<port>`) with the same security and multiplexing as [`transport`].
///
/// # Errors
/// As [`transport`].
pub fn memory_transport(keypair: &Keypair) -> io::Result<Connections> {
    secured(MemoryTransport::default(), keypair)
}

fn secured<T>(transport: T, keypair: &Keypair) -> io::Result<Connections>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    Ok(transport
        .map(|connection, _| ReadAhead::new(connection))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(Yamux)
        .timeout(Duration::from_millis(CONNECT_MS_MAX))
        .boxed())
}

/// Settings of every swarm: connections without streams are closed after `idle`, protocols are negotiated lazily
/// (a substream costs no round trip before its first byte).
#[must_use]
pub fn swarm_config(idle: Duration) -> swarm::Config {
    swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(idle)
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_notify_handler_buffer_size(CONNECTION_QUEUE)
        .with_per_connection_event_buffer_size(CONNECTION_QUEUE.get())
        // A burst of calls is a burst of negotiations; those over the limit would be reset.
        .with_max_negotiating_inbound_streams(2 * PEER_STREAMS_MAX)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use libp2p::swarm::{Swarm, SwarmEvent, dummy};

    use super::*;

    fn swarm(make: impl FnOnce(&Keypair) -> io::Result<Connections>) -> Swarm<dummy::Behaviour> {
        let keypair = Keypair::generate_ed25519();
        let connections = make(&keypair).expect("a keypair that signs");
        Swarm::new(connections, dummy::Behaviour, keypair.public().to_peer_id(), swarm_config(Duration::from_secs(60)))
    }

    /// Dials `listener` and returns once both ends know each other.
    async fn connect(mut dialer: Swarm<dummy::Behaviour>, mut listener: Swarm<dummy::Behaviour>, listen: &str) {
        listener.listen_on(listen.parse().expect("an address")).expect("a free port");
        let (ids, mut met) = ([*listener.local_peer_id(), *dialer.local_peer_id()], [false; 2]);
        while met != [true; 2] {
            tokio::select! {
                event = listener.select_next_some() => match event {
                    SwarmEvent::NewListenAddr { address, .. } => dialer.dial(address).expect("an address"),
                    SwarmEvent::ConnectionEstablished { peer_id, .. } => met[0] = peer_id == ids[1],
                    _ => {}
                },
                event = dialer.select_next_some() => match event {
                    SwarmEvent::ConnectionEstablished { peer_id, .. } => met[1] = peer_id == ids[0],
                    SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                    _ => {}
                },
            }
        }
    }

    #[tokio::test]
    async fn peers_meet_over_tcp_and_in_memory() {
        connect(swarm(transport), swarm(transport), "/ip4/127.0.0.1/tcp/0").await;
        connect(swarm(memory_transport), swarm(memory_transport), "/memory/0").await;
    }

    #[tokio::test]
    async fn addresses_can_be_dialled_without_dns() {
        let without_dns = |keypair: &Keypair| secured(nameless(), keypair);
        connect(swarm(without_dns), swarm(without_dns), "/ip4/127.0.0.1/tcp/0").await;
    }
}
