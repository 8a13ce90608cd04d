use rafka_broker::Failure;

use super::*;

const T: TopicId = TopicId([7; 16]);

fn ms(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
}

fn member(name: &str) -> Membership {
    let mut member =
        Membership::new(GroupConfig::new("g"), name.to_owned(), Backoff::new(50, 1000), Random::seeded(3), 10_000);
    member.subscribe(ms(0), ["orders".to_owned()].into());
    member
}

fn set(partitions: &[u32]) -> BTreeSet<At> {
    partitions.iter().map(|partition| (T, PartitionId(*partition))).collect()
}

fn told(epoch: i32, partitions: Option<&[u32]>) -> Result<ConsumerHeartbeatReply, Error> {
    Ok(ConsumerHeartbeatReply {
        member_id: "m".to_owned(),
        member_epoch: epoch,
        heartbeat_interval_ms: 1000,
        assignment: partitions.map(|partitions| grouped(set(partitions).iter())),
    })
}

fn refusal(code: ErrorCode) -> Result<ConsumerHeartbeatReply, Error> {
    Err(Error::refused("heartbeat", &Failure::new(code, ""), None))
}

fn heartbeat(actions: &[Action]) -> &ConsumerHeartbeat {
    match actions.last() {
        Some(Action::Heartbeat(heartbeat)) => heartbeat,
        other => panic!("expected a heartbeat, got {other:?}"),
    }
}

fn owned(actions: &[Action]) -> Option<BTreeSet<At>> {
    heartbeat(actions).owned.as_deref().map(partitions)
}

fn taken(actions: &[Action]) -> BTreeSet<At> {
    let mut taken = BTreeSet::new();
    for action in actions {
        if let Action::Take(parts) = action {
            taken.extend(parts.iter().map(|(at, _)| *at));
        }
    }
    taken
}

/// A member that has joined and owns these.
fn settled(partitions: &[u32]) -> Membership {
    let mut member = member("m");
    assert_eq!(heartbeat(&member.poll(ms(0))).member_epoch, 0);
    member.answered(ms(0), told(1, Some(partitions)));
    let actions = member.poll(ms(0));
    assert_eq!((taken(&actions), owned(&actions)), (set(partitions), Some(set(partitions))));
    member.answered(ms(0), told(1, None));
    assert_eq!(member.poll(ms(999)), [], "nothing new, not due");
    member
}

#[test]
fn a_member_introduces_itself_and_then_only_says_that_it_lives() {
    let mut new = member("m");
    let actions = new.poll(ms(0));
    let first = heartbeat(&actions);
    assert_eq!((first.member_epoch, first.rebalance_timeout_ms), (0, 60_000));
    assert_eq!(first.subscribed_topics, Some(vec!["orders".to_owned()]));
    assert_eq!(first.owned, Some(vec![]));
    let mut settled = settled(&[0, 1]);
    let actions = settled.poll(ms(1000));
    let later = heartbeat(&actions);
    assert_eq!((later.member_epoch, later.rebalance_timeout_ms), (1, -1));
    assert_eq!((&later.subscribed_topics, &later.owned), (&None, &None));
    assert_eq!(settled.poll(ms(9000)), [], "one heartbeat at a time");
}

#[test]
fn what_goes_is_given_back_before_what_comes_is_taken() {
    let mut member = settled(&[0, 1]);
    member.poll(ms(1000));
    member.answered(ms(1000), told(2, Some(&[1, 2])));
    assert_eq!(member.poll(ms(1000)), [Action::Release(set(&[0]))]);
    let waiting = member.poll(ms(2000));
    assert_eq!(owned(&waiting), None, "not done yet, but alive");
    member.answered(ms(2000), told(2, None));
    member.released(ms(2100), &set(&[0]));
    let actions = member.poll(ms(2100));
    assert_eq!((taken(&actions), owned(&actions)), (set(&[2]), Some(set(&[1, 2]))));
}

