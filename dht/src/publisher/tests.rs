use super::*;
use crate::record::Body;
use crate::{Signer, testing};

struct Fixture {
    signer: Signer,
    publisher: Publisher,
}

fn fixture() -> Fixture {
    let signer = Signer::new(&[7; 32]);
    let mut publisher = Publisher::new(signer.cluster_id());
    publisher.set_members(peers(0..5), at(0));
    Fixture { publisher, signer }
}

impl Fixture {
    fn name(&self, id: u8, index: u64) -> SignedRecord {
        self.signer.sign(testing::name_body(self.signer.cluster_id(), id, "orders", index)).expect("fits")
    }

    fn tombstone(&self, id: u8, index: u64) -> SignedRecord {
        let body = testing::name_body(self.signer.cluster_id(), id, "orders", index);
        self.signer.sign(Body { payload: None, ..body }).expect("fits")
    }

    /// Hands out what is due and says that only the first `takers` holders took it.
    fn put(&mut self, seconds: u64, takers: usize) -> Vec<Due> {
        let due = self.publisher.due(at(seconds));
        for due in &due {
            let stored = due.holders.iter().take(takers).copied().collect();
            self.publisher.done(due, &Stored { stored, offered: due.holders.len() }, at(seconds));
        }
        due
    }

    fn due(&mut self, seconds: u64) -> Vec<(u8, u64)> {
        let due = self.put(seconds, usize::MAX);
        let id = |key: &Key| if let Key::Name(id) = key { id.0[0] } else { 0 };
        due.iter().map(|due| (id(due.record.key()), due.record.version().index.0)).collect()
    }
}

fn at(seconds: u64) -> Monotonic {
    Monotonic::default().plus(Duration::from_secs(seconds))
}

fn peers(ids: std::ops::Range<u64>) -> Vec<PeerId> {
    ids.map(|id| testing::node(id).peer_id.parse().expect("a peer id")).collect()
}

#[test]
fn the_holders_are_the_closest_members_and_at_most_eight() {
    let f = fixture();
    let (cluster, key) = (f.signer.cluster_id(), f.name(1, 1).key().clone());
    let all = holders(&cluster, &key, peers(0..40));
    assert_eq!(all.len(), DHT_HOLDERS);
    let distance = |peer: &PeerId| KBucketKey::from(*peer).distance(&key.place(&cluster));
    assert!(all.is_sorted_by_key(distance));
    let last = distance(&all[DHT_HOLDERS - 1]);
    assert!(peers(0..40).iter().all(|peer| all.contains(peer) || distance(peer) > last));
    assert_eq!(holders(&cluster, &key, peers(0..3)).len(), 3, "a small cluster holds everything everywhere");
    assert!(holders(&cluster, &key, []).is_empty());
}

#[test]
fn new_records_are_due_at_once_and_again_before_a_third_of_their_life() {
    let mut f = fixture();
    assert_eq!(f.publisher.next_due(), None);
    f.publisher.set([f.name(1, 5), f.name(2, 5)], at(0));
    assert_eq!(f.due(0), [(1, 5), (2, 5)]);
    assert_eq!(f.due(0), []);
    let next = f.publisher.next_due().expect("scheduled");
    assert!(next > at(539) && next <= at(600), "{next:?}");
    assert_eq!(f.due(601).len(), 2);
}

#[test]
fn only_what_changed_is_put_again_and_what_is_not_ours_no_more() {
    let mut f = fixture();
    f.publisher.set([f.name(1, 5), f.name(2, 5), f.name(3, 5)], at(0));
    assert_eq!(f.due(0).len(), 3);
    f.publisher.set([f.name(1, 5), f.name(2, 6)], at(10));
    assert_eq!(f.due(10), [(2, 6)]);
    assert_eq!(f.publisher.keys().count(), 2);
    f.publisher.add(f.name(2, 5), at(11));
    assert_eq!(f.due(11), [], "an older version does not come back");
    f.publisher.retain(|_| false);
    assert_eq!((f.publisher.next_due(), f.publisher.is_empty()), (None, true));
}

