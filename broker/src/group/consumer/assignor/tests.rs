use super::*;
use crate::testing::Random;

/// A group without a coordinator.
#[derive(Default)]
struct Model {
    members: BTreeMap<Arc<str>, BTreeSet<u8>>,
    topics: BTreeMap<u8, u32>,
    target: BTreeMap<Arc<str>, Assignment>,
}

fn topic(n: u8) -> TopicId {
    TopicId([n; 16])
}

impl Model {
    fn assign(&self, assignor: Assignor) -> BTreeMap<Arc<str>, Assignment> {
        let members = self.members.iter().map(|(id, topics)| Subscriber {
            id,
            instance: None,
            topics: Rc::new(topics.iter().map(|n| topic(*n)).collect()),
            before: self.target.get(id),
        });
        let topics = self.topics.iter().map(|(n, count)| (topic(*n), *count)).collect();
        assignor.assign(&Spec { members: members.collect(), topics })
    }

    /// Every partition of a topic that is read has one owner, who reads it.
    fn check(&self, target: &BTreeMap<Arc<str>, Assignment>) {
        for (n, count) in &self.topics {
            let read = self.members.values().any(|topics| topics.contains(n));
            for partition in (0..*count).map(PartitionId) {
                let has = |share: &Assignment| share.get(&topic(*n)).is_some_and(|has| has.contains(&partition));
                let owners: Vec<_> = target.iter().filter(|(_, share)| has(share)).map(|(id, _)| id).collect();
                assert_eq!(owners.len(), usize::from(read), "owners of {n}-{partition:?}: {owners:?}");
                assert!(owners.iter().all(|id| self.members[*id].contains(n)));
            }
        }
        let all = target.values().map(size).sum::<usize>();
        let read = |n: &u8| self.members.values().any(|topics| topics.contains(n));
        let expected: u32 = self.topics.iter().filter(|(n, _)| read(n)).map(|(_, count)| count).sum();
        assert_eq!(all, expected as usize, "nothing but what exists");
    }

    fn moves(&self, target: &BTreeMap<Arc<str>, Assignment>) -> usize {
        let of_others = |id: &Arc<str>, topic: &TopicId, partition: &PartitionId| {
            let had = |share: &Assignment| share.get(topic).is_some_and(|has| has.contains(partition));
            self.target.iter().any(|(other, share)| other != id && self.members.contains_key(other) && had(share))
        };
        let all = target.iter().flat_map(|(id, share)| share.iter().map(move |(topic, has)| (id, topic, has)));
        all.flat_map(|(id, topic, has)| has.iter().map(move |p| (id, topic, p)))
            .filter(|(id, topic, partition)| of_others(id, topic, partition))
            .count()
    }
}

fn size(share: &Assignment) -> usize {
    share.values().map(BTreeSet::len).sum()
}

fn spread(target: &BTreeMap<Arc<str>, Assignment>) -> usize {
    let sizes = || target.values().map(size);
    sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0)
}

fn random(random: &mut Random, same: bool) -> Model {
    let topics: BTreeMap<u8, u32> = (0..1 + random.below(5) as u8).map(|n| (n, random.below(12) as u32)).collect();
    let members = (0..1 + random.below(9)).map(|i| {
        let read = topics.keys().copied().filter(|_| same || random.one_in(2)).collect();
        (Arc::from(format!("m{i}")), read)
    });
    Model { members: members.collect(), topics: topics.clone(), target: BTreeMap::new() }
}

fn change(model: &mut Model, random: &mut Random, same: bool) {
    match random.below(4) {
        0 => {
            let read = model.topics.keys().copied().filter(|_| same || random.one_in(2)).collect();
            model.members.insert(format!("n{}", random.below(1000)).into(), read);
        }
        1 if model.members.len() > 1 => {
            let nth = random.below(model.members.len() as u64) as usize;
            let gone = model.members.keys().nth(nth).cloned().expect("there");
            model.members.remove(&gone);
        }
        2 => *model.topics.values_mut().next().expect("some topic") += random.below(4) as u32,
        _ => drop(model.topics.pop_last().filter(|_| model.topics.len() > 1)),
    }
    if model.topics.is_empty() {
        model.topics.insert(9, 3);
    }
}