#[test]
fn an_assignment_that_comes_while_partitions_are_given_back_waits() {
    let mut member = settled(&[0, 1]);
    member.poll(ms(1000));
    member.answered(ms(1000), told(2, Some(&[1])));
    assert_eq!(member.poll(ms(1000)), [Action::Release(set(&[0]))]);
    member.poll(ms(2000));
    member.answered(ms(2000), told(3, Some(&[0, 3])));
    member.released(ms(2100), &set(&[0]));
    assert_eq!(member.poll(ms(2100)).first(), Some(&Action::Release(set(&[1]))));
    member.released(ms(2200), &set(&[1]));
    let actions = member.poll(ms(2200));
    assert_eq!(taken(&actions), set(&[0, 3]), "taken anew, after it was given back");
}

#[test]
fn a_fenced_member_loses_everything_and_joins_again() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let mut member = settled(&[0, 1]);
        member.poll(ms(1000));
        member.answered(ms(1000), told(2, Some(&[1])));
        member.poll(ms(1000));
        member.poll(ms(2000));
        member.answered(ms(2000), refusal(code));
        let actions = member.poll(ms(2000));
        assert_eq!(actions[0], Action::Lose(set(&[0, 1])), "what is being given back with it");
        assert_eq!((heartbeat(&actions).member_epoch, owned(&actions)), (0, Some(set(&[]))));
        member.released(ms(2001), &set(&[0]));
        member.answered(ms(2002), told(5, Some(&[4])));
        assert_eq!(taken(&member.poll(ms(2002))), set(&[4]));
    }
}

#[test]
fn a_grant_ends_when_the_partition_goes_and_another_one_begins() {
    let mut member = member("m");
    member.poll(ms(0));
    member.answered(ms(0), told(1, Some(&[0])));
    let Some(Action::Take(first)) = member.poll(ms(0)).into_iter().next() else { panic!("taken") };
    let (at, grant) = first[0];
    assert!(member.holds(&at, grant));
    member.answered(ms(10), refusal(ErrorCode::FencedMemberEpoch));
    assert!(!member.holds(&at, grant));
    member.poll(ms(10));
    member.answered(ms(20), told(2, Some(&[0])));
    let Some(Action::Take(second)) = member.poll(ms(20)).into_iter().next() else { panic!("taken") };
    assert!(member.holds(&at, second[0].1) && !member.holds(&at, grant));
}

#[test]
fn after_a_failure_everything_is_said_again_with_growing_pauses() {
    let mut member = settled(&[0]);
    member.poll(ms(1000));
    member.answered(ms(1000), refusal(ErrorCode::NotCoordinator));
    assert_eq!(member.poll(ms(1000)), []);
    let actions = member.poll(ms(1070));
    let again = heartbeat(&actions);
    assert_eq!((again.member_epoch, owned(&actions)), (1, Some(set(&[0]))));
    assert!(again.subscribed_topics.is_some());
    member.answered(ms(1070), refusal(ErrorCode::CoordinatorLoadInProgress));
    assert_eq!(member.poll(ms(1140)), [], "twice as long");
    assert_eq!(heartbeat(&member.poll(ms(1200))).member_epoch, 1);
}

#[test]
fn a_group_that_cannot_be_reached_is_told_again_and_again() {
    let mut member = settled(&[0]);
    let (mut now, mut told) = (1000, Vec::new());
    while now < 32_000 {
        for action in member.poll(ms(now)) {
            match action {
                Action::Heartbeat(_) => member.answered(ms(now), refusal(ErrorCode::CoordinatorNotAvailable)),
                Action::Tell(error) => told.push(error),
                other => panic!("{other:?}"),
            }
        }
        now += 100;
    }
    assert!((2..=3).contains(&told.len()), "{told:?}");
    assert_eq!(told[0].kind(), ErrorKind::Unreachable);
}

