use super::*;
use proptest::prelude::*;
use rafka_model::PartitionEpoch;

const ME: NodeId = NodeId(1);
const A: NodeId = NodeId(2);
const B: NodeId = NodeId(3);
const FSYNC: Config = Config { durability: Durability::Fsync, min_insync: 1 };
const REPLICATED: Config = Config { durability: Durability::Replicated, min_insync: 1 };

fn state(isr: &[NodeId]) -> PartitionState {
    PartitionState {
        replicas: vec![ME, A, B],
        leader: Some(ME),
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(9),
        isr: isr.to_vec(),
        elr: vec![],
        ..PartitionState::default()
    }
}

fn leader(isr: &[NodeId], config: Config) -> Leader {
    Leader::new(ME, &state(isr), config, Position::default(), Offset::ZERO)
}

fn run(leader: &mut Leader, inputs: impl IntoIterator<Item = Input>) -> Vec<Output> {
    let mut out = Vec::new();
    inputs.into_iter().for_each(|input| leader.step(input, &mut out));
    out
}

fn appended(end: i64) -> Input {
    Input::Appended(Offset(end))
}

fn flushed(end: i64) -> Input {
    Input::Flushed(Offset(end))
}

fn fetched(replica: NodeId, end: i64) -> Input {
    Input::Fetched { replica, position: Position { end: Offset(end), flushed: Offset(end) } }
}

fn wait(ticket: u64, acks: Acks, next: i64) -> Input {
    Input::Wait { ticket: Ticket(ticket), acks, next: Offset(next), deadline: Monotonic(100) }
}

fn high_watermark(offset: i64) -> Output {
    Output::AdvanceHighWatermark(Offset(offset))
}

fn acknowledge(ticket: u64) -> Output {
    Output::Acknowledge(Ticket(ticket))
}

fn refuse(ticket: u64, code: ErrorCode) -> Output {
    Output::Refuse(Ticket(ticket), code)
}

#[test]
fn a_single_replica_commits_what_it_wrote() {
    let mut leader = leader(&[ME], REPLICATED);
    assert_eq!(run(&mut leader, [appended(10)]), [high_watermark(10)]);
    assert_eq!(run(&mut leader, [wait(1, Acks::All, 10), wait(2, Acks::Leader, 10)]), [acknowledge(1), acknowledge(2)]);
    assert_eq!(run(&mut leader, [flushed(10), appended(5)]), [], "nothing new");
}

#[test]
fn with_durability_fsync_nothing_is_safe_before_it_is_flushed() {
    let mut leader = leader(&[ME], FSYNC);
    let inputs = [appended(10), wait(1, Acks::All, 10), wait(2, Acks::Leader, 10), wait(3, Acks::None, 10)];
    assert_eq!(run(&mut leader, inputs), [acknowledge(3)]);
    assert_eq!(run(&mut leader, [flushed(9)]), [high_watermark(9)]);
    assert_eq!(run(&mut leader, [flushed(10)]), [acknowledge(2), high_watermark(10), acknowledge(1)]);
}

#[test]
fn high_watermark_waits_for_the_slowest_in_sync_replica() {
    let mut leader = leader(&[ME, A, B], REPLICATED);
    assert_eq!(run(&mut leader, [appended(10), wait(1, Acks::All, 7), fetched(A, 10)]), []);
    assert_eq!(run(&mut leader, [fetched(B, 7)]), [high_watermark(7), acknowledge(1)]);
    let out = run(&mut leader, [wait(2, Acks::All, 10), Input::Changed(state(&[ME, A]))]);
    assert_eq!(out, [high_watermark(10), acknowledge(2)], "who left the isr holds nobody up");
    assert_eq!(run(&mut leader, [fetched(NodeId(77), 5)]), [], "a stranger is no follower");
    assert_eq!(run(&mut leader, [fetched(A, 99)]), [], "a follower cannot commit what the leader does not have");
}

