//! Producer ids: blocks of them for nodes, none ever given out twice.

use rafka_model::ProducerId;
use rafka_model::limits::PRODUCER_IDS_BLOCK;

use super::Controller;
use super::rules::Rule;
use crate::metadata::Delta;
use crate::request::ProducerIdBlock;
use crate::{ErrorCode, Failure};

impl Controller {
    /// The next block. Whoever asked may have died meanwhile: then its ids are never used.
    pub(super) fn allocate_producer_ids(&mut self) -> Result<ProducerIdBlock, Failure> {
        let first = self.overlay().next_producer;
        let next = first.0.checked_add(i64::from(PRODUCER_IDS_BLOCK)).map(ProducerId);
        let next = next.ok_or_else(|| Failure::new(ErrorCode::Unknown, "all producer ids were given out"))?;
        if self.rules.hold(Rule::ProducerIdsAreWrittenDown) {
            self.journal.write(Delta::ProducerIdsAllocated { next });
        }
        Ok(ProducerIdBlock { first, count: PRODUCER_IDS_BLOCK })
    }
}
