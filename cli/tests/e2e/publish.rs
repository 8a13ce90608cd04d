//! `rafka publish`

use rustix::process::Signal;
use serde_json::json;

use crate::home::Dev;

#[test]
fn lines_have_keys_headers_partitions_and_codecs() {
    let dev = Dev::with_topic("t -p 4");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        dev.pipe(
            format!("k-{codec}:v:{codec}\n"),
            &format!("pub t --key-separator : --compression {codec} -H codec={codec} -H empty="),
        )
        .ok();
    }
    dev.run("produce t three -p 3 --acks 1").ok();
    dev.run("publish t -k gone --null-value").ok();
    let all = dev.run("sub t --from-beginning --exit-at-end").json();
    assert_eq!(all.len(), 7);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let record = all.iter().find(|record| record["key"] == format!("k-{codec}")).expect("published");
        assert_eq!(record["value"], format!("v:{codec}"));
        assert_eq!(record["headers"], json!([{"key": "codec", "value": codec}, {"key": "empty", "value": ""}]));
    }
    let three = all.iter().find(|record| record["value"] == "three").expect("published");
    assert_eq!((&three["partition"], &three["key"]), (&json!(3), &json!(null)));
    assert!(all.iter().any(|record| record["key"] == "gone" && record["value"].is_null()));
}

#[test]
fn a_file_comes_back_line_by_line_in_order_within_its_partition() {
    let dev = Dev::with_topic("t -p 3");
    let lines: String = (0..50_000).map(|i| format!("key{}:{i:08}{}\n", i % 7, "x".repeat(i % 90))).collect();
    let file = dev.home.file("lines.txt", lines.trim_end());
    let closing = dev.run(&format!("publish t --file {file} --key-separator : --quiet -o json")).json();
    let keys: u64 = 50_000 * 4;
    let values = lines.len() as u64 - keys - 2 * 50_000;
    assert_eq!((&closing[0]["records"], &closing[0]["bytes"]), (&json!(50_000), &json!(keys + values)));
    assert!(closing[0]["seconds"].as_f64().expect("a number") > 0.0);
    let read = dev.run_words_raw(&["sub", "t", "--from-beginning", "--exit-at-end", "-f", "%k:%v\\n"]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert!(sorted(&read) == sorted(&lines), "the same lines");
    for key in 0..7 {
        let of_key: Vec<&str> = read.lines().filter(|line| line.starts_with(&format!("key{key}:"))).collect();
        assert!(of_key.is_sorted(), "in order within key {key}");
    }
}

#[test]
fn json_tells_the_place_of_every_record() {
    let dev = Dev::with_topic("t -p 1");
    let places = dev.pipe("a\nb\n", "publish t -o json").json();
    assert_eq!(places.len(), 2);
    for (offset, place) in places.iter().enumerate() {
        assert_eq!((&place["topic"], &place["partition"], &place["offset"]), (&json!("t"), &json!(0), &json!(offset)));
        assert!(place["timestamp"].as_i64().expect("a time") > 1_700_000_000_000);
    }
    let unacknowledged = dev.run("publish t c --acks 0 -o json").json();
    assert_eq!(unacknowledged[0]["offset"], json!(null));
    assert_eq!(dev.run("publish t d --quiet").ok(), "");
}

#[test]
fn failures_say_what_arrived() {
    let dev = Dev::with_topic("t -p 1");
    let missing = dev.run("publish s x");
    assert!(missing.fails(3, "error: topic \"s\" not found\n").err.contains("\nhint: did you mean \"t\"?\n"));
    let object = dev.run("publish s x -o json").fails(3, "").err;
    let object: serde_json::Value = serde_json::from_str(&object).expect("one object");
    assert_eq!((&object["code"], &object["exit"]), (&json!("UNKNOWN_TOPIC_OR_PARTITION"), &json!(3)));
    let half = dev.pipe("a:1\nb:2\nc\n", "publish t --key-separator :");
    let half = half.fails(1, "error: line 3 has no key separator \":\"");
    assert!(half.err.contains("hint: published before it: 2 records"), "{half:?}");
    let beyond = dev.run("publish t x -p 7");
    assert_eq!(beyond.code, 3, "{beyond:?}");
    dev.run("publish t x --file y").fails(2, "cannot be used with");
    dev.run("publish t --file /no/such/file").fails(3, "error: cannot read /no/such/file");
    dev.run("publish t x -H trace").fails(2, "NAME=VALUE");
}

#[test]
fn ten_megabytes_pass_where_the_topic_allows_them() {
    let dev = Dev::with_topic("big -p 1 -c max.message.bytes=10485760");
    dev.run("topic create small -p 1").ok();
    let value = "0123456789".repeat(1_000_000);
    dev.pipe(&value, "publish big").ok();
    let read = dev.run("subscribe big --from-beginning -n 1 -o raw").ok();
    assert!(read.trim_end() == value, "{} bytes", read.len());
    dev.pipe(&value, "publish small").fails(1, "MESSAGE_TOO_LARGE");
}

#[test]
fn ctrl_c_delivers_what_was_taken() {
    let dev = Dev::with_topic("t");
    let mut publish = dev.home.start("publish t -o json");
    publish.write("one\ntwo\n");
    assert!(publish.line().contains("\"offset\":0") && publish.line().contains("\"offset\":1"));
    publish.signal(Signal::INT);
    let done = publish.end();
    assert_eq!((done.code, done.err.as_str()), (130, "interrupted: 2 records published\n"), "{done:?}");
    assert_eq!(dev.run("subscribe t --from-beginning --exit-at-end -o raw").ok(), "one\ntwo\n");
}

impl Dev {
    fn run_words_raw(&self, words: &[&str]) -> String {
        self.home.run_words(words).ok()
    }
}
