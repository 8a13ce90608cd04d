//! `rafka dev …`

use std::net::TcpListener;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::home::{Dev, Home, kill};

fn pids(dev: &Dev) -> Vec<u32> {
    let pid = |node: &serde_json::Value| u32::try_from(node["pid"].as_u64().expect("runs")).expect("a pid");
    dev.ready["nodes"].as_array().expect("nodes").iter().map(pid).collect()
}

/// Not there, or dead and not yet reaped by whoever inherited it.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().is_empty() || rest.trim_start().starts_with('Z'))
}

/// Waits until the process holds its data directory no more: its lock comes free when it ends.
fn await_end(data_dir: &Path) {
    std::fs::File::open(data_dir.join("lock")).expect("a lock").lock().expect("locks");
}

#[test]
fn nodes_are_killed_restarted_and_looked_at() {
    let dev = Dev::start(2);
    let before = pids(&dev);
    let killed = dev.run("dev kill 2 -o json").json();
    assert_eq!((&killed[1]["status"], &killed[1]["pid"]), (&json!("killed"), &json!(null)));
    assert!(is_gone(before[1]) && !is_gone(before[0]));
    dev.run("dev kill 2").fails(4, "node 2 is not running");
    dev.run("dev kill 3").fails(3, "the cluster has nodes 1 to 2");
    let restarted = dev.run("dev restart 2 -o json").json();
    assert_eq!(
        (&restarted[1]["status"], &restarted[1]["node_id"]),
        (&json!("ready"), &dev.ready["nodes"][1]["node_id"])
    );
    assert_eq!(restarted[1]["mesh"], dev.ready["nodes"][1]["mesh"], "at the same address");
    let again = dev.run("dev restart 1 -o json").json();
    assert_ne!(again[0]["pid"], dev.ready["nodes"][0]["pid"], "a running node is stopped first");
    let log = dev.run("dev logs 2").ok();
    assert_eq!(log.matches(" ready ").count(), 2, "{log}");
    assert!(dev.run("dev logs -n 1").ok().lines().all(|line| line.starts_with("node ")));
    dev.run("dev logs 7").fails(3, "no log of a node 7");
    dev.run("dev --base-port 0").fails(4, "dev cluster \"dev\" is already running");
    dev.run("dev purge").fails(4, "is running");
}

#[test]
fn logs_are_followed() {
    let dev = Dev::start(1);
    let mut logs = dev.home.start("dev logs 1 -f");
    let mut until = |words: &str| while !logs.line().contains(words) {};
    until(" ready ");
    dev.run("dev restart 1").ok();
    until(" ready ");
    logs.signal(Signal::INT);
    assert_eq!(logs.end().code, 130);
}

#[test]
fn stop_ends_everything_and_the_context_before_is_back() {
    let home = Home::new();
    home.run("context create mine --bootstrap 10.0.0.1:7300").ok();
    let mut dev = Dev::start_in(home, "--nodes 2");
    let nodes = pids(&dev);
    assert_eq!(dev.run("context current").ok(), "dev\n");
    dev.run("dev stop").ok();
    assert!(nodes.into_iter().all(is_gone));
    assert_eq!(dev.supervisor.take().expect("ran").end().code, 0);
    assert_eq!(dev.run("context current").ok(), "mine\n");
    assert!(!dev.data_dir(1).exists(), "temporary data is gone");
    dev.run("dev status").fails(3, "no dev cluster \"dev\" is running");
    dev.run("dev logs 1").ok();
    dev.run("dev purge").ok();
    dev.run("dev purge").fails(3, "there is nothing");
    dev.run("dev logs").fails(3, "no logs");
    assert!(!dev.run("context list").ok().contains("dev"));
}

#[test]
fn ctrl_c_stops_all_nodes() {
    let mut dev = Dev::start(2);
    let nodes = pids(&dev);
    let supervisor = dev.supervisor.take().expect("runs");
    supervisor.signal(Signal::INT);
    assert_eq!(supervisor.end().code, 130);
    assert!(nodes.into_iter().all(is_gone));
}

