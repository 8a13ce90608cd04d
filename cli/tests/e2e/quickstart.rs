//! The first five minutes, word for word.

use crate::home::{Dev, Home};

#[test]
fn the_first_five_minutes_go_as_they_are_written() {
    let home = Home::new();
    let mut dev = home.start("dev --base-port 0");
    let banner: Vec<String> = (0..7).map(|_| dev.line()).collect();
    assert!(
        banner[0].starts_with("  Rafka 0.")
            && banner[0].ends_with(" · dev mode: temporary data, no auth, loopback only")
    );
    assert!(banner[1].starts_with("  Kafka     127.0.0.1:"), "{banner:?}");
    assert!(
        banner[2].starts_with("  Mesh      /ip4/127.0.0.1/tcp/") && banner[2].contains("/p2p/12D3KooW"),
        "{banner:?}"
    );
    assert!(banner[3].starts_with("  Ops       http://127.0.0.1:") && banner[3].ends_with("      (metrics, health)"));
    assert!(banner[4].starts_with("  Context \"dev\" created and selected. Ready in ") && banner[4].ends_with(" ms."));
    assert_eq!(banner[5], "  Try:   rafka topic create orders -p 3");
    assert!(banner[6].starts_with("  Join:  rafka-node --bootstrap /ip4/127.0.0.1/tcp/"), "{banner:?}");

    let created = home.run("topic create orders -p 3").ok();
    assert_eq!(created, "TOPIC   PARTITIONS  REPLICAS  STATUS\norders  3           1         created\n");
    let published = home.pipe("{\"id\":1}\n", "publish orders -k a").ok();
    assert_eq!(published, "Published 1 record to orders: partition 1, offset 0\n");
    let read = home.run("subscribe orders --from-beginning -n 1").ok();
    let (before, after) = read.split_once("\"timestamp\":").expect("a timestamp");
    assert_eq!(before, "{\"topic\":\"orders\",\"partition\":1,\"offset\":0,");
    assert_eq!(&after[13..], ",\"key\":\"a\",\"value\":\"{\\\"id\\\":1}\"}\n");

    assert_eq!(home.run("dev stop").ok(), "Cluster \"dev\" stopped\n");
    assert_eq!(dev.end().code, 0);
}

#[test]
fn three_nodes_survive_the_loss_of_one_and_its_return() {
    let dev = Dev::start(3);
    let table = dev.run("dev status").ok();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NODE", "PEER", "KAFKA", "PID", "STATUS"]);
    for (number, line) in ["1", "2", "3"].iter().zip(&lines[1..]) {
        assert_eq!((line[0], line[4]), (*number, "ready"), "{table}");
        assert!(line[1].starts_with("12D3…") && line[2].starts_with("127.0.0.1:"), "{table}");
    }
    assert_eq!(dev.run("cluster health").ok(), "HEALTHY  3 nodes · 0 offline partitions · 0 under-replicated\n");

    dev.run("topic create orders -p 6").ok();
    let lines: String = (0..600).map(|i| format!("{i}:{i}\n")).collect();
    dev.pipe(&lines, "publish orders --key-separator :").ok();

    dev.run("dev kill 2").ok();
    // The others must notice first: their connections to it break at once, but not in this very moment.
    let mut watch = dev.home.start("cluster health --watch");
    while !watch.line().starts_with("UNHEALTHY  1 of 3 nodes down") {}
    watch.signal(rustix::process::Signal::INT);
    assert_eq!(watch.end().code, 130);
    let health = dev.run("cluster health");
    assert_eq!(health.code, 10, "{health:?}");
    assert!(health.out.contains("2 offline partitions"), "{health:?}");
    assert!(health.err.contains("`rafka dev restart 2` or `rafka cluster health --wait`"), "{health:?}");

    dev.run("cluster health --wait --timeout 300ms").fails(10, "still unhealthy after 300 ms");

    dev.run("dev restart 2").ok();
    dev.run("cluster health --wait").ok();
    let read = dev.run("subscribe orders --from-beginning --exit-at-end -o raw").ok();
    let mut values: Vec<u32> = read.lines().map(|line| line.parse().expect("a number")).collect();
    values.sort_unstable();
    assert_eq!(values, (0..600).collect::<Vec<_>>());
}
