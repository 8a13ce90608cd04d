//! Yamux as libp2p speaks it (`/yamux/1.0.0`), with fuller frames.
//!
//! libp2p-yamux 0.48 leaves the size of the frames that it sends at 16 KiB. A frame costs a copy, a place in a queue
//! and a turn of the connection's task: with 64 KiB a bulk transfer takes a third less of all that. Readers of any
//! version take frames of any size that fits their window.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::{io, iter};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Connection, ConnectionError, Mode, Stream};

/// Bytes of one frame at most.
pub(crate) const FRAME_BYTES: usize = 64 * 1024;
/// Substreams of the peer that wait to be taken; yamux lets it open no more before some are acknowledged.
const WAITING_MAX: usize = 256;

/// The upgrade.
#[derive(Clone, Copy, Debug)]
pub(super) struct Yamux;

/// A connection that carries substreams.
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// Substreams that came while something else was asked for.
    waiting: VecDeque<Stream>,
    taker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(io: C, mode: Mode) -> Self {
        let mut config = yamux::Config::default();
        config.set_split_send_size(FRAME_BYTES);
        Self { connection: Connection::new(io, config, mode), waiting: VecDeque::new(), taker: None }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_next_inbound(cx).map(|next| next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.next(cx);
        if next.is_pending() {
            self.taker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx)
    }

    /// Moves the connection on, which yamux does only while it is asked for the peer's next substream.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        while let Poll::Ready(stream) = self.next(cx) {
            let stream = stream?;
            if self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(stream);
            }
            if let Some(taker) = self.taker.take() {
                taker.wake();
            }
        }
        Poll::Pending
    }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, io: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(io, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, io: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(io, Mode::Client)))
    }
}
