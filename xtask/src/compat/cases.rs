//! What every client has to prove.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::records::{noise, produce, records};
use super::session::{Session, Trouble, check, now_ms};

/// Topics that a client must be able to see at once.
const TOPICS: usize = 1000;
/// How many of them are made by one request.
const TOPICS_PER_REQUEST: usize = 250;
/// Records of a case that is about records.
const RECORDS: usize = 300;
/// Records of a case that is about offsets.
const FEW: usize = 30;
/// Size of a large record, bytes.
const LARGE: usize = 8 << 20;

pub(super) type Outcome = Result<(), Trouble>;

/// One thing to prove.
pub(super) struct Case {
    /// As on the command line and on the page.
    pub(super) name: &'static str,
    /// In words, for the page.
    pub(super) proves: &'static str,
    /// Proves it.
    pub(super) run: fn(&mut Session<'_>) -> Outcome,
}

/// All of them, in the order of the page.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "codec-none",
        proves: "300 records to three partitions, uncompressed: keys, values, headers and timestamps come back, in order, no \
                 offset left out",
        run: |session| round_trip(session, "none", "all", false),
    },
    Case { name: "codec-gzip", proves: "the same with gzip", run: |session| round_trip(session, "gzip", "all", false) },
    Case {
        name: "codec-snappy",
        proves: "the same with Snappy",
        run: |session| round_trip(session, "snappy", "all", false),
    },
    Case { name: "codec-lz4", proves: "the same with LZ4", run: |session| round_trip(session, "lz4", "all", false) },
    Case {
        name: "codec-zstd",
        proves: "the same with Zstandard",
        run: |session| round_trip(session, "zstd", "all", false),
    },
    Case {
        name: "acks-0",
        proves: "the same without acknowledgements",
        run: |session| round_trip(session, "none", "0", false),
    },
    Case {
        name: "acks-1",
        proves: "the same with acknowledgements of the leader",
        run: |session| round_trip(session, "none", "1", false),
    },
    Case {
        name: "idempotent",
        proves: "the same with an idempotent producer",
        run: |session| round_trip(session, "none", "all", true),
    },
    Case {
        name: "idempotent-restart",
        proves: "an idempotent producer goes on while every node in turn is killed and started again: each record is there \
                 once, in order",
        run: idempotent_restart,
    },
    Case {
        name: "large-record",
        proves: "a record of 8 MiB in a topic with `max.message.bytes` = 10 MiB",
        run: large_record,
    },
    Case { name: "seek-offset", proves: "reading from an offset in the middle of a batch", run: seek_offset },
    Case { name: "seek-time", proves: "the offset of the first record at or after a time", run: seek_time },
    Case { name: "list-offsets", proves: "first and next offset of a partition", run: list_offsets },
    Case {
        name: "create-topic",
        proves: "making, listing, describing and deleting a topic; one that exists is refused",
        run: create_topic,
    },
    Case { name: "topic-configs", proves: "configs of a topic, given and default; changing one", run: topic_configs },
    Case {
        name: "add-partitions",
        proves: "more partitions for a topic, and records in the new ones",
        run: add_partitions,
    },
    Case { name: "delete-records", proves: "deleting the records before an offset", run: delete_records },
    Case { name: "log-dirs", proves: "size of a topic on disk", run: log_dirs },
    Case { name: "auto-create", proves: "producing to a topic that is not there yet", run: auto_create },
    Case {
        name: "many-topics",
        proves: "a thousand topics are seen at once (the first client makes them)",
        run: many_topics,
    },
    Case { name: "any-bootstrap", proves: "each node by itself is enough as bootstrap server", run: any_bootstrap },
    Case { name: "from-rafka", proves: "records of `rafka publish`, with key, header and time", run: from_rafka },
    Case {
        name: "to-rafka",
        proves: "`rafka subscribe` reads the client's records, with headers and times",
        run: to_rafka,
    },
    Case { name: "perf", proves: "`kafka-producer-perf-test` with 20,000 records", run: perf },
];