#[test]
fn what_will_never_succeed_ends_the_membership() {
    let mut member = settled(&[0]);
    member.poll(ms(1000));
    member.answered(ms(1000), refusal(ErrorCode::FencedInstanceId));
    let actions = member.poll(ms(1000));
    assert_eq!(actions[0], Action::Lose(set(&[0])));
    assert!(matches!(&actions[1], Action::Fail(error) if error.code() == Some(ErrorCode::FencedInstanceId)));
    assert_eq!((member.poll(ms(99_000)), member.next_deadline()), (vec![], None));
}

#[test]
fn a_group_of_another_kind_is_not_joined() {
    let mut new = member("m");
    new.poll(ms(0));
    let why = Failure::new(ErrorCode::GroupIdNotFound, "its members are of type \"connect\"");
    new.answered(ms(5), Err(Error::refused("group \"g\"", &why, None)));
    let actions = new.poll(ms(5));
    let [Action::Fail(error)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, Some(ErrorCode::GroupIdNotFound)));
    let told = "group \"g\" is used by clients of the classic protocol, and cannot be joined: GROUP_ID_NOT_FOUND (69): its \
                members are of type \"connect\"";
    assert_eq!(error.to_string(), told);
    assert!(error.advice().is_some_and(|hint| hint.contains("another group")));
    assert_eq!((new.poll(ms(99_000)), new.next_deadline()), (vec![], None));
    // A group that has been forgotten is made again, unless it is such a group now.
    let mut old = settled(&[0]);
    old.poll(ms(1000));
    old.answered(ms(1000), refusal(ErrorCode::GroupIdNotFound));
    let actions = old.poll(ms(1000));
    assert_eq!((&actions[0], heartbeat(&actions).member_epoch), (&Action::Lose(set(&[0])), 0));
    old.answered(ms(1000), refusal(ErrorCode::GroupIdNotFound));
    assert!(matches!(old.poll(ms(1000))[..], [Action::Fail(_)]));
}

#[test]
fn a_changed_subscription_is_told_at_once() {
    let mut member = settled(&[0]);
    member.subscribe(ms(100), ["orders".to_owned(), "bills".to_owned()].into());
    let actions = member.poll(ms(100));
    assert_eq!(heartbeat(&actions).subscribed_topics, Some(vec!["bills".to_owned(), "orders".to_owned()]));
    assert_eq!(heartbeat(&actions).owned, None);
}

#[test]
fn who_has_a_name_leaves_for_a_while() {
    assert_eq!(member("m").farewell().member_epoch, -1);
    let config = GroupConfig { instance_id: Some("i".to_owned()), ..GroupConfig::new("g") };
    let member = Membership::new(config, "m".to_owned(), Backoff::new(50, 1000), Random::seeded(3), 1000);
    assert_eq!(member.farewell().member_epoch, -2);
}

/// A coordinator as KIP-848 has it, without sessions: who may have a partition is decided by who said to own it.
#[derive(Default)]
struct Coordinator {
    epoch: i32,
    members: BTreeMap<String, Known>,
}

#[derive(Default)]
struct Known {
    epoch: i32,
    target: BTreeSet<At>,
    /// What it was told to have and has not said to have given back.
    holds: BTreeSet<At>,
    told: BTreeSet<At>,
}

impl Coordinator {
    fn rebalance(&mut self) {
        self.epoch += 1;
        let members = self.members.len().max(1);
        for (i, member) in self.members.values_mut().enumerate() {
            member.target = (0..12u32).filter(|p| *p as usize % members == i).map(|p| (T, PartitionId(p))).collect();
        }
    }

