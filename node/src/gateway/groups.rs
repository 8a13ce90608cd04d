//! Groups: asked of the leader of their partition of the offsets topic, which coordinates them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use rafka_broker::group::request::{GroupReply, GroupRequest, Listed};
use rafka_broker::group::{OFFSETS_TOPIC, partition_of};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{CONTROL_DEADLINE_MS, GROUP_WAIT_MS_MAX};
use rafka_model::{PartitionId, TopicName, TopicPartition};

use super::mistold;
use super::reach::{Ask, Reach, Told, Trouble};
use super::scatter::Scatter;

impl<R: Reach> Scatter<R> {
    /// Asks the coordinator of a group.
    pub(crate) async fn group(&self, request: GroupRequest) -> Result<GroupReply, Failure> {
        let Some(at) = self.coordinator_of(request.group()) else {
            return Err(Failure::new(ErrorCode::CoordinatorNotAvailable, "there are no coordinators yet"));
        };
        let within = patience(&request);
        let told = self.leader(at, Ask::Group(Box::new(request)), within).await;
        match told.map_err(group_failure)? {
            Told::Group(reply) => Ok(reply),
            _ => Err(mistold()),
        }
    }

    /// The groups of all coordinators; refused when one of them does not answer.
    pub(crate) async fn list_groups(&self) -> Result<Vec<Listed>, Failure> {
        let image = self.reach.image();
        let Some(topic) = offsets_topic().and_then(|name| image.topic(&name)) else { return Ok(Vec::new()) };
        let leaders: BTreeSet<_> = topic.partitions.iter().filter_map(|state| state.leader).collect();
        let within = Duration::from_millis(CONTROL_DEADLINE_MS);
        let calls = leaders.into_iter().map(|leader| self.asked(leader, Ask::ListGroups, within));
        let mut groups = Vec::new();
        for told in join_all(calls).await {
            match told.map_err(group_failure)? {
                Told::Groups(more) => groups.extend(more),
                _ => return Err(mistold()),
            }
        }
        Ok(groups)
    }

    /// The partition whose leader coordinates the group.
    fn coordinator_of(&self, group: &str) -> Option<TopicPartition> {
        let image = self.reach.image();
        let topic = image.topic(&offsets_topic()?)?;
        let partitions = u32::try_from(topic.partitions.len()).ok().filter(|count| *count > 0)?;
        Some(TopicPartition { topic: topic.id, partition: PartitionId(partition_of(group, partitions)) })
    }
}

fn offsets_topic() -> Option<TopicName> {
    TopicName::new(OFFSETS_TOPIC).ok()
}

/// How long a coordinator may take. Who joins waits for the other members, whose time is the group's affair; a
/// coordinator that is gone is noticed by its silence.
fn patience(request: &GroupRequest) -> Duration {
    Duration::from_millis(if request.waits_for_others() { GROUP_WAIT_MS_MAX } else { CONTROL_DEADLINE_MS })
}

/// What a member is told when its coordinator did not answer: to look for it again.
fn group_failure(trouble: Trouble) -> Failure {
    let Trouble { mut failure, outcome_unknown } = trouble;
    failure.code = match failure.code {
        _ if outcome_unknown => ErrorCode::NotCoordinator,
        ErrorCode::LeaderNotAvailable | ErrorCode::NotReady | ErrorCode::NotLeaderOrFollower | ErrorCode::Busy => {
            ErrorCode::CoordinatorNotAvailable
        }
        code => code,
    };
    failure
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rafka_broker::group::request::Join;
    use rafka_model::NodeId;
    use tokio::sync::Notify;
    use tokio::time::Instant;

    use super::*;
    use crate::gateway::testing::{Leaders, metrics};

    fn join() -> GroupRequest {
        GroupRequest::Join(Join { group: "g".to_owned(), ..Join::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_join_waits_for_the_others_as_long_as_its_coordinator_leads() {
        let leaders = Leaders::with_offsets(2);
        let scatter = Arc::new(Scatter { reach: leaders.clone(), metrics: metrics() });
        let others = Arc::new(Notify::new());
        leaders.slow.lock().insert(NodeId(2), others.clone());
        let began = Instant::now();
        let joins = |scatter: Arc<Scatter<Leaders>>| tokio::spawn(async move { scatter.group(join()).await });
        let joining = joins(scatter.clone());
        tokio::time::sleep(Duration::from_secs(280)).await;
        assert!(!joining.is_finished());
        others.notify_waiters();
        assert!(matches!(joining.await.expect("no panic"), Ok(GroupReply::Join(_))));
        assert_eq!(began.elapsed(), Duration::from_secs(280));
        // Others coordinate meanwhile: whoever does not answer will not any more.
        let joining = joins(scatter.clone());
        tokio::time::sleep(Duration::from_secs(100)).await;
        leaders.coordinates(3);
        let failure = joining.await.expect("no panic").expect_err("the coordinator has moved");
        assert_eq!(failure.code, ErrorCode::NotCoordinator);
        assert_eq!(began.elapsed(), Duration::from_secs(380));
    }
}
