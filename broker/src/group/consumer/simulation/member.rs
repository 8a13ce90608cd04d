//! A consumer of either protocol. What it is told to give back it gives back after a while; what it is told to take it
//! takes once it has given back.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::world::{Partition, World, listed};
use crate::ErrorCode;
use crate::group::consumer::protocol::{Named, read_assignment, read_subscription, write_assignment};
use crate::group::request::{
    ConsumerHeartbeat, GroupReply, GroupRequest, Heartbeat, Join, JoinReply, Joined, Leave, Leaving, Sync,
    TopicPartitions,
};
use crate::group::testing::{Reply, join_as, subscription};
use rafka_model::PartitionId;

pub(super) const NAMES: [&str; 2] = ["orders", "others"];
pub(super) const REBALANCE_MS: u64 = 30_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// KIP-848.
    Consumer,
    /// Classic and eager: it gives everything up before it joins.
    Classic,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Joining,
    Syncing,
    In,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) place: usize,
    kind: Kind,
    instance: Option<String>,
    pub(super) id: String,
    /// Or generation.
    pub(super) epoch: i32,
    phase: Phase,
    topics: BTreeSet<u8>,
    /// What it reads from.
    pub(super) holds: BTreeSet<Partition>,
    /// What it was told to have.
    told: BTreeSet<Partition>,
    /// What the coordinator knows that it holds.
    said: Option<BTreeSet<Partition>>,
    /// When it has given back what it was told to give back.
    given: u64,
    /// The next heartbeat.
    due: u64,
    call: Option<(u64, u64)>,
    back: u64,
    /// Answers lost since it last heard one.
    pub(super) missed: usize,
    /// It gives nothing back.
    pub(super) is_stuck: bool,
    plan: Vec<(String, Bytes)>,
}

impl Member {
    pub(super) fn new(world: &mut World, place: usize) -> Self {
        let instance = world.random.one_in(4).then(|| format!("static-{place}"));
        let back = world.random.below(10_000);
        let mut member = Self {
            place,
            kind: Kind::Consumer,
            instance,
            id: String::new(),
            epoch: 0,
            phase: Phase::Joining,
            topics: [1, 2].into(),
            holds: BTreeSet::new(),
            told: BTreeSet::new(),
            said: None,
            given: 0,
            due: 0,
            call: None,
            back,
            missed: 0,
            is_stuck: false,
            plan: Vec::new(),
        };
        member.id = world.new_id(place);
        member
    }

    pub(super) fn reads(&self, partition: Partition) -> bool {
        self.topics.contains(&partition.0)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.phase == Phase::In && self.holds == self.told
    }

    pub(super) fn session_ms(&self) -> u64 {
        if self.kind == Kind::Consumer { 45_000 } else { 6_000 }
    }

    pub(super) fn change_topics(&mut self, world: &mut World) {
        self.topics = [&[1u8][..], &[2], &[1, 2]][world.random.below(3) as usize].iter().copied().collect();
        self.said = None;
        self.due = world.now;
    }

    /// Hears and says nothing for a time.
    pub(super) fn cut_off(&mut self, world: &mut World) {
        world.disconnect(self.place);
        self.missed += 1;
        (self.call, self.said) = (None, None);
        self.back = world.now + world.random.below(60_000);
    }

    pub(super) fn restart(&mut self, world: &mut World, says_so: bool, kind: Kind) {
        world.disconnect(self.place);
        if says_so && self.epoch > 0 {
            self.say_goodbye(world);
        }
        world.gone.push((self.id.clone(), self.epoch));
        self.begin_anew();
        self.kind = kind;
        self.id = if kind == Kind::Consumer { world.new_id(self.place) } else { String::new() };
        (self.call, self.back, self.missed) = (None, world.now + world.random.below(20_000), 0);
    }

