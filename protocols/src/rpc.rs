//! Calls between peers: request-response, with the bodies kept away from the task of the swarm.
//!
//! A request that comes in surfaces as [`Event::Inbound`] with a [`Responder`], which any task may use: the answer
//! goes through a oneshot to the task of the connection, which has been waiting for it since. A request that goes out
//! ([`Behaviour::send`]) carries its caller's oneshot along: the task of the connection completes it with the answer.
//! So the swarm's task moves a few words for each call, whatever the bodies weigh.
//!
//! A caller that drops its receiver ends the call: the substream is reset and its place is free again.

mod behaviour;
mod budget;
mod call;
mod codec;
mod counters;
mod limiter;
mod responder;

pub(crate) use behaviour::dial_words;
pub use behaviour::{Behaviour, Config, Event};
pub use budget::{Budget, Reservation};
pub use call::CallError;
pub use counters::{Counters, Direction, Outcome};
pub use limiter::{Limiter, Permit};
pub(crate) use responder::Claim;
pub use responder::{Inbound, Responder};
