//! One client's connection.
//!
//! A single task reads, works and writes. Requests are begun strictly in the order in which they came: the next one once
//! the one before is done, or (a produce) is in the log and only waits for replicas. Replies go out in the same order,
//! all that are ready in one vectored write. Nothing is read while a whole request waits to be begun, and none is begun
//! while too many replies wait: so a client that asks faster than it listens is slowed down by TCP.
//!
//! An idle connection holds no buffer.

mod input;
mod output;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rafka_model::limits::{FRAME_STEP_MS_MAX, KAFKA_PIPELINE_BYTES_MAX, KAFKA_PIPELINE_MAX, KAFKA_SEND_MS_MAX};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::ApiKey;
use crate::api::{self, Incoming, Outcome, Reply, Work};
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::header::RequestHeader;
use crate::wire::{DecodeError, Reader, Str};

use input::{Frame, Input};
use output::Output;

/// How a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The client closed it.
    #[error("the client left")]
    Left,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopped,
    /// Nothing came, or nothing was taken, for too long.
    #[error("{0} for too long")]
    Expired(&'static str),
    /// The client sent something that is no request.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A frame of this length is not read.
    #[error("a frame of {length} bytes, limit is {limit} bytes")]
    Frame {
        /// As claimed.
        length: i32,
        /// The limit.
        limit: usize,
    },
    /// A request that can only be answered by an end.
    #[error("{0}")]
    Refused(&'static str),
    /// The socket broke.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// Serves a client until it leaves, breaks the rules or falls silent; after `stop` answers what was read already.
///
/// Dropping the future ends the connection at once; what was appended stays.
pub async fn serve<D: FrontDesk, S: AsyncRead + AsyncWrite + Unpin + Send>(
    door: Arc<Door<D>>,
    client: Client,
    stream: S,
    stop: impl Future<Output = ()> + Send,
) -> End {
    let metrics = door.metrics.clone();
    metrics.connections.up();
    let now = Instant::now();
    let mut connection = Connection {
        input: Input::new(door.config.frame_bytes_max),
        output: Output::default(),
        idle: Duration::from_millis(door.config.idle_ms),
        door,
        client,
        stream,
        work: None,
        replies: VecDeque::new(),
        received_at: now,
        sent_at: now,
        timer: Box::pin(sleep_until(now)),
        stopping: false,
        hung_up: None,
    };
    let mut stop = std::pin::pin!(stop);
    let end = poll_fn(|cx| {
        if !connection.stopping {
            connection.stopping = stop.as_mut().poll(cx).is_ready();
        }
        connection.poll(cx)
    })
    .await;
    drop(connection);
    metrics.connections.down();
    match end {
        End::Malformed(_) | End::Frame { .. } => metrics.malformed.add(1),
        End::Expired(_) => metrics.expired.add(1),
        _ => {}
    }
    end
}

struct Connection<D: FrontDesk, S> {
    door: Arc<Door<D>>,
    client: Client,
    stream: S,
    input: Input,
    /// The request that was begun last, until the next one may begin.
    work: Option<Working>,
    /// Replies to earlier requests that are not written yet, in order.
    replies: VecDeque<Expected>,
    output: Output,
    idle: Duration,
    received_at: Instant,
    sent_at: Instant,
    timer: Pin<Box<Sleep>>,
    stopping: bool,
    /// Nothing more is read or begun; the connection ends like this once everything is written.
    hung_up: Option<End>,
}

struct Working {
    key: ApiKey,
    began: Instant,
    work: Work,
    /// Memory of the request; a join, which waits for others, has let go of its own.
    frame: Option<Frame>,
}

/// A reply, there or to come.
enum Expected {
    There(Reply),
    Coming { key: ApiKey, began: Instant, reply: Pin<Box<dyn Future<Output = Reply> + Send>> },
}

impl<D: FrontDesk, S: AsyncRead + AsyncWrite + Unpin> Connection<D, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let mut moved = self.work_off(cx);
            moved |= self.collect(cx);
            match self.send(cx) {
                Ok(sent) => moved |= sent,
                Err(error) => return Poll::Ready(End::Broken(error)),
            }
            match self.receive(cx) {
                Ok(received) => moved |= received,
                Err(end) => return Poll::Ready(end),
            }
            moved |= self.give_up();
            if !moved {
                return self.rest(cx);
            }
        }
    }

    /// Begins requests, one after the other; true if something happened.
    fn work_off(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        loop {
            if let Some(working) = &mut self.work {
                let Poll::Ready(outcome) = working.work.as_mut().poll(cx) else { return moved };
                let Some(Working { key, began, frame, .. }) = self.work.take() else { return moved };
                drop(frame);
                moved = true;
                match outcome {
                    Outcome::Done(reply) => {
                        self.door.metrics.answered(key, began.elapsed());
                        self.replies.push_back(Expected::There(reply));
                    }
                    Outcome::Later(reply) => self.replies.push_back(Expected::Coming { key, began, reply }),
                }
                // Ready replies leave the queue at once, so that it only counts those that wait.
                self.collect(cx);
            }
            if self.hung_up.is_some()
                || self.replies.len() >= KAFKA_PIPELINE_MAX
                || self.output.bytes() >= KAFKA_PIPELINE_BYTES_MAX
            {
                return moved;
            }
            match self.input.take_frame() {
                Some(frame) => self.begin(frame),
                None => return moved,
            }
            moved = true;
        }
    }

    fn begin(&mut self, mut frame: Frame) {
        let mut reader = Reader::new(std::mem::take(&mut frame.bytes));
        let header = match RequestHeader::decode(&mut reader) {
            Ok(header) => header,
            Err(error) => return self.hang_up(error.into()),
        };
        if self.client.id != header.client_id {
            // The text is kept for longer than the frame may be.
            self.client.id = header.client_id.as_ref().map(|id| Str::from(id.to_string()));
        }
        let key = ApiKey::from_number(header.key).filter(|key| api::is_served(*key, header.version));
        let Some(key) = key else {
            tracing::debug!(api = header.key, version = header.version, "an API or version that is not served");
            self.replies.push_back(Expected::There(api::unsupported(&header)));
            return;
        };
        let call = Incoming {
            door: self.door.clone(),
            client: self.client.clone(),
            version: header.version,
            correlation_id: header.correlation_id,
        };
        match api::begin(key, call, &mut reader) {
            Ok(Some(work)) => {
                let frame = (key != ApiKey::JoinGroup).then_some(frame);
                self.work = Some(Working { key, began: Instant::now(), work, frame });
            }
            Ok(None) => self.replies.push_back(Expected::There(api::unsupported(&header))),
            Err(error) => self.hang_up(error.into()),
        }
    }

    /// Moves replies that are there, and next in order, to the output; true if there were any.
    fn collect(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while let Some(next) = self.replies.front_mut() {
            if let Expected::Coming { key, began, reply } = next {
                let Poll::Ready(reply) = reply.as_mut().poll(cx) else { return moved };
                self.door.metrics.answered(*key, began.elapsed());
                *next = Expected::There(reply);
            }
            let Some(Expected::There(reply)) = self.replies.pop_front() else { return moved };
            moved = true;
            match reply {
                Reply::Frame(frame) => {
                    if self.output.is_empty() {
                        self.sent_at = Instant::now();
                    }
                    let bytes = self.output.push(frame);
                    self.door.budget.replies_grew(bytes);
                }
                Reply::Silence => {}
                Reply::Close(why) => {
                    self.replies.clear();
                    self.work = None;
                    self.hang_up(End::Refused(why));
                }
            }
        }
        moved
    }

    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while !self.output.is_empty() {
            let Poll::Ready(sent) = self.output.poll_write(cx, &mut self.stream) else { break };
            let sent = sent?;
            self.door.budget.replies_shrank(sent);
            self.door.metrics.sent_bytes.add(sent as u64);
            self.sent_at = Instant::now();
            moved = true;
        }
        Ok(moved)
    }

    /// Reads more, unless what was read is enough for now.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.hung_up.is_some() || self.stopping || self.output.bytes() >= KAFKA_PIPELINE_BYTES_MAX {
            return Ok(false);
        }
        match self.input.poll_read(cx, &mut self.stream, &self.door.budget) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                self.hang_up_behind(End::Left);
                Ok(true)
            }
            Poll::Ready(Ok(bytes)) => {
                self.received_at = Instant::now();
                self.door.metrics.received_bytes.add(bytes as u64);
                Ok(true)
            }
            Poll::Ready(Err(end)) => {
                self.hang_up_behind(end);
                Ok(true)
            }
        }
    }

    /// Gives up what waits for other clients once nobody is there for the answer: the client left, or the node stops.
    fn give_up(&mut self) -> bool {
        if !self.work.as_ref().is_some_and(|working| api::waits_for_others(working.key)) {
            return false;
        }
        let end = if self.stopping { Some(End::Stopped) } else { self.input.take_end() };
        let Some(end) = end else { return false };
        self.work = None;
        self.hang_up(end);
        true
    }

    /// Nothing more is read; requests that came whole are still served.
    fn hang_up_behind(&mut self, end: End) {
        self.input.end(end);
    }

    /// Nothing more is read or begun.
    fn hang_up(&mut self, end: End) {
        self.hung_up.get_or_insert(end);
    }

    /// Nothing can be done at the moment: is it the end?
    fn rest(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let busy = self.work.is_some() || !self.replies.is_empty() || !self.output.is_empty();
        if !busy {
            if let Some(end) = self.hung_up.take() {
                return Poll::Ready(end);
            }
            if !self.input.has_frame() {
                if let Some(end) = self.input.take_end() {
                    return Poll::Ready(end);
                }
                if self.stopping {
                    return Poll::Ready(End::Stopped);
                }
            }
        }
        let Some((deadline, what)) = self.deadline(busy) else { return Poll::Pending };
        loop {
            // Deadlines mostly move away: the timer is set anew only when it rings, or one comes nearer.
            if self.timer.deadline() > deadline || self.timer.is_elapsed() {
                if Instant::now() >= deadline {
                    return Poll::Ready(End::Expired(what));
                }
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Until when something must happen, and what.
    fn deadline(&self, busy: bool) -> Option<(Instant, &'static str)> {
        let after = |from: Instant, ms: u64| from + Duration::from_millis(ms);
        if !self.output.is_empty() {
            return Some((after(self.sent_at, KAFKA_SEND_MS_MAX), "replies were not taken"));
        }
        if self.input.is_mid_frame() {
            return Some((after(self.received_at, FRAME_STEP_MS_MAX), "a request was not finished"));
        }
        (!busy && !self.input.has_frame()).then(|| (self.received_at + self.idle, "nothing came"))
    }
}

impl<D: FrontDesk, S> Drop for Connection<D, S> {
    fn drop(&mut self) {
        self.door.budget.replies_shrank(self.output.bytes());
    }
}
