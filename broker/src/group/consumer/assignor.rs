//! Who shall own what: pure functions from subscriptions and the last target to the next.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use rafka_model::{PartitionId, TopicId};

/// Partitions by topic.
pub(in crate::group) type Assignment = BTreeMap<TopicId, BTreeSet<PartitionId>>;

/// The assignors that a coordinator offers (`group.consumer.assignors`); the first is the default.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(in crate::group) enum Assignor {
    /// As even as can be over all topics, and as few moves as that allows.
    #[default]
    Uniform,
    /// A range of each topic, the same for topics of as many partitions (joins by key).
    Range,
}

impl Assignor {
    pub(in crate::group) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// Kafka's word.
    pub(in crate::group) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(in crate::group) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// The next target: every partition of a topic that somebody subscribes to has one owner among the subscribers.
    pub(in crate::group) fn assign(self, spec: &Spec<'_>) -> BTreeMap<Arc<str>, Assignment> {
        let shares = match self {
            Self::Uniform => uniform::assign(spec),
            Self::Range => range::assign(spec),
        };
        spec.members.iter().map(|member| Arc::clone(member.id)).zip(shares).collect()
    }
}

/// What an assignor knows.
#[derive(Debug)]
pub(in crate::group) struct Spec<'a> {
    /// By id.
    pub(in crate::group) members: Vec<Subscriber<'a>>,
    /// Partitions of each topic that exists.
    pub(in crate::group) topics: BTreeMap<TopicId, u32>,
}

/// A member, as assignors see it.
#[derive(Debug)]
pub(in crate::group) struct Subscriber<'a> {
    pub(in crate::group) id: &'a Arc<str>,
    pub(in crate::group) instance: Option<&'a str>,
    /// What it reads. Members that read the same share the set.
    pub(in crate::group) topics: Rc<BTreeSet<TopicId>>,
    /// Its share in the last target.
    pub(in crate::group) before: Option<&'a Assignment>,
}

impl Spec<'_> {
    /// The members have one subscription.
    fn is_homogeneous(&self) -> bool {
        let mut sets = self.members.iter().map(|member| &member.topics);
        let Some(first) = sets.next() else { return true };
        sets.all(|set| Rc::ptr_eq(set, first) || set == first)
    }

    /// Members (by their place in [`Self::members`]) that read each topic that exists.
    fn subscribers(&self) -> BTreeMap<TopicId, Vec<usize>> {
        let mut subscribers = BTreeMap::<TopicId, Vec<usize>>::new();
        for (i, member) in self.members.iter().enumerate() {
            for topic in member.topics.iter().filter(|topic| self.topics.contains_key(topic)) {
                subscribers.entry(*topic).or_default().push(i);
            }
        }
        subscribers
    }

    /// What of its last share the member could keep.
    fn kept(&self, member: usize) -> impl Iterator<Item = (TopicId, PartitionId)> {
        let member = &self.members[member];
        let before = member.before.into_iter().flatten().filter(|(topic, _)| member.topics.contains(topic));
        before.flat_map(|(topic, partitions)| {
            let count = self.topics.get(topic).copied().unwrap_or(0);
            partitions.iter().take_while(move |partition| partition.0 < count).map(|partition| (*topic, *partition))
        })
    }
}