    fn say_goodbye(&mut self, world: &mut World) {
        let request = match self.kind {
            Kind::Consumer => {
                let member_epoch = if self.instance.is_some() { -2 } else { -1 };
                GroupRequest::ConsumerHeartbeat(ConsumerHeartbeat { member_epoch, owned: None, ..self.beat(false) })
            }
            Kind::Classic => {
                let (member_id, instance_id) = (self.id.clone(), self.instance.clone());
                let members = vec![Leaving { member_id, instance_id, reason: None }];
                GroupRequest::Leave(Leave { group: "g".to_owned(), members })
            }
        };
        self.holds.clear();
        world.send(self.place, request);
    }

    fn begin_anew(&mut self) {
        self.holds.clear();
        self.told.clear();
        (self.epoch, self.phase, self.said, self.due) = (0, Phase::Joining, None, 0);
    }

    /// Gives back what it has to, and says what it has to say.
    pub(super) fn act(&mut self, world: &mut World) {
        let gives = self.holds.iter().any(|partition| !self.told.contains(partition));
        if gives && world.now >= self.given && !self.is_stuck {
            self.holds.retain(|partition| self.told.contains(partition));
            self.due = world.now;
        }
        if self.phase == Phase::In && self.holds.is_subset(&self.told) {
            self.holds.clone_from(&self.told);
        }
        if let Some((_, until)) = self.call {
            if world.now < until {
                return;
            }
            (self.call, self.said) = (None, None);
            self.missed += 1;
        }
        if world.now < self.back.max(self.due) {
            return;
        }
        let request = match (self.kind, self.phase) {
            (Kind::Consumer, Phase::Joining) => GroupRequest::ConsumerHeartbeat(self.beat(true)),
            (Kind::Consumer, _) => GroupRequest::ConsumerHeartbeat(self.beat(self.said.is_none())),
            (Kind::Classic, Phase::Joining) => {
                self.holds.clear();
                self.told.clear();
                self.join()
            }
            (Kind::Classic, Phase::Syncing) => self.sync(),
            (Kind::Classic, Phase::In) => self.classic_beat(),
        };
        let patience = if matches!(request, GroupRequest::Join(_)) { 20_000 } else { 3_000 };
        self.due = world.now + 1_000;
        self.call = Some((world.send(self.place, request), world.now + patience));
    }

    fn beat(&self, full: bool) -> ConsumerHeartbeat {
        let topics = self.topics.iter().map(|topic| NAMES[usize::from(topic - 1)].to_owned()).collect();
        let has_news = self.said.as_ref() != Some(&self.holds);
        ConsumerHeartbeat {
            group: "g".to_owned(),
            member_id: self.id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone(),
            rebalance_timeout_ms: if full { REBALANCE_MS as i32 } else { -1 },
            subscribed_topics: full.then_some(topics),
            owned: (full || has_news).then(|| listed(&self.holds)),
            ..ConsumerHeartbeat::default()
        }
    }

    fn join(&self) -> GroupRequest {
        let topics: Vec<_> = self.topics.iter().map(|topic| NAMES[usize::from(topic - 1)]).collect();
        let mut join = join_as("classic");
        join.protocols[0].metadata = subscription(&topics);
        let (member_id, instance_id) = (self.id.clone(), self.instance.clone());
        let (session_timeout_ms, rebalance_timeout_ms) = (self.session_ms() as i32, REBALANCE_MS as i32);
        GroupRequest::Join(Join { member_id, instance_id, session_timeout_ms, rebalance_timeout_ms, ..join })
    }

    fn sync(&self) -> GroupRequest {
        GroupRequest::Sync(Sync {
            group: "g".to_owned(),
            generation: self.epoch,
            member_id: self.id.clone(),
            instance_id: self.instance.clone(),
            assignments: self.plan.clone(),
            ..Sync::default()
        })
    }

    fn classic_beat(&self) -> GroupRequest {
        let (generation, member_id, instance_id) = (self.epoch, self.id.clone(), self.instance.clone());
        GroupRequest::Heartbeat(Heartbeat { group: "g".to_owned(), generation, member_id, instance_id })
    }

