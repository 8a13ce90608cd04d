//! Looking at a cluster and its mesh, and into a node.

use serde_json::json;

use crate::home::{Dev, Home, Running};

#[test]
fn the_cluster_and_its_mesh_are_shown() {
    let dev = Dev::start(3);
    dev.run("topic create orders -p 6").ok();
    let status = dev.run("cluster status -o json").json();
    assert_eq!(
        (&status[0]["nodes"], &status[0]["topics"], &status[0]["partitions"]),
        (&json!(3), &json!(1), &json!(6))
    );
    let nodes = dev.run("cluster nodes -o json").json();
    assert!(nodes.len() == 3 && nodes.iter().all(|node| node["status"] == "up"), "{nodes:?}");
    assert_eq!(nodes.iter().filter(|node| node["controller"] == true).count(), 1);
    let partitions = dev.run("cluster partitions orders -o json").json();
    let mut leaders: Vec<u64> = partitions.iter().map(|line| line["leader"].as_u64().expect("led")).collect();
    leaders.sort_unstable();
    leaders.dedup();
    assert_eq!((partitions.len(), leaders.len()), (6, 3), "spread over all nodes");
    assert_eq!(dev.run("cluster partitions --offline -o json").json().len(), 0);

    let peers = dev.run("mesh peers -o json").json();
    assert!(peers.len() == 3 && peers.iter().any(|peer| peer["connected"] == true), "{peers:?}");
    let pings = dev.run("mesh ping -c 1 -o json").json();
    assert!(pings.len() == 3 && pings.iter().all(|ping| ping["rtt_ms_avg"].as_f64().is_some_and(|ms| ms > 0.0)));
    let peer = nodes[1]["peer_id"].as_str().expect("a peer id");
    let short = format!("{}…{}", &peer[..4], &peer[peer.len() - 3..]);
    assert_eq!(dev.run(&format!("mesh ping {short} -c 1 -o json")).json()[0]["node"], nodes[1]["node"]);
    dev.run("mesh ping 99").fails(3, "node \"99\" not found");
    for (partition, line) in partitions.iter().enumerate() {
        let route = || dev.run(&format!("mesh route orders/{partition} -o json")).json().remove(0);
        // A record that is on its way to its holders is asked of the quorum instead; it arrives soon.
        let found = std::iter::repeat_with(route).take(50).find(|route| route["source"] == "dht").expect("in the DHT");
        assert_eq!(found["leader"], line["leader"], "{found}");
        assert!(!found["asked"].as_array().expect("a list").is_empty());
    }
    dev.run("mesh route orders/9").fails(3, "partition 9");
    dev.run("mesh route order/0").fails(3, "did you mean \"orders\"?");
    assert!(dev.run("mesh graph").ok().starts_with("client ("));
    assert!(dev.run("mesh graph --dot").ok().contains(" -- "));
    let findings = dev.run("doctor -o json").json();
    assert!(findings.iter().all(|finding| finding["status"] == "ok"), "{findings:?}");
}

#[test]
fn a_node_is_looked_into() {
    let dev = Dev::with_topic("t -p 1");
    let node = &dev.ready["nodes"][0];
    let ops = node["ops"].as_str().expect("listens");
    let status = dev.run(&format!("node status --ops {ops} -o json")).json();
    assert_eq!((&status[0]["ready"], &status[0]["peer_id"]), (&json!(true), &node["peer_id"]));
    dev.run("node status --ops 127.0.0.1:1").fails(6, "no node answers");
    let data = dev.data_dir(1);
    let id = dev.run(&format!("node id --data-dir {} -o json", data.display())).json();
    assert_eq!((&id[0]["peer_id"], &id[0]["node_id"]), (&node["peer_id"], &node["node_id"]));
    dev.run("node id --data-dir /no/such").fails(3, "holds no identity");

    dev.pipe("a\nb\n", "publish t -k key --compression zstd").ok();
    let segment = find(&data.join("logs"), ".log").expect("a segment");
    let batches = dev.run(&format!("debug dump-log {segment} --records -o json")).json();
    assert_eq!((&batches[0]["base_offset"], &batches[0]["codec"]), (&json!(0), &json!("zstd")));
    let values = batches.iter().flat_map(|batch| batch["contents"].as_array().expect("asked for"));
    assert_eq!(values.map(|record| record["value"].clone()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(dev.run(&format!("debug dump-log {segment}")).ok().starts_with("POSITION"));
    let mut bytes = std::fs::read(&segment).expect("read");
    bytes[70] ^= 1;
    let damaged = dev.home.file("damaged.log", bytes);
    dev.run(&format!("debug dump-log {damaged}")).fails(1, "damaged at byte 0");
}

fn find(directory: &std::path::Path, ending: &str) -> Option<String> {
    std::fs::read_dir(directory).ok()?.filter_map(Result::ok).find_map(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => find(&path, ending),
            false => Some(path.display().to_string()).filter(|path| path.ends_with(ending)),
        }
    })
}

