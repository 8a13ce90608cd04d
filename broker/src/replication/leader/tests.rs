use super::*;
use crate::replication::testing::{A, AT, B, History, ME, identity, state};
use crate::replication::{Epochs, FetchPartition, ReplicaFetch};
use proptest::prelude::*;

mod machine;
mod sets;

const FSYNC: Config = Config { durability: Durability::Fsync, ..REPLICATED };
const REPLICATED: Config = Config {
    durability: Durability::Replicated,
    min_insync: 1,
    lag_max: Duration::from_secs(10),
    session: Duration::from_secs(6),
};
const TWO: Config = Config { min_insync: 2, ..REPLICATED };

/// A leader beside its log, with what its followers send.
#[derive(Clone, Debug)]
struct Bench {
    leader: Leader,
    log: History,
    now: Monotonic,
    requests: u64,
}

impl Bench {
    /// The log holds so many records of epoch 3; the high watermark is known to be at `mark`.
    fn new(state: &PartitionState, config: Config, records: usize, mark: i64, rules: Rules) -> Self {
        let log = History::of(&[(3, records)]);
        let members = [ME, A, B].map(|id| (id, identity(id).broker_epoch));
        let end = log.log_end();
        let leader = Leader::with_rules(
            Election {
                me: identity(ME),
                at: AT,
                state,
                config,
                members: Arc::new(members.into()),
                log: Position { end, flushed: end },
                high_watermark: Offset(mark),
                now: Monotonic(0),
            },
            rules,
        );
        Self { leader, log, now: Monotonic(0), requests: 0 }
    }

    fn empty(isr: &[NodeId], config: Config) -> Self {
        Self::new(&state(isr), config, 0, 0, Rules::default())
    }

    fn run(&mut self, inputs: impl IntoIterator<Item = Input>) -> Vec<Output> {
        let mut out = Vec::new();
        for input in inputs {
            if let Input::Appended(Offset(end)) = input {
                self.log.epochs.resize(self.log.epochs.len().max(end as usize), 4);
            }
            self.leader.step(input, &mut out);
        }
        out
    }

    /// `replica` says that it has everything before `end`, flushed.
    fn fetched(&mut self, replica: NodeId, end: i64) -> Vec<Output> {
        self.fetch(replica, end, end).1
    }

    fn fetch(&mut self, replica: NodeId, end: i64, flushed: i64) -> (Verdict, Vec<Output>) {
        self.requests += 1;
        let who = request(replica, self.requests);
        self.ask(&who, ask(4, end, flushed, &self.log))
    }

    fn ask(&mut self, who: &ReplicaFetch, partition: FetchPartition) -> (Verdict, Vec<Output>) {
        let mut out = Vec::new();
        let verdict = self.leader.fetched(who, &partition, &self.log, self.now, &mut out);
        (verdict, out)
    }

    fn wait_until(&mut self, seconds: u64) -> Vec<Output> {
        self.now = seconds_in(seconds);
        self.run([Input::Time(self.now)])
    }
}

fn seconds_in(seconds: u64) -> Monotonic {
    Monotonic::default().plus(Duration::from_secs(seconds))
}

fn request(replica: NodeId, request: u64) -> ReplicaFetch {
    ReplicaFetch { replica, broker_epoch: identity(replica).broker_epoch, request, partitions: Vec::new() }
}

/// A fetch at `end` by a follower whose log is a beginning of `log`, as far as that reaches.
fn ask(leader_epoch: i32, end: i64, flushed: i64, log: &History) -> FetchPartition {
    let last = usize::try_from(end - 1).ok().and_then(|last| log.epochs.get(last)).or(log.epochs.last());
    FetchPartition {
        at: AT,
        leader_epoch: LeaderEpoch(leader_epoch),
        offset: Offset(end),
        last_fetched_epoch: last.filter(|_| end > 0).map(|epoch| LeaderEpoch(*epoch)),
        flushed: Offset(flushed),
        max_bytes: 1 << 20,
    }
}