    pub(super) fn hear(&mut self, world: &mut World, token: u64, reply: Reply) -> Result<(), String> {
        if self.call.is_none_or(|(mine, _)| mine != token) {
            return Ok(());
        }
        self.call = None;
        let missed = std::mem::take(&mut self.missed) + std::mem::take(&mut world.repeated[self.place]);
        match reply {
            Ok(GroupReply::ConsumerHeartbeat(reply)) => {
                if self.phase == Phase::Joining {
                    self.holds.clear();
                }
                // What was in the request is known now.
                self.said = Some(self.holds.clone()).filter(|_| self.phase == Phase::In);
                (self.epoch, self.phase) = (reply.member_epoch, Phase::In);
                self.due = world.now + reply.heartbeat_interval_ms as u64;
                if let Some(assignment) = reply.assignment {
                    self.be_told(world, &assignment);
                }
                if self.holds.is_subset(&self.told) {
                    world.settled(self.place);
                }
            }
            Ok(GroupReply::Join(JoinReply::TakeMemberId(id))) => self.id = id,
            Ok(GroupReply::Join(JoinReply::Joined(joined))) => {
                self.plan = plan(world, &joined);
                (self.id, self.epoch, self.phase) = (joined.member_id, joined.generation, Phase::Syncing);
                self.due = world.now;
            }
            Ok(GroupReply::Sync(reply)) => {
                let named = read_assignment(&reply.assignment).map_err(|error| error.to_string())?;
                let by_name = |name: &str| NAMES.iter().position(|other| *other == name).unwrap_or(0) as u8 + 1;
                let all =
                    named.partitions.iter().flat_map(|(name, has)| has.iter().map(move |one| (by_name(name), one.0)));
                self.told = all.collect();
                self.phase = Phase::In;
            }
            Ok(_) => {}
            Err(failure) => self.be_refused(world, failure.code, missed)?,
        }
        Ok(())
    }

    fn be_told(&mut self, world: &mut World, assignment: &[TopicPartitions]) {
        let all = assignment.iter().flat_map(|one| one.partitions.iter().map(|at| (one.topic.0[0], at.0)));
        self.told = all.collect();
        self.given = world.now + if world.random.one_in(3) { world.random.below(10_000) } else { 0 };
        self.due = self.due.min(world.now + 100);
    }

    fn be_refused(&mut self, world: &mut World, code: ErrorCode, missed: usize) -> Result<(), String> {
        match code {
            ErrorCode::FencedMemberEpoch if missed <= 1 && self.kind == Kind::Consumer => {
                return Err(format!("fenced for {missed} lost answers: {self:?}"));
            }
            ErrorCode::FencedMemberEpoch => self.begin_anew(),
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                self.begin_anew();
                self.is_stuck = false;
                if self.kind == Kind::Classic {
                    self.id.clear();
                }
            }
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration if self.kind == Kind::Classic => {
                self.phase = Phase::Joining;
                self.due = world.now;
            }
            // What became of the request is not known.
            _ => (self.said, self.missed) = (None, missed + 1),
        }
        Ok(())
    }
}

/// Shares of a classic generation, for its leader.
fn plan(world: &World, joined: &Joined) -> Vec<(String, Bytes)> {
    let mut plan: Vec<(String, Named)> =
        joined.members.iter().map(|one| (one.member_id.clone(), Named::new())).collect();
    for (topic, partition) in world.all() {
        let name = NAMES[usize::from(topic - 1)];
        let reads =
            |metadata: &[u8]| read_subscription(metadata).is_ok_and(|read| read.topics.iter().any(|one| one == name));
        let readers: Vec<_> = (0..plan.len()).filter(|i| reads(&joined.members[*i].metadata)).collect();
        if !readers.is_empty() {
            let owner = readers[partition as usize % readers.len()];
            plan[owner].1.entry(name.to_owned()).or_default().push(PartitionId(partition));
        }
    }
    plan.into_iter().map(|(id, named)| (id, write_assignment(0, &named))).collect()
}
