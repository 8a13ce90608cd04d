//! Accepting connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, warn};

use crate::connection;
use crate::desk::FrontDesk;
use crate::door::{Client, Door};

/// Pause after an error such as "too many open files".
const PAUSE: Duration = Duration::from_millis(100);

/// Connections that are open, by address.
#[derive(Debug, Default)]
pub struct Places(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place, free again when dropped.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn take(self: &Arc<Self>, address: IpAddr, total_max: usize, address_max: usize) -> Option<Place> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = held.by_address.get(&address).copied().unwrap_or(0);
        if held.total >= total_max || here >= address_max {
            return None;
        }
        held.total += 1;
        held.by_address.insert(address, here + 1);
        Some(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= 1;
        match held.by_address.get_mut(&self.address) {
            Some(1) | None => drop(held.by_address.remove(&self.address)),
            Some(count) => *count -= 1,
        }
    }
}

/// The two stages of an end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Nothing more is accepted or read; each connection ends once it has answered what it read.
    pub accept: CancellationToken,
    /// Connections end at once.
    pub end: CancellationToken,
}

/// Accepts at `listener`, which clients know by `name`, until it is told to stop. `places` are shared by all listeners
/// of a door, `connections` tells when the last one has ended.
pub async fn run<D: FrontDesk>(
    door: Arc<Door<D>>,
    listener: TcpListener,
    name: Arc<str>,
    places: Arc<Places>,
    stop: Stop,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.accept.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a Kafka connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let address = peer.ip().to_canonical();
        let config = &door.config;
        let Some(place) = places.take(address, config.connections_max, config.connections_per_address_max) else {
            door.metrics.refused.add(1);
            debug!(%peer, "too many Kafka connections");
            continue;
        };
        let Some(client) = greet(&stream, &name) else { continue };
        door.metrics.accepted.add(1);
        let span = tracing::debug_span!("kafka", %peer);
        let (door, Stop { accept, end }) = (door.clone(), stop.clone());
        let serve = async move {
            let ended = connection::serve(door, client, stream, accept.cancelled_owned());
            if let Some(ended) = end.run_until_cancelled_owned(ended).await {
                debug!(%ended, "connection ended");
            }
            drop(place);
        };
        connections.spawn(serve.instrument(span));
    }
}

/// Both ends of a connection; `None` if it is gone already.
fn greet(stream: &TcpStream, name: &Arc<str>) -> Option<Client> {
    // Replies are written whole: there is nothing to wait for.
    stream.set_nodelay(true).ok()?;
    let (peer, local) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    Some(Client { peer, local, listener: name.clone(), id: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_altogether() {
        let places = Arc::new(Places::default());
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = places.take(here, 3, 2).expect("free");
        let _second = places.take(here, 3, 2).expect("free");
        assert!(places.take(here, 3, 2).is_none());
        let _third = places.take(there, 3, 2).expect("free");
        assert!(places.take(there, 3, 2).is_none());
        drop(first);
        assert!(places.take(here, 3, 2).is_some());
    }
}
