use std::time::Duration;

use proptest::prelude::*;
use rafka_model::limits::{DHT_QUORUM_TTL_MS, DHT_RECORD_BYTES_MAX, DHT_TTL_MS};
use rafka_model::{MetadataIndex, NodeId};

use super::*;
use crate::record::Body;
use crate::testing::{self, FakeClock};
use crate::{Signer, directory};

struct Fixture {
    signer: Signer,
    clock: FakeClock,
    store: ValidatingStore,
}

fn fixture(limits: Limits) -> Fixture {
    let (signer, clock) = (Signer::new(&[7; 32]), FakeClock::default());
    let verifier = Verifier::new(signer.cluster_id(), &signer.public_key()).expect("matches");
    let local = testing::node(1).peer_id.parse().expect("a peer id");
    let store = ValidatingStore::new(local, verifier, clock.clock(), limits);
    Fixture { signer, clock, store }
}

impl Fixture {
    fn name(&self, id: u8, index: u64) -> SignedRecord {
        self.signed(testing::name_body(self.signer.cluster_id(), id, "orders", index))
    }

    fn signed(&self, body: Body) -> SignedRecord {
        self.signer.sign(body).expect("fits")
    }

    fn tombstone(&self, id: u8, index: u64) -> SignedRecord {
        self.signed(Body { payload: None, ..testing::name_body(self.signer.cluster_id(), id, "orders", index) })
    }

    fn offer(&mut self, record: &SignedRecord) -> std::result::Result<Accepted, Refusal> {
        self.store.offer(&self.kad_key(record.key()), record.bytes())
    }

    fn kad_key(&self, key: &Key) -> RecordKey {
        key.record_key(&self.signer.cluster_id())
    }

    fn version(&self, id: u8) -> Option<u64> {
        self.store.read(&Key::Name(rafka_model::TopicId([id; 16]))).map(|record| record.version().index.0)
    }
}

fn stale(offered: u64, stored: u64) -> std::result::Result<Accepted, Refusal> {
    let version = |index| Version::new(0, MetadataIndex(index));
    Err(Refusal::Stale { offered: version(offered), stored: version(stored) })
}

#[test]
fn newer_versions_replace_older_ones_and_never_the_other_way_round() {
    let mut f = fixture(Limits::default());
    let (five, six) = (f.name(1, 5), f.name(1, 6));
    assert_eq!(f.offer(&five), Ok(Accepted::New));
    assert_eq!(f.offer(&six), Ok(Accepted::Replaced));
    assert_eq!(f.offer(&five), stale(5, 6));
    assert_eq!(f.version(1), Some(6));
    let next_generation = f.signed(Body { version: Version::new(1, MetadataIndex(1)), ..six.body().clone() });
    assert_eq!(f.offer(&next_generation), Ok(Accepted::Replaced));
    assert_eq!(f.offer(&six).map_err(|refusal| matches!(refusal, Refusal::Stale { .. })), Err(true));
    let stats = f.store.stats();
    assert_eq!(
        (stats.records, stats.bytes, stats.stored, stats.refused_stale),
        (1, next_generation.bytes().len(), 3, 2)
    );
}

#[test]
fn the_same_bytes_again_live_longer() {
    let mut f = fixture(Limits::default());
    let record = f.name(1, 5);
    f.offer(&record).expect("valid");
    let most_of_a_life = Duration::from_millis(DHT_TTL_MS - 1);
    for _ in 0..3 {
        f.clock.advance(most_of_a_life);
        assert_eq!(f.offer(&record), Ok(Accepted::Refreshed));
    }
    f.clock.advance(most_of_a_life);
    assert_eq!(f.version(1), Some(5));
    f.clock.advance(Duration::from_millis(1));
    assert_eq!(f.version(1), None);
    assert!(f.store.get(&f.kad_key(record.key())).is_none() && f.store.records().next().is_none());
    let other = f.name(2, 5);
    f.offer(&other).expect("valid");
    let stats = f.store.stats();
    assert_eq!((stats.records, stats.bytes, stats.refreshed, stats.expired), (1, other.bytes().len(), 3, 1));
}

