//! Consumer groups: subscribers that share, and the verbs that look at groups and move them.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::home::{Dev, Running};

/// A topic with ten records in each of its partitions.
fn filled(partitions: u32) -> Dev {
    let dev = Dev::with_topic(&format!("t -p {partitions}"));
    for partition in 0..partitions {
        publish(&dev, partition, 0..10);
    }
    dev
}

fn publish(dev: &Dev, partition: u32, numbers: std::ops::Range<u32>) {
    let lines: String = numbers.map(|i| format!("p{partition}-{i}\n")).collect();
    dev.pipe(lines, &format!("publish t -p {partition}")).ok();
}

fn lines(reader: &mut Running, count: usize) -> Vec<String> {
    (0..count).map(|_| reader.line()).collect()
}

/// Sums of a lag: offsets committed and records left.
fn lag(dev: &Dev) -> (i64, i64) {
    let lines = dev.run("group lag g -o json").json();
    let sum = |key: &str| lines.iter().filter_map(|line| line[key].as_i64()).sum();
    (sum("committed"), sum("lag"))
}

/// Looks again until it is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what} never came");
    }
}

fn members(dev: &Dev) -> Vec<Value> {
    let mut described = dev.run("group describe g -o json").json();
    described.remove(0)["members"].as_array_mut().map(std::mem::take).expect("a list")
}

#[test]
fn a_group_goes_on_where_it_stopped() {
    let dev = filled(2);
    let first = dev.run("subscribe t --group g --from-beginning -n 7 -o raw").ok();
    assert_eq!(first.lines().count(), 7);
    assert_eq!(lag(&dev), (7, 13), "what was written is committed, and no more");
    let mut second = dev.home.start("subscribe t --group g -o raw");
    let mut rest = lines(&mut second, 13);
    rest.extend(first.lines().map(str::to_owned));
    rest.sort();
    rest.dedup();
    assert_eq!(rest.len(), 20, "everything once");
    publish(&dev, 0, 10..11);
    assert_eq!(second.line(), "p0-10");
    second.signal(Signal::INT);
    let done = second.end();
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (130, "", ""));
    assert_eq!(lag(&dev), (21, 0), "Ctrl-C commits");
    assert_eq!(dev.run("group describe g -o json").json()[0]["state"], "Empty", "and leaves");
    assert_eq!(dev.run("subscribe t --group g --exit-at-end").ok(), "", "nothing is new");
    assert_eq!(dev.run("subscribe t --group other --exit-at-end --from-beginning -o raw").ok().lines().count(), 21);
    let listed = dev.run("group list -o json").json();
    let expected = json!({"group": "g", "state": "Empty", "type": "consumer", "protocol_type": "consumer"});
    assert_eq!((listed.len(), &listed[0]), (2, &expected));
    assert_eq!(dev.run("group list --state stable -o json").json().len(), 0);
}

#[test]
fn members_share_partitions_and_hand_them_over() {
    let dev = filled(4);
    let mut one = dev.home.start("subscribe t --group g --from-beginning -o raw");
    assert_eq!(lines(&mut one, 40).len(), 40);
    assert_eq!(members(&dev).len(), 1);
    let mut two = dev.home.start("subscribe t --group g --from-beginning -o raw");
    let shares = || {
        let members = members(&dev);
        let share = |member: &Value| member["assignment"]["t"].as_array().map_or(0, Vec::len);
        members.iter().map(share).collect::<Vec<_>>()
    };
    until("an even share", || shares() == [2, 2]);
    for partition in 0..4 {
        publish(&dev, partition, 10..12);
    }
    let (mine, theirs) = (lines(&mut one, 4), lines(&mut two, 4));
    let mut all: Vec<String> = mine.iter().chain(&theirs).cloned().collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 8, "each record once: {mine:?} {theirs:?}");
    let partition = |line: &String| line.split('-').next().map(str::to_owned);
    assert!(mine.iter().all(|line| !theirs.iter().any(|other| partition(other) == partition(line))));
    one.signal(Signal::TERM);
    assert_eq!(one.end().code, 130);
    for partition in 0..4 {
        publish(&dev, partition, 12..13);
    }
    let mut taken_over = lines(&mut two, 4);
    taken_over.sort();
    assert_eq!(taken_over, ["p0-12", "p1-12", "p2-12", "p3-12"], "at once, and nothing twice");
    dev.run("group seek g --to-earliest --yes").fails(4, "group \"g\" has members");
    dev.run("group delete g --yes").fails(4, "group \"g\" has members");
    let table = dev.run("group describe g").ok();
    assert!(table.contains("state:") && table.contains("t/0,1,2,3"), "{table}");
    two.signal(Signal::INT);
    assert_eq!(two.end().code, 130);
    assert_eq!(lag(&dev), (52, 0));
}

