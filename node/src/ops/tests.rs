use std::net::Ipv4Addr;

use rafka_model::limits::OPS_BODY_BYTES_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::LogFormat;
use crate::logging;

/// A door of its own, and what it shows.
struct Door {
    running: Running,
    shown: Shown,
    shutdown: CancellationToken,
    /// The level belongs to it.
    _subscriber: Box<dyn Send>,
}

async fn door() -> Door {
    let level = "info".parse().expect("a level");
    let (subscriber, handle) = logging::subscriber(&level, LogFormat::Json, false, std::io::sink).expect("builds");
    let shown = Shown {
        metrics: Arc::new(Metrics::new()),
        health: Health::new(),
        level: Some(handle),
        status: Arc::new(|| serde_json::json!({ "node": 3 })),
    };
    let config = config::Ops {
        listen: OpsListen::At((Ipv4Addr::LOCALHOST, 0).into()),
        connections_max: 2,
        metric_partitions_max: 10,
    };
    let shutdown = CancellationToken::new();
    let running = start(&config, shown.clone(), shutdown.clone()).await.expect("binds").expect("is not off");
    Door { running, shown, shutdown, _subscriber: Box::new(subscriber) }
}

/// One exchange; the status and the body.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = Vec::new();
    // A refused body may end in a reset after the answer.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, body.to_owned())
}

#[tokio::test]
async fn probes_tell_how_the_node_is() {
    let door = door().await;
    let address = door.running.address;
    let status = async |path: &str| ask(address, "GET", path, "").await;
    assert_eq!(status("/livez").await.0, 200);
    assert_eq!(status("/startupz").await.0, 503);
    door.shown.health.hold("membership", "waiting for the cluster");
    door.shown.health.started();
    assert_eq!(status("/startupz").await, (200, "{\"ok\":true}".to_owned()));
    let (code, body) = status("/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("waiting for the cluster"), "{body}");
    door.shown.health.release("membership");
    assert_eq!(status("/readyz").await.0, 200);
    door.shown.health.failed("the disk died");
    assert_eq!(status("/livez").await.0, 503);
}

#[tokio::test]
async fn metrics_status_and_level_are_served() {
    let door = door().await;
    let address = door.running.address;
    let (code, text) = ask(address, "GET", "/metrics", "").await;
    assert!(code == 200 && text.contains("process_resident_memory_bytes") && text.contains("# EOF"), "{text}");
    assert_eq!(ask(address, "GET", "/status", "").await, (200, "{\"node\":3}".to_owned()));
    assert_eq!(ask(address, "GET", "/loglevel", "").await, (200, "{\"level\":\"info\"}".to_owned()));
    assert_eq!(ask(address, "PUT", "/loglevel", "debug\n").await, (200, "{\"level\":\"debug\"}".to_owned()));
    assert_eq!(door.shown.level.as_ref().expect("owned").current().as_str(), "debug");
    let (code, body) = ask(address, "PUT", "/loglevel", "loud").await;
    assert!(code == 400 && body.contains("is none of") && body.contains("hint"), "{body}");
    let (code, body) = ask(address, "GET", "/nothing", "").await;
    assert!(code == 404 && body.contains("/readyz"), "{body}");
    assert_eq!(ask(address, "DELETE", "/metrics", "").await.0, 405);
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let door = door().await;
    let body = "x".repeat(OPS_BODY_BYTES_MAX + 1);
    assert_eq!(ask(door.running.address, "PUT", "/loglevel", &body).await.0, 413);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_silent_ones_are_closed() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let limited = listener::Limited::new(listener, 2, Duration::from_millis(200));
    let door = door().await;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone().cancelled_owned();
    let server = axum::serve(limited, routes::router(door.shown.clone())).with_graceful_shutdown(stop);
    let task = tokio::spawn(async move { server.await });
    // Two silent connections hold both places; the third is served once the idle limit has thrown them out.
    let mut silent =
        [TcpStream::connect(address).await.expect("connects"), TcpStream::connect(address).await.expect("connects")];
    assert_eq!(ask(address, "GET", "/livez", "").await.0, 200);
    for stream in &mut silent {
        let mut byte = [0];
        assert!(matches!(stream.read(&mut byte).await, Ok(0) | Err(_)), "closed");
    }
    shutdown.cancel();
    task.await.expect("joins").expect("ends");
}

#[tokio::test]
async fn the_door_closes_gracefully_and_a_busy_port_is_explained() {
    let door = door().await;
    let config =
        config::Ops { listen: OpsListen::At(door.running.address), connections_max: 2, metric_partitions_max: 10 };
    let error = start(&config, door.shown.clone(), CancellationToken::new()).await.expect_err("busy").to_string();
    assert!(error.contains("hint: another program uses this port"), "{error}");
    let off = config::Ops { listen: OpsListen::Off, ..config };
    assert!(start(&off, door.shown.clone(), CancellationToken::new()).await.expect("off").is_none());
    door.shutdown.cancel();
    door.running.task.await.expect("ends");
    assert!(TcpStream::connect(door.running.address).await.is_err());
}
