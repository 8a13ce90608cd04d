//! A consumer of the classic protocol, eager: it gives everything up before it joins again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::world::{Call, World};
use crate::ErrorCode;
use crate::group::request::{GroupReply, GroupRequest, Heartbeat, Join, JoinReply, Joined, Leave, Leaving, Sync};
use crate::group::testing::{Reply, join_as};

/// What a consumer is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Wants to be in the next generation.
    Joining,
    /// Wants its assignment.
    Syncing,
    /// Wants to know where to begin.
    Fetching,
    /// Consumes.
    Stable,
    /// Never gets further than joining, but says that it lives.
    Stuck,
    /// Gone for good.
    Dead,
}

#[derive(Clone, Debug)]
pub(super) struct Consumer {
    client: usize,
    instance_id: Option<String>,
    requires_member_id: bool,
    member_id: String,
    phase: Phase,
    pub(super) generation: i32,
    pub(super) owned: BTreeSet<u8>,
    positions: BTreeMap<u8, i64>,
    /// Shares to give, if it leads.
    plan: Vec<(String, Bytes)>,
    leads: bool,
    /// Partitions when it last assigned.
    partitions: u8,
    /// The request under way, and when it is given up.
    call: Option<(Call, u64)>,
    /// Down until then.
    back: u64,
    /// Will not get further than joining.
    pub(super) gets_stuck: bool,
}

/// A member that is gone but does not know.
#[derive(Clone, Debug)]
pub(super) struct Zombie {
    member_id: String,
    instance_id: Option<String>,
    generation: i32,
    positions: Vec<(u8, i64)>,
}

impl Zombie {
    pub(super) fn commit(&self, world: &mut World) -> Result<(), String> {
        let one = world.random.below(self.positions.len() as u64) as usize;
        let instance_id = self.instance_id.as_ref();
        let request = World::commit_of(&self.member_id, instance_id, self.generation, self.positions[one]);
        world.ask(None, request)
    }
}

impl Consumer {
    pub(super) fn new(world: &mut World, client: usize) -> Self {
        world.connect(client);
        world.disconnect(client);
        let is_static = world.random.one_in(2);
        Self {
            client,
            instance_id: is_static.then(|| format!("static-{client}")),
            requires_member_id: world.random.one_in(2),
            member_id: String::new(),
            phase: Phase::Joining,
            generation: 0,
            owned: BTreeSet::new(),
            positions: BTreeMap::new(),
            plan: Vec::new(),
            leads: false,
            partitions: 0,
            call: None,
            back: 0,
            gets_stuck: false,
        }
    }

    /// Another process with the name of this static member: it was started elsewhere while this one still runs.
    pub(super) fn twin(&self, client: usize) -> Option<Self> {
        self.instance_id.as_ref().filter(|_| self.phase != Phase::Dead)?;
        let mut twin = self.clone();
        twin.client = client;
        twin.forget();
        Some(twin)
    }

    pub(super) fn lives(&self) -> bool {
        !matches!(self.phase, Phase::Dead | Phase::Stuck)
    }

    pub(super) fn leads(&self) -> bool {
        self.leads && self.lives()
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.phase == Phase::Stuck
    }

    pub(super) fn is_stable(&self) -> bool {
        self.phase == Phase::Stable
    }

    /// Does what is to be done next, unless it waits for an answer.
    pub(super) fn act(&mut self, world: &mut World) {
        let waits = self.call.is_some_and(|(_, until)| world.now < until);
        if waits || world.now < self.back || self.phase == Phase::Dead {
            return;
        }
        let request = match self.phase {
            Phase::Joining => self.join(),
            Phase::Syncing => self.sync(),
            Phase::Fetching => World::offsets_of(self.owned.iter().copied()),
            Phase::Stuck | Phase::Dead => self.heartbeat(),
            // The leader notices that there are more partitions.
            Phase::Stable if self.leads && self.partitions != world.partitions => {
                self.give_up();
                self.join()
            }
            Phase::Stable => {
                let owned = self.owned.iter().nth(world.random.below(4) as usize).copied();
                match owned.filter(|_| world.random.one_in(2)) {
                    Some(partition) => {
                        let position = self.positions.entry(partition).or_default();
                        *position += 1;
                        let at = (partition, *position);
                        World::commit_of(&self.member_id, self.instance_id.as_ref(), self.generation, at)
                    }
                    None => self.heartbeat(),
                }
            }
        };
        let patience = if matches!(request, GroupRequest::Join(_)) { 20_000 } else { 3_000 };
        self.call = Some((world.send(self.client, request), world.now + patience));
    }

    fn join(&self) -> GroupRequest {
        GroupRequest::Join(Join {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 8_000,
            requires_member_id: self.requires_member_id,
            ..join_as("client")
        })
    }