#[test]
fn a_group_outlives_a_crash_of_its_coordinator() {
    let dev = filled(2);
    let mut reader = dev.home.start("subscribe t --group g --from-beginning -o raw");
    assert_eq!(lines(&mut reader, 20).len(), 20);
    until("a commit", || lag(&dev) == (20, 0));
    dev.run("dev kill 1").ok();
    dev.run("dev restart 1").ok();
    publish(&dev, 1, 10..11);
    assert_eq!(reader.line(), "p1-10", "the same member goes on, and nothing comes twice");
    reader.signal(Signal::INT);
    assert_eq!(reader.end().code, 130);
    assert_eq!(lag(&dev), (21, 0));
}

#[test]
fn who_comes_back_under_a_name_gets_what_it_had() {
    let dev = filled(2);
    let start = || dev.home.start("subscribe t --group g --instance a --from-beginning -o raw");
    let mut reader = start();
    assert_eq!(lines(&mut reader, 20).len(), 20);
    let second = dev.run("subscribe t --group g --instance a").fails(4, "UNRELEASED_INSTANCE_ID");
    assert!(second.err.contains("hint: give each running consumer an instance id of its own"), "{second:?}");
    reader.signal(Signal::INT);
    assert_eq!(reader.end().code, 130);
    let waiting = members(&dev);
    assert_eq!((waiting.len(), &waiting[0]["instance_id"]), (1, &json!("a")), "its place is kept");
    publish(&dev, 0, 10..11);
    let mut reader = start();
    assert_eq!(reader.line(), "p0-10");
    assert_eq!(members(&dev)[0]["assignment"], json!({"t": [0, 1]}));
    reader.signal(Signal::INT);
    assert_eq!(reader.end().code, 130);
}

#[test]
fn groups_are_moved() {
    let dev = filled(2);
    let place = |line: &str| {
        let lines = dev.run(line).json();
        let place = |line: &Value| (line["before"].as_i64(), line["after"].as_i64(), line["status"].clone());
        lines.iter().map(place).collect::<Vec<_>>()
    };
    let moved = |from, to, status: &str| (from, Some(to), json!(status));
    // A group that there is not can be given offsets.
    assert_eq!(place("group seek g t/1 --to-offset 4 --yes -o json"), [moved(None, 4, "moved")]);
    let all = "group seek g t --shift-by -2 --yes -o json";
    dev.run(all).fails(3, "nothing of t/0 is committed");
    assert_eq!(place("group seek g t/0 --to-latest --yes -o json"), [moved(None, 10, "moved")]);
    let dry = place("group seek g --shift-by 3 --dry-run -o json");
    assert_eq!(dry, [moved(Some(10), 10, "unchanged"), moved(Some(2), 5, "would be moved")]);
    assert_eq!(lag(&dev), (12, 8));
    assert_eq!(place("group seek g t --to-time 1h --yes -o json")[1], moved(Some(2), 0, "moved"));
    dev.run("group seek g --to-offset 9 --yes").ok();
    let read = dev.run("subscribe t --group g --exit-at-end -o raw").ok();
    let mut read: Vec<&str> = read.lines().collect();
    read.sort_unstable();
    assert_eq!(read, ["p0-9", "p1-9"]);
    dev.run("group seek g --to-latest").fails(2, "add --yes");
    dev.run("group seek g t/7 --to-latest --yes").fails(3, "it has partitions 0 to 1");
    dev.run("group seek h --to-latest --yes").fails(3, "has committed nothing");
    dev.run("group seek g no --to-latest --yes").fails(3, "topic \"no\" not found");
}

#[test]
fn groups_and_offsets_are_deleted() {
    let dev = filled(2);
    dev.run("group seek billing t --to-latest --yes").ok();
    dev.run("group delete billing --yes --topic t/0 --dry-run").ok();
    assert_eq!(dev.run("group lag billing -o json").json().len(), 2);
    let deleted = dev.run("group delete billing --yes --topic t/0 -o json").json();
    assert_eq!(deleted, [json!({"group": "billing", "topic": "t", "partition": 0, "status": "deleted"})]);
    assert_eq!(dev.run("group lag billing -o json").json().len(), 1);
    dev.run("group delete billing --yes --topic t/0").fails(3, "committed nothing there");
    dev.run("group delete billing").fails(2, "add --yes");
    assert!(dev.run("group describe biling").fails(3, "group \"biling\" not found").err.contains("\"billing\""));
    assert!(dev.run("group delete billing --yes").ok().contains("deleted"));
    dev.run("group lag billing").fails(3, "group \"billing\" not found");
    dev.run("group delete billing --yes").fails(3, "group \"billing\" not found");
    assert!(dev.run("group delete billing --yes --if-exists").ok().contains("absent"));
    assert_eq!(dev.run("group list").ok(), "GROUP  STATE  TYPE  PROTOCOL\n");
    dev.run("subscribe t --group g --offset 3").fails(2, "rafka group seek");
    dev.run("subscribe no --group g").fails(3, "topic \"no\" not found");
}
