//! In-sync sets, eligible replicas and elections of partitions with several replicas.

use super::*;
use crate::replication::AlterPartition;
use rafka_model::{Offset, TopicPartition};

pub(super) const TOPIC: &str = "orders";

/// Nodes 1 to `nodes` in service, and a topic of one partition on nodes 1, 2 and 3.
pub(super) fn replicated(nodes: u8, configs: &[(&str, &str)]) -> Cluster {
    let config = Config { replication_factor_max: 5, ..Config::default() };
    let mut cluster = Cluster::with(nodes, config);
    let assignments = vec![[1, 2, 3].map(NodeId).to_vec()];
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let new = NewTopic { partitions: None, assignments, configs, ..new_topic(TOPIC, 0) };
    cluster.create(new).expect("created");
    cluster
}

impl Cluster {
    pub(super) fn at(&self) -> TopicPartition {
        let topic = self.applied.topic(&TopicName::new(TOPIC).expect("legal")).expect("exists").id;
        TopicPartition { topic, partition: PartitionId(0) }
    }

    pub(super) fn state(&self) -> PartitionState {
        self.applied.partition(self.at()).expect("exists").clone()
    }

    /// What the leader would propose.
    pub(super) fn proposal(&self, isr: &[u64]) -> AlterPartition {
        let (state, epoch) = (self.state(), |id: NodeId| self.applied.nodes[&id].epoch);
        let leader = state.leader.expect("led");
        AlterPartition {
            at: self.at(),
            leader,
            broker_epoch: epoch(leader),
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: isr.iter().map(|id| (NodeId(*id), epoch(NodeId(*id)))).collect(),
            recovered: state.recovering,
        }
    }

    pub(super) fn run(&mut self, command: Command, ms: u64) -> Answer {
        let decision = self.evaluate(command, ms);
        self.commit();
        decision.answer
    }

    pub(super) fn alter(&mut self, isr: &[u64]) -> PartitionState {
        let proposal = self.proposal(isr);
        let answer = self.run(Command::AlterPartition(proposal), 1);
        assert!(matches!(answer, Answer::Altered(epoch) if epoch == self.state().partition_epoch), "{answer:?}");
        self.state()
    }

    fn leave(&mut self, node: u64) {
        let (node, epoch) = (NodeId(node), self.applied.nodes[&NodeId(node)].epoch);
        assert!(matches!(self.run(Command::Leave { node, epoch }, 1), Answer::Left));
    }

    /// The node comes back as another process.
    fn come_back(&mut self, node: u8, unclean: bool) {
        let back = Registration { incarnation: [77; 16], unclean, ..registration(node) };
        let answer = self.run(Command::Register(back), 2);
        assert!(matches!(answer, Answer::Registered(_)), "{answer:?}");
        self.heartbeat(u64::from(node), 2).expect("current");
    }
}

pub(super) fn ids(nodes: &[u64]) -> Vec<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

/// Leader, in-sync set, eligible and last known replicas.
fn sets(state: &PartitionState) -> (Option<u64>, Vec<u64>, Vec<u64>, Vec<u64>) {
    let plain = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect();
    (state.leader.map(|id| id.0), plain(&state.isr), plain(&state.elr), plain(&state.last_known_elr))
}

#[test]
fn a_proposal_counts_only_from_the_leader_of_the_latest_state() {
    let mut cluster = replicated(4, &[]);
    let good = cluster.proposal(&[1, 2]);
    let stranger = TopicPartition { partition: PartitionId(9), ..good.at };
    let unknown = TopicPartition { topic: TopicId([9; 16]), ..good.at };
    cluster.alter(&[1, 2, 3]);
    let now = cluster.proposal(&[1, 2]);
    for (proposal, code) in [
        (good.clone(), ErrorCode::InvalidUpdateVersion),
        (AlterPartition { at: stranger, ..now.clone() }, ErrorCode::UnknownTopicOrPartition),
        (AlterPartition { at: unknown, ..now.clone() }, ErrorCode::UnknownTopicId),
        (AlterPartition { broker_epoch: BrokerEpoch(99), ..now.clone() }, ErrorCode::StaleBrokerEpoch),
        (AlterPartition { leader_epoch: LeaderEpoch(-1), ..now.clone() }, ErrorCode::FencedLeaderEpoch),
        (AlterPartition { leader_epoch: LeaderEpoch(9), ..now.clone() }, ErrorCode::NotController),
        (AlterPartition { partition_epoch: PartitionEpoch(9), ..now.clone() }, ErrorCode::NotController),
        (
            AlterPartition { leader: NodeId(2), broker_epoch: cluster.applied.nodes[&NodeId(2)].epoch, ..now.clone() },
            ErrorCode::NotLeaderOrFollower,
        ),
        (AlterPartition { isr: now.isr[1..].to_vec(), ..now.clone() }, ErrorCode::InvalidRequest),
        (AlterPartition { isr: vec![], ..now.clone() }, ErrorCode::InvalidRequest),
        (AlterPartition { isr: [&now.isr[..], &now.isr[..]].concat(), ..now.clone() }, ErrorCode::InvalidRequest),
        (cluster.proposal(&[1, 4]), ErrorCode::InvalidRequest),
    ] {
        let decision = cluster.evaluate(Command::AlterPartition(proposal.clone()), 1);
        assert_eq!(refused(decision), code, "{proposal:?}");
    }
    assert_eq!(cluster.commit(), 0);
    assert_eq!(sets(&cluster.alter(&[1, 2])), (Some(1), vec![1, 2], vec![], vec![]));
}