#[test]
fn a_node_that_ends_by_itself_is_reported() {
    let mut dev = Dev::start(2);
    kill(pids(&dev)[1], Signal::KILL);
    let supervisor = dev.supervisor.as_mut().expect("runs");
    let said = supervisor.said("node 2 killed by signal 9 by itself");
    assert!(said.contains("`rafka dev restart 2`"), "{said}");
    let status = dev.run("dev status -o json").json();
    assert_eq!(status[1]["status"], "killed by signal 9");
}

#[test]
fn nodes_do_not_outlive_a_supervisor_that_was_killed_and_the_next_one_cleans_up() {
    let mut dev = Dev::start(2);
    let supervisor = dev.supervisor.take().expect("runs");
    supervisor.signal(Signal::KILL);
    supervisor.end();
    for node in [1, 2] {
        await_end(&dev.data_dir(node));
    }
    dev.run("dev status").fails(3, "no dev cluster");
    let Dev { home, .. } = &mut dev;
    let next = Dev::start_in(std::mem::replace(home, Home::new()), "");
    assert_eq!(next.run("dev status -o json").json().len(), 1);
    assert_eq!(next.run("topic list -o json").json().len(), 0, "temporary data of the dead one is gone");
}

#[test]
fn kept_data_is_there_again_and_is_not_deleted_by_accident() {
    let mut dev = Dev::start_in(Home::new(), "--keep");
    dev.run("topic create t -p 1").ok();
    dev.run("publish t kept").ok();
    assert!(dev.run("dev stop").ok().contains("its data is kept"));
    assert_eq!(dev.supervisor.take().expect("ran").end().code, 0);
    dev.run("dev --base-port 0").fails(4, "--keep");
    let home = std::mem::replace(&mut dev.home, Home::new());
    let mut again = Dev::start_in(home, "--keep");
    assert_eq!(again.run("subscribe t --from-beginning --exit-at-end -o raw").ok(), "kept\n");
    again.run("dev stop").ok();
    assert_eq!(again.supervisor.take().expect("ran").end().code, 0);
    again.run("dev purge").fails(2, "add --yes");
    again.run("dev purge --yes").ok();
    assert!(!again.data_dir(1).exists());
}

#[test]
fn a_busy_port_is_skipped_and_said() {
    let busy = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = busy.local_addr().expect("bound").port();
    let home = Home::new();
    let mut dev = home.start(&format!("dev --base-port {port} --kafka-base-port 0 --ops-base-port 0"));
    let said = dev.said("is busy");
    assert!(said.starts_with(&format!("Port {port} is busy: mesh of node 1 uses ")), "{said}");
    assert!(dev.line().contains("Rafka"));
    home.run("dev stop").ok();
    assert_eq!(dev.end().code, 0);
}

#[test]
fn in_the_background_it_returns_when_all_are_ready() {
    let home = Home::new();
    let nodes = home.run("dev start --detach --base-port 0 --nodes 2 --memory --name other -o json").json();
    assert!(nodes.len() == 2 && nodes.iter().all(|node| node["status"] == "ready"), "{nodes:?}");
    home.run("dev start --detach --name other").fails(4, "already running");
    assert_eq!(home.run("context current").ok(), "other\n");
    home.run("topic create t -p 1").ok();
    home.run("publish t x").ok();
    assert_eq!(home.run("subscribe t --from-beginning --exit-at-end -o raw").ok(), "x\n");
    let health = home.run("cluster health --wait -o json").json();
    assert_eq!(health[0]["nodes"], 2);
    home.run("dev stop --name other").ok();
    home.run("topic list --connect-timeout 1s").fails(6, "context \"other\"");
}

#[test]
fn a_cluster_that_cannot_start_says_why() {
    let home = Home::new();
    let failed = home.run("dev --base-port 0 --set no.such=key").fails(1, "error: node 1 did not start");
    assert!(failed.err.contains("cause: exited (78)"), "{failed:?}");
    home.run("dev status").fails(3, "no dev cluster");
    home.run("dev --detach --base-port 0 --set no.such=key").fails(1, "error: node 1 did not start");
    home.run("dev --name ../x").fails(2, "a name is");
}