#[test]
fn too_few_in_sync_replicas_refuse_before_and_after_the_append() {
    let two = Config { min_insync: 2, ..REPLICATED };
    let mut leader = leader(&[ME, A], two);
    assert_eq!(leader.check_acks(Acks::All), Ok(()));
    let out = run(&mut leader, [appended(10), wait(1, Acks::All, 10), Input::Changed(state(&[ME]))]);
    assert_eq!(out, [refuse(1, ErrorCode::NotEnoughReplicasAfterAppend)]);
    assert_eq!(leader.check_acks(Acks::All), Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(leader.check_acks(Acks::Leader), Ok(()));
    assert_eq!(
        run(&mut leader, [wait(2, Acks::All, 10)]),
        [refuse(2, ErrorCode::NotEnoughReplicasAfterAppend)],
        "appended in the moment between"
    );
    assert_eq!(leader.high_watermark(), Offset(0));
    assert_eq!(run(&mut leader, [Input::Configured(REPLICATED)]), [high_watermark(10)]);
}

#[test]
fn who_waits_learns_of_a_lost_epoch_and_of_lost_time() {
    let mut leader = leader(&[ME], FSYNC);
    let inputs = [appended(10), wait(1, Acks::All, 5), wait(2, Acks::Leader, 5), wait(3, Acks::All, 6)];
    assert_eq!(run(&mut leader, inputs), []);
    assert_eq!(leader.next_deadline(), Some(Monotonic(100)));
    assert_eq!(run(&mut leader, [Input::Cancelled(Ticket(3)), Input::Time(Monotonic(99))]), []);
    let late = refuse(1, ErrorCode::RequestTimedOut);
    assert_eq!(run(&mut leader.clone(), [Input::Time(Monotonic(100))])[0], late);
    let lost = PartitionState { leader: None, ..state(&[ME]) };
    let newer = PartitionState { leader_epoch: LeaderEpoch(5), ..state(&[ME]) };
    let not_leader = ErrorCode::NotLeaderOrFollower;
    // Elected again is another epoch, and another leader.
    for change in [lost, newer] {
        let mut leader = leader.clone();
        let out = run(&mut leader, [Input::Changed(change), flushed(10), wait(4, Acks::All, 5)]);
        assert_eq!(out, [refuse(1, not_leader), refuse(2, not_leader), Output::Resign, refuse(4, not_leader)]);
    }
}

#[test]
fn senders_of_another_epoch_are_told_which_side_is_behind() {
    let leader = leader(&[ME], REPLICATED);
    let check = |epoch| leader.check_epoch(Some(LeaderEpoch(epoch)));
    assert_eq!((check(3), check(4)), (Err(ErrorCode::FencedLeaderEpoch), Ok(())));
    assert_eq!((check(5), leader.check_epoch(None)), (Err(ErrorCode::UnknownLeaderEpoch), Ok(())));
}

#[test]
fn a_recovered_log_is_committed_at_once_by_its_only_replica_and_later_by_several() {
    let log = Position { end: Offset(50), flushed: Offset(40) };
    let alone = Leader::new(ME, &state(&[ME]), REPLICATED, log, Offset::ZERO);
    assert_eq!((alone.high_watermark(), alone.offsets_are_known()), (Offset(50), true));
    let mut fsync = Leader::new(ME, &state(&[ME]), FSYNC, log, Offset::ZERO);
    assert_eq!((fsync.high_watermark(), fsync.offsets_are_known()), (Offset(40), false));
    assert_eq!(run(&mut fsync, [flushed(50)]), [high_watermark(50)]);
    assert!(fsync.offsets_are_known());
    let mut two = Leader::new(ME, &state(&[ME, A]), REPLICATED, log, Offset(30));
    assert_eq!((two.high_watermark(), two.offsets_are_known()), (Offset(30), false));
    assert_eq!(run(&mut two, [fetched(A, 50)]), [high_watermark(50)]);
}

#[derive(Clone, Debug)]
enum Act {
    Append(i64),
    Flush(i64),
    Wait(Acks),
    Fetch(bool, i64),
    Isr(bool, bool),
    Fsync(bool),
    Time(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1i64..20).prop_map(Act::Append),
        (0i64..200).prop_map(Act::Flush),
        prop_oneof![Just(Acks::All), Just(Acks::Leader)].prop_map(Act::Wait),
        (any::<bool>(), 0i64..200).prop_map(|(a, end)| Act::Fetch(a, end)),
        (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Act::Isr(a, b)),
        any::<bool>().prop_map(Act::Fsync),
        (0u64..200).prop_map(Act::Time),
    ]
}

proptest! {
    /// Claim: the high watermark never falls and never passes the leader's own safe end; each produce is answered once,
    /// and acknowledged only when it is safe by the words of its topic.
    #[test]
    fn answers_come_once_and_only_when_true(acts in proptest::collection::vec(act(), 1..80)) {
        let (mut leader, mut config) = (leader(&[ME], REPLICATED), REPLICATED);
        let (mut end, mut flushed_end, mut tickets) = (0, 0, 0u64);
        let mut waiting: BTreeMap<Ticket, (Acks, i64)> = BTreeMap::new();
        for act in acts {
            let before = leader.high_watermark();
            let input = match act {
                Act::Append(records) => { end += records; appended(end) }
                Act::Flush(to) => { flushed_end = flushed_end.max(to.min(end)); flushed(to) }
                Act::Wait(acks) => {
                    tickets += 1;
                    waiting.insert(Ticket(tickets), (acks, end));
                    wait(tickets, acks, end)
                }
                Act::Fetch(a, to) => fetched(if a { A } else { B }, to),
                Act::Isr(a, b) => {
                    let isr: Vec<_> = [Some(ME), a.then_some(A), b.then_some(B)].into_iter().flatten().collect();
                    Input::Changed(state(&isr))
                }
                Act::Fsync(fsync) => { config = if fsync { FSYNC } else { REPLICATED }; Input::Configured(config) }
                Act::Time(now) => Input::Time(Monotonic(now)),
            };
            let out = run(&mut leader, [input]);
            prop_assert!(leader.high_watermark() >= before && leader.high_watermark().0 <= end);
            let moved = out.iter().any(|output| matches!(output, Output::AdvanceHighWatermark(_)));
            prop_assert_eq!(moved, leader.high_watermark() > before);
            if moved && config == FSYNC {
                prop_assert!(leader.high_watermark().0 <= flushed_end);
            }
            for output in out {
                match output {
                    Output::Acknowledge(ticket) => {
                        let (acks, next) = waiting.remove(&ticket).expect("answered once");
                        prop_assert!(acks != Acks::All || leader.high_watermark().0 >= next);
                        prop_assert!(config != FSYNC || acks != Acks::Leader || flushed_end >= next);
                    }
                    Output::Refuse(ticket, _) => prop_assert!(waiting.remove(&ticket).is_some()),
                    Output::AdvanceHighWatermark(_) => {}
                    Output::Resign => prop_assert!(false, "the epoch never changed"),
                }
            }
            prop_assert_eq!(leader.uncommitted.len() + leader.unflushed.len(), waiting.len());
        }
    }
}