#[test]
fn who_joins_is_in_service_in_the_registration_in_which_it_fetched() {
    let mut cluster = replicated(3, &[]);
    cluster.alter(&[1]);
    cluster.leave(3);
    let fenced = cluster.proposal(&[1, 3]);
    assert_eq!(refused(cluster.evaluate(Command::AlterPartition(fenced.clone()), 1)), ErrorCode::IneligibleReplica);
    cluster.come_back(3, true);
    let stale = AlterPartition { partition_epoch: cluster.state().partition_epoch, ..fenced };
    assert_eq!(refused(cluster.evaluate(Command::AlterPartition(stale), 1)), ErrorCode::IneligibleReplica);
    assert_eq!(cluster.alter(&[1, 3]).isr, ids(&[1, 3]));
}

#[test]
fn a_proposal_that_changes_nothing_has_a_partition_epoch_of_its_own() {
    let mut cluster = replicated(3, &[]);
    let before = cluster.state();
    let after = cluster.alter(&[1, 2, 3]);
    assert_eq!(after.partition_epoch.0, before.partition_epoch.0 + 1);
    assert_eq!(PartitionState { partition_epoch: before.partition_epoch, ..after }, before);
}

#[test]
fn who_leaves_a_set_too_small_to_commit_stays_eligible() {
    // Three replicas need two in sync, unless the creator says otherwise.
    let mut cluster = replicated(3, &[]);
    cluster.leave(3);
    assert_eq!(sets(&cluster.state()), (Some(1), vec![1, 2], vec![], vec![]), "two are enough to commit");
    cluster.leave(1);
    assert_eq!(sets(&cluster.state()), (Some(2), vec![2], vec![1], vec![]));
    cluster.leave(2);
    assert_eq!(sets(&cluster.state()), (None, vec![], vec![1, 2], vec![]));
    cluster.come_back(3, false);
    assert_eq!(cluster.state().leader, None, "it was not in sync when the high watermark stopped");
    cluster.come_back(2, false);
    assert_eq!(sets(&cluster.state()), (Some(2), vec![2], vec![1], vec![]));
    assert_eq!(
        sets(&cluster.alter(&[2, 3])),
        (Some(2), vec![2, 3], vec![], vec![]),
        "enough to commit: only they count"
    );
}

#[test]
fn a_replica_that_lost_what_was_not_flushed_is_not_eligible() {
    let lost = |configs: &[(&str, &str)]| {
        let mut cluster = replicated(3, configs);
        cluster.leave(3);
        cluster.leave(2);
        cluster.leave(1);
        cluster.come_back(2, true);
        sets(&cluster.state())
    };
    assert_eq!(lost(&[]), (None, vec![], vec![1], vec![2]));
    assert_eq!(lost(&[("durability", "fsync")]), (Some(2), vec![2], vec![1], vec![]), "what was flushed is enough");
    assert_eq!(lost(&[("storage.engine", "memory"), ("durability", "fsync")]), (None, vec![], vec![1], vec![2]));
    let mut cluster = replicated(3, &[("storage.engine", "memory")]);
    for node in [3, 2, 1] {
        cluster.leave(node);
    }
    cluster.come_back(1, false);
    assert_eq!(cluster.state().leader, None, "another process has another memory");
}

#[test]
fn a_sole_replica_leads_with_what_is_left_to_it() {
    let mut cluster = Cluster::new(2);
    cluster.create(new_topic(TOPIC, 1)).expect("created");
    let home = cluster.state().replicas[0];
    cluster.leave(home.0);
    cluster.come_back(home.0 as u8, true);
    assert_eq!((cluster.state().leader, cluster.state().isr), (Some(home), vec![home]));
}

#[test]
fn a_failed_replica_is_out_and_its_leader_forgets_it() {
    let mut cluster = replicated(3, &[]);
    let before = cluster.state();
    let fail = |cluster: &mut Cluster, node: u64| {
        let (node, epoch, partitions) = (NodeId(node), cluster.applied.nodes[&NodeId(node)].epoch, vec![cluster.at()]);
        assert!(matches!(cluster.run(Command::ReplicaFailed { node, epoch, partitions }, 1), Answer::Done));
        cluster.state()
    };
    let follower = fail(&mut cluster, 2);
    assert_eq!(sets(&follower), (Some(1), vec![1, 3], vec![], vec![]));
    assert_eq!(follower.leader_epoch.0, before.leader_epoch.0 + 1);
    let again = fail(&mut cluster, 2);
    assert_eq!(again.leader_epoch.0, follower.leader_epoch.0 + 1, "though it was in no set");
    assert_eq!(sets(&fail(&mut cluster, 1)), (Some(3), vec![3], vec![], vec![1]));
    assert_eq!(sets(&fail(&mut cluster, 3)), (None, vec![], vec![], vec![1, 3]));
}

