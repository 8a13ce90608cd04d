//! The bytes are those of Kafka 4.3's own serializers for the same values.

use super::*;
use crate::group::records::Key;
use crate::testing::Random;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

fn check(key: ConsumerKey<'_>, value: ConsumerValue, key_hex: &str, value_hex: &str) {
    let record = key.record("g", Some(&value));
    assert_eq!(record.key, hex(key_hex), "key of {key:?}");
    let bytes = record.value.expect("a value");
    assert_eq!(bytes, hex(value_hex), "{value:?}");
    assert_eq!(key.decode(&bytes), Ok(value));
    match Key::decode(&record.key) {
        Ok(Key::Consumer("g", read)) => assert_eq!(read, key),
        other => panic!("{other:?}"),
    }
    for end in 0..bytes.len() {
        assert!(key.decode(&bytes[..end]).is_err(), "{key:?} cut to {end} bytes");
    }
}

const TOPIC: TopicId = TopicId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

fn owned(partitions: &[(u32, i32)]) -> Owned {
    let partitions = partitions.iter().map(|(partition, epoch)| (PartitionId(*partition), *epoch));
    BTreeMap::from([(TOPIC, partitions.collect())])
}

#[test]
fn epochs_are_as_kafka_writes_them() {
    let group = |metadata_hash| ConsumerValue::Group(Epoch { epoch: 10, metadata_hash });
    check(ConsumerKey::Group, group(0), "0003000167", "00000000000a00");
    check(ConsumerKey::Group, group(77), "0003000167", "00000000000a010008000000000000004d");
    let target = |made| ConsumerValue::TargetEpoch(TargetEpoch { epoch: 10, made: Timestamp(made) });
    check(ConsumerKey::TargetEpoch, target(0), "0006000167", "00000000000a00");
    check(ConsumerKey::TargetEpoch, target(1_234_567), "0006000167", "00000000000a010008000000000012d687");
}

#[test]
fn members_are_as_kafka_writes_them() {
    let caller = Caller { client_id: "c".into(), client_host: "/h".into() };
    let member = Subscription {
        instance_id: Some("i".into()),
        caller: caller.clone(),
        topics: ["a".to_owned(), "bc".to_owned()].into(),
        regex: Some("x.*".into()),
        rebalance_timeout_ms: 300_000,
        assignor: Some("uniform".into()),
        ..Subscription::default()
    };
    let bytes = "00000269000263032f6803026103626304782e2a000493e008756e69666f726d00";
    check(ConsumerKey::Member("mm"), ConsumerValue::Member(member), "000500016700026d6d", bytes);
    let range = Protocol { name: "range".into(), metadata: vec![1, 2, 3].into() };
    let member = Subscription {
        rack_id: Some("r".into()),
        caller,
        rebalance_timeout_ms: -1,
        classic: Some(ClassicPart { session_timeout_ms: 45_000, protocols: vec![range] }),
        ..Subscription::default()
    };
    let bytes = "00000002720263032f680100ffffffff00010012010000afc8020672616e6765040102030000";
    check(ConsumerKey::Member("mm"), ConsumerValue::Member(member), "000500016700026d6d", bytes);
}

#[test]
fn assignments_are_as_kafka_writes_them() {
    let target = ConsumerValue::Target([(TOPIC, [PartitionId(0), PartitionId(5)].into())].into());
    let bytes = "0000020102030405060708090a0b0c0d0e0f100300000000000000050000";
    check(ConsumerKey::Target("mm"), target, "000700016700026d6d", bytes);
    let current = Current { epoch: 10, previous_epoch: 9, assigned: owned(&[(1, 10), (2, 9)]), ..Current::default() };
    let bytes =
        "00000000000a0000000900020102030405060708090a0b0c0d0e0f10030000000100000002010009030000000a000000090100";
    check(ConsumerKey::Current("mm"), ConsumerValue::Current(current), "000800016700026d6d", bytes);
    let old = "00000000000a0000000901020102030405060708090a0b0c0d0e0f1003000000010000000200020102030405060708090a0b0c0d0e0f1002000000030000";
    let current = Current {
        epoch: 10,
        previous_epoch: 9,
        state: MemberState::Unrevoked,
        assigned: owned(&[(1, 0), (2, 0)]),
        revoking: owned(&[(3, 0)]),
    };
    let read = ConsumerKey::Current("mm").decode(&hex(old));
    assert_eq!(read, Ok(ConsumerValue::Current(current)), "an older program wrote no epochs");
}

#[test]
fn expressions_are_as_kafka_writes_them() {
    let resolved = Resolved { topics: ["a".to_owned(), "bc".to_owned()].into(), version: 7, time: Timestamp(99) };
    let bytes = "00000302610362630000000000000007000000000000006300";
    check(ConsumerKey::Regex("x.*"), ConsumerValue::Regex(resolved), "00100001670003782e2a", bytes);
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let mut random = Random(1);
    let keys = [
        ConsumerKey::Group,
        ConsumerKey::Member("m"),
        ConsumerKey::TargetEpoch,
        ConsumerKey::Target("m"),
        ConsumerKey::Current("m"),
        ConsumerKey::Regex("r"),
    ];
    for _ in 0..20_000 {
        let bytes: Vec<u8> =
            (0..random.below(60)).map(|_| if random.one_in(2) { 0 } else { random.next() as u8 }).collect();
        let _ = keys[random.below(6) as usize].decode(&bytes);
        let _ = Key::decode(&bytes);
    }
}