#[test]
fn holders_that_lack_a_record_are_tried_again_ever_later() {
    let mut f = fixture();
    f.publisher.add(f.name(1, 5), at(0));
    let all = f.put(0, 3)[0].holders.clone();
    let (mut now, mut waits) = (0, Vec::new());
    for _ in 0..9 {
        let wait = f.publisher.next_due().expect("scheduled").since(at(now)).as_secs();
        waits.push(wait);
        now += wait;
        assert_eq!(f.put(now, 0)[0].holders, all[3..], "those that have it are left in peace");
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    now += 60;
    assert_eq!(f.put(now, 9)[0].holders, all[3..]);
    assert!(f.publisher.next_due() > Some(at(500)));
    let refresh = f.publisher.due(at(601));
    assert_eq!(refresh[0].holders, all);
    f.publisher.add(f.name(1, 6), at(602));
    f.due(602);
    f.publisher.done(&refresh[0], &Stored::default(), at(603));
    assert!(f.publisher.next_due() > Some(at(1000)), "the end of an older put says nothing");
}

#[test]
fn a_record_that_nobody_was_there_to_hold_is_put_as_soon_as_somebody_is() {
    let mut f = fixture();
    f.publisher.set_members([], at(0));
    f.publisher.add(f.name(1, 5), at(0));
    assert_eq!(f.put(0, 0)[0].holders, []);
    f.publisher.set_members(peers(0..5), at(1));
    assert_eq!(f.put(1, 9)[0].holders.len(), 5);
}

#[test]
fn the_more_records_move_the_more_they_are_spread_out() {
    for (records, latest_ms) in [(4u8, 4), (250, 250)] {
        let mut f = fixture();
        (0..records).for_each(|id| f.publisher.add(f.name(id, 5), at(0)));
        while !f.put(0, 9).is_empty() {}
        f.publisher.set_members(peers(0..6), at(100));
        let end = at(100).plus(Duration::from_millis(latest_ms));
        let moved = std::iter::from_fn(|| Some(f.publisher.due(end)).filter(|due| !due.is_empty())).flatten();
        assert_eq!(moved.count(), usize::from(records));
    }
}

#[test]
fn a_record_that_moves_to_a_new_holder_is_put_there_soon() {
    let mut f = fixture();
    f.publisher.add(f.name(1, 5), at(0));
    f.due(0);
    f.publisher.set_members(peers(0..4), at(100));
    assert!(f.publisher.next_due() > Some(at(500)), "one holder less needs no put");
    f.publisher.set_members(peers(0..6), at(100));
    let due = f.put(102, 9);
    assert_eq!((due.len(), due[0].holders.len()), (1, 2));
    assert!(due[0].holders.iter().all(|peer| peers(4..6).contains(peer)));
    assert_eq!(f.put(700, 9)[0].holders.len(), 6);
}

#[test]
fn tombstones_are_published_until_every_holder_has_them() {
    let mut f = fixture();
    let gone = f.tombstone(1, 6);
    f.publisher.add(f.name(1, 5), at(0));
    f.publisher.add(gone.clone(), at(0));
    f.publisher.set([f.name(2, 5)], at(1));
    assert_eq!(f.put(1, 2).len(), 2);
    assert_eq!(f.publisher.len(), 2);
    assert_eq!(f.due(2), [(1, 6), (2, 5)]);
    assert_eq!(f.publisher.len(), 1, "every holder has the tombstone");
    f.publisher.add(gone.clone(), at(3));
    assert_eq!(f.due(3 + gone.life().as_secs()), [(2, 5)], "nobody remembers what it would bury");
    assert_eq!(f.publisher.len(), 1);
}

#[test]
fn a_thousand_records_come_in_portions() {
    let mut f = fixture();
    f.publisher.set((0..200).map(|id| f.name(id, 5)).collect::<Vec<_>>(), at(0));
    let mut total = 0;
    while let portion @ 1.. = f.due(0).len() {
        assert!(portion <= DHT_DUE_MAX);
        total += portion;
    }
    assert_eq!(total, 200);
}
