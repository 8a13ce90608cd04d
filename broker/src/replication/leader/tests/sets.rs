//! Who is in sync, who counts, and what is said to the controller.

use super::*;

/// A leader of ten old records, of which `mark` are known to be committed, alone in sync.
fn alone(mark: i64, rules: Rules) -> Bench {
    Bench::new(&state(&[ME]), REPLICATED, 10, mark, rules)
}

fn proposed(out: &[Output]) -> Option<Vec<NodeId>> {
    out.iter().find_map(|output| match output {
        Output::Propose(proposal) => Some(proposal.isr.iter().map(|(id, _)| *id).collect()),
        _ => None,
    })
}

#[test]
fn a_follower_that_has_caught_up_is_proposed_and_counts_at_once() {
    for (rules, counted) in [(Rules::default(), true), (Rules::without(Rule::MaximalIsrCounts), false)] {
        let mut bench = alone(0, rules);
        bench.run([appended(12)]);
        assert_eq!(bench.fetched(A, 9), [], "lacks what the leader was elected with");
        assert_eq!(bench.fetched(A, 12), [propose(&[ME, A], 9)]);
        assert_eq!(bench.leader.maximal_isr().contains(&A), counted);
        assert_eq!(bench.leader.isr(), [ME], "not decided yet");
        let out = bench.run([appended(15), wait(1, Acks::All, 15)]);
        let early = [high_watermark(15), acknowledge(1)];
        assert_eq!(out, if counted { &[][..] } else { &early }, "the controller may have taken it in");
        assert_eq!(bench.run([answered(9, Ok(10))]), []);
        bench.run([changed(&[ME, A], 10)]);
        assert_eq!((bench.leader.isr(), bench.leader.maximal_isr()), (&[ME, A][..], &[ME, A][..]));
        assert_eq!(bench.leader.pending(), None);
        assert_eq!(bench.fetched(A, 15), if counted { &early[..] } else { &[] });
    }
}

#[test]
fn who_lacks_something_is_not_taken_in() {
    // In each case the replica is refused by the rule, and taken in without it.
    let check = |rule, bench: &dyn Fn(Rules) -> Bench, act: &dyn Fn(&mut Bench) -> Vec<Output>| {
        assert_eq!(proposed(&act(&mut bench(Rules::default()))), None, "{rule:?}");
        assert_eq!(proposed(&act(&mut bench(Rules::without(rule)))), Some(vec![ME, A]), "{rule:?}");
    };
    // Elected with 10 records, of which it knows 3 to be committed; two must be in sync to commit more.
    let begun = |rules| Bench::new(&state(&[ME]), TWO, 10, 3, rules);
    check(Rule::ReachesTheElection, &begun, &|bench| bench.fetched(A, 5));
    let moved = |rules| {
        let mut bench = alone(10, rules);
        bench.run([appended(20)]);
        bench
    };
    check(Rule::ReachesTheHighWatermark, &moved, &|bench| bench.fetched(A, 15));
    let whole = |rules| alone(10, rules);
    let stranger = |bench: &mut Bench| {
        let who = ReplicaFetch { broker_epoch: BrokerEpoch(19), ..request(A, 1) };
        let asked = ask(4, 10, 10, &bench.log);
        bench.ask(&who, asked).1
    };
    check(Rule::RegistrationsMatch, &whole, &stranger);
    let fenced = |bench: &mut Bench| {
        bench.run([Input::Members(Arc::default())]);
        bench.fetched(A, 10)
    };
    check(Rule::RegistrationsMatch, &whole, &fenced);
    let earlier = |bench: &mut Bench| {
        let asked = ask(3, 10, 10, &bench.log);
        bench.ask(&request(A, 1), asked).1
    };
    check(Rule::FetchesOfThisEpochCount, &whole, &earlier);
    let other_log = |bench: &mut Bench| {
        let asked = FetchPartition { last_fetched_epoch: Some(LeaderEpoch(2)), ..ask(4, 10, 10, &bench.log) };
        bench.ask(&request(A, 1), asked).1
    };
    check(Rule::LogsAreCompared, &whole, &other_log);
}

