//! Dialling from the port that the node listens on where that works, and from any other where it does not.
//!
//! libp2p binds what it dials from to the listen port, so that peers behind NAT can be found by it. That bind fails
//! with "address already in use" while a connection of another program that had this port rests in TIME_WAIT, for a
//! minute; libp2p-tcp 0.45 gives the dial up then.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport};

/// A transport that dials again from any port if the listen port cannot be dialled from.
pub(super) struct AnyPort<T>(Arc<Mutex<T>>);

impl<T> AnyPort<T> {
    pub(super) fn new(inner: T) -> Self {
        Self(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Transport for AnyPort<T>
where
    T: Transport<Error = io::Error> + Send + Unpin + 'static,
    T::Dial: Send,
    T::Output: Send,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<T::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner().listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner().remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let dial = self.inner().dial(address.clone(), options)?;
        let again = Self(self.0.clone());
        Ok(Box::pin(async move {
            match dial.await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && options.port_use == PortUse::Reuse => {
                    tracing::debug!(%address, "the listen port cannot be dialled from, taking another");
                    let options = DialOpts { port_use: PortUse::New, ..options };
                    let dial = again.inner().dial(address, options);
                    dial.map_err(io::Error::other)?.await
                }
                done => done,
            }
        }))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut *self.inner()).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::Endpoint;

    use super::*;

    /// Its listen port cannot be dialled from; other ports fail in `other` way, if they do.
    struct Resting {
        other: Option<io::ErrorKind>,
        dials: Arc<Mutex<Vec<PortUse>>>,
    }

    impl Transport for Resting {
        type Output = ();
        type Error = io::Error;
        type ListenerUpgrade = BoxFuture<'static, io::Result<()>>;
        type Dial = BoxFuture<'static, io::Result<()>>;

        fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
            Err(TransportError::MultiaddrNotSupported(address))
        }

        fn remove_listener(&mut self, _: ListenerId) -> bool {
            false
        }

        fn dial(&mut self, _: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
            self.dials.lock().expect("whole").push(options.port_use);
            let failure = match options.port_use {
                PortUse::Reuse => Some(io::ErrorKind::AddrInUse),
                PortUse::New => self.other,
            };
            Ok(Box::pin(async move { failure.map_or(Ok(()), |kind| Err(kind.into())) }))
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
            Poll::Pending
        }
    }

    async fn dial(port_use: PortUse, other: Option<io::ErrorKind>) -> (Result<(), io::ErrorKind>, Vec<PortUse>) {
        let dials = Arc::default();
        let mut transport = AnyPort::new(Resting { other, dials: Arc::clone(&dials) });
        let address = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        let dial = transport.dial(address, DialOpts { role: Endpoint::Dialer, port_use }).expect("supported");
        let ended = dial.await.map_err(|error| error.kind());
        (ended, dials.lock().expect("whole").clone())
    }

    #[tokio::test]
    async fn a_listen_port_that_cannot_be_dialled_from_is_no_obstacle() {
        assert_eq!(dial(PortUse::Reuse, None).await, (Ok(()), vec![PortUse::Reuse, PortUse::New]));
        assert_eq!(dial(PortUse::New, None).await, (Ok(()), vec![PortUse::New]));
        let refused = Some(io::ErrorKind::ConnectionRefused);
        let twice = vec![PortUse::Reuse, PortUse::New];
        assert_eq!(dial(PortUse::Reuse, refused).await, (Err(io::ErrorKind::ConnectionRefused), twice));
        let in_use = Some(io::ErrorKind::AddrInUse);
        assert_eq!(dial(PortUse::New, in_use).await, (Err(io::ErrorKind::AddrInUse), vec![PortUse::New]));
    }
}