#[test]
fn every_partition_has_one_owner_and_shares_of_equal_readers_differ_by_one() {
    for seed in 0..300 {
        let mut chance = Random(seed);
        let same = seed % 2 == 0;
        let assignor = Assignor::ALL[(seed / 2 % 2) as usize];
        let mut model = random(&mut chance, same);
        for _ in 0..10 {
            let target = model.assign(assignor);
            model.check(&target);
            assert_eq!(target, model.assign(assignor), "seed {seed}: not deterministic");
            let first = model.members.values().next().expect("somebody");
            if assignor == Assignor::Uniform && model.members.values().all(|read| read == first) {
                assert!(spread(&target) <= 1, "seed {seed}: {target:?}");
            }
            model.target = target;
            let again = model.assign(assignor);
            assert_eq!(model.target, again, "seed {seed}: nothing changed, so nothing moves");
            change(&mut model, &mut chance, same);
        }
    }
}

#[test]
fn unequal_readers_get_as_even_shares_as_their_topics_allow() {
    let mut model = Model { topics: [(1, 6), (2, 3)].into(), ..Model::default() };
    model.members.insert("a".into(), [1].into());
    model.members.insert("b".into(), [1, 2].into());
    model.members.insert("c".into(), [2].into());
    let target = model.assign(Assignor::Uniform);
    model.check(&target);
    assert_eq!(spread(&target), 0, "{target:?}");
    model.target = target;
    model.members.remove("b");
    let target = model.assign(Assignor::Uniform);
    model.check(&target);
    assert_eq!(model.moves(&target), 0, "nobody who stays loses anything");
}

#[test]
fn uniform_moves_no_more_than_it_must() {
    let mut model = Model { topics: [(1, 100)].into(), ..Model::default() };
    (0..10).for_each(|i| drop(model.members.insert(format!("m{i}").into(), [1].into())));
    model.target = model.assign(Assignor::Uniform);
    model.members.insert("new".into(), [1].into());
    let target = model.assign(Assignor::Uniform);
    assert_eq!(model.moves(&target), 9, "the share of the new member, not one more");
    model.target = target;
    model.members.remove("m3");
    let target = model.assign(Assignor::Uniform);
    assert_eq!(model.moves(&target), 0, "only what the member had that left finds new owners");
}

#[test]
fn range_cuts_topics_of_one_size_alike() {
    let mut model = Model { topics: [(1, 7), (2, 7), (3, 2)].into(), ..Model::default() };
    (0..3).for_each(|i| drop(model.members.insert(format!("m{i}").into(), [1, 2, 3].into())));
    for _ in 0..4 {
        let target = model.assign(Assignor::Range);
        model.check(&target);
        assert!(target.values().all(|share| share.get(&topic(1)) == share.get(&topic(2))), "{target:?}");
        let contiguous = |has: &BTreeSet<PartitionId>| has.iter().zip(has.iter().skip(1)).all(|(a, b)| a.0 + 1 == b.0);
        assert!(target.values().flat_map(BTreeMap::values).all(contiguous));
        model.target = target;
        let next: Arc<str> = format!("a{}", model.members.len()).into();
        model.members.insert(next, [1, 2, 3].into());
    }
}

/// 5,000 members and 10,000 partitions: a few tenths of a second for all four assignments, in a debug build.
#[test]
fn a_large_group_is_assigned_quickly() {
    let ids: Vec<Arc<str>> = (0..5_000).map(|i| format!("m{i:04}").into()).collect();
    let topics: BTreeMap<_, _> = (0..100).map(|n| (topic(n), 100)).collect();
    let mut chance = Random(1);
    let all: Rc<BTreeSet<TopicId>> = Rc::new(topics.keys().copied().collect());
    let some = || Rc::new((0..100).filter(|_| chance.one_in(3)).map(topic).collect::<BTreeSet<_>>());
    let mixed: Vec<_> = std::iter::repeat_with(some).take(5_000).collect();
    for same in [true, false] {
        let mut target = BTreeMap::new();
        for _ in 0..2 {
            let members = ids.iter().zip(&mixed).map(|(id, some)| Subscriber {
                id,
                instance: None,
                topics: Rc::clone(if same { &all } else { some }),
                before: target.get(id),
            });
            let spec = Spec { members: members.collect(), topics: topics.clone() };
            let next = Assignor::Uniform.assign(&spec);
            let fair = if same { 2..=2 } else { 1..=3 };
            assert!(next.values().all(|share| fair.contains(&size(share))));
            target = next;
        }
    }
}
