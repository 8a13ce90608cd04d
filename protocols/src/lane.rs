//! `/rafka/<cid>/lane/1`: the frames of the other protocols on a few substreams that stay, for peers that talk much.
//!
//! Request-response pays a substream, its negotiation and its end for each exchange. A lane is one substream for as
//! long as two peers have something to say to each other in one [`Class`] of traffic: requests of both sides go
//! through it one after another without waiting for answers, which come in any order, found by a correlation id.
//!
//! From the inside out: [`wire`] is what lies on the substream, [`Machine`] decides (credit, cancelling, the end) and
//! knows no clock and no socket, `driver` is the task that moves one lane, [`Behaviour`] opens and accepts lanes, one
//! connection for each, in a swarm of their own, and [`Lanes`] is what callers hold: it finds or opens a lane, and
//! says of each call how it ended, once.

mod behaviour;
mod counters;
mod driver;
mod handle;
mod machine;
mod pool;
mod swarm;
pub mod wire;

pub use behaviour::{Behaviour, Event, Gate};
pub use counters::Counters;
pub(crate) use handle::Answerer;
pub use machine::{Machine, Outcome, Violation};
pub use pool::Lanes;
pub use swarm::{Serve, Setup, StartError, Started, start, with_port};

use libp2p::StreamProtocol;
use rafka_model::ClusterId;

use crate::Protocol;

/// What kind of traffic a lane carries; each has a connection of its own, so that none waits behind another.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum Class {
    /// Batches on their way to a leader.
    Produce,
    /// Reads, those with them that wait for news.
    Fetch,
    /// Small exchanges: groups, administration, lookups.
    Control,
}

impl Class {
    /// Every class, in the order of their numbers on the wire.
    pub const ALL: [Self; 3] = [Self::Produce, Self::Fetch, Self::Control];

    /// The class of a protocol's requests; `None` if they do not go through lanes: greeting and registering are about
    /// the connection that they come on.
    #[must_use]
    pub fn of(protocol: Protocol) -> Option<Self> {
        match protocol {
            Protocol::Hello | Protocol::Register => None,
            Protocol::Produce => Some(Self::Produce),
            Protocol::Fetch => Some(Self::Fetch),
            _ => Some(Self::Control),
        }
    }
}

/// Name on the wire: `/rafka/<first 8 digits of the cluster id>/lane/1`.
#[must_use]
pub fn name(cluster: &ClusterId) -> StreamProtocol {
    StreamProtocol::try_from_owned(format!("/rafka/{}/lane/1", cluster.short())).expect("the name begins with a slash")
}