fn appended(end: i64) -> Input {
    Input::Appended(Offset(end))
}

fn flushed(end: i64) -> Input {
    Input::Flushed(Offset(end))
}

fn wait(ticket: u64, acks: Acks, next: i64) -> Input {
    Input::Wait { ticket: Ticket(ticket), acks, next: Offset(next), deadline: Monotonic(100) }
}

/// The next state: one more partition epoch.
fn changed(isr: &[NodeId], partition_epoch: i32) -> Input {
    Input::Changed(PartitionState { partition_epoch: PartitionEpoch(partition_epoch), ..state(isr) })
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

/// The proposal of a set, each member in its first registration.
fn propose(isr: &[NodeId], partition_epoch: i32) -> Output {
    Output::Propose(AlterPartition {
        at: AT,
        leader: ME,
        broker_epoch: identity(ME).broker_epoch,
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(partition_epoch),
        isr: isr.iter().map(|id| (*id, identity(*id).broker_epoch)).collect(),
        recovered: false,
    })
}

fn answered(partition_epoch: i32, result: Result<i32, ErrorCode>) -> Input {
    Input::AlterAnswered { partition_epoch: PartitionEpoch(partition_epoch), result: result.map(PartitionEpoch) }
}

#[test]
fn a_single_replica_commits_what_it_wrote() {
    let alone = PartitionState { replicas: vec![ME], ..state(&[ME]) };
    let mut bench = Bench::new(&alone, REPLICATED, 0, 0, Rules::default());
    assert_eq!(bench.run([appended(10)]), [high_watermark(10)]);
    assert_eq!(bench.run([wait(1, Acks::All, 10), wait(2, Acks::Leader, 10)]), [acknowledge(1), acknowledge(2)]);
    assert_eq!(bench.run([flushed(10), appended(5)]), [], "nothing new");
    assert_eq!((bench.leader.is_sole(), bench.leader.next_deadline()), (true, None));
}

#[test]
fn with_durability_fsync_nothing_is_safe_before_it_is_flushed() {
    let mut bench = Bench::empty(&[ME], FSYNC);
    let inputs = [appended(10), wait(1, Acks::All, 10), wait(2, Acks::Leader, 10), wait(3, Acks::None, 10)];
    assert_eq!(bench.run(inputs), [acknowledge(3)]);
    assert_eq!(bench.run([flushed(9)]), [high_watermark(9)]);
    assert_eq!(bench.run([flushed(10)]), [acknowledge(2), high_watermark(10), acknowledge(1)]);
    // A follower, too, has what it flushed.
    for (rules, mark) in [(Rules::default(), 3), (Rules::without(Rule::FlushedCounts), 7)] {
        let mut bench = Bench::new(&state(&[ME, A]), FSYNC, 0, 0, rules);
        bench.run([appended(10), flushed(10)]);
        let (_, out) = bench.fetch(A, 7, 3);
        assert_eq!(out, [high_watermark(mark)]);
    }
}

#[test]
fn high_watermark_waits_for_the_slowest_in_sync_replica() {
    let mut bench = Bench::empty(&[ME, A, B], REPLICATED);
    assert_eq!(bench.run([appended(10), wait(1, Acks::All, 7)]), []);
    assert_eq!(bench.fetched(A, 10), []);
    assert_eq!(bench.fetched(B, 7), [high_watermark(7), acknowledge(1)]);
    let out = bench.run([wait(2, Acks::All, 10), changed(&[ME, A], 10)]);
    assert_eq!(out, [propose(&[ME, A, B], 10)], "whom the controller drops may still be as good as ever");
    let out = bench.run([changed(&[ME, A], 11), Input::Members(Arc::default())]);
    assert_eq!(out, [propose(&[ME, A, B], 11)]);
    let mut bench = Bench::empty(&[ME, A, B], REPLICATED);
    bench.run([appended(10), wait(2, Acks::All, 10)]);
    bench.fetched(A, 10);
    assert_eq!(bench.run([changed(&[ME, A], 10)]), [high_watermark(10), acknowledge(2)], "who left holds nobody up");
}

#[test]
fn too_few_in_sync_replicas_refuse_before_and_after_the_append() {
    let check = |bench: &Bench, acks| bench.leader.check_acks(acks, bench.now);
    let mut bench = Bench::empty(&[ME, A], TWO);
    assert_eq!(check(&bench, Acks::All), Ok(()));
    let out = bench.run([appended(10), wait(1, Acks::All, 10), changed(&[ME], 10)]);
    assert_eq!(out, [refuse(1, ErrorCode::NotEnoughReplicasAfterAppend)]);
    assert_eq!(check(&bench, Acks::All), Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(check(&bench, Acks::Leader), Ok(()));
    assert_eq!(
        bench.run([wait(2, Acks::All, 10)]),
        [refuse(2, ErrorCode::NotEnoughReplicasAfterAppend)],
        "appended in the moment between"
    );
    assert_eq!(bench.leader.high_watermark(), Offset(0));
    assert_eq!(bench.run([Input::Configured(REPLICATED)]), [high_watermark(10)]);
}

#[test]
fn who_waits_learns_of_a_lost_epoch_and_of_lost_time() {
    let mut bench = Bench::empty(&[ME], FSYNC);
    let inputs = [appended(10), wait(1, Acks::All, 5), wait(2, Acks::Leader, 5), wait(3, Acks::All, 6)];
    assert_eq!(bench.run(inputs), []);
    assert_eq!(bench.leader.next_deadline(), Some(Monotonic(100)));
    assert_eq!(bench.run([Input::Cancelled(Ticket(3)), Input::Time(Monotonic(99))]), []);
    let late = refuse(1, ErrorCode::RequestTimedOut);
    assert_eq!(bench.clone().run([Input::Time(Monotonic(100))])[0], late);
    let lost = PartitionState { leader: None, partition_epoch: PartitionEpoch(10), ..state(&[ME]) };
    let newer = PartitionState { leader_epoch: LeaderEpoch(5), partition_epoch: PartitionEpoch(10), ..state(&[ME]) };
    let not_leader = ErrorCode::NotLeaderOrFollower;
    // Elected again is another epoch, and another leader.
    for change in [lost, newer] {
        let mut bench = bench.clone();
        let out = bench.run([Input::Changed(change), flushed(10), wait(4, Acks::All, 5)]);
        assert_eq!(out, [refuse(1, not_leader), refuse(2, not_leader), Output::Resign, refuse(4, not_leader)]);
        assert_eq!(bench.leader.check_acks(Acks::Leader, bench.now), Err(not_leader));
        assert_eq!(bench.leader.may_read(bench.now), Err(not_leader));
        assert_eq!(bench.fetch(A, 0, 0), (Verdict::Refused(not_leader), vec![]));
        assert_eq!((bench.leader.next_deadline(), bench.leader.check_invariants()), (None, Ok(())));
    }
    let older = PartitionState { leader: None, leader_epoch: LeaderEpoch(3), ..state(&[ME]) };
    assert_eq!(bench.run([Input::Changed(older)]), [], "late news is no news");
}

#[test]
fn senders_of_another_epoch_are_told_which_side_is_behind() {
    let mut bench = Bench::empty(&[ME], REPLICATED);
    let check = |epoch| bench.leader.check_epoch(Some(LeaderEpoch(epoch)));
    assert_eq!((check(3), check(4)), (Err(ErrorCode::FencedLeaderEpoch), Ok(())));
    assert_eq!((check(5), bench.leader.check_epoch(None)), (Err(ErrorCode::UnknownLeaderEpoch), Ok(())));
    for (epoch, code) in [(3, ErrorCode::FencedLeaderEpoch), (5, ErrorCode::UnknownLeaderEpoch)] {
        let asked = ask(epoch, 0, 0, &bench.log);
        assert_eq!(bench.ask(&request(A, 1), asked), (Verdict::Refused(code), vec![]));
    }
}

#[test]
fn a_recovered_log_is_committed_at_once_by_its_only_replica_and_later_by_several() {
    let begin = |isr: &[NodeId], config, flushed| {
        let mut bench = Bench::new(&state(isr), config, 50, 30, Rules::default());
        let log = Position { end: Offset(50), flushed: Offset(flushed) };
        let (me, members) = (identity(ME), Members::default());
        let state = &state(isr);
        let (high_watermark, now) = (Offset(30), bench.now);
        bench.leader = Leader::new(Election { me, at: AT, state, config, members, log, high_watermark, now });
        bench
    };
    let known = |bench: &Bench| (bench.leader.high_watermark(), bench.leader.offsets_are_known());
    assert_eq!(known(&begin(&[ME], REPLICATED, 40)), (Offset(50), true));
    let mut fsync = begin(&[ME], FSYNC, 40);
    assert_eq!(known(&fsync), (Offset(40), false));
    assert_eq!(fsync.run([flushed(50)]), [high_watermark(50)]);
    assert!(fsync.leader.offsets_are_known());
    let mut two = begin(&[ME, A], REPLICATED, 50);
    assert_eq!(known(&two), (Offset(30), false));
    assert_eq!(two.leader.may_read(two.now), Err(ErrorCode::OffsetNotAvailable));
    let mut careless = two.clone();
    careless.leader.rules = Rules::without(Rule::OffsetsAreKnownFirst);
    assert_eq!(careless.leader.may_read(two.now), Ok(Offset(30)), "somebody may have read to 50");
    assert_eq!(two.fetched(A, 50), [high_watermark(50)]);
    assert_eq!(two.leader.may_read(two.now), Ok(Offset(50)));
}

#[test]
fn who_heard_of_more_than_it_flushed_tells_it_once_it_is_flushed_however_few_are_in_sync() {
    let mut bench = Bench::new(&state(&[ME]), Config { min_insync: 2, ..FSYNC }, 17, 0, Rules::default());
    let begin = |bench: &Bench, rules| {
        let (me, members, state) = (identity(ME), Members::default(), &state(&[ME]));
        let (log, high_watermark) = (Position { end: Offset(17), flushed: Offset(11) }, Offset(17));
        let config = bench.leader.config;
        Leader::with_rules(Election { me, at: AT, state, config, members, log, high_watermark, now: bench.now }, rules)
    };
    assert_eq!(begin(&bench, Rules::without(Rule::FlushedCounts)).may_read(bench.now), Ok(Offset(17)));
    bench.leader = begin(&bench, Rules::default());
    assert_eq!(bench.leader.high_watermark(), Offset(11));
    assert_eq!(bench.leader.may_read(bench.now), Err(ErrorCode::OffsetNotAvailable));
    let mut reconfigured = bench.clone();
    assert_eq!(bench.run([appended(20), flushed(15)]), [high_watermark(15)]);
    assert_eq!(bench.run([flushed(20)]), [high_watermark(17)]);
    assert_eq!(bench.leader.may_read(bench.now), Ok(Offset(17)));
    assert_eq!(reconfigured.run([Input::Configured(TWO)]), [high_watermark(17)]);
}

#[test]
fn the_log_start_lies_below_the_high_watermark_and_raises_one_that_was_forgotten() {
    let mut bench = Bench::new(&state(&[ME, A]), REPLICATED, 50, 30, Rules::default());
    assert_eq!(bench.run([Input::LogStart(Offset(20))]), []);
    assert_eq!(bench.run([Input::LogStart(Offset(40))]), [high_watermark(40)]);
    bench.log.start = 40;
    bench.log.epochs.truncate(10);
    let verdict = Verdict::Behind { log_start: Offset(40) };
    assert_eq!(bench.fetch(A, 39, 39), (verdict, vec![]));
    let serve = Verdict::Serve { high_watermark: Offset(40), log_start: Offset(40) };
    assert_eq!(bench.fetch(B, 40, 40).0, serve);
}
