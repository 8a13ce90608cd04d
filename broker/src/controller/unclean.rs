//! Balanced recovery of partitions that nobody can lead safely (KIP-966): all that were in sync last are asked how far
//! their logs reach, and the one that lost least leads.

use std::collections::BTreeMap;
use std::time::Duration;

use rafka_model::limits::RECOVERY_ASK_MS;
use rafka_model::{
    BrokerEpoch, LeaderEpoch, Monotonic, NodeId, Offset, PartitionEpoch, TopicPartition, UncleanRecovery,
};

use super::Controller;
use super::command::{LogEnd, Question};
use super::rules::Rule;
use crate::{ErrorCode, Failure};

/// Recoveries under way. Kept in memory only: a new controller asks anew.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    by_partition: BTreeMap<TopicPartition, Recovery>,
    questions: Vec<Question>,
}

#[derive(Debug)]
struct Recovery {
    /// The state to which it belongs; any other ends it.
    partition_epoch: PartitionEpoch,
    asked: BTreeMap<NodeId, Asked>,
    /// When who did not answer is asked again.
    again: Monotonic,
}

#[derive(Debug)]
struct Asked {
    broker_epoch: BrokerEpoch,
    answer: Option<(Option<LeaderEpoch>, Offset)>,
}

impl Recoveries {
    /// What is to be asked now.
    pub(super) fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.questions)
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.by_partition.values().map(|recovery| recovery.again).min()
    }

    /// Begins, continues or repeats the recovery of a partition, for which all of `asked` are to answer.
    fn ask(
        &mut self,
        at: TopicPartition,
        partition_epoch: PartitionEpoch,
        asked: &BTreeMap<NodeId, BrokerEpoch>,
        now: Monotonic,
    ) {
        let same = |recovery: &&mut Recovery| {
            let epochs = recovery.asked.iter().map(|(id, asked)| (id, &asked.broker_epoch));
            recovery.partition_epoch == partition_epoch && epochs.eq(asked)
        };
        let again = now.plus(Duration::from_millis(RECOVERY_ASK_MS));
        let recovery = match self.by_partition.get_mut(&at).filter(same) {
            Some(recovery) if now < recovery.again => return,
            Some(recovery) => {
                recovery.again = again;
                recovery
            }
            None => {
                let asked =
                    asked.iter().map(|(id, epoch)| (*id, Asked { broker_epoch: *epoch, answer: None })).collect();
                self.by_partition.insert(at, Recovery { partition_epoch, asked, again });
                self.by_partition.get_mut(&at).expect("just inserted")
            }
        };
        for (node, Asked { broker_epoch, .. }) in recovery.asked.iter().filter(|(_, asked)| asked.answer.is_none()) {
            let question = Question { at, node: *node, broker_epoch: *broker_epoch, partition_epoch };
            self.questions.retain(|asked| (asked.at, asked.node) != (at, *node));
            self.questions.push(question);
        }
    }

    /// Notes an answer; who is to lead, once all have answered.
    fn answered(&mut self, answer: &LogEnd, hears_everyone: bool) -> Option<NodeId> {
        let recovery = self.by_partition.get_mut(&answer.at)?;
        let asked = recovery.asked.get_mut(&answer.node)?;
        if recovery.partition_epoch != answer.partition_epoch {
            return None;
        }
        asked.answer = Some((answer.last_epoch, answer.end));
        let answers = recovery.asked.iter().map(|(id, asked)| Some((*id, asked.answer?)));
        let ends: Vec<_> = match hears_everyone {
            true => answers.collect::<Option<_>>()?,
            false => answers.flatten().collect(),
        };
        // The last of equals would win: the smallest id is as good as any, and the same everywhere.
        ends.into_iter().rev().max_by_key(|(_, end)| *end).map(|(id, _)| id)
    }
}

impl Controller {
    /// Sees to recoveries of leaderless partitions, as far as their topics ask for it and all who matter are in service.
    pub(super) fn recover(&mut self, now: Monotonic) {
        let mut due = BTreeMap::new();
        for at in &self.journal.standing().leaderless {
            let Ok(change) = self.change(*at) else { continue };
            let state = change.before;
            let nobody = state.isr.is_empty() && state.elr.is_empty();
            if change.policy.unclean != UncleanRecovery::Balanced || !nobody {
                continue;
            }
            let last = if state.last_known_elr.is_empty() { &state.replicas } else { &state.last_known_elr };
            let nodes = &self.overlay().nodes;
            let epoch = |id: &NodeId| nodes.get(id).filter(|node| !node.fenced).map(|node| (*id, node.epoch));
            if let Some(asked) = last.iter().map(epoch).collect::<Option<BTreeMap<_, _>>>() {
                due.insert(*at, (state.partition_epoch, asked));
            }
        }
        self.recoveries.by_partition.retain(|at, _| due.contains_key(at));
        self.recoveries.questions.retain(|question| due.contains_key(&question.at));
        for (at, (partition_epoch, asked)) in due {
            self.recoveries.ask(at, partition_epoch, &asked, now);
        }
    }

    /// Hears how far a replica's log reaches.
    pub(super) fn log_end(&mut self, answer: &LogEnd) -> Result<(), Failure> {
        if self.rules.hold(Rule::RecoveriesHearTheLiving) {
            let node = self.registered(answer.node, answer.broker_epoch)?;
            if node.fenced {
                let text = format!("node {} is out of service", answer.node);
                return Err(Failure::new(ErrorCode::IneligibleReplica, text));
            }
        }
        let leader = self.recoveries.answered(answer, self.rules.hold(Rule::RecoveriesHearEveryone));
        if let Some(leader) = leader {
            self.change_one(answer.at, |change| change.elect_uncleanly(leader));
        }
        Ok(())
    }
}
