//! `rafka topic …`

use serde_json::json;

use crate::home::Dev;

#[test]
fn a_topic_is_made_changed_and_deleted() {
    let dev = Dev::start(1);
    let dry = dev.run("topic create orders -p 3 --dry-run").ok();
    assert!(dry.ends_with("would be created\n"), "{dry}");
    assert_eq!(dev.run("topic list").ok(), "TOPIC  PARTITIONS  REPLICAS\n");
    dev.run("topic create orders -p 3 -c retention.ms=3600000").ok();
    dev.run("topic create orders").fails(4, "TOPIC_ALREADY_EXISTS");
    assert!(dev.run("topic create orders --if-not-exists").ok().ends_with("exists\n"));
    let listed = dev.run("topic list -o json").json();
    assert_eq!(
        (&listed[0]["topic"], &listed[0]["partitions"], &listed[0]["replicas"]),
        (&json!("orders"), &json!(3), &json!(1))
    );

    let described = dev.run("topic describe orders -o json").json();
    assert_eq!(described[0]["configs"], json!({"retention.ms": "3600000"}));
    assert_eq!(described[0]["partitions"].as_array().map(Vec::len), Some(3));
    dev.run("topic alter orders -c max.message.bytes=10485760 --reset retention.ms").ok();
    let described = dev.run("topic describe orders -o json").json();
    assert_eq!(described[0]["configs"], json!({"max.message.bytes": "10485760"}));
    assert!(dev.run("topic describe orders --configs").ok().contains("retention.ms"));
    dev.run("topic alter orders -c retention.sm=1").fails(2, "did you mean \"retention.ms\"?");
    dev.run("topic alter orders").fails(2, "nothing to change");

    dev.run("topic add-partitions orders -p 5").ok();
    dev.run("topic add-partitions orders -p 4").fails(2, "INVALID_PARTITIONS");
    assert_eq!(dev.run("topic offsets orders").ok().lines().count(), 6);

    dev.run("topic delete orders").fails(2, "add --yes");
    assert!(dev.run("topic delete orders --dry-run").ok().ends_with("would be deleted\n"));
    dev.run("topic delete orders --yes").ok();
    dev.run("topic delete orders --yes").fails(3, "topic \"orders\" not found");
    assert!(dev.run("topic delete orders --yes --if-exists").ok().ends_with("absent\n"));
    dev.run("topic describe orders").fails(3, "not found");
}

#[test]
fn what_cannot_be_is_refused_and_the_rest_is_done() {
    let dev = Dev::start(1);
    dev.run("topic create a/b").fails(2, "INVALID_TOPIC_EXCEPTION");
    dev.run("topic create r3 -r 3").fails(2, "INVALID_REPLICATION_FACTOR");
    dev.run("topic create none -p 0").fails(2, "0");
    let half = dev.run("topic create good a/b");
    assert_eq!(half.code, 2);
    assert!(half.out.contains("good") && half.err.contains("a/b"), "{half:?}");
    assert_eq!(dev.run("topic list -o json").json().len(), 1);
}

#[test]
fn old_records_are_trimmed() {
    let dev = Dev::with_topic("t -p 2");
    dev.pipe("a\nb\nc\nd\n", "publish t -p 0").ok();
    dev.pipe("e\n", "publish t -p 1").ok();
    dev.run("topic trim t --all").fails(2, "add --yes");
    dev.run("topic trim t --yes").fails(2, "required");
    let dry = dev.run("topic trim t --before-offset 3 -p 0 --dry-run -o json").json();
    assert_eq!(
        (&dry[0]["before"], &dry[0]["log_start"], &dry[0]["status"]),
        (&json!(0), &json!(3), &json!("would be trimmed"))
    );
    assert_eq!(dev.run("sub t --from-beginning --exit-at-end -o raw").ok().lines().count(), 5);
    dev.run("topic trim t --before-offset 3 -p 0 --yes").ok();
    assert_eq!(dev.run("sub t --from-beginning --exit-at-end -o raw -p 0").ok(), "d\n");
    dev.run("topic trim t --before-offset 9 -p 0 --yes").fails(2, "OFFSET_OUT_OF_RANGE");
    dev.run("topic trim t --before-time 2100-01-01 --yes").ok();
    let offsets = dev.run("topic offsets t -o json").json();
    let edges: Vec<_> = offsets.iter().map(|line| (line["earliest"].clone(), line["latest"].clone())).collect();
    assert_eq!(edges, [(json!(4), json!(4)), (json!(1), json!(1))]);
}
