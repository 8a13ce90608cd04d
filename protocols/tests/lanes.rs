//! Lanes between real swarms over TCP on loopback.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::ClusterId;
use rafka_model::limits::{KIB, LANE_REPLIES_HELD_MAX, MIB};
use rafka_protocols::lane::{self, Gate, Lanes, Serve, Setup, Started};
use rafka_protocols::rpc::{Budget, CallError, Counters, Inbound};
use rafka_protocols::transport::{swarm_config, transport};
use rafka_protocols::{Frame, Protocol};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

const CLUSTER: ClusterId = ClusterId([7; 32]);
const LONG: Duration = Duration::from_secs(20);

struct Door(AtomicBool);

impl Gate for Door {
    fn admits(&self, _: &PeerId, _: &Multiaddr) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn left(&self, _: &PeerId) {}
}

/// A process with lanes.
struct Node {
    peer: PeerId,
    lanes: Lanes,
    address: Vec<Multiaddr>,
    inbound: mpsc::UnboundedReceiver<Inbound>,
    budget: Budget,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    async fn start(budget: usize, is_open: bool) -> Self {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        let (queue, inbound) = mpsc::unbounded_channel();
        let budget = Budget::new(budget);
        let serve = Serve {
            sink: Box::new(move |inbound| drop(queue.send(inbound))),
            places: Arc::new(Semaphore::new(2000)),
            budget: budget.clone(),
        };
        let setup = Setup {
            local: peer,
            connections: transport(&key).expect("a transport"),
            cluster: CLUSTER,
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
            any_port: false,
            gate: Arc::new(Door(AtomicBool::new(is_open))),
            serve: Some(serve),
            exchanges: Arc::new(Counters::default()),
        };
        let Started { lanes, listening, task } = lane::start(setup).await.expect("a free port");
        Self { peer, lanes, address: listening, inbound, budget, task }
    }

    /// A moment after the last answer, for that goes out first.
    async fn gives_everything_back(&self) {
        let end = Instant::now() + LONG;
        while self.budget.used() > 0 {
            assert!(Instant::now() < end, "{} bytes are held", self.budget.used());
            tokio::task::yield_now().await;
        }
    }

    /// Answers every request with its own header, and a body of as many bytes as it names if it is a fetch.
    fn echo(mut self) -> Self {
        let (_, empty) = mpsc::unbounded_channel();
        let mut inbound = std::mem::replace(&mut self.inbound, empty);
        tokio::spawn(async move {
            while let Some(inbound) = inbound.recv().await {
                tokio::spawn(async move { echo(inbound) });
            }
        });
        self
    }
}

fn echo(inbound: Inbound) {
    let header = inbound.frame.header().clone();
    let bytes = header.last_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes) as usize);
    let body = if inbound.protocol == Protocol::Fetch { bytes } else { 0 };
    inbound.respond.respond(Ok(Frame::new(header, vec![9; body].into())));
}

fn produce(id: u32, body: usize) -> Frame {
    Frame::new(Bytes::copy_from_slice(&id.to_be_bytes()), vec![3; body].into())
}

fn fetch(bytes: u32) -> Frame {
    Frame::new(Bytes::copy_from_slice(&bytes.to_be_bytes()), Bytes::new())
}

