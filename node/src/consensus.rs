//! The metadata log: what the cluster has decided, in order, on the disks of its voters.
//!
//! Consensus is openraft's, behind [`MetadataLog`]: nothing outside this module names it. Entries are *results* that the
//! controller computed (`rafka_broker::metadata`), so applying them is a pure fold into the
//! [`ImageStore`](crate::image::ImageStore). An entry that does not follow the image it meets is refused by every voter
//! alike, which is what makes an unknown outcome safe to retry with a fresh entry.

mod error;
mod machine;
mod network;
mod raft;
mod snapshots;
mod store;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;
use std::future::Future;

use rafka_broker::metadata::Entry;
use rafka_model::{MetadataIndex, NodeId};
use tokio::sync::watch;

pub use error::{OpenError, ProposeError};
pub use network::{NoPeers, Rpc, Transport, TransportError};
pub use raft::{Config, RaftLog};
pub use types::Member;

/// Who leads the metadata log, as this voter sees it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Leadership {
    /// Term of the consensus; grows with each election.
    pub term: u64,
    /// The leader, when known.
    pub leader: Option<NodeId>,
    /// Is it this node?
    pub leads: bool,
    /// The log has stopped for good: shut down, or its disk failed.
    pub stopped: bool,
}

/// A replicated log of metadata entries. The one thing that the controller knows of consensus.
///
/// Applied entries are published through the [`ImageStore`](crate::image::ImageStore) that the log was opened with.
pub trait MetadataLog: Clone + Send + Sync + 'static {
    /// Proposes an entry and waits until it is applied here. Not cancel safe: a dropped call may still be applied.
    ///
    /// # Errors
    /// [`ProposeError`]; only [`ProposeError::OutcomeUnknown`] and [`ProposeError::Stopped`] leave it open whether the
    /// entry will be applied.
    fn propose(&self, entry: &Entry) -> impl Future<Output = Result<MetadataIndex, ProposeError>> + Send;

    /// Waits until everything that any earlier leader committed is applied here, and this node still leads: what a new
    /// leader does before it decides anything.
    ///
    /// # Errors
    /// [`ProposeError`] if it does not lead, or cannot tell.
    fn barrier(&self) -> impl Future<Output = Result<(), ProposeError>> + Send;

    /// Changes of leadership.
    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// Does this node lead, and has it passed its barrier in this term?
    fn is_leader_ready(&self) -> bool;

    /// The leader, when known.
    fn leader(&self) -> Option<NodeId> {
        self.leadership().borrow().leader
    }

    /// Makes `voters` the voters, joint consensus included; new ones catch up first.
    ///
    /// # Errors
    /// [`ProposeError`].
    fn change_voters(&self, voters: BTreeMap<NodeId, Member>) -> impl Future<Output = Result<(), ProposeError>> + Send;

    /// Writes a snapshot of what is applied and waits for it.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    fn snapshot(&self) -> impl Future<Output = Result<(), ProposeError>> + Send;
}
