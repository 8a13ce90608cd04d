//! The directory of the mesh: who leads which partition, and where nodes are.
//!
//! Raft decides, Kademlia finds. The controller signs what it has committed ([`directory`] says which
//! records that makes, [`Signer`] signs them); the nodes concerned put them to the k closest peers
//! ([`Publisher`]) and refresh them; each holder checks every record it is offered
//! ([`ValidatingStore`]); anyone reads them back ([`Queries`]) and turns them into routes
//! ([`Resolver`]). A record may be old, never wrong: what it names is a hint, the leader epoch is the fence.
//!
//! Wiring: one task owns the swarm with a [`Behaviour`] in it, calls [`Queries::get`] and [`Queries::put`] for others and
//! passes it every `kad::Event`; membership goes to [`Behaviour::set_members`] and [`Publisher::set_members`]; what
//! [`Publisher::due`] hands out is put, and its end told to [`Publisher::done`]. A [`Resolver`] lives outside of that task,
//! over a [`Lookup`] that sends to it.
//!
//! [`Behaviour`] is the only configuration of libp2p's `kad` in the project.

mod behaviour;
pub mod clock;
pub mod directory;
mod key;
mod publisher;
mod queries;
mod record;
mod resolve;
mod signature;
pub mod store;
#[cfg(test)]
mod testing;
mod walk;

pub use behaviour::{Behaviour, Config, Table, behaviour, protocol_name};
pub use clock::Clock;
pub use key::{Key, KeyError};
pub use libp2p::kad::Mode;
pub use publisher::{Due, Publisher, holders};
pub use queries::{Found, Queries, QueryCounts, Stored};
pub use record::{
    Body, Leaders, NameRecord, NodeRecord, Partition, Payload, QuorumRecord, ShardRecord, SignedRecord, TopicRecord,
    Version, Voter,
};
pub use resolve::{
    Answer, Counters, Counts, Fallback, Hosted, Lookup, NoFallback, NoHosted, NodeAt, ResolveError, Resolver, Route,
    Source, TopicRef, TopicView,
};
pub use signature::{Invalid, SignError, Signer, Verifier};
pub use store::{Stats as Held, ValidatingStore};
