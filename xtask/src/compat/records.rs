//! The records that go in, and whether they come out.

use serde_json::{Value, json};

use super::session::{Session, Trouble, check, now_ms};

/// An hour ago: a time that no broker makes up.
const AGE_MS: i64 = 3_600_000;

/// `count` records for `partitions` partitions in turn, a second apart. The first has no key, the second no value.
pub(super) fn records(count: usize, partitions: usize) -> Vec<Value> {
    let began = now_ms() - AGE_MS;
    let one = |i: usize| {
        let time = began + i64::try_from(i).unwrap_or(0) * 1000;
        json!({
            "partition": i % partitions,
            "key": (i != 0).then(|| format!("key-{}", i % 10)),
            "value": (i != 1).then(|| format!("välue-{i}-{}", "x".repeat(i % 100))),
            "headers": [["from", "a-client"], ["n", i.to_string()]],
            "timestamp": time,
        })
    };
    (0..count).map(one).collect()
}

/// A value of `bytes` bytes that no codec makes much smaller.
pub(super) fn noise(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 33) % 75).unwrap_or(0))
    });
    letters.filter(|letter| *letter != '\\').take(bytes).collect()
}

/// What the client sends.
pub(super) fn produce(codec: &str, acks: &str, idempotent: bool, topic: &str, records: &[Value]) -> Value {
    json!({ "topic": topic, "codec": codec, "acks": acks, "idempotent": idempotent, "records": records })
}

impl Session<'_> {
    /// Sends `count` records to partition 0 of a new topic.
    pub(super) fn filled(&mut self, case: &str, count: usize) -> Result<(String, Vec<Value>), Trouble> {
        let topic = self.new_topic(case);
        self.create(&topic, 1, json!({}))?;
        let sent = records(count, 1);
        self.ask("produce", produce("none", "all", false, &topic, &sent))?;
        Ok((topic, sent))
    }

    /// Checks that `read` is `sent`: each partition's records in their order, offsets without a gap from `first` on.
    pub(super) fn same(&self, sent: &[Value], read: &[Value], first: i64) -> Result<(), Trouble> {
        check(sent.len() == read.len(), || format!("{} records were sent, {} came back", sent.len(), read.len()))?;
        let partitions = sent.iter().filter_map(|record| record["partition"].as_u64()).max().unwrap_or(0);
        for partition in 0..=partitions {
            let of = |record: &&Value| record["partition"].as_u64() == Some(partition);
            let expected = sent.iter().filter(of);
            for ((expected, found), offset) in expected.zip(read.iter().filter(of)).zip(first..) {
                check(found["offset"].as_i64() == Some(offset), || {
                    format!("offset {} instead of {offset} in partition {partition}", found["offset"])
                })?;
                self.same_record(expected, found)?;
            }
        }
        Ok(())
    }

    fn same_record(&self, expected: &Value, found: &Value) -> Result<(), Trouble> {
        let fields = ["key", "value"].into_iter().chain(self.says("headers").then_some("headers"));
        for field in fields.chain(self.says("timestamps").then_some("timestamp")) {
            check(expected[field] == found[field], || {
                let short = |value: &Value| value.to_string().chars().take(100).collect::<String>();
                format!("{field} is {} instead of {}", short(&found[field]), short(&expected[field]))
            })?;
        }
        Ok(())
    }
}
