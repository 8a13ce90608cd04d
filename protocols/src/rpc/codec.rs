//! The codec that request-response clones for each substream; it runs in the task of the connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use libp2p::StreamProtocol;
use libp2p::request_response;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{FRAME_STEP_MS_MAX, KIB, REQUEST_ROOM_MS_MAX};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::call::{Call, CallError};
use super::counters::{Counters, Direction, Outcome};
use super::{Budget, Config, Reservation};
use crate::frame::{FrameError, FrameReader, read_frame, write_frame};
use crate::{Frame, Protocol};

/// Bytes of the two lengths of a frame.
const LENGTHS_BYTES: usize = 8;
/// Headers up to this are not accounted for: the stream's own buffer may hold as much.
const SMALL_HEADER_BYTES: usize = 16 * KIB;

/// A request on its way.
#[derive(Debug)]
pub struct Request(pub(crate) RequestKind);

#[derive(Debug)]
pub(crate) enum RequestKind {
    /// To a peer.
    Outbound(Frame, Arc<Call>),
    /// From a peer.
    Inbound(Frame, Reservation, Trust),
    /// From a peer, but there was no room to take it.
    Refused(Failure),
}

/// An answer on its way.
#[derive(Debug)]
pub struct Response(pub(crate) ResponseKind);

#[derive(Debug)]
pub(crate) enum ResponseKind {
    /// To a peer, as soon as somebody has made it.
    Outbound(oneshot::Receiver<Frame>),
    /// From a peer; its caller has it already.
    Delivered,
}

/// Set once a request of the protocol was granted on a connection: its peer is one that the node answers.
pub(crate) type Trust = Arc<AtomicBool>;

/// Reads and writes frames of one protocol.
#[derive(Debug)]
pub struct Codec {
    protocol: Protocol,
    budget: Budget,
    /// The budget until there is trust, so that strangers can only be in one another's way.
    strangers: Budget,
    counters: Arc<Counters>,
    /// None in the behaviour's codec.
    trust: Option<Trust>,
    /// Set in the clone that writes a request: the same clone reads the answer.
    call: Option<Arc<Call>>,
}

impl Clone for Codec {
    /// Request-response clones the behaviour's codec for each connection, and that clone for each substream; the
    /// substreams of a connection share its trust.
    fn clone(&self) -> Self {
        Self {
            protocol: self.protocol,
            budget: self.budget.clone(),
            strangers: self.strangers.clone(),
            counters: Arc::clone(&self.counters),
            trust: Some(self.trust.clone().unwrap_or_default()),
            call: self.call.clone(),
        }
    }
}

impl Codec {
    pub(crate) fn new(protocol: Protocol, config: &Config) -> Self {
        Self {
            protocol,
            budget: config.budget.clone(),
            strangers: config.strangers.clone(),
            counters: Arc::clone(&config.counters),
            trust: None,
            call: None,
        }
    }

    async fn read_inbound<T: AsyncRead + Unpin>(&self, io: &mut T) -> io::Result<RequestKind> {
        // Unlike the reader of an answer, that of a request does not wait for the first byte as long as it takes.
        let start = FrameReader::new(io, self.protocol.request_caps());
        let mut reader =
            timeout(Duration::from_millis(FRAME_STEP_MS_MAX), start).await.map_err(|_| FrameError::TooSlow)??;
        let mut held = Some(Reservation::default());
        let bytes = reader.header_bytes();
        let header = self.take(&mut reader, bytes, SMALL_HEADER_BYTES, &mut held).await?;
        let bytes = reader.body_bytes().await?;
        let body = self.take(&mut reader, bytes, 0, &mut held).await?;
        reader.end().await?;
        self.counters.received(self.protocol, LENGTHS_BYTES + header.len() + body.len());
        Ok(match held {
            Some(held) => RequestKind::Inbound(Frame::new(header, body), held, self.trust.clone().unwrap_or_default()),
            None => RequestKind::Refused(Failure::new(ErrorCode::Busy, "the node holds as many requests as it may")),
        })
    }

    /// Takes the next `bytes` of a request once there is room for them (`free` bytes need none), and lets them pass by
    /// when there is none in time: the peer hears the answer only after it has sent everything.
    async fn take<T: AsyncRead + Unpin>(
        &self,
        reader: &mut FrameReader<'_, T>,
        bytes: usize,
        free: usize,
        held: &mut Option<Reservation>,
    ) -> io::Result<Bytes> {
        if let (Some(reservation), true) = (held.as_mut(), bytes > free) {
            let is_trusted = self.trust.as_ref().is_some_and(|trust| trust.load(Ordering::Relaxed));
            let budget = if is_trusted { &self.budget } else { &self.strangers };
            let room = timeout(Duration::from_millis(REQUEST_ROOM_MS_MAX), budget.reserve(bytes)).await;
            match room.ok().flatten() {
                Some(more) => reservation.merge(more),
                None => *held = None,
            }
            reader.resume();
        }
        match held {
            Some(_) => reader.read(bytes).await,
            None => reader.skip(bytes).await.map(|()| Bytes::new()),
        }
    }
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.read_inbound(io).await.map(Request).inspect_err(|error| {
            let outcome = if FrameError::of(error).is_some() { Outcome::Frame } else { Outcome::Closed };
            self.counters.count(Direction::Inbound, self.protocol, outcome);
            tracing::debug!(protocol = self.protocol.word(), %error, "request refused");
        })
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Response) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let ResponseKind::Outbound(answer) = response.0 else {
            return Err(io::Error::other("an answer cannot be sent on"));
        };
        let frame = answer.await.map_err(io::Error::other)?;
        write_frame(io, &frame, self.protocol.reply_caps()).await?;
        self.counters.sent(self.protocol, LENGTHS_BYTES + frame.header().len() + frame.body_len());
        Ok(())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let RequestKind::Outbound(frame, call) = request.0 else {
            return Err(io::Error::other("a request cannot be sent on"));
        };
        self.call = Some(Arc::clone(&call));
        let caps = self.protocol.request_caps();
        let written = tokio::select! {
            biased;
            () = call.cancelled() => return cancelled(&call),
            written = write_frame(io, &frame, caps) => written,
        };
        match written {
            Ok(()) => self.counters.sent(self.protocol, LENGTHS_BYTES + frame.header().len() + frame.body_len()),
            // The peer stopped reading: what it may have written (that it does not speak the protocol) says why.
            Err(error) => tracing::debug!(protocol = self.protocol.word(), %error, "request not sent to its end"),
        }
        Ok(())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        let Some(call) = self.call.take() else {
            return Err(io::Error::other("no request was written"));
        };
        let answer = tokio::select! {
            biased;
            () = call.cancelled() => return cancelled(&call),
            answer = read_frame(io, self.protocol.reply_caps()) => answer,
        };
        match answer {
            Ok(frame) => {
                self.counters.received(self.protocol, LENGTHS_BYTES + frame.header().len() + frame.body_len());
                call.complete(Ok(frame));
                Ok(Response(ResponseKind::Delivered))
            }
            Err(error) => {
                call.complete(Err(CallError::of(&error)));
                Err(error)
            }
        }
    }
}

fn cancelled<T>(call: &Call) -> io::Result<T> {
    // Nobody listens; this only counts.
    call.complete(Err(CallError::ConnectionClosed));
    Err(io::Error::new(io::ErrorKind::Interrupted, "the caller lost interest"))
}
