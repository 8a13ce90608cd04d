//! `rafka subscribe`

use rustix::process::Signal;
use serde_json::json;

use crate::home::Dev;

fn ten_lines() -> Dev {
    let dev = Dev::with_topic("t -p 2");
    for partition in 0..2 {
        let lines: String = (0..5).map(|i| format!("p{partition}-{i}\n")).collect();
        dev.pipe(lines, &format!("publish t -p {partition}")).ok();
    }
    dev
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn it_begins_where_it_is_told() {
    let dev = ten_lines();
    let read = |flags: &str| dev.run(&format!("subscribe t -o raw --exit-at-end {flags}")).ok();
    assert_eq!(read("--from-beginning").lines().count(), 10);
    assert_eq!(sorted(&read("--offset 3")), ["p0-3", "p0-4", "p1-3", "p1-4"]);
    assert_eq!(sorted(&read("--offset -1")), ["p0-4", "p1-4"]);
    assert_eq!(sorted(&read("--offset -100 -p 1")), ["p1-0", "p1-1", "p1-2", "p1-3", "p1-4"]);
    assert_eq!(sorted(&read("--from-time 1h")).len(), 10);
    assert_eq!(read("--from-time 2100-01-01T00:00:00Z"), "");
    assert_eq!(read("--from-beginning -n 3 -p 0"), "p0-0\np0-1\np0-2\n");
    assert_eq!(dev.run("subscribe t --exit-at-end").ok(), "", "by default what is there is not meant");
    let middle = dev.run("subscribe t --from-beginning -p 1 --exit-at-end").json()[2]["timestamp"].clone();
    let later = read(&format!("-p 1 --from-time {middle}"));
    assert!(later.contains("p1-2\n") && later.ends_with("p1-4\n"), "{later}");
}

#[test]
fn a_record_is_written_as_it_is_asked_for() {
    let dev = Dev::with_topic("t -p 1");
    dev.run("publish t v -k k -H a=b").ok();
    let format = |format: &str| dev.home.run_words(&["sub", "t", "--from-beginning", "-n", "1", "-f", format]).ok();
    assert_eq!(format("%t/%p@%o %k=%v %h %K %V%%\\n"), "t/0@0 k=v a=b 1 1%\n");
    assert_eq!(dev.run("sub t --from-beginning -n 1 -o raw").ok(), "v\n");
    dev.run("sub t -f %z").fails(2, "no %z");
    dev.run("sub t -o table").fails(2, "json or raw");
    dev.run("sub t -n 0").fails(2, "0");
}

#[test]
fn new_records_are_seen_at_once_and_ctrl_c_ends() {
    let dev = Dev::with_topic("t -p 1");
    dev.run("publish t old").ok();
    let mut subscribe = dev.home.start("subscribe t --offset -1 -o raw");
    assert_eq!(subscribe.line(), "old");
    dev.run("publish t new").ok();
    assert_eq!(subscribe.line(), "new");
    subscribe.signal(Signal::INT);
    let done = subscribe.end();
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (130, "", ""));
}

#[test]
fn topics_that_match_join_while_it_runs() {
    let dev = Dev::with_topic("orders.eu orders.us payments");
    dev.run("publish orders.eu one").ok();
    dev.run("publish payments no").ok();
    let mut subscribe = dev.home.start("subscribe orders.* --from-beginning -o json");
    let place = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        (record["topic"].clone(), record["value"].clone())
    };
    assert_eq!(place(&subscribe.line()), (json!("orders.eu"), json!("one")));
    dev.run("publish orders.us two").ok();
    assert_eq!(place(&subscribe.line()), (json!("orders.us"), json!("two")));
    dev.run("topic create orders.asia -p 1").ok();
    dev.run("publish orders.asia three").ok();
    assert_eq!(place(&subscribe.line()), (json!("orders.asia"), json!("three")));
    subscribe.signal(Signal::TERM);
    assert_eq!(subscribe.end().code, 130);
    let last = dev.run("subscribe orders.{eu,us} --offset -1 --exit-at-end -o raw").ok();
    assert_eq!(sorted(&last), ["one", "two"]);
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let dev = Dev::with_topic("t -p 1");
    let lines: String = (0..20_000).map(|i| format!("{i:0100}\n")).collect();
    dev.pipe(lines, "publish t").ok();
    let mut subscribe = dev.home.start("subscribe t --from-beginning --exit-at-end");
    assert!(subscribe.line().contains("\"offset\":0"));
    let crate::home::Running { mut child, out, err } = subscribe;
    drop(out);
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert_eq!(std::io::read_to_string(err).expect("text"), "");
}

#[test]
fn what_is_not_there_is_said() {
    let dev = Dev::with_topic("orders -p 2");
    let missing = dev.run("subscribe order").fails(3, "error: topic \"order\" not found");
    assert!(missing.err.contains("hint: did you mean \"orders\"?"), "{missing:?}");
    dev.run("subscribe orders -p 5").fails(3, "it has partitions 0 to 1");
    dev.run("subscribe nothing.* --exit-at-end --from-beginning").ok();
}