fn round_trip(session: &mut Session<'_>, codec: &str, acks: &str, idempotent: bool) -> Outcome {
    let topic = session.new_topic(&format!("{codec}-{acks}"));
    session.create(&topic, 3, json!({}))?;
    if acks == "0" {
        // Nobody would hear of a leader that does not know of its topic yet.
        for partition in 0..3 {
            session.eventually("offsets", &json!({ "topic": topic, "partition": partition }), |_| true)?;
        }
    }
    let sent = records(RECORDS, 3);
    session.ask("produce", produce(codec, acks, idempotent, &topic, &sent))?;
    let read = session.read(&topic, &[0, 1, 2], None, RECORDS)?;
    session.same(&sent, &read, 0)
}

fn idempotent_restart(session: &mut Session<'_>) -> Outcome {
    let topic = session.new_topic("restart");
    session.create(&topic, 1, json!({}))?;
    let end = std::env::temp_dir().join(format!("rafka-compat-{}-{topic}", std::process::id()));
    let bootstrap = session.cluster.bootstrap();
    session.begin(&bootstrap, "produce_until", json!({ "topic": topic, "file": end.display().to_string() }))?;
    let under_way = session.answer()?;
    check(under_way["progress"].is_number(), || format!("it ended early: {under_way}"))?;
    let restarted = (0..session.cluster.len()).try_for_each(|node| session.cluster.restart(node));
    fs::write(&end, "").map_err(|error| Trouble::Failed(error.to_string()))?;
    let ended = session.answer();
    let _ = fs::remove_file(&end);
    restarted.map_err(Trouble::Failed)?;
    let sent = usize::try_from(ended?["sent"].as_u64().unwrap_or(0)).unwrap_or(0);
    let read = session.read(&topic, &[0], None, sent)?;
    let values: Vec<String> = read.iter().filter_map(|record| record["value"].as_str().map(str::to_owned)).collect();
    let expected: Vec<String> = (0..sent).map(|n| n.to_string()).collect();
    if values != expected {
        let at = values.iter().zip(&expected).take_while(|(found, wanted)| found == wanted).count();
        let once: BTreeSet<_> = values.iter().collect();
        return Err(Trouble::Failed(format!(
            "{sent} sent, {} read, {} of them different; wrong from {at} on: {:?}",
            values.len(),
            once.len(),
            &values[at.min(values.len())..values.len().min(at + 5)]
        )));
    }
    offsets_are(session, &topic, 0, i64::try_from(sent).unwrap_or(0))
}

fn large_record(session: &mut Session<'_>) -> Outcome {
    let topic = session.new_topic("large");
    session.create(&topic, 1, json!({ "max.message.bytes": (10 << 20).to_string() }))?;
    let mut sent = records(1, 1);
    sent[0]["key"] = json!("large");
    sent[0]["value"] = json!(noise(LARGE));
    session.ask("produce", produce("none", "all", false, &topic, &sent))?;
    let read = session.read(&topic, &[0], None, 1)?;
    session.same(&sent, &read, 0)
}

fn seek_offset(session: &mut Session<'_>) -> Outcome {
    let (topic, sent) = session.filled("seek", FEW)?;
    let read = session.read(&topic, &[0], Some(17), FEW - 17)?;
    session.same(&sent[17..], &read, 17)
}

fn seek_time(session: &mut Session<'_>) -> Outcome {
    let (topic, _) = session.filled("time", FEW)?;
    let read = session.read(&topic, &[0], None, FEW)?;
    let time = |record: &Value| record["timestamp"].as_i64().unwrap_or(0);
    let wanted = read.get(10).map(time).ok_or_else(|| Trouble::Failed(format!("{} records", read.len())))?;
    let first = read.iter().find(|record| time(record) >= wanted).and_then(|record| record["offset"].as_i64());
    let found = session.ask("offset_at", json!({ "topic": topic, "partition": 0, "time": wanted }))?["offset"].as_i64();
    check(found == first, || format!("offset {found:?} instead of {first:?}"))
}

