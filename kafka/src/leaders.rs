//! Other leaders that a reply tells its client of, so that it need not ask for metadata first (KIP-951).

use rafka_broker::metadata::Image;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::TopicPartition;

use crate::advertise::{Endpoint, number};
use crate::desk::FrontDesk;
use crate::door::{Client, Door};

/// Leaders that were named.
#[derive(Debug, Default)]
pub(crate) struct Leaders(Vec<i32>);

impl Leaders {
    /// The leader of `partition` and its epoch, if `failure` is one that another leader explains.
    pub(crate) fn note(&mut self, image: &Image, partition: TopicPartition, failure: &Failure) -> Option<(i32, i32)> {
        if !matches!(failure.code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch) {
            return None;
        }
        // The refusal may know more than the image.
        let hint = failure.leader.as_ref().map(|hint| (hint.node, hint.epoch));
        let known = image.partition(partition).map(|state| (state.leader, state.leader_epoch));
        let (leader, epoch) = hint.into_iter().chain(known).max_by_key(|(_, epoch)| *epoch)?;
        let leader = number(leader?);
        self.0.push(leader);
        Some((leader, epoch.0))
    }

    /// Where `client` finds them.
    pub(crate) fn endpoints<D: FrontDesk>(self, door: &Door<D>, client: &Client, image: &Image) -> Vec<Endpoint> {
        match self.0.is_empty() {
            true => Vec::new(),
            false => door.endpoints_of(client, image, self.0),
        }
    }
}