async fn call(from: &Node, to: &Node, protocol: Protocol, frame: Frame) -> Result<Frame, CallError> {
    from.lanes.call(to.peer, to.address.clone(), protocol, frame, LONG).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_ask_through_one_lane_and_every_answer_finds_its_call() {
    let (a, b) = (Node::start(64 * MIB, true).await.echo(), Node::start(64 * MIB, true).await.echo());
    assert_eq!(call(&a, &b, Protocol::Produce, produce(1, 10)).await.expect("an answer").header()[..], [0, 0, 0, 1]);
    // The other way needs no address: the lane is there.
    let back = b.lanes.call(a.peer, Vec::new(), Protocol::Produce, produce(2, 10), LONG).await.expect("an answer");
    assert_eq!(back.header()[..], [0, 0, 0, 2]);
    let mut calls = JoinSet::new();
    for id in 0..300u32 {
        let (lanes, peer, address) = (a.lanes.clone(), b.peer, b.address.clone());
        let body = [10, KIB, 70 * KIB, MIB][id as usize % 4];
        calls.spawn(async move {
            let answer = lanes.call(peer, address.clone(), Protocol::Produce, produce(id, body), LONG).await;
            assert_eq!(answer.expect("an answer").header()[..], id.to_be_bytes());
            let answer = lanes.call(peer, address, Protocol::Fetch, fetch(body as u32), LONG).await.expect("an answer");
            assert_eq!(answer.body_len(), body);
        });
    }
    calls.join_all().await;
    let counters = a.lanes.counters();
    assert_eq!((counters.opened.get(), counters.lanes.get(), counters.calls.get()), (2, 2, 0), "one for each class");
    b.gives_everything_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_if_open_opens_a_lane_for_those_that_follow() {
    let (a, b) = (Node::start(MIB, true).await, Node::start(MIB, true).await.echo());
    let frame = produce(1, 1);
    assert!(a.lanes.call_if_open(b.peer, &[], Protocol::Produce, &frame, LONG).await.is_none());
    assert_eq!(a.lanes.counters().fallbacks.get(), 0, "a peer without lanes is no fallback");
    assert!(a.lanes.call_if_open(b.peer, &b.address, Protocol::Hello, &frame, LONG).await.is_none());
    let end = Instant::now() + LONG;
    while a.lanes.call_if_open(b.peer, &b.address, Protocol::Produce, &frame, LONG).await.is_none() {
        assert!(Instant::now() < end);
        tokio::task::yield_now().await;
    }
    assert!(a.lanes.is_open(b.peer, Protocol::Produce) && !a.lanes.is_open(b.peer, Protocol::Fetch));
    assert!(a.lanes.counters().fallbacks.get() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_nobody_at_home_is_said_at_once() {
    let (a, closed) = (Node::start(MIB, true).await, Node::start(MIB, false).await);
    let refused = call(&a, &closed, Protocol::Produce, produce(1, 1)).await;
    assert!(refused.as_ref().is_err_and(|error| !error.is_outcome_unknown()), "{refused:?}");
    assert_eq!(closed.lanes.counters().accepted.get(), 0);
    let nobody = vec!["/ip4/127.0.0.1/tcp/1".parse().expect("an address")];
    let began = Instant::now();
    let dial = a.lanes.call(PeerId::random(), nobody, Protocol::Produce, produce(1, 1), LONG).await;
    assert!(matches!(dial, Err(CallError::Dial(_))), "{dial:?}");
    assert!(began.elapsed() < LONG / 2);
    assert_eq!(
        a.lanes.call(PeerId::random(), Vec::new(), Protocol::Hello, produce(1, 1), LONG).await,
        Err(CallError::Unsupported)
    );
}

/// 1,000 requests are under way, some of them answered, when the connection is cut: each call ends once, and those that
/// are said not to have been sent were not seen by the other end.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_the_middle_of_a_thousand_requests_ends_each_once() {
    let (a, mut b) = (Node::start(MIB, true).await, Node::start(64 * MIB, true).await);
    call_and_answer(&a, &mut b).await;
    let ends = Arc::new(Mutex::new(HashMap::<u32, Vec<Result<Frame, CallError>>>::new()));
    let mut calls = JoinSet::new();
    for id in 0..1000u32 {
        let (lanes, peer, ends) = (a.lanes.clone(), b.peer, ends.clone());
        calls.spawn(async move {
            // Without an address nothing is tried again elsewhere.
            let ended = lanes.call(peer, Vec::new(), Protocol::Produce, produce(id, 40 * KIB), LONG).await;
            ends.lock().entry(id).or_default().push(ended);
        });
    }
    let mut seen = Vec::new();
    let mut waiting = Vec::new();
    while seen.len() < 300 {
        let inbound = b.inbound.recv().await.expect("the swarm runs");
        let header = inbound.frame.header().clone();
        seen.push(u32::from_be_bytes(*header.first_chunk().expect("four bytes")));
        if seen.len() % 2 == 0 {
            inbound.respond.respond(Ok(Frame::new(header, Bytes::new())));
        } else {
            waiting.push(inbound);
        }
    }
    b.task.abort();
    let _ = b.task.await;
    calls.join_all().await;
    while let Ok(inbound) = b.inbound.try_recv() {
        seen.push(u32::from_be_bytes(*inbound.frame.header().first_chunk().expect("four bytes")));
    }
    let ends = ends.lock();
    let (mut answered, mut unknown, mut unsent) = (0, 0, 0);
    for id in 0..1000 {
        match ends[&id].as_slice() {
            [Ok(answer)] => {
                assert_eq!(answer.header()[..], id.to_be_bytes());
                answered += 1;
            }
            [Err(error)] if error.is_outcome_unknown() => unknown += 1,
            [Err(_)] => {
                assert!(!seen.contains(&id), "{id} was said not to be sent");
                unsent += 1;
            }
            several => panic!("{id} ended {} times", several.len()),
        }
    }
    assert!(answered > 0 && unknown > 0 && unsent > 0, "{answered} answered, {unknown} unknown, {unsent} not sent");
    assert!(waiting.iter().all(|inbound| !seen.is_empty() && inbound.protocol == Protocol::Produce));
}

async fn call_and_answer(a: &Node, b: &mut Node) {
    let answer = async { echo(b.inbound.recv().await.expect("a request")) };
    let address = b.address.clone();
    let (ended, ()) = tokio::join!(a.lanes.call(b.peer, address, Protocol::Produce, produce(0, 1), LONG), answer);
    ended.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_broke_is_opened_again_by_the_next_call() {
    let a = Node::start(MIB, true).await;
    let key = Keypair::generate_ed25519();
    let mut counts = Vec::new();
    let mut address = vec!["/ip4/127.0.0.1/tcp/0".parse::<Multiaddr>().expect("an address")];
    for round in 0..3u32 {
        let (queue, mut inbound) = mpsc::unbounded_channel();
        let serve = Serve {
            sink: Box::new(move |inbound| drop(queue.send(inbound))),
            places: Arc::new(Semaphore::new(10)),
            budget: Budget::new(MIB),
        };
        let setup = Setup {
            local: key.public().to_peer_id(),
            connections: transport(&key).expect("a transport"),
            cluster: CLUSTER,
            listen: address.clone(),
            any_port: false,
            gate: Arc::new(Door(AtomicBool::new(true))),
            serve: Some(serve),
            exchanges: Arc::new(Counters::default()),
        };
        let started = lane::start(setup).await.expect("the port");
        address.clone_from(&started.listening);
        tokio::spawn(async move {
            while let Some(inbound) = inbound.recv().await {
                echo(inbound);
            }
        });
        let peer = key.public().to_peer_id();
        let answer = loop {
            // Until this end has noticed the cut, calls end as unknown.
            match a.lanes.call(peer, address.clone(), Protocol::Produce, produce(round, 1), LONG).await {
                Ok(answer) => break answer,
                Err(error) => assert!(round > 0, "{error}"),
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(answer.header()[..], round.to_be_bytes());
        counts.push(a.lanes.counters().reconnects.get());
        started.task.abort();
        let _ = started.task.await;
    }
    assert_eq!(counts, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_lane_loses_nothing_and_calls_go_through_the_next() {
    let (a, b) = (Node::start(64 * MIB, true).await, Node::start(64 * MIB, true).await.echo());
    let done = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    for worker in 0..16u32 {
        let (lanes, peer, address, done) = (a.lanes.clone(), b.peer, b.address.clone(), done.clone());
        calls.spawn(async move {
            for i in 0..200 {
                let id = worker * 1000 + i;
                let answer = lanes.call(peer, address.clone(), Protocol::Produce, produce(id, KIB), LONG).await;
                assert_eq!(answer.expect("no call is lost").header()[..], id.to_be_bytes());
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for nth in 1..=4 {
        while done.load(Ordering::Relaxed) < nth * 500 {
            tokio::task::yield_now().await;
        }
        if nth % 2 == 0 { a.lanes.close() } else { b.lanes.close() }
    }
    calls.join_all().await;
    let counters = a.lanes.counters();
    assert!(counters.opened.get() > 1, "{counters:?}");
    assert_eq!((counters.broken.get(), counters.violated.get()), (0, 0), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_is_told_to_the_other_end_and_its_late_answer_harms_nobody() {
    let (a, mut b) = (Node::start(MIB, true).await, Node::start(MIB, true).await);
    let address = b.address.clone();
    let mut call = Box::pin(a.lanes.call(b.peer, address, Protocol::Fetch, fetch(10), LONG));
    let mut inbound = tokio::select! {
        inbound = b.inbound.recv() => inbound.expect("a request"),
        ended = &mut call => panic!("{ended:?}"),
    };
    assert!(!inbound.respond.is_closed());
    drop(call);
    inbound.respond.closed().await;
    echo(inbound);
    let answer = async { echo(b.inbound.recv().await.expect("a request")) };
    let (ended, ()) = tokio::join!(a.lanes.call(b.peer, Vec::new(), Protocol::Fetch, fetch(20), LONG), answer);
    assert_eq!(ended.expect("an answer").body_len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_budget_are_answered_busy_and_others_are_served() {
    let (a, mut b) = (Node::start(MIB, true).await, Node::start(100 * KIB, true).await);
    let busy = call(&a, &b, Protocol::Produce, produce(1, 200 * KIB)).await.expect("an answer");
    let failure = rafka_protocols::produce::decode_reply(&busy).expect("a reply").expect_err("no room");
    assert_eq!(failure.code, ErrorCode::Busy);
    call_and_answer(&a, &mut b).await;
    // Dropped without an answer: the outcome is unknown.
    let dropped = async { drop(b.inbound.recv().await.expect("a request")) };
    let (ended, ()) = tokio::join!(a.lanes.call(b.peer, Vec::new(), Protocol::Produce, produce(2, 1), LONG), dropped);
    let failure: Failure =
        rafka_protocols::produce::decode_reply(&ended.expect("one")).expect("a reply").expect_err("x");
    assert_eq!(failure.code, ErrorCode::OutcomeUnknown);
    b.gives_everything_back().await;
}

/// A peer asks for much and reads nothing: what is held for it is bounded, and others are served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_is_in_nobodys_way() {
    let mut b = Node::start(64 * MIB, true).await;
    let mut hostile = Hostile::connect(&b).await;
    let asked = hostile.ask(600, 1_000_000).await;
    let good = Node::start(MIB, true).await;
    let (mut served, mut held) = (0, 0);
    let mut calls = JoinSet::new();
    for id in 0..20u32 {
        let (lanes, peer, address) = (good.lanes.clone(), b.peer, b.address.clone());
        calls.spawn(async move { lanes.call(peer, address, Protocol::Fetch, fetch(id * 1000), LONG).await });
    }
    let mut answered = 0;
    while answered < 20 || served < 100 {
        tokio::select! {
            inbound = b.inbound.recv() => {
                let inbound = inbound.expect("the swarm runs");
                served += usize::from(inbound.peer != good.peer);
                echo(inbound);
                held = held.max(b.lanes.counters().held_bytes.get());
            }
            Some(ended) = calls.join_next() => {
                ended.expect("no panic").expect("an answer");
                answered += 1;
            }
        }
    }
    assert!(asked == 600 && held > 10 * MIB as u64, "{held} bytes are held for who reads no answer");
    assert!(held <= (LANE_REPLIES_HELD_MAX + MIB) as u64, "{held} bytes are held for who reads no answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_breaks_the_rules_is_cut_off() {
    let b = Node::start(64 * MIB, true).await.echo();
    let claim = {
        let mut head = [0u8; 20];
        (head[0], head[1]) = (2, Protocol::Produce as u8);
        head[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        head.to_vec()
    };
    let unknown_reply = {
        let mut head = [0u8; 20];
        (head[0], head[1]) = (3, Protocol::Produce as u8);
        head.to_vec()
    };
    let not_a_message = vec![0xff; 64];
    for (nth, bytes) in [claim, unknown_reply, not_a_message].into_iter().enumerate() {
        let mut hostile = Hostile::connect(&b).await;
        hostile.say(&bytes).await;
        hostile.until_cut_off().await;
        let end = Instant::now() + LONG;
        while b.lanes.counters().violated.get() < nth as u64 + 1 {
            assert!(Instant::now() < end);
            tokio::task::yield_now().await;
        }
    }
    let good = Node::start(MIB, true).await;
    call(&good, &b, Protocol::Produce, produce(1, 1)).await.expect("others are served");
}

/// A lane of which the other end is this test's, to say on it what it likes.
struct Hostile {
    stream: libp2p::swarm::Stream,
    _swarm: tokio::task::JoinHandle<()>,
}

#[derive(NetworkBehaviour)]
struct Alone {
    lanes: lane::Behaviour,
}

impl Hostile {
    async fn connect(to: &Node) -> Self {
        let key = Keypair::generate_ed25519();
        let lanes = lane::Behaviour::new(&CLUSTER, Arc::new(Door(AtomicBool::new(true))));
        let local = key.public().to_peer_id();
        let mut swarm = Swarm::new(transport(&key).expect("a transport"), Alone { lanes }, local, swarm_config(LONG));
        swarm.behaviour_mut().lanes.open(to.peer, to.address.clone(), lane::Class::Fetch);
        let stream = loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(AloneEvent::Lanes(lane::Event::Lane { stream, .. })) => break stream,
                SwarmEvent::Behaviour(AloneEvent::Lanes(lane::Event::Failed { error, .. })) => panic!("{error}"),
                _ => {}
            }
        };
        let swarm = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { stream, _swarm: swarm }
    }

    async fn say(&mut self, bytes: &[u8]) {
        use futures::AsyncWriteExt;
        // It may be cut off while it speaks.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Fetches `each` bytes `times` times.
    async fn ask(&mut self, times: u64, each: u32) -> u64 {
        let mut writer = lane::wire::Writer::default();
        writer.push(&lane::wire::Message::Grant { class: lane::Class::Fetch, requests: 1000, bytes: 1 << 30 });
        for id in 0..times {
            writer.push(&lane::wire::Message::Request { id, protocol: Protocol::Fetch, frame: fetch(each) });
        }
        while !writer.is_empty() {
            let next = writer.next().to_vec();
            self.say(&next).await;
            writer.wrote(next.len());
        }
        times
    }

    async fn until_cut_off(&mut self) {
        use futures::AsyncReadExt;
        let mut scratch = [0; 100];
        while self.stream.read(&mut scratch).await.is_ok_and(|bytes| bytes > 0) {}
    }
}
