//! The log, the driver of the coordinator, and a network that loses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rafka_model::{Monotonic, PartitionId, Timestamp, TopicId};

use super::member::{Member, NAMES, REBALANCE_MS};
use crate::group::request::{
    Commit, ConsumerHeartbeat, GroupDescription, GroupKind, GroupReply, GroupRequest, TopicPartitions,
};
use crate::group::rules::{Rule, Rules};
use crate::group::testing::{Reply, commit, set_topic};
use crate::group::{Config, Context, Coordinator, GroupRecord, Output, Token};
use crate::metadata::Image;
use crate::testing::Random;
use crate::{ErrorCode, Failure};

pub(super) type Partition = (u8, u32);

pub(super) fn listed(partitions: &BTreeSet<Partition>) -> Vec<TopicPartitions> {
    let mut by_topic = BTreeMap::<u8, Vec<PartitionId>>::new();
    partitions.iter().for_each(|(topic, at)| by_topic.entry(*topic).or_default().push(PartitionId(*at)));
    let listed = by_topic.into_iter();
    listed.map(|(topic, partitions)| TopicPartitions { topic: TopicId([topic; 16]), partitions }).collect()
}

/// What the coordinator knows of whoever sits at a place.
#[derive(Clone, Copy, Debug, Default)]
struct Bond {
    /// When a request of it was last handled.
    heard: u64,
    /// Since when it is to give something back.
    ordered: Option<u64>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) healed: bool,
    pub(super) now: u64,
    pub(super) log: Vec<GroupRecord>,
    pub(super) inboxes: Vec<VecDeque<(u64, Reply)>>,
    /// Members that are no more, with the last epoch of each.
    pub(super) gone: Vec<(String, i32)>,
    pub(super) crashes: usize,
    pub(super) conversions: usize,
    outboxes: Vec<VecDeque<(u64, GroupRequest)>>,
    bonds: Vec<Bond>,
    /// Requests that came twice since the member last heard an answer.
    pub(super) repeated: Vec<usize>,
    coordinator: Coordinator,
    kind: GroupKind,
    rules: Rules,
    image: Image,
    sizes: [u32; 2],
    committed: usize,
    /// Where the records of an output end: the log may be cut there …
    ends: BTreeSet<usize>,
    /// … or anywhere.
    tears: bool,
    held: VecDeque<(usize, Token, Reply)>,
    /// Who waits: place and number of the call.
    waiting: BTreeMap<Token, (usize, u64)>,
    /// Epochs that each member was ever in.
    epochs: BTreeMap<String, BTreeSet<i32>>,
    next: u64,
    /// The request answered last, and whether it was granted.
    last: Option<(Token, bool)>,
}

const PLACES: usize = super::MEMBERS;

fn config() -> Config {
    Config { initial_rebalance_delay_ms: 500, ..Config::default() }
}

impl World {
    pub(super) fn new(seed: u64, broken: Option<Rule>, tears: bool) -> Self {
        let (log, gone, held, waiting, epochs) = Default::default();
        let mut world = Self {
            random: Random(seed),
            healed: false,
            now: 1,
            log,
            inboxes: vec![VecDeque::new(); PLACES],
            gone,
            crashes: 0,
            conversions: 0,
            outboxes: vec![VecDeque::new(); PLACES],
            bonds: vec![Bond::default(); PLACES],
            repeated: vec![0; PLACES],
            coordinator: Coordinator::new(config()),
            kind: GroupKind::Classic,
            rules: Rules { broken },
            image: Image::default(),
            sizes: [4, 3],
            committed: 0,
            ends: BTreeSet::new(),
            tears,
            held,
            waiting,
            epochs,
            next: 0,
            last: None,
        };
        (0..2).for_each(|i| set_topic(&mut world.image, NAMES[i], i as u8 + 1, world.sizes[i]));
        world.begin().expect("an empty log");
        world
    }

    /// All partitions that there are.
    pub(super) fn all(&self) -> impl Iterator<Item = Partition> + use<> {
        let sizes = self.sizes;
        (1..=2u8).flat_map(move |topic| (0..sizes[usize::from(topic - 1)]).map(move |at| (topic, at)))
    }

    pub(super) fn new_id(&mut self, place: usize) -> String {
        self.next += 1;
        format!("m{place}-{}", self.next)
    }