fn list_offsets(session: &mut Session<'_>) -> Outcome {
    let (topic, _) = session.filled("offsets", FEW)?;
    offsets_are(session, &topic, 0, i64::try_from(FEW).unwrap_or(0))
}

fn offsets_are(session: &mut Session<'_>, topic: &str, earliest: i64, latest: i64) -> Outcome {
    session.eventually("offsets", &json!({ "topic": topic, "partition": 0 }), |answer| {
        answer["earliest"] == earliest && answer["latest"] == latest
    })
}

fn lists(answer: &Value, topic: &str) -> bool {
    answer["topics"].as_array().is_some_and(|topics| topics.iter().any(|one| one == topic))
}

fn create_topic(session: &mut Session<'_>) -> Outcome {
    let topic = session.new_topic("create");
    let fields = json!({ "topic": topic, "partitions": 3, "configs": {} });
    session.ask("create", fields.clone())?;
    session.eventually("topics", &json!({}), |answer| lists(answer, &topic))?;
    session.eventually("partitions", &json!({ "topic": topic }), |answer| answer["count"] == 3)?;
    // kafkajs says this without an error: that it exists is what was wanted.
    if let Err(Trouble::Failed(why)) = session.ask("create", fields) {
        check(why.to_lowercase().contains("exist") || why.contains("36"), || format!("made again: {why}"))?;
    }
    session.ask("delete", json!({ "topic": topic }))?;
    session.eventually("topics", &json!({}), |answer| !lists(answer, &topic))
}

fn topic_configs(session: &mut Session<'_>) -> Outcome {
    let topic = session.new_topic("configs");
    let has = |name: &'static str, value: &'static str| {
        move |answer: &Value| answer["configs"].get(name).is_some_and(|found| found == value)
    };
    let asked = json!({ "topic": topic });
    session.create(&topic, 1, json!({ "retention.ms": "36000000" }))?;
    session.eventually("get_configs", &asked, has("retention.ms", "36000000"))?;
    session.eventually("get_configs", &asked, has("cleanup.policy", "delete"))?;
    session.ask("set_config", json!({ "topic": topic, "name": "retention.ms", "value": "72000000" }))?;
    session.eventually("get_configs", &asked, has("retention.ms", "72000000"))
}

fn add_partitions(session: &mut Session<'_>) -> Outcome {
    let topic = session.new_topic("partitions");
    session.create(&topic, 1, json!({}))?;
    session.ask("add_partitions", json!({ "topic": topic, "count": 4 }))?;
    session.eventually("partitions", &json!({ "topic": topic }), |answer| answer["count"] == 4)?;
    let sent = records(8, 4);
    session.ask("produce", produce("none", "all", false, &topic, &sent))?;
    let read = session.read(&topic, &[0, 1, 2, 3], None, sent.len())?;
    session.same(&sent, &read, 0)
}

fn delete_records(session: &mut Session<'_>) -> Outcome {
    let (topic, sent) = session.filled("delete", FEW)?;
    session.ask("delete_records", json!({ "topic": topic, "partition": 0, "offset": 10 }))?;
    offsets_are(session, &topic, 10, i64::try_from(FEW).unwrap_or(0))?;
    let read = session.read(&topic, &[0], None, FEW - 10)?;
    session.same(&sent[10..], &read, 10)
}

fn log_dirs(session: &mut Session<'_>) -> Outcome {
    let (topic, _) = session.filled("sizes", FEW)?;
    session.eventually("log_dirs", &json!({ "topic": topic }), |answer| answer["bytes"].as_u64() > Some(0))
}