#[test]
fn a_cluster_is_measured_and_left_as_it_was() {
    let dev = Dev::start(1);
    let produced = dev.run("bench produce -n 5000 -s 50 -p 2 -o json").json();
    assert_eq!((&produced[0]["records"], &produced[0]["bytes"]), (&json!(5000), &json!(250_000)));
    assert!(produced[0]["latency_ms"]["p99"].as_f64().expect("measured") > 0.0);
    let consumed = dev.run("bench consume -n 5000 -p 2 -o json").json();
    assert_eq!(consumed[0]["records"], 5000);
    let e2e = dev.run("bench e2e -n 20").ok();
    assert!(e2e.contains("Latency: p50 "), "{e2e}");
    assert_eq!(dev.run("topic list -o json").json().len(), 0, "its topics are gone");
}

#[test]
fn the_shell_completes_live_topics() {
    let dev = Dev::with_topic("orders payments");
    let mut command = dev.home.command(&["--", "rafka", "subscribe", "or"]);
    let output = command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").env("_CLAP_IFS", "\n").output();
    let offered = String::from_utf8(output.expect("runs").stdout).expect("text");
    assert_eq!(offered.trim(), "orders");
}

/// A node that was started by hand, in service; and its mesh address.
fn by_hand(home: &Home, name: &str, flags: &str) -> (Running, String) {
    let directory = home.path().join(name);
    let ready = home.path().join(format!("{name}.json"));
    let mut node = home.start(&format!(
        "node start --data-dir {} --listen 127.0.0.1:0 --kafka-listen none --ops-listen 127.0.0.1:0 --log-format compact --ready-file {} {flags}",
        directory.display(),
        ready.display(),
    ));
    let said = node.said("mesh=[\"");
    let address = said.split("mesh=[\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an address");
    (node, address.to_owned())
}

#[test]
fn nodes_are_started_by_hand_and_a_token_keeps_strangers_out() {
    let home = Home::new();
    let (token, wrong) = (home.file("token", "a secret\n"), home.file("wrong", "no secret\n"));
    let (first, address) = by_hand(&home, "one", &format!("--join-token-file {token}"));
    let (second, other) = by_hand(&home, "two", &format!("--join-token-file {token} --bootstrap {address}"));
    let plain = address.split("/p2p/").next().expect("an address");
    for bootstrap in [&*address, plain, &*other] {
        let nodes = home.run(&format!("cluster nodes --bootstrap {bootstrap} --token-file {token} -o json")).json();
        assert_eq!(nodes.len(), 2, "from {bootstrap}");
    }
    home.run(&format!("topic list --bootstrap {address}")).fails(5, "--token-file");
    home.run(&format!("topic list --bootstrap {address} --token-file {wrong}")).fails(5, "the cluster's?");
    home.run(&format!("context create it --bootstrap {address} --token-file {token}")).ok();
    home.run("topic create t -p 1").ok();
    for node in [second, first] {
        node.signal(rustix::process::Signal::TERM);
        assert_eq!(node.end().code, 0);
    }
}