    pub(super) fn send(&mut self, place: usize, request: GroupRequest) -> u64 {
        self.next += 1;
        self.outboxes[place].push_back((self.next, request));
        self.next
    }

    pub(super) fn disconnect(&mut self, place: usize) {
        self.outboxes[place].clear();
        self.inboxes[place].clear();
        self.waiting.retain(|_, (other, _)| *other != place);
    }

    /// True while the coordinator owes the member that nobody else gets what it has.
    pub(super) fn is_bound(&self, member: &Member) -> bool {
        let bond = self.bonds[member.place];
        let late = bond.ordered.is_some_and(|since| self.now >= since + REBALANCE_MS);
        self.now < bond.heard + member.session_ms() && !late
    }

    /// Requests of a place arrive in order; one of `losses` is lost, some come twice.
    pub(super) fn deliver(&mut self, place: usize, losses: u64) -> Result<(), String> {
        while let Some((call, request)) = self.outboxes[place].pop_front() {
            if losses > 0 && self.random.one_in(losses) {
                continue;
            }
            let again = (!self.healed && self.random.one_in(15)).then(|| request.clone());
            self.ask(Some((place, call)), request)?;
            if let Some(request) = again {
                // Its answer is one more that the member does not hear.
                self.repeated[place] += 1;
                self.ask(None, request)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, from: Option<(usize, u64)>, request: GroupRequest) -> Result<(), String> {
        self.next += 1;
        let token = self.next;
        if let Some((place, call)) = from {
            self.waiting.insert(token, (place, call));
        }
        self.step(|coordinator, context| coordinator.handle(context, token, request))
    }

    fn step(&mut self, step: impl FnOnce(&mut Coordinator, &Context<'_>) -> Output) -> Result<(), String> {
        self.next += 1;
        let context = Context {
            now: Monotonic(self.now * 1_000_000),
            time: Timestamp(self.now.cast_signed()),
            image: &self.image,
            unique: u128::from(self.next),
        };
        let output = step(&mut self.coordinator, &context);
        let is_news = !output.records.is_empty();
        self.log.extend(output.records);
        self.ends.insert(self.log.len());
        for (token, reply) in output.replies {
            self.note(token, &reply);
            self.held.push_back((self.log.len(), token, reply));
        }
        if is_news {
            self.look();
        }
        self.release()
    }

    /// Remembers since when a member is to give something back.
    fn note(&mut self, token: Token, reply: &Reply) {
        self.last = Some((token, reply.is_ok()));
        let Some((place, _)) = self.waiting.get(&token) else { return };
        let lives = reply.as_ref().err().is_none_or(|failure| failure.code == ErrorCode::RebalanceInProgress);
        if lives {
            self.bonds[*place].heard = self.now;
        }
        let gives = match reply {
            Ok(GroupReply::ConsumerHeartbeat(reply)) => reply.assignment.is_some().then_some(true),
            // A classic member is called back.
            Err(failure) if failure.code == ErrorCode::RebalanceInProgress => Some(true),
            Ok(GroupReply::Join(_)) => Some(false),
            _ => None,
        };
        let bond = &mut self.bonds[*place];
        match gives {
            Some(true) => bond.ordered = bond.ordered.or(Some(self.now)),
            Some(false) => bond.ordered = None,
            None => {}
        }
    }

    /// Looks at the group from outside.
    fn look(&mut self) {
        let kind = self.coordinator.list().first().map_or(self.kind, |listed| listed.kind);
        self.conversions += usize::from(std::mem::replace(&mut self.kind, kind) != kind);
        if let Some(GroupDescription::Consumer(group)) = self.describe() {
            for member in group.members {
                self.epochs.entry(member.member_id).or_default().insert(member.member_epoch);
            }
        }
    }

    pub(super) fn describe(&mut self) -> Option<GroupDescription> {
        let image = Image::default();
        let context = Context { now: Monotonic(0), time: Timestamp(0), image: &image, unique: 0 };
        let output = self.coordinator.handle(&context, 0, GroupRequest::Describe { group: "g".to_owned() });
        match output.replies.into_iter().next() {
            Some((_, Ok(GroupReply::Describe(description)))) => Some(description),
            _ => None,
        }
    }

    /// Gives the replies whose records are safe.
    fn release(&mut self) -> Result<(), String> {
        while self.held.front().is_some_and(|(needs, ..)| *needs <= self.committed) {
            let Some((_, token, reply)) = self.held.pop_front() else { break };
            if let Some((place, call)) = self.waiting.remove(&token) {
                self.inboxes[place].push_back((call, reply));
            }
        }
        Ok(())
    }

    /// A member's order is done with.
    pub(super) fn settled(&mut self, place: usize) {
        self.bonds[place].ordered = None;
    }

    pub(super) fn pass(&mut self, ms: u64) -> Result<(), String> {
        let end = self.now + ms;
        while let Some(at) = self.coordinator.next_timeout().filter(|at| at.0 <= end * 1_000_000) {
            self.now = self.now.max(at.0.div_ceil(1_000_000));
            self.step(|coordinator, context| coordinator.tick(context))?;
        }
        self.now = end;
        Ok(())
    }

    /// A place in the log between what is safe and its end.
    fn somewhere(&mut self) -> usize {
        let open = (self.log.len() - self.committed) as u64;
        let at = self.committed + self.random.below(open + 1) as usize;
        if self.tears { at } else { self.ends.range(..=at).next_back().copied().unwrap_or(0).max(self.committed) }
    }

    pub(super) fn commit_some(&mut self) -> Result<(), String> {
        self.committed = self.somewhere();
        self.release()
    }

    pub(super) fn commit_all(&mut self) -> Result<(), String> {
        self.committed = self.log.len();
        self.release()
    }

    pub(super) fn crash(&mut self) -> Result<(), String> {
        self.crashes += 1;
        let end = self.somewhere();
        self.log.truncate(end);
        self.ends.retain(|at| *at <= end);
        self.committed = end;
        self.held.clear();
        for (place, call) in std::mem::take(&mut self.waiting).into_values() {
            let refusal = Failure::new(ErrorCode::NotCoordinator, "the coordinator has moved");
            self.inboxes[place].push_back((call, Err(refusal)));
        }
        self.begin()
    }

    fn begin(&mut self) -> Result<(), String> {
        self.coordinator = Coordinator::new(config());
        self.coordinator.rules = self.rules;
        for record in &self.log {
            self.coordinator.replay(&record.key, record.value.as_deref()).map_err(|error| error.to_string())?;
        }
        self.step(|coordinator, context| coordinator.loaded(context))
    }

    /// A topic gets another partition.
    pub(super) fn grow(&mut self) {
        let one = self.random.below(2) as usize;
        if self.sizes[one] < 8 || self.healed {
            self.sizes[one] += 1;
            set_topic(&mut self.image, NAMES[one], one as u8 + 1, self.sizes[one]);
            self.step(|coordinator, context| coordinator.image_changed(context)).expect("no reply");
        }
    }

    /// Somebody shows an epoch in which the member never was, or commits for a member that is no more.
    pub(super) fn lie(&mut self) -> Result<(), String> {
        let Some(GroupDescription::Consumer(group)) = self.describe() else { return Ok(()) };
        if group.members.is_empty() {
            return Ok(());
        }
        let member = &group.members[self.random.below(group.members.len() as u64) as usize];
        let epoch = 1 + self.random.below(member.member_epoch.max(1) as u64 + 2) as i32;
        let known = self.epochs.get(&member.member_id).is_some_and(|epochs| epochs.contains(&epoch));
        let request = match self.gone.last() {
            Some((id, epoch))
                if self.random.one_in(2) && group.members.iter().all(|member| member.member_id != *id) =>
            {
                let one = commit("g", "orders", 0, 1);
                GroupRequest::Commit(Commit { generation: (*epoch).max(0), member_id: id.clone(), ..one })
            }
            _ if known || member.is_classic || member.instance_id.is_some() => return Ok(()),
            _ => GroupRequest::ConsumerHeartbeat(ConsumerHeartbeat {
                group: "g".to_owned(),
                member_id: member.member_id.clone(),
                member_epoch: epoch,
                rebalance_timeout_ms: -1,
                owned: Some(vec![]),
                ..ConsumerHeartbeat::default()
            }),
        };
        self.last = None;
        self.ask(None, request.clone())?;
        match self.last {
            Some((_, true)) => Err(format!("a lie was believed: {request:?}")),
            _ => Ok(()),
        }
    }
}