#[test]
fn logs_that_part_are_told_where() {
    let mut bench = alone(10, Rules::default());
    bench.run([appended(12)]);
    let mut ask_at = |offset, last: Option<i32>| {
        let last_fetched_epoch = last.map(LeaderEpoch);
        bench.requests += 1;
        let asked = FetchPartition { offset: Offset(offset), last_fetched_epoch, ..ask(4, 0, 0, &bench.log) };
        bench.ask(&request(B, bench.requests), asked).0
    };
    let diverging = |epoch, end| Verdict::Diverging { epoch: LeaderEpoch(epoch), end: Offset(end) };
    let serve = Verdict::Serve { high_watermark: Offset(12), log_start: Offset(0) };
    assert_eq!(ask_at(11, Some(3)), diverging(3, 10), "epoch 3 ends at 10 here");
    assert_eq!(ask_at(5, Some(2)), diverging(2, 0), "epoch 2 was never here");
    assert_eq!(ask_at(13, Some(4)), diverging(4, 12), "more than the leader has");
    let behind = Verdict::Behind { log_start: Offset(0) };
    assert_eq!((ask_at(13, None), ask_at(5, None)), (behind, behind), "empty, and begun elsewhere");
    assert_eq!((ask_at(10, Some(3)), ask_at(0, None)), (serve, serve));
}

#[test]
fn a_fetch_that_was_overtaken_is_not_heard() {
    let earlier = ReplicaFetch { broker_epoch: BrokerEpoch(15), ..request(A, 9) };
    for (rules, heard) in [(Rules::default(), false), (Rules::without(Rule::EarlierRegistrationsAreIgnored), true)] {
        let mut bench = Bench::new(&state(&[ME, A]), REPLICATED, 10, 2, rules);
        let (now, before) = (ask(4, 4, 4, &bench.log), ask(4, 9, 9, &bench.log));
        assert_eq!(bench.ask(&request(A, 8), now).1, [high_watermark(4)]);
        for late in [request(A, 7), request(A, 8)] {
            assert_eq!(bench.ask(&late, before), (Verdict::Ignored, vec![]), "came late, or twice");
        }
        let (verdict, out) = bench.ask(&earlier, before);
        assert_eq!(verdict == Verdict::Ignored, !heard);
        assert_eq!(out, if heard { vec![high_watermark(9)] } else { vec![] }, "it has lost records since");
    }
    let mut bench = Bench::new(&state(&[ME, A]), REPLICATED, 10, 2, Rules::default());
    bench.fetched(A, 10);
    let again = ReplicaFetch { broker_epoch: BrokerEpoch(21), ..request(A, 1) };
    let asked = ask(4, 3, 3, &bench.log);
    bench.run([appended(11)]);
    assert!(matches!(bench.ask(&again, asked).0, Verdict::Serve { .. }), "a new registration counts from 1");
    assert_eq!(bench.fetch(A, 11, 11).0, Verdict::Ignored);
}

#[test]
fn a_refused_member_counts_until_another_state_is_committed() {
    for (rules, rolled_back) in [(Rules::default(), false), (Rules::without(Rule::IneligibleIsNotRolledBack), true)] {
        let mut bench = alone(10, rules);
        assert_eq!(proposed(&bench.fetched(A, 10)), Some(vec![ME, A]));
        let out = bench.run([answered(9, Err(ErrorCode::IneligibleReplica))]);
        assert_eq!(out, if rolled_back { vec![] } else { vec![propose(&[ME], 9)] });
        assert_eq!(bench.leader.maximal_isr().contains(&A), !rolled_back);
        let out = bench.run([appended(12)]);
        assert_eq!(out, if rolled_back { vec![high_watermark(12)] } else { vec![] }, "an earlier copy may be accepted");
        if rolled_back {
            continue;
        }
        // Which copy was answered does not matter, only what is committed.
        assert_eq!(bench.run([answered(9, Err(ErrorCode::IneligibleReplica)), answered(9, Ok(10))]), []);
        let mut taken_in = bench.clone();
        assert_eq!(taken_in.run([changed(&[ME, A], 10)]), []);
        assert_eq!(taken_in.leader.maximal_isr(), [ME, A]);
        assert_eq!(bench.run([changed(&[ME], 10)]), [high_watermark(12)]);
        assert_eq!(bench.fetched(A, 12), [], "not again at once");
        let members = Arc::new([(A, identity(A).broker_epoch)].into());
        assert_eq!(proposed(&bench.clone().run([Input::Members(members)])), Some(vec![ME, A]), "unless nodes came");
        bench.now = seconds_in(2);
        assert_eq!(proposed(&bench.fetched(A, 12)), Some(vec![ME, A]));
    }
}

