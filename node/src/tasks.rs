//! Every task of the node is started here: with a name, a stage that ends it, and a rule for panics (the node says that
//! it is no longer well).

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error};

use crate::ops::Health;

/// Starts tasks and knows when all of them have ended.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    health: Health,
}

impl Tasks {
    pub(crate) fn new(health: Health) -> Self {
        Self { tracker: TaskTracker::new(), health }
    }

    /// Runs `work` until it ends or `stop` is cancelled.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let (stop, health) = (stop.clone(), self.health.clone());
        let work = tokio::spawn(
            async move { stop.run_until_cancelled_owned(work).await }.instrument(tracing::info_span!("task", name)),
        );
        self.tracker.spawn(async move {
            if let Err(panic) = work.await {
                error!(task = name, %panic, "a task of the node died");
                health.failed(format!("task {name} died; restart the node"));
            }
        });
    }

    /// Waits until every task has ended.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
