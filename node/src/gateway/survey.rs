//! Questions to every node: what lies on the disks of the cluster.
//!
//! Each node answers for itself only and asks nobody else, so a survey ends with its first round. A node that does not
//! answer in time leaves a gap with the reason in it; it holds up nobody else's answer for longer than the survey lasts.

use std::time::Duration;

use futures::{StreamExt, stream};
use rafka_broker::metadata::{Image, Role};
use rafka_broker::request::LogDir;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::NodeId;
use rafka_model::limits::{GATEWAY_SURVEY_MS, GATEWAY_SURVEY_NODES};
use tokio::time::Instant;

use super::reach::{Ask, Reach, Told, Trouble};
use super::scatter::Scatter;

impl<R: Reach> Scatter<R> {
    /// The log directories of all nodes in service, by node; a node that cannot be asked has one, with the failure. As
    /// all seem to belong to one node, the path of each begins with its node: `node-3:/var/lib/rafka`.
    pub(crate) async fn log_dirs(&self) -> Vec<LogDir> {
        let image = self.reach.image();
        let me = self.reach.me();
        // A gateway has no logs.
        let has_logs = image.nodes.values().filter(|node| !node.fenced && node.role == Role::Broker);
        let nodes: Vec<_> = has_logs.map(|node| node.id).collect();
        let until = Instant::now() + Duration::from_millis(GATEWAY_SURVEY_MS);
        let asked = nodes.into_iter().map(|node| async move {
            let left = until.saturating_duration_since(Instant::now());
            let told = match left.is_zero() && me != Some(node) {
                true => Err(Trouble::refused(Failure::new(ErrorCode::RequestTimedOut, "too many nodes do not answer"))),
                false => self.asked(node, Ask::LogDirs, left).await,
            };
            (node, told)
        });
        let mut found: Vec<(NodeId, Vec<LogDir>)> = stream::iter(asked)
            .buffer_unordered(GATEWAY_SURVEY_NODES)
            .map(|(node, told)| (node, of(node, told, &image)))
            .collect()
            .await;
        found.sort_unstable_by_key(|(node, _)| *node);
        found.into_iter().flat_map(|(_, dirs)| dirs).collect()
    }
}

/// What a node told, under names of its own.
fn of(node: NodeId, told: Result<Told, Trouble>, image: &Image) -> Vec<LogDir> {
    let failure = match told {
        Ok(Told::LogDirs(mut dirs)) => {
            for dir in &mut dirs {
                dir.path = format!("node-{node}:{}", dir.path);
                // Bounds what all nodes together can claim by what there is.
                dir.partitions.retain(|(at, _)| image.partition(*at).is_some());
            }
            return dirs;
        }
        Ok(_) => Failure::new(ErrorCode::Unknown, "the node answered another question"),
        Err(trouble) => trouble.failure,
    };
    vec![LogDir { path: format!("node-{node}"), failure: Some(failure), ..LogDir::default() }]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;
    use crate::gateway::metrics::{Api, Route};
    use crate::gateway::testing::{Leaders, Mood, at, image, metrics};

    fn scatter(leaders: &Arc<Leaders>) -> Scatter<Leaders> {
        Scatter { reach: leaders.clone(), metrics: metrics() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_survey_tells_of_every_nodes_disks_under_a_name_of_their_own() {
        let leaders = Leaders::new(&[1, 2, 2], Some(2));
        let scatter = scatter(&leaders);
        let told = scatter.log_dirs().await;
        let sizes: Vec<_> = told.iter().map(|dir| (&*dir.path, dir.partitions.clone())).collect();
        let none = Vec::new;
        assert_eq!(
            sizes,
            [
                ("node-1:/data", vec![(at(0), 1)]),
                ("node-2:/data", vec![(at(1), 2), (at(2), 2)]),
                ("node-3:/data", none()),
                ("node-4:/data", none()),
                ("node-5:/data", none()),
            ],
            "without logs of topics that nobody knows"
        );
        assert_eq!(leaders.asked.lock().len(), 5, "each once");
        let counts = [Route::Local, Route::Relayed].map(|route| scatter.metrics.count(Api::Admin, route));
        assert_eq!(counts, [1, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_are_silent_or_away_leave_a_gap_and_those_out_of_service_none() {
        let leaders = Leaders::new(&[1, 2, 3], None);
        let mut changed = image(&[1, 2, 3]);
        changed.nodes.get_mut(&NodeId(4)).expect("there").fenced = true;
        changed.nodes.get_mut(&NodeId(5)).expect("there").role = Role::Gateway;
        leaders.images.send_replace(Arc::new(changed));
        leaders.slow.lock().insert(NodeId(1), Arc::new(Notify::new()));
        leaders.is(3, Mood::Down);
        let began = Instant::now();
        let told = scatter(&leaders).log_dirs().await;
        assert_eq!(began.elapsed(), Duration::from_millis(GATEWAY_SURVEY_MS));
        let paths: Vec<_> = told.iter().map(|dir| (&*dir.path, dir.failure.as_ref().map(|it| it.code))).collect();
        assert_eq!(
            paths,
            [
                ("node-1", Some(ErrorCode::OutcomeUnknown)),
                ("node-2:/data", None),
                ("node-3", Some(ErrorCode::LeaderNotAvailable)),
            ]
        );
    }
}