    fn answer(&mut self, ask: &ConsumerHeartbeat) -> Result<ConsumerHeartbeatReply, Error> {
        let joins = ask.member_epoch == 0;
        if joins && !self.members.contains_key(&ask.member_id) {
            self.members.insert(ask.member_id.clone(), Known::default());
            self.rebalance();
        }
        let Some(mut member) = self.members.remove(&ask.member_id) else {
            return refusal(ErrorCode::UnknownMemberId);
        };
        if joins {
            (member.holds, member.told) = Default::default();
        }
        if let Some(owned) = &ask.owned {
            let owned = partitions(owned);
            if owned.is_subset(&member.told) {
                member.holds = member.told.clone();
            }
        }
        let others: BTreeSet<At> = self.members.values().flat_map(|other| other.holds.iter().copied()).collect();
        let kept: BTreeSet<At> = member.holds.intersection(&member.target).copied().collect();
        let tell: BTreeSet<At> = if member.holds.is_subset(&member.target) {
            member.epoch = self.epoch;
            member.target.difference(&others).copied().collect()
        } else {
            kept
        };
        member.holds.extend(tell.iter().copied());
        let changed = tell != member.told || ask.owned.is_some();
        member.told = tell.clone();
        let reply = ConsumerHeartbeatReply {
            member_id: ask.member_id.clone(),
            member_epoch: member.epoch.max(1),
            heartbeat_interval_ms: 100,
            assignment: changed.then(|| grouped(tell.iter())),
        };
        self.members.insert(ask.member_id.clone(), member);
        Ok(reply)
    }
}

/// Claim: whatever is lost on the way and whoever is put out, two members that know of each other never own the same
/// partition, and once it is quiet everything is owned. Seed and commit fix every step.
#[test]
fn members_come_to_own_everything_and_nothing_twice() {
    for seed in 1..60 {
        let mut random = Random::seeded(seed * 7919);
        let mut coordinator = Coordinator::default();
        let mut members: Vec<Membership> = (0..4).map(|i| member(&format!("m{i}"))).collect();
        let mut pending: Vec<(usize, u64, BTreeSet<At>)> = Vec::new();
        for step in 0..600u64 {
            let (now, quiet) = (step * 20, step > 300);
            for (number, member) in members.iter_mut().enumerate() {
                // The others come one after another.
                if step < number as u64 * 40 {
                    continue;
                }
                for action in member.poll(ms(now)) {
                    match action {
                        Action::Heartbeat(ask) => {
                            let lost = !quiet && random.below(10) == 0;
                            let answer = if lost && random.below(2) == 0 {
                                Err(Error::new(ErrorKind::Unreachable, "lost on the way there"))
                            } else {
                                let answer = coordinator.answer(&ask);
                                if lost {
                                    Err(Error::new(ErrorKind::OutcomeUnknown, "lost on the way back"))
                                } else {
                                    answer
                                }
                            };
                            member.answered(ms(now), answer);
                        }
                        Action::Release(parts) => pending.push((number, now + random.below(200) as u64, parts)),
                        Action::Lose(_) | Action::Take(_) => {}
                        other => panic!("seed {seed}: {other:?}"),
                    }
                }
            }
            pending.retain(|(number, at, parts)| {
                let due = *at <= now;
                if due {
                    members[*number].released(ms(now), parts);
                }
                !due
            });
            if !quiet && random.below(100) == 0 {
                let name = format!("m{}", random.below(4));
                let owned: Vec<_> =
                    members.iter().filter(|m| m.member_id == name).flat_map(|m| m.owned.keys()).collect();
                // Put out only who owns nothing: others would have to wait for the session's end, which has no clock here.
                if owned.is_empty() && coordinator.members.remove(&name).is_some() {
                    coordinator.rebalance();
                }
            }
            let all: Vec<At> =
                members.iter().flat_map(|m| m.owned.keys().chain(m.releasing.iter().flatten())).copied().collect();
            let distinct: BTreeSet<At> = all.iter().copied().collect();
            assert_eq!(all.len(), distinct.len(), "seed {seed}, step {step}: two owners");
        }
        let owned: usize = members.iter().map(|member| member.owned.len()).sum();
        assert_eq!(owned, 12, "seed {seed}: {members:#?}");
    }
}