fn auto_create(session: &mut Session<'_>) -> Outcome {
    if !session.says("new topics") {
        return Err(Trouble::Cannot("the client never asks for topics to be made".to_owned()));
    }
    let topic = session.new_topic("auto");
    let sent = records(FEW, 1);
    session.ask("produce", produce("none", "all", false, &topic, &sent))?;
    let read = session.read(&topic, &[0], None, FEW)?;
    session.same(&sent, &read, 0)
}

fn many_topics(session: &mut Session<'_>) -> Outcome {
    let all: Vec<String> = (0..TOPICS).map(|n| format!("many-{n:04}")).collect();
    let seen = |answer: &Value| {
        let names = answer["topics"].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.filter(|name| name.starts_with("many-")).collect::<BTreeSet<_>>().len()
    };
    if seen(&session.ask("topics", json!({}))?) == 0 {
        for part in all.chunks(TOPICS_PER_REQUEST) {
            match session.ask("create_many", json!({ "topics": part })) {
                Err(Trouble::Cannot(_)) => {
                    let names = part.iter().map(String::as_str);
                    let words: Vec<&str> = ["topic", "create", "-p", "1"].into_iter().chain(names).collect();
                    session.rafka(&words, "")?;
                }
                result => drop(result?),
            }
        }
    }
    session.eventually("topics", &json!({}), |answer| seen(answer) == TOPICS)
}

fn any_bootstrap(session: &mut Session<'_>) -> Outcome {
    let (topic, _) = session.filled("bootstrap", FEW)?;
    for address in session.cluster.addresses() {
        let fields = json!({ "topic": topic, "partitions": [0], "offset": null, "count": FEW, "wait_ms": 10_000 });
        match session.ask_at(&address, "read", fields) {
            Err(Trouble::Cannot(_)) => {
                let found = session.ask_at(&address, "topics", json!({}))?;
                check(lists(&found, &topic), || format!("{address} does not list {topic}"))?;
            }
            answer => {
                let count = answer?["records"].as_array().map_or(0, Vec::len);
                check(count == FEW, || format!("{count} of {FEW} records at {address}"))?;
            }
        }
    }
    Ok(())
}

fn from_rafka(session: &mut Session<'_>) -> Outcome {
    let topic = session.new_topic("from-rafka");
    let before = now_ms();
    session.rafka(&["topic", "create", &topic, "-p", "1"], "")?;
    let lines: String = (0..FEW).map(|n| format!("key-{n}\tvälue {n}\n")).collect();
    session.rafka(&["publish", &topic, "--key-separator", "\t", "-H", "origin=rafka", "--quiet"], &lines)?;
    let fields = json!({ "topic": topic, "partitions": [0], "offset": null, "count": FEW, "wait_ms": 10_000 });
    let read = session.ask("read", fields)?["records"].as_array().cloned().unwrap_or_default();
    check(read.len() == FEW, || format!("{} of {FEW} records", read.len()))?;
    for (n, record) in read.iter().enumerate() {
        let time = record["timestamp"].as_i64().unwrap_or(0);
        let right = record["key"] == format!("key-{n}")
            && record["value"] == format!("välue {n}")
            && record["headers"] == json!([["origin", "rafka"]])
            && (before..=now_ms()).contains(&time);
        check(right, || format!("record {n} is {record}"))?;
    }
    Ok(())
}

fn to_rafka(session: &mut Session<'_>) -> Outcome {
    // Otherwise the client's records would be made for nothing.
    session.rafka(&["topic", "list"], "")?;
    let (topic, sent) = session.filled("to-rafka", FEW)?;
    let read = session.read_by_rafka(&topic)?;
    session.same(&sent, &read, 0)
}

fn perf(session: &mut Session<'_>) -> Outcome {
    let topic = session.new_topic("perf");
    session.create(&topic, 1, json!({}))?;
    session.ask("perf", json!({ "topic": topic, "count": 20_000 }))?;
    offsets_are(session, &topic, 0, 20_000)
}