#[test]
fn another_encoding_of_the_same_version_may_be_refreshed_too() {
    let mut f = fixture(Limits::default());
    let old = f.name(1, 5);
    let new = f.signed(testing::name_body(f.signer.cluster_id(), 1, "orders.v2", 5));
    assert_eq!(f.offer(&old), Ok(Accepted::New));
    assert_eq!(f.offer(&new), Ok(Accepted::Replaced));
    assert_eq!(f.offer(&new), Ok(Accepted::Refreshed));
}

#[test]
fn tombstones_bury_what_is_older_and_stay_twice_as_long() {
    let mut f = fixture(Limits::default());
    let (five, seven) = (f.name(1, 5), f.name(1, 7));
    f.offer(&five).expect("valid");
    assert_eq!(f.offer(&f.tombstone(1, 5)), stale(5, 5), "a life of the same version is not buried");
    assert_eq!(f.offer(&f.tombstone(1, 6)), Ok(Accepted::Replaced));
    f.clock.advance(Duration::from_millis(2 * DHT_TTL_MS - 1));
    assert_eq!(f.offer(&five), stale(5, 6), "a holder that slept cannot bring it back");
    assert_eq!(f.offer(&seven), Ok(Accepted::Replaced), "the name may live again");
    let (six, seven) = (f.tombstone(2, 6), f.name(2, 6));
    f.offer(&six).expect("valid");
    assert_eq!(f.offer(&seven), Ok(Accepted::Replaced));
}

#[test]
fn the_quorums_record_lives_shorter() {
    let mut f = fixture(Limits::default());
    let image = testing::image(&f.signer, 3, &[]);
    let body = directory::body_of(&image, directory::Quorum::default(), &Key::Quorum).expect("founded");
    let record = f.signed(body);
    f.offer(&record).expect("valid");
    f.clock.advance(Duration::from_millis(DHT_QUORUM_TTL_MS - 1));
    assert!(f.store.read(&Key::Quorum).is_some());
    f.clock.advance(Duration::from_millis(1));
    assert!(f.store.read(&Key::Quorum).is_none());
    assert_eq!(record.refresh_interval() * 5, record.life());
}

#[test]
fn foreign_forged_misplaced_and_oversized_records_are_refused() {
    let mut f = fixture(Limits::default());
    let record = f.name(1, 5);
    let mallory = Signer::new(&[8; 32]);
    let own = f.kad_key(record.key());
    let other = f.kad_key(&Key::Node(NodeId(1)));
    let foreign = mallory.sign(testing::name_body(mallory.cluster_id(), 1, "orders", 5)).expect("fits");
    let forged = testing::forge(&mallory, &testing::name_body(f.signer.cluster_id(), 1, "orders", 9));
    let foreign_key = record.key().record_key(&mallory.cluster_id());
    let large = vec![0; DHT_RECORD_BYTES_MAX + 1];
    for (key, bytes, expected) in [
        (&own, foreign.bytes().as_ref(), Invalid::Foreign),
        (&own, &forged, Invalid::Signature),
        (&other, record.bytes(), Invalid::OtherKey),
        (&foreign_key, record.bytes(), Invalid::Key(crate::KeyError::Foreign)),
        (&RecordKey::new(b"anything"), record.bytes(), Invalid::Key(crate::KeyError::NotCanonical)),
        (
            &own,
            &large,
            rafka_model::cbor::CborError::TooLarge { bytes: large.len(), limit: DHT_RECORD_BYTES_MAX }.into(),
        ),
    ] {
        assert_eq!(f.store.offer(key, bytes), Err(Refusal::Invalid(expected)));
    }
    f.offer(&record).expect("valid");
    assert_eq!(f.store.offer(&own, &forged), Err(Refusal::Invalid(Invalid::Signature)));
    assert_eq!((f.version(1), f.store.stats().refused_invalid), (Some(5), 7));
    assert!(f.store.put(Record::new(own, forged)).is_err(), "kad resets the exchange of a forger");
}