#[test]
fn a_proposal_of_unknown_outcome_is_sent_again_as_it_was() {
    for (rules, again) in [(Rules::default(), true), (Rules::without(Rule::UnknownOutcomesAreSentAgain), false)] {
        let mut bench = alone(10, rules);
        let first = bench.fetched(A, 10);
        assert_eq!(first, [propose(&[ME, A], 9)]);
        assert_eq!(bench.fetched(B, 10), [], "one at a time");
        assert_eq!(bench.run([answered(8, Err(ErrorCode::OutcomeUnknown))]), [], "of an earlier one");
        assert_eq!(bench.run([answered(9, Err(ErrorCode::OutcomeUnknown))]), []);
        let sent = if again { first } else { vec![] };
        assert_eq!(bench.leader.next_deadline().is_some(), again);
        assert_eq!(bench.wait_until(1), sent);
        assert_eq!(bench.wait_until(2), [], "it is under way");
        assert_eq!(bench.wait_until(5), sent, "no answer at all");
        for code in [ErrorCode::FencedLeaderEpoch, ErrorCode::InvalidUpdateVersion] {
            assert_eq!(bench.run([answered(9, Err(code))]), [], "the metadata will tell");
        }
        let out = bench.run([changed(&[ME, A], 10)]);
        assert_eq!(out, [propose(&[ME, A, B], 10)], "and then the next");
    }
}

#[test]
fn a_follower_that_lags_leaves_and_counts_until_it_has_left() {
    for (rules, counts) in [(Rules::default(), true), (Rules::without(Rule::DroppedCountUntilCommitted), false)] {
        let mut bench = Bench::new(&state(&[ME, A, B]), REPLICATED, 10, 0, rules);
        bench.fetched(A, 10);
        bench.fetched(B, 10);
        assert_eq!(bench.wait_until(100), [], "silent, but nothing is new");
        bench.fetched(A, 10);
        bench.fetched(B, 10);
        bench.run([appended(12), wait(1, Acks::All, 12)]);
        bench.fetched(A, 12);
        assert_eq!(bench.leader.next_deadline(), Some(Monotonic(100)), "who waits");
        bench.run([Input::Cancelled(Ticket(1))]);
        assert_eq!(bench.leader.next_deadline(), Some(seconds_in(110)));
        assert_eq!(bench.wait_until(109), []);
        let out = bench.wait_until(110);
        let early = [propose(&[ME, A], 9), high_watermark(12)];
        assert_eq!(out, if counts { &early[..1] } else { &early }, "the controller may keep it");
        assert_eq!(bench.run([changed(&[ME, A], 10)]), if counts { &early[1..] } else { &[] });
        assert_eq!(bench.leader.next_deadline(), None);
    }
}

#[test]
fn who_is_always_a_little_behind_does_not_lag() {
    let mut bench = Bench::empty(&[ME, A], FSYNC);
    let mut end = 0;
    for second in 1..60 {
        bench.now = seconds_in(second);
        end += 10;
        bench.run([appended(end), flushed(end), Input::Time(bench.now)]);
        // It has everything, but flushed only what it was sent two fetches ago.
        let (_, out) = bench.fetch(A, end, (end - 25).max(0));
        assert_eq!(proposed(&out), None, "after {second} s");
    }
    let leaves = (60..80).find(|second| {
        bench.now = seconds_in(*second);
        bench.run([appended(end + 10)]);
        proposed(&bench.fetch(A, end, end - 25).1).is_some()
    });
    assert!(leaves.is_some_and(|second| (63..=70).contains(&second)), "{leaves:?}: it stopped at 59 s");
}

#[test]
fn the_committed_set_must_be_large_enough_to_commit() {
    let eligible = |isr: &[NodeId]| PartitionState { elr: vec![B], ..state(isr) };
    for (rules, commits) in [(Rules::default(), false), (Rules::without(Rule::MinInsyncCommits), true)] {
        let mut bench = Bench::new(&PartitionState { replicas: vec![ME, A], ..state(&[ME]) }, TWO, 10, 10, rules);
        assert_eq!(bench.run([appended(12)]), if commits { vec![high_watermark(12)] } else { vec![] });
    }
    let one = PartitionState { replicas: vec![ME], ..state(&[ME]) };
    let mut bench = Bench::new(&one, TWO, 10, 10, Rules::default());
    assert_eq!(bench.run([appended(12)]), [high_watermark(12)], "there are no two replicas to wait for");
    assert_eq!(
        bench.leader.check_acks(Acks::All, bench.now),
        Err(ErrorCode::NotEnoughReplicas),
        "asked for all the same"
    );
    let mut bench = Bench::new(&eligible(&[ME]), TWO, 10, 10, Rules::default());
    bench.run([appended(12)]);
    assert_eq!(bench.fetched(A, 12), [propose(&[ME, A], 9)], "large enough, once it is committed");
    assert_eq!(bench.leader.maximal_isr(), [ME, B, A]);
    assert_eq!(bench.run([changed(&[ME, A], 10)]), [high_watermark(12)]);
    // Lowered: the eligible replica counts until the controller says that it is eligible no more.
    let mut bench = Bench::new(&eligible(&[ME]), TWO, 10, 10, Rules::default());
    bench.run([appended(12)]);
    assert_eq!(bench.run([Input::Configured(REPLICATED)]), [propose(&[ME], 9)]);
    assert_eq!(bench.run([changed(&[ME], 10)]), [high_watermark(12)]);
}