#[test]
fn a_lesser_minimum_ends_eligibility_and_a_greater_one_changes_nothing() {
    let mut cluster = replicated(3, &[]);
    cluster.leave(3);
    cluster.leave(2);
    assert_eq!(cluster.state().elr, ids(&[2]));
    let set = |cluster: &mut Cluster, value: &str, validate_only| {
        let changes = [("min.insync.replicas".to_owned(), ConfigChange::Set(value.to_owned()))].into();
        let name = TOPIC.to_owned();
        cluster.admin(Admin::AlterConfigs { name, changes, replace: false, validate_only }).remove(0).expect("altered");
        cluster.state().elr
    };
    assert_eq!(set(&mut cluster, "1", true), ids(&[2]), "only checked");
    assert_eq!(set(&mut cluster, "3", false), ids(&[2]));
    assert_eq!(set(&mut cluster, "1", false), []);
}

#[test]
fn records_that_were_never_flushed_are_not_promised_to_be() {
    let mut cluster = replicated(3, &[]);
    let mut set = |value: &str| {
        let changes = [("durability".to_owned(), ConfigChange::Set(value.to_owned()))].into();
        let name = TOPIC.to_owned();
        code(&cluster.admin(Admin::AlterConfigs { name, changes, replace: false, validate_only: false })[0])
    };
    assert_eq!((set("fsync"), set("replicated")), (Some(ErrorCode::InvalidConfig), None));
}

#[test]
fn an_aggressive_topic_is_led_by_whoever_is_there_and_says_so() {
    for key in [("unclean.recovery.strategy", "aggressive"), ("unclean.leader.election.enable", "true")] {
        let mut cluster = replicated(3, &[key]);
        cluster.alter(&[1, 2]);
        cluster.leave(2);
        cluster.leave(1);
        let state = cluster.state();
        assert_eq!(sets(&state), (Some(3), vec![3], vec![], vec![]));
        assert!(state.recovering);
        let events = cluster.controller.take_events();
        let (at, leader, leader_epoch) = (cluster.at(), NodeId(3), state.leader_epoch);
        assert_eq!(events, [Event::UncleanElection { at, leader, leader_epoch, last_known: ids(&[1, 2]) }]);
        cluster.come_back(2, false);
        let company = AlterPartition { recovered: false, ..cluster.proposal(&[2, 3]) };
        assert_eq!(refused(cluster.evaluate(Command::AlterPartition(company), 1)), ErrorCode::InvalidRequest);
        assert!(!cluster.alter(&[3]).recovering);
    }
    let mut cluster =
        replicated(3, &[("unclean.leader.election.enable", "true"), ("unclean.recovery.strategy", "none")]);
    for node in [1, 2, 3] {
        cluster.leave(node);
    }
    assert_eq!(cluster.state().leader, None);
}

#[test]
fn a_balanced_recovery_hears_everyone_who_was_in_sync_last() {
    let mut cluster = replicated(3, &[("unclean.recovery.strategy", "balanced")]);
    for node in [3, 2, 1] {
        cluster.leave(node);
    }
    cluster.come_back(3, false);
    cluster.come_back(2, true);
    assert_eq!(cluster.controller.take_questions(), [], "node 1 is eligible, and may come back");
    cluster.come_back(1, true);
    assert_eq!(sets(&cluster.state()), (None, vec![], vec![], vec![1, 2]));
    let questions = cluster.controller.take_questions();
    assert_eq!(questions.iter().map(|question| question.node.0).collect::<Vec<_>>(), [1, 2]);
    let answer = |question: &Question, epoch: i32, end: i64| {
        let Question { at, node, broker_epoch, partition_epoch } = *question;
        let (last_epoch, end) = (Some(LeaderEpoch(epoch)), Offset(end));
        Command::LogEnd(LogEnd { at, node, broker_epoch, partition_epoch, last_epoch, end })
    };
    assert!(matches!(cluster.run(answer(&questions[0], 1, 90), 3), Answer::Done));
    assert_eq!(cluster.state().leader, None, "one of two");
    let deadline = cluster.controller.next_deadline().expect("it asks again");
    cluster.controller.tick(deadline.max(at(2_100)));
    assert_eq!(cluster.controller.take_questions(), questions[1..], "who has not answered");
    let earlier = LogEnd {
        broker_epoch: BrokerEpoch(2),
        ..match answer(&questions[1], 9, 9) {
            Command::LogEnd(end) => end,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(cluster.evaluate(Command::LogEnd(earlier), 3)), ErrorCode::StaleBrokerEpoch);
    cluster.run(answer(&questions[1], 2, 40), 3);
    let state = cluster.state();
    assert_eq!((sets(&state).0, state.recovering), (Some(2), true), "the later epoch counts more than the longer log");
    assert_eq!(cluster.controller.take_events().len(), 1);
}