#[test]
fn a_full_store_keeps_the_records_closest_to_the_node() {
    for limits in [
        Limits { records_max: 10, ..Limits::default() },
        Limits { bytes_max: 10 * fixture(Limits::default()).name(0, 5).bytes().len(), ..Limits::default() },
    ] {
        let mut f = fixture(limits);
        let mut ranked: Vec<_> =
            (0..30).map(|id| (f.store.local.distance(&KBucketKey::new(f.kad_key(f.name(id, 5).key()))), id)).collect();
        let refused = (0..30).filter(|id| f.offer(&f.name(*id, 5)) == Err(Refusal::Full)).count() as u64;
        ranked.sort_unstable();
        assert_eq!(f.offer(&f.name(ranked[29].1, 5)), Err(Refusal::Full), "the farthest displaces nobody");
        let refused = refused + 1;
        for (rank, (_, id)) in ranked.iter().enumerate() {
            assert_eq!(f.version(*id).is_some(), rank < 10, "rank {rank}");
        }
        let stats = f.store.stats();
        assert_eq!((stats.records, stats.evicted + refused, stats.refused_full), (10, 21, refused));
        assert!(stats.bytes <= limits.bytes_max);
        assert_eq!(f.offer(&f.name(ranked[9].1, 6)), Ok(Accepted::Replaced), "news of a held record always fits");
    }
}

#[test]
fn expired_records_make_room_first() {
    let mut f = fixture(Limits { records_max: 2, ..Limits::default() });
    for id in 0..2 {
        f.offer(&f.name(id, 5)).expect("fits");
    }
    f.clock.advance(Duration::from_millis(DHT_TTL_MS));
    for id in 2..4 {
        assert_eq!(f.offer(&f.name(id, 5)), Ok(Accepted::New));
    }
    let stats = f.store.stats();
    assert_eq!((stats.records, stats.expired, stats.evicted), (2, 2, 0));
}

#[test]
fn nobody_provides_anything_here() {
    let mut f = fixture(Limits::default());
    let key = f.kad_key(&Key::Quorum);
    assert!(f.store.add_provider(ProviderRecord::new(key.clone(), PeerId::random(), Vec::new())).is_err());
    assert!(f.store.providers(&key).is_empty() && f.store.provided().next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic(key in proptest::collection::vec(any::<u8>(), 0..40), bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut f = fixture(Limits::default());
        prop_assert!(f.store.put(Record::new(key, bytes.clone())).is_err());
        let named = f.kad_key(&Key::Quorum);
        prop_assert!(f.store.put(Record::new(named, bytes)).is_err());
    }

    /// Whatever comes in whatever order: the version of a holder only grows, indexes agree, bounds hold.
    #[test]
    fn any_order_of_puts_keeps_the_invariants(puts in proptest::collection::vec((0u8..6, 1u64..8, any::<bool>(), 0u64..600), 1..60)) {
        let mut f = fixture(Limits { records_max: 4, ..Limits::default() });
        for (id, index, gone, wait_s) in puts {
            f.clock.advance(Duration::from_secs(wait_s));
            let before = f.version(id);
            let record = if gone { f.tombstone(id, index) } else { f.name(id, index) };
            let outcome = f.offer(&record);
            if let Some(before) = before {
                prop_assert!(f.version(id).is_some_and(|after| after >= before));
            }
            prop_assert_eq!(outcome.is_ok(), f.store.read(record.key()) == Some(&record));
            let stats = f.store.stats();
            prop_assert!(stats.records <= 4 && stats.records == f.store.held.len());
            prop_assert_eq!(f.store.by_distance.len(), stats.records);
            prop_assert_eq!(f.store.by_expiry.len(), stats.records);
            prop_assert_eq!(stats.bytes, f.store.held.values().map(|held| held.record.bytes().len()).sum::<usize>());
        }
    }
}
