//! The feature level: what all nodes of the cluster understand.

use super::Controller;
use super::rules::Rule;
use crate::metadata::{Delta, Node};
use crate::{ErrorCode, Failure};

impl Controller {
    /// Raises the feature level. There is no way back: entries of the new level may be written from here on.
    pub(super) fn upgrade(&mut self, level: u32) -> Result<(), Failure> {
        let now = self.feature_level();
        let knows = |node: &&Node| node.fenced || node.features_max >= level;
        let holds = self.rules.hold(Rule::FeaturesAreKnownToAll);
        if let Some(node) = self.overlay().nodes.values().find(|node| !knows(node)).filter(|_| holds) {
            let text =
                format!("node {} (version {}) knows feature levels up to {}", node.id, node.version, node.features_max);
            return Err(Failure::new(ErrorCode::UnsupportedVersion, text));
        }
        if level <= now {
            let text = format!("the feature level is {now} already; it only grows");
            return Err(Failure::new(ErrorCode::InvalidRequest, text));
        }
        self.journal.write(Delta::FeatureLevelChanged { level });
        Ok(())
    }

    /// Refuses a node whose program does not know the cluster's feature level.
    pub(super) fn check_features(&self, node: &str, features_max: u32) -> Result<(), Failure> {
        let level = self.feature_level();
        if features_max >= level || !self.rules.hold(Rule::OldProgramsStayOut) {
            return Ok(());
        }
        let text = format!(
            "{node} knows feature levels up to {features_max}, the cluster has {level}: install a newer version"
        );
        Err(Failure::new(ErrorCode::UnsupportedVersion, text))
    }

    fn feature_level(&self) -> u32 {
        self.overlay().cluster.as_ref().map_or(0, |cluster| cluster.feature_level)
    }
}