#[test]
fn what_is_committed_stays_committed_when_a_member_comes_back_with_less() {
    for (rules, falls) in [(Rules::default(), false), (Rules::without(Rule::HighWatermarkNeverFalls), true)] {
        let mut bench = Bench::new(&state(&[ME, A]), REPLICATED, 10, 0, rules);
        bench.fetched(A, 10);
        assert_eq!(bench.leader.high_watermark(), Offset(10));
        assert_eq!(bench.fetched(A, 6), if falls { vec![high_watermark(6)] } else { vec![] });
    }
}

#[test]
fn a_leader_that_hears_nobody_serves_nobody_until_it_does() {
    let not_leader = Err(ErrorCode::NotLeaderOrFollower);
    let serves = |bench: &Bench, seconds| bench.leader.check_acks(Acks::Leader, seconds_in(seconds));
    let mut bench = Bench::new(&state(&[ME]), REPLICATED, 10, 10, Rules::default());
    assert_eq!((serves(&bench, 5), serves(&bench, 6)), (Ok(()), not_leader));
    assert_eq!(bench.leader.may_read(seconds_in(6)), Err(ErrorCode::NotLeaderOrFollower));
    bench.run([Input::ControllerHeard(seconds_in(3))]);
    assert_eq!((serves(&bench, 8), serves(&bench, 9)), (Ok(()), not_leader));
    bench.now = seconds_in(20);
    bench.fetched(B, 10);
    assert_eq!((serves(&bench, 25), serves(&bench, 26)), (Ok(()), not_leader), "one follower is enough");
    let asked = ask(5, 10, 10, &bench.log);
    bench.now = seconds_in(30);
    bench.ask(&request(B, 90), asked);
    assert_eq!(serves(&bench, 30), not_leader, "who follows another leader is no comfort");
    bench.leader.rules = Rules::without(Rule::SilenceEndsService);
    assert_eq!(serves(&bench, 30), Ok(()));
    let sole = PartitionState { replicas: vec![ME], ..state(&[ME]) };
    assert_eq!(serves(&Bench::new(&sole, REPLICATED, 10, 10, Rules::default()), 999), Ok(()), "it has no rival");
}

#[test]
fn a_leader_that_was_elected_uncleanly_says_first_that_it_has_recovered() {
    let uncleanly = PartitionState { recovering: true, ..state(&[ME]) };
    let mut bench = Bench::new(&uncleanly, REPLICATED, 10, 0, Rules::default());
    assert_eq!(bench.leader.next_deadline(), Some(bench.now), "at once");
    let Output::Propose(expansion) = propose(&[ME], 9) else { unreachable!() };
    let recovered = Output::Propose(AlterPartition { recovered: true, ..expansion });
    assert_eq!(bench.fetched(A, 10), [recovered]);
    assert_eq!(bench.run([changed(&[ME], 10)]), [propose(&[ME, A], 10)]);
    let mut mute = Bench::new(&uncleanly, REPLICATED, 10, 0, Rules::without(Rule::RecoveryIsSaid));
    assert_eq!(mute.fetched(A, 10), [propose(&[ME, A], 9)]);
}

#[test]
fn replicas_may_come_within_an_epoch() {
    let pair = PartitionState { replicas: vec![ME, A], ..state(&[ME, A]) };
    let mut bench = Bench::new(&pair, REPLICATED, 10, 0, Rules::default());
    assert_eq!(bench.fetch(B, 10, 10).0, Verdict::Refused(ErrorCode::NotLeaderOrFollower), "not a replica yet");
    bench.fetched(A, 10);
    bench.run([changed(&[ME, A], 10)]);
    assert_eq!(bench.fetched(B, 10), [propose(&[ME, A, B], 10)]);
}
