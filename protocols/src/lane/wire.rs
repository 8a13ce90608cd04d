//! What lies on a lane: a head of 20 bytes for each message, and for two kinds a header and a body behind it.
//!
//! ```text
//! kind u8 | code u8 | 0 u16 | a u32 BE | b u32 BE | c u64 BE
//!
//! 1 grant       code: class      a: requests      b: 0           c: bytes
//! 2 request     code: protocol   a: header bytes  b: body bytes  c: id      header, body
//! 3 reply       code: protocol   a: header bytes  b: body bytes  c: id      header, body
//! 4 not served  code: 0          a: 0             b: 0           c: id
//! 5 cancel      code: 0          a: 0             b: 0           c: id
//! 6 idle        code: 0          a: 0             b: 0           c: 0
//! 7 close       code: 0          a: 0             b: 0           c: 0
//! ```
//! Ids are the requester's; each side has its own. A protocol's code is its position in [`Protocol::ALL`].

mod reader;
mod writer;

pub use reader::{Reader, Step};
pub use writer::Writer;

use super::Class;
use crate::frame::{Caps, FrameError};
use crate::{Frame, Protocol};

/// Bytes of a head.
pub const HEAD_BYTES: usize = 20;

/// Something that one end of a lane says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// What the other end may have under way; the first word of each end, and perhaps a later one.
    Grant {
        /// The lane's class.
        class: Class,
        /// Requests without a reply.
        requests: u32,
        /// Their bytes.
        bytes: u64,
    },
    /// A request.
    Request {
        /// Chosen by the requester; not in use.
        id: u64,
        /// Whose frame it is.
        protocol: Protocol,
        /// The request.
        frame: Frame,
    },
    /// The one reply to a request.
    Reply {
        /// Of the request.
        id: u64,
        /// As in the request.
        protocol: Protocol,
        /// The answer.
        frame: Frame,
    },
    /// In place of a reply: nothing was done, and nothing will be.
    NotServed {
        /// Of the request.
        id: u64,
    },
    /// Nobody waits for the reply any more. The request still ends with one, or with `NotServed`.
    Cancel {
        /// Of the request.
        id: u64,
    },
    /// Nothing; the lane is alive.
    Idle,
    /// This end begins no more requests and serves none that come from now on.
    Close,
}

/// The fixed part of a message, once it has been read and found good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Head {
    /// As the message.
    Grant {
        /// The lane's class.
        class: Class,
        /// Requests without a reply.
        requests: u32,
        /// Their bytes.
        bytes: u64,
    },
    /// A request or reply, of which `header` and `body` bytes are to come, within the caps of the protocol.
    Frame {
        /// True for a reply.
        is_reply: bool,
        /// Correlation id.
        id: u64,
        /// Whose frame it is.
        protocol: Protocol,
        /// Bytes of the header.
        header: usize,
        /// Bytes of the body.
        body: usize,
    },
    /// As the message.
    NotServed(u64),
    /// As the message.
    Cancel(u64),
    /// As the message.
    Idle,
    /// As the message.
    Close,
}

/// Why bytes on a lane are no message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// Kind, class or protocol unknown, or a field that must be zero is not.
    #[error("not a message of a lane: {0:02x?}")]
    Head([u8; HEAD_BYTES]),
    /// A frame weighs more than its protocol allows.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

const GRANT: u8 = 1;
const REQUEST: u8 = 2;
const REPLY: u8 = 3;
const NOT_SERVED: u8 = 4;
const CANCEL: u8 = 5;
const IDLE: u8 = 6;
const CLOSE: u8 = 7;

impl Message {
    /// Bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        HEAD_BYTES + self.frame().map_or(0, |frame| frame.header().len() + frame.body_len())
    }

    /// The frame of a request or reply.
    #[must_use]
    pub fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Request { frame, .. } | Self::Reply { frame, .. } => Some(frame),
            _ => None,
        }
    }

    pub(super) fn head(&self) -> [u8; HEAD_BYTES] {
        let of = |frame: &Frame| (length(frame.header().len()), length(frame.body_len()));
        let (kind, code, (a, b), c) = match self {
            Self::Grant { class, requests, bytes } => (GRANT, *class as u8, (*requests, 0), *bytes),
            Self::Request { id, protocol, frame } => (REQUEST, *protocol as u8, of(frame), *id),
            Self::Reply { id, protocol, frame } => (REPLY, *protocol as u8, of(frame), *id),
            Self::NotServed { id } => (NOT_SERVED, 0, (0, 0), *id),
            Self::Cancel { id } => (CANCEL, 0, (0, 0), *id),
            Self::Idle => (IDLE, 0, (0, 0), 0),
            Self::Close => (CLOSE, 0, (0, 0), 0),
        };
        let mut head = [0; HEAD_BYTES];
        (head[0], head[1]) = (kind, code);
        head[4..8].copy_from_slice(&a.to_be_bytes());
        head[8..12].copy_from_slice(&b.to_be_bytes());
        head[12..].copy_from_slice(&c.to_be_bytes());
        head
    }
}

impl Head {
    /// Reads a head; lengths are within the caps of the protocol then.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(head: &[u8; HEAD_BYTES]) -> Result<Self, WireError> {
        let bad = || WireError::Head(*head);
        let u32_at = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (code, a, b) = (usize::from(head[1]), u32_at(4), u32_at(8));
        let c = u64::from(u32_at(12)) << 32 | u64::from(u32_at(16));
        let is_bare = code == 0 && a == 0 && b == 0;
        if head[2..4] != [0, 0] {
            return Err(bad());
        }
        match head[0] {
            GRANT if b == 0 => {
                let class = *Class::ALL.get(code).ok_or_else(bad)?;
                Ok(Self::Grant { class, requests: a, bytes: c })
            }
            kind @ (REQUEST | REPLY) => {
                let protocol = *Protocol::ALL.get(code).ok_or_else(bad)?;
                Class::of(protocol).ok_or_else(bad)?;
                let is_reply = kind == REPLY;
                let caps = caps(protocol, is_reply);
                let (header, body) = (a as usize, b as usize);
                caps.check_header(header)?;
                caps.check_body(body)?;
                Ok(Self::Frame { is_reply, id: c, protocol, header, body })
            }
            NOT_SERVED if is_bare => Ok(Self::NotServed(c)),
            CANCEL if is_bare => Ok(Self::Cancel(c)),
            IDLE if is_bare && c == 0 => Ok(Self::Idle),
            CLOSE if is_bare && c == 0 => Ok(Self::Close),
            _ => Err(bad()),
        }
    }
}

fn caps(protocol: Protocol, is_reply: bool) -> Caps {
    if is_reply { protocol.reply_caps() } else { protocol.request_caps() }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("frames are checked against caps far below 4 GiB")
}

#[cfg(test)]
mod tests;
