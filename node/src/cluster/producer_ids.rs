//! Producer ids: this node hands them out of a block of its own, and asks the controller for the next block.
//!
//! The block lives in memory only. What is left of it at the end of the process is never used.

use std::ops::Range;

use rafka_broker::request::{Admin, AdminReply, ProducerIdBlock};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::ProducerId;
use tokio::sync::Mutex;

use super::Cluster;

/// The node's block of producer ids.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    left: Mutex<Range<i64>>,
}

impl Cluster {
    /// A producer id that nobody else has or will have; its first epoch is 0. Behind InitProducerId at every door.
    ///
    /// Cancel safe: at worst a block is never used.
    ///
    /// # Errors
    /// [`ErrorCode::ControllerUnavailable`], [`ErrorCode::OutcomeUnknown`] and the like when the node's block is used up
    /// and there is no other to be had at the moment: try again.
    pub async fn next_producer_id(&self) -> Result<ProducerId, Failure> {
        let allocate = async || match self.change(Admin::AllocateProducerIds).await? {
            AdminReply::ProducerIds(block) => Ok(block),
            other => Err(Failure::new(ErrorCode::Unknown, format!("not an answer about producer ids: {other:?}"))),
        };
        self.producer_ids.next(allocate).await
    }
}

impl ProducerIds {
    /// The next id of the block, or of the next one, which is asked for once however many wait for it.
    async fn next(
        &self,
        allocate: impl AsyncFnOnce() -> Result<ProducerIdBlock, Failure>,
    ) -> Result<ProducerId, Failure> {
        let mut left = self.left.lock().await;
        if left.is_empty() {
            let ProducerIdBlock { first, count } = allocate().await?;
            *left = first.0..first.0.saturating_add(i64::from(count));
        }
        let id = left.next().ok_or_else(|| Failure::new(ErrorCode::Unknown, "an empty block of producer ids"));
        id.map(ProducerId)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const COUNT: u32 = 10;

    async fn allocate(next: &AtomicI64) -> Result<ProducerIdBlock, Failure> {
        tokio::task::yield_now().await;
        let first = ProducerId(next.fetch_add(i64::from(COUNT), Ordering::AcqRel));
        Ok(ProducerIdBlock { first, count: COUNT })
    }

    #[tokio::test]
    async fn nodes_share_no_id_and_a_restarted_one_begins_another_block() {
        let controller = AtomicI64::new(0);
        let mut nodes = [ProducerIds::default(), ProducerIds::default()];
        let mut ids = BTreeSet::new();
        for i in 0..60 {
            if i == 35 {
                nodes[0] = ProducerIds::default();
            }
            let next = || nodes[i % 2].next(async || allocate(&controller).await);
            let (one, two) = tokio::join!(next(), next());
            assert!(ids.insert(one.expect("an id")) && ids.insert(two.expect("an id")));
        }
        // 120 ids fill 12 blocks; the restart left part of one behind.
        assert_eq!(controller.load(Ordering::Acquire), 13 * i64::from(COUNT));
    }

    #[tokio::test]
    async fn an_unreachable_controller_is_asked_again_by_the_next() {
        let ids = ProducerIds::default();
        let down = async || Err(Failure::new(ErrorCode::ControllerUnavailable, "down"));
        assert_eq!(ids.next(down).await.expect_err("down").code, ErrorCode::ControllerUnavailable);
        let controller = AtomicI64::new(7);
        assert_eq!(ids.next(async || allocate(&controller).await).await, Ok(ProducerId(7)));
        assert_eq!(ids.next(down).await, Ok(ProducerId(8)), "the block needs no controller");
    }
}
