use proptest::prelude::*;
use rafka_model::MetadataIndex;

use super::*;
use crate::record::{NameRecord, Payload};
use crate::{Version, testing};

fn signed() -> (Signer, SignedRecord) {
    let signer = Signer::new(&[7; 32]);
    let record = signer.sign(testing::name_body(signer.cluster_id(), 1, "orders", 5)).expect("fits");
    (signer, record)
}

fn verifier(signer: &Signer) -> Verifier {
    Verifier::new(signer.cluster_id(), &signer.public_key()).expect("matches")
}

/// Takes a record apart and puts it together again with something changed, signature left as it was.
fn tampered(record: &SignedRecord, change: impl FnOnce(&mut Envelope)) -> Vec<u8> {
    let mut envelope = Envelope::decode(record.bytes()).expect("ours");
    change(&mut envelope);
    envelope.encode().expect("fits")
}

#[test]
fn what_was_signed_verifies_and_says_the_same() {
    let (signer, record) = signed();
    let verifier = verifier(&signer);
    for _ in 0..2 {
        let read = verifier.verify(record.bytes()).expect("valid");
        assert_eq!(read, record);
        assert_eq!(read.version(), Version::new(0, MetadataIndex(5)));
    }
    assert_eq!(verifier.seen().order.len(), 1, "the second time it was remembered");
}

#[test]
fn another_clusters_key_forges_nothing() {
    let (signer, _) = signed();
    let mallory = Signer::new(&[8; 32]);
    let own = mallory.sign(testing::name_body(mallory.cluster_id(), 1, "orders", 5)).expect("fits");
    assert_eq!(verifier(&signer).verify(own.bytes()), Err(Invalid::Foreign));
    assert_eq!(
        mallory.sign(testing::name_body(signer.cluster_id(), 1, "orders", 5)),
        Err(SignError::Foreign),
        "our own code does not mix clusters up"
    );
    // Claims our cluster, signed by a key that is not ours.
    let forged = testing::forge(&mallory, &testing::name_body(signer.cluster_id(), 1, "orders", 9));
    assert_eq!(verifier(&signer).verify(&forged), Err(Invalid::Signature));
}

#[test]
fn a_changed_body_signature_or_key_generation_is_refused() {
    let (signer, record) = signed();
    let verifier = verifier(&signer);
    let other = signer.sign(testing::name_body(signer.cluster_id(), 1, "orders", 6)).expect("fits");
    let newer = Envelope::decode(other.bytes()).expect("ours");
    assert_eq!(verifier.verify(&tampered(&record, |e| e.body = newer.body)), Err(Invalid::Signature));
    assert_eq!(verifier.verify(&tampered(&record, |e| e.signature[3] ^= 1)), Err(Invalid::Signature));
    assert_eq!(verifier.verify(&tampered(&record, |e| e.signature.truncate(63))), Err(Invalid::Signature));
    assert_eq!(verifier.verify(&tampered(&record, |e| e.key_generation = 1)), Err(Invalid::UnknownKey(1)));
}

#[test]
fn a_signature_over_something_else_is_not_one_over_a_record() {
    let (signer, record) = signed();
    let body = Envelope::decode(record.bytes()).expect("ours").body;
    let bare = signer.sign_bytes(&body).to_vec();
    assert_eq!(verifier(&signer).verify(&tampered(&record, |e| e.signature = bare)), Err(Invalid::Signature));
}

#[test]
fn a_payload_belongs_to_its_key() {
    let (signer, record) = signed();
    let topic = rafka_model::TopicId([2; 16]);
    let name = rafka_model::TopicName::new("orders").expect("legal");
    let body = Body { payload: Some(Payload::Name(NameRecord { id: topic, name })), ..record.body().clone() };
    let wrong = signer.sign(body).expect("fits");
    assert_eq!(verifier(&signer).verify(wrong.bytes()), Err(Invalid::Contradiction));
    let other = Key::Name(topic);
    assert_eq!(verifier(&signer).verify_for(&other, record.bytes()), Err(Invalid::OtherKey));
}

#[test]
fn an_envelope_has_one_form_only() {
    let (signer, record) = signed();
    // A field's name as a byte string instead of a text: serde would not mind.
    let mut bytes = record.bytes().to_vec();
    assert_eq!(bytes[1..3], [0x61, b'k']);
    bytes[1] = 0x41;
    assert_eq!(verifier(&signer).verify(&bytes), Err(Invalid::NotCanonical));
    // An unknown field.
    let mut bytes = record.bytes().to_vec();
    bytes[0] += 1;
    bytes.extend([0x61, b'x', 0]);
    assert_eq!(verifier(&signer).verify(&bytes), Err(Invalid::NotCanonical));
}

#[test]
fn oversized_and_empty_bytes_are_refused_unread() {
    let verifier = verifier(&signed().0);
    let limit = DHT_RECORD_BYTES_MAX;
    let large = vec![0; limit + 1];
    assert_eq!(verifier.verify(&large), Err(CborError::TooLarge { bytes: limit + 1, limit }.into()));
    assert!(matches!(verifier.verify(&[]), Err(Invalid::Malformed(_))));
}

#[test]
fn a_verifier_wants_the_key_of_its_cluster() {
    let (signer, _) = signed();
    assert_eq!(Verifier::new(ClusterId([0; 32]), &signer.public_key()).err(), Some(Invalid::Foreign));
    let weak = [0; 32];
    assert_eq!(Verifier::new(ClusterId::of_public_key(&weak), &weak).err(), Some(Invalid::Signature));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut seen = Seen::default();
    for i in 0..DHT_VERIFIED_MAX + 10 {
        seen.remember(*blake3::hash(&i.to_be_bytes()).as_bytes());
    }
    assert_eq!((seen.hashes.len(), seen.order.len()), (DHT_VERIFIED_MAX, DHT_VERIFIED_MAX));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = verifier(&signed().0).verify(&bytes);
    }

    #[test]
    fn no_flipped_bit_passes(at in any::<proptest::sample::Index>(), bit in 0u32..8) {
        let (signer, record) = signed();
        let mut bytes = record.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(verifier(&signer).verify(&bytes).is_err());
    }
}
