//! Golden bytes: what Kafka 4.3's own classes write.

use bytes::Bytes;
use rafka_model::{PartitionId, Timestamp, TopicId};

use super::group::{GroupMetadata, MemberMetadata};
use super::*;
use crate::group::offsets::Stored;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

fn stored() -> Stored {
    let (committed, metadata) = (Timestamp(1_700_000_000_000), "über".into());
    Stored { offset: 42, leader_epoch: 3, metadata, committed, expires: None, topic_id: None }
}

#[test]
fn offsets_are_written_as_kafka_writes_them() {
    let key = OffsetKey { group: "g", topic: "orders", partition: PartitionId(7) };
    let record = key.record(Some(&stored()));
    assert_eq!(record.key, hex("000100016700066f726465727300000007"));
    assert_eq!(record.value, Some(hex("0004000000000000002a0000000306c3bc6265720000018bcfe5680000").into()));
    let id = TopicId(std::array::from_fn(|i| i as u8 + 1));
    let record = key.record(Some(&Stored { topic_id: Some(id), ..stored() }));
    let golden = "0004000000000000002a0000000306c3bc6265720000018bcfe568000100100102030405060708090a0b0c0d0e0f10";
    assert_eq!(record.value, Some(hex(golden).into()));
    assert!(matches!(Key::decode(&record.key), Ok(Key::Offset(read)) if read == key));
    let record = key.record(Some(&Stored { expires: Some(Timestamp(1_800_000_000_000)), ..stored() }));
    let first = "0001000000000000002a0005c3bc6265720000018bcfe56800000001a3185c5000";
    assert_eq!(record.value, Some(hex(first).into()), "the last version that says when");
    assert_eq!(offset::decode(&hex(golden)).expect("legal").topic_id, Some(id));
}

#[test]
fn offsets_of_all_versions_are_read() {
    let old = Stored { leader_epoch: -1, ..stored() };
    for (golden, expected) in [
        ("0000000000000000002a0005c3bc6265720000018bcfe56800", old.clone()),
        (
            "0001000000000000002a0005c3bc6265720000018bcfe56800000001a3185c5000",
            Stored { expires: Some(Timestamp(1_800_000_000_000)), ..old.clone() },
        ),
        ("0002000000000000002a0005c3bc6265720000018bcfe56800", old),
        ("0003000000000000002a000000030005c3bc6265720000018bcfe56800", stored()),
        ("0004000000000000002a0000000306c3bc6265720000018bcfe5680000", stored()),
    ] {
        let bytes = hex(golden);
        assert_eq!(offset::decode(&bytes), Ok(expected));
        for end in 0..bytes.len() {
            assert!(offset::decode(&bytes[..end]).is_err(), "{golden} up to {end}");
        }
    }
}

const GROUP_V3: &str = "00030008636f6e73756d657200000005000572616e676500036d2d310000018bcfe568000000000200036d2d31000169000163000a2f3132372e302e302e31000493e00000afc80000000301020300000002040500036d2d32ffff000163000a2f3132372e302e302e31000493e00000afc80000000301020300000000";
const GROUP_V4: &str = "000409636f6e73756d6572000000050672616e6765046d2d310000018bcfe5680003046d2d31026902630b2f3132372e302e302e31000493e00000afc80401020303040500046d2d320002630b2f3132372e302e302e31000493e00000afc804010203010000";

fn metadata() -> GroupMetadata {
    let member = |id: &str, instance: Option<&str>, assignment: &'static [u8]| MemberMetadata {
        member_id: id.to_owned(),
        instance_id: instance.map(str::to_owned),
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout_ms: 300_000,
        session_timeout_ms: 45_000,
        subscription: Bytes::from_static(&[1, 2, 3]),
        assignment: Bytes::from_static(assignment),
    };
    GroupMetadata {
        protocol_type: "consumer".to_owned(),
        generation: 5,
        protocol: Some("range".to_owned()),
        leader: Some("m-1".to_owned()),
        since: Timestamp(1_700_000_000_000),
        members: vec![member("m-1", Some("i"), &[4, 5]), member("m-2", None, &[])],
    }
}

#[test]
fn groups_are_written_as_kafka_writes_them_and_read_in_all_versions() {
    let record = group::record("g", Some(&metadata()));
    assert_eq!(record.key, hex("0002000167"));
    assert_eq!(record.value, Some(hex(GROUP_V3).into()));
    assert!(matches!(Key::decode(&record.key), Ok(Key::Group("g"))));
    for golden in [GROUP_V3, GROUP_V4] {
        let bytes = hex(golden);
        assert_eq!(group::decode(&bytes), Ok(metadata()));
        for end in 0..bytes.len() {
            assert!(group::decode(&bytes[..end]).is_err(), "{end}");
        }
    }
    for empty in [
        "0000000000000000ffffffff00000000",
        "0001000000000000ffffffff00000000",
        "0002000000000000ffffffffffffffffffffffff00000000",
        "0003000000000000ffffffffffffffffffffffff00000000",
        "000401000000000000ffffffffffffffff0100",
    ] {
        let read = group::decode(&hex(empty)).expect("legal");
        assert_eq!((read.members.len(), read.protocol, read.since), (0, None, Timestamp::NONE));
    }
}
