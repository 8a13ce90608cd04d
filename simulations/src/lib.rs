//! Simulations: Rafka at sizes that a test machine has no machines for.
//!
//! [`swarm`] runs up to hundreds of nodes' control swarms in one process: the node's own code (`rafka_node::mesh`) with
//! real libp2p connections, over memory or loopback TCP, and the real controller logic over a log in memory. It measures
//! joining, routing in the DHT, gossip, and all of that under churn. [`cluster`] runs whole brokers, kills and restarts
//! them under a producer, and checks what a consumer reads against what was acknowledged.
//!
//! [`seeds`] runs the machines of `broker` alone, over the real log on a disk that fails, in virtual time: nothing in it
//! but the seed decides what happens.
//!
//! All are libraries with a thin binary, so that small ones run in the tests. The feature `mesh` (on by default) holds
//! those that need real nodes.

#[cfg(feature = "mesh")]
pub mod cluster;
pub mod explore;
pub mod hunt;
#[cfg(feature = "mesh")]
pub mod plot;
#[cfg(feature = "mesh")]
pub mod process;
pub mod progress;
pub mod random;
#[cfg(feature = "mesh")]
pub mod report;
pub mod seeds;
#[cfg(feature = "mesh")]
pub mod stats;
#[cfg(feature = "mesh")]
pub mod swarm;
