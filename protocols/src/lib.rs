//! libp2p wire contracts of the mesh: what peers say to each other, and how it is framed, bounded and carried.
//!
//! One module and one `.proto` for each protocol: [`hello`], [`register`], [`watch`], [`resolve`], [`admin`],
//! [`produce`], [`fetch`], [`group`], and the hints of [`gossip`]. A message is a [`Frame`]: a protobuf header and raw bytes that
//! nobody re-encodes. [`rpc`] carries frames over request-response without letting bodies pass through the task of the
//! swarm, and [`transport`] is the one definition of how connections are made.

pub mod address;
pub mod admin;
pub mod certificate;
pub mod fetch;
pub mod frame;
pub mod gossip;
pub mod group;
pub mod hello;
pub mod lane;
pub mod produce;
mod proto;
pub mod protocol;
pub mod register;
pub mod resolve;
pub mod rpc;
pub mod transport;
pub mod watch;
pub mod wire;

pub use frame::{Frame, FrameError};
pub use protocol::Protocol;
pub use wire::{Answer, DecodeError};
