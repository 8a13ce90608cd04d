use super::*;
use crate::replication::testing::{A, AT, B, History, ME, identity, state};
use rafka_model::Chunks;

fn follower(rules: Rules) -> Follower {
    Follower::with_rules(identity(A), AT, &state(&[ME, A]), Offset(2), rules)
}

fn answer(epoch: i32, outcome: Fetched) -> FetchedPartition {
    FetchedPartition { at: AT, leader_epoch: LeaderEpoch(epoch), outcome }
}

fn records(high_watermark: i64) -> FetchedPartition {
    answer(4, Fetched::Records { high_watermark: Offset(high_watermark), log_start: Offset(0), batches: Chunks::new() })
}

fn diverging(epoch: i32, end: i64) -> FetchedPartition {
    answer(4, Fetched::Diverging { epoch: LeaderEpoch(epoch), end: Offset(end) })
}

#[test]
fn a_fetch_tells_where_the_log_ends_and_who_wrote_there() {
    let follower = follower(Rules::default());
    let log = History::of(&[(1, 3), (3, 2)]);
    let asked = follower.request(&log, Offset(9), 100).expect("there is a leader");
    assert_eq!((asked.at, asked.leader_epoch, asked.offset), (AT, LeaderEpoch(4), Offset(5)));
    assert_eq!((asked.last_fetched_epoch, asked.flushed), (Some(LeaderEpoch(3)), Offset(5)), "not more than it has");
    let nobody = PartitionState { leader: None, leader_epoch: LeaderEpoch(5), ..state(&[ME, A]) };
    let itself = PartitionState { leader: Some(A), leader_epoch: LeaderEpoch(6), ..state(&[ME, A]) };
    for state in [nobody, itself] {
        let mut follower = follower.clone();
        follower.change(&state);
        assert_eq!((follower.request(&log, Offset(5), 100), follower.leader()), (None, None));
        assert_eq!(follower.epoch(), state.leader_epoch);
        follower.change(&super::tests::state(&[ME, A]));
        assert_eq!(follower.epoch(), state.leader_epoch, "an older state is no news");
    }
}

#[test]
fn what_is_committed_is_learned_from_the_leader_up_to_the_own_end() {
    let mut follower = follower(Rules::default());
    let log = History::of(&[(4, 5)]);
    let append = |mark| Step::Append { high_watermark: Offset(mark), log_start: Offset(0) };
    assert_eq!(follower.answered(&records(7), &log), append(7));
    assert_eq!(follower.high_watermark(), Offset(2), "not before the batches are appended");
    assert_eq!(follower.appended(Offset(6)), Offset(6));
    assert_eq!(follower.answered(&records(3), &log), append(3));
    assert_eq!(follower.appended(Offset(6)), Offset(6), "a new leader may know less");
    assert_eq!(follower.answered(&answer(4, Fetched::Refused(ErrorCode::Busy)), &log), Step::Wait(ErrorCode::Busy));
}

#[test]
fn a_follower_that_is_behind_its_leaders_log_begins_anew_there() {
    let mut follower = follower(Rules::default());
    let log = History::of(&[(4, 5)]);
    let behind = |log_start| answer(4, Fetched::Behind { log_start: Offset(log_start) });
    assert_eq!(follower.answered(&behind(5), &log), Step::Ignore, "it is not");
    assert_eq!(follower.answered(&behind(8), &log), Step::Restart(Offset(8)));
    assert_eq!(follower.high_watermark(), Offset(8), "what lies before was committed");
}

/// KIP-279: logs of several quick elections. The leader has epochs 1 and 3, the follower 1 and 2; each alone is longer than
/// what they share.
#[test]
fn a_log_is_cut_at_the_own_end_of_an_epoch_or_at_the_leaders_whichever_is_earlier() {
    let log = History::of(&[(1, 3), (2, 4)]);
    let cut = |rules, answer| follower(rules).answered(&answer, &log);
    assert_eq!(cut(Rules::default(), diverging(1, 5)), Step::Truncate(Offset(3)));
    assert_eq!(cut(Rules::default(), diverging(1, 2)), Step::Truncate(Offset(2)));
    assert_eq!(cut(Rules::default(), diverging(0, 1)), Step::Truncate(Offset(0)), "nothing is shared");
    assert_eq!(cut(Rules::default(), diverging(3, 6)), Step::Truncate(Offset(6)), "its newest ends with its log");
    let broken = Rules::without(Rule::OwnEpochsBoundTruncation);
    assert_eq!(cut(broken, diverging(1, 5)), Step::Truncate(Offset(5)), "two records of epoch 2 would stay");
}

/// KIP-101: the high watermark is behind by nature.
#[test]
fn the_high_watermark_decides_nothing_about_truncation() {
    let log = History::of(&[(1, 9)]);
    let cut = |rules| follower(rules).answered(&diverging(1, 8), &log);
    assert_eq!(cut(Rules::default()), Step::Truncate(Offset(8)));
    assert_eq!(cut(Rules::without(Rule::EpochsDecideTruncation)), Step::Truncate(Offset(2)));
    let mut uncleanly = follower(Rules::default());
    assert_eq!(uncleanly.answered(&diverging(1, 1), &log), Step::Truncate(Offset(1)));
    assert_eq!(uncleanly.high_watermark(), Offset(1), "it is never behind the log");
}

#[test]
fn an_answer_of_another_epoch_is_not_heard() {
    let log = History::of(&[(1, 9)]);
    let late = answer(3, Fetched::Diverging { epoch: LeaderEpoch(1), end: Offset(5) });
    assert_eq!(follower(Rules::default()).answered(&late, &log), Step::Ignore);
    let broken = Rules::without(Rule::AnswersOfThisEpochCount);
    assert_eq!(follower(broken).answered(&late, &log), Step::Truncate(Offset(5)));
    let elsewhere =
        FetchedPartition { at: TopicPartition { partition: rafka_model::PartitionId(1), ..AT }, ..records(1) };
    assert_eq!(follower(Rules::default()).answered(&elsewhere, &log), Step::Ignore);
    let mut elected = follower(Rules::default());
    elected.change(&PartitionState { leader: Some(A), ..state(&[A, B]) });
    assert_eq!(elected.answered(&records(1), &log), Step::Ignore);
}
