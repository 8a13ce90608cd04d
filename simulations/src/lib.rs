//! Simulations: Rafka at sizes that a test machine has no machines for.
//!
//! [`swarm`] runs up to hundreds of nodes' control swarms in one process: the node's own code (`rafka_node::mesh`) with
//! real libp2p connections, over memory or loopback TCP, and the real controller logic over a log in memory. It measures
//! joining, routing in the DHT, gossip, and all of that under churn. [`cluster`] runs whole brokers, kills and restarts
//! them under a producer, and checks what a consumer reads against what was acknowledged.
//!
//! Both are libraries with a thin binary, so that small ones run in the tests.

pub mod cluster;
pub mod plot;
pub mod process;
pub mod progress;
pub mod random;
pub mod report;
pub mod stats;
pub mod swarm;