    fn sync(&self) -> GroupRequest {
        GroupRequest::Sync(Sync {
            group: "g".to_owned(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            assignments: self.plan.clone(),
            ..Sync::default()
        })
    }

    fn heartbeat(&self) -> GroupRequest {
        GroupRequest::Heartbeat(Heartbeat {
            group: "g".to_owned(),
            generation: self.generation,
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
        })
    }

    /// Takes an answer; answers to what it does not wait for any more go unheard.
    pub(super) fn hear(&mut self, world: &mut World, call: Call, reply: Reply) {
        if self.call.is_none_or(|(mine, _)| mine != call) {
            return;
        }
        self.call = None;
        match reply {
            Ok(GroupReply::Join(JoinReply::TakeMemberId(id))) => self.member_id = id,
            Ok(GroupReply::Join(JoinReply::Joined(joined))) => {
                self.assign(world, &joined);
                (self.member_id, self.generation) = (joined.member_id, joined.generation);
                self.phase = if self.gets_stuck { Phase::Stuck } else { Phase::Syncing };
            }
            Ok(GroupReply::Sync(share)) => {
                self.owned = share.assignment.iter().copied().collect();
                self.phase = if self.owned.is_empty() { Phase::Stable } else { Phase::Fetching };
            }
            Ok(GroupReply::Offsets(offsets)) => {
                self.positions = offsets.iter().map(|one| (one.partition.0 as u8, one.offset.max(0))).collect();
                self.phase = Phase::Stable;
            }
            Ok(_) => {}
            Err(failure) if self.phase == Phase::Stuck => match failure.code {
                ErrorCode::NotCoordinator | ErrorCode::RebalanceInProgress => {}
                _ => self.phase = Phase::Dead,
            },
            Err(failure) => match failure.code {
                ErrorCode::FencedInstanceId => {
                    self.give_up();
                    self.phase = Phase::Dead;
                }
                ErrorCode::UnknownMemberId => self.forget(),
                ErrorCode::IllegalGeneration | ErrorCode::RebalanceInProgress => self.give_up(),
                _ => {}
            },
        }
    }

    /// Deals the partitions out, if it leads.
    fn assign(&mut self, world: &mut World, joined: &Joined) {
        self.leads = joined.leader == joined.member_id;
        self.plan.clear();
        if joined.skip_assignment {
            // Its former self has dealt them out: perhaps when there were fewer.
            self.partitions = world.dealt.get(&joined.generation).copied().unwrap_or(0);
        } else if self.leads {
            let (count, partitions) = (joined.members.len(), world.partitions);
            let share = |i: usize| (0..partitions).filter(move |id| usize::from(*id) % count == i).collect::<Vec<_>>();
            let shares = joined.members.iter().enumerate();
            self.plan = shares.map(|(i, member)| (member.member_id.clone(), share(i).into())).collect();
            self.partitions = partitions;
            world.dealt.insert(joined.generation, partitions);
        }
    }

    fn give_up(&mut self) {
        self.owned.clear();
        self.positions.clear();
        self.phase = Phase::Joining;
    }

    fn forget(&mut self) {
        self.give_up();
        self.member_id.clear();
        (self.call, self.leads) = (None, false);
    }

    /// The process ends without a word, and another begins after a while.
    pub(super) fn crash(&mut self, world: &mut World) -> Option<Zombie> {
        if matches!(self.phase, Phase::Dead | Phase::Stuck) {
            return None;
        }
        let positions: Vec<_> = self.positions.iter().map(|(id, offset)| (*id, *offset)).collect();
        let zombie = Zombie {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            generation: self.generation,
            positions,
        };
        world.disconnect(self.client);
        self.forget();
        // A static member is often back before anybody notices.
        let at_once = world.random.one_in(if self.instance_id.is_some() { 2 } else { 8 });
        self.back = world.now + if at_once { 0 } else { world.random.below(15_000) };
        (!zombie.positions.is_empty()).then_some(zombie)
    }

    /// The process ends without a word, and that was it.
    pub(super) fn die(&mut self, world: &mut World) {
        self.crash(world);
        self.phase = Phase::Dead;
    }

    /// The process says good-bye, and another begins after a while.
    pub(super) fn leave(&mut self, world: &mut World) -> Option<Zombie> {
        let member_id = self.member_id.clone();
        let instance_id = self.instance_id.clone();
        let zombie = self.crash(world);
        if !member_id.is_empty() && self.phase != Phase::Dead && self.phase != Phase::Stuck {
            let members = vec![Leaving { member_id, instance_id, reason: None }];
            world.send(self.client, GroupRequest::Leave(Leave { group: "g".to_owned(), members }));
        }
        zombie
    }
}
