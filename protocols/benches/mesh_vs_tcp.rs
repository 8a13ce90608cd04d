//! What the mesh costs: produces (body up, few bytes down) and fetches (few bytes up, body down) through two swarms on
//! loopback, against the same frames on a plain TCP connection, in the same run. Both ends live in this process.
//!
//! ```sh
//! cargo bench -p rafka-protocols --bench mesh_vs_tcp
//! ```
//! Rounds are interleaved, so that a busy machine disturbs both alike. Medians come with the slowest and the fastest
//! round: where those lie far apart, the rate says little and the CPU time more.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm};
use rafka_model::ClusterId;
use rafka_model::limits::{KIB, MIB};
use rafka_protocols::rpc::{Behaviour, CallError, Event, Limiter};
use rafka_protocols::transport::{swarm_config, transport};
use rafka_protocols::{Frame, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);
const SMALL: usize = 64;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    // On a worker: the main thread is none, and waking it for each exchange costs plain TCP up to 15 times its time.
    runtime.expect("a runtime").block_on(async { tokio::spawn(compare()).await.expect("no panic") });
}

async fn compare() {
    let mesh = Mesh::start().await;
    println!("medians of {ROUNDS} rounds, both ends together");
    println!(
        "{:<8} {:>8} {:>9} │ {:>8} {:>15} {:>7} {:>8} │ {:>8} {:>15} {:>7} {:>8} │ {:>6} {:>6}",
        "kind",
        "body",
        "in flight",
        "mesh/s",
        "min–max",
        "MB/s",
        "cpu µs",
        "tcp/s",
        "min–max",
        "MB/s",
        "cpu µs",
        "rate",
        "cpu"
    );
    for protocol in [Protocol::Produce, Protocol::Fetch] {
        for body in [KIB, 64 * KIB, MIB] {
            for in_flight in [1, 16] {
                let tcp = Tcp::start(protocol, body).await;
                let (mut through_mesh, mut through_tcp) = (Vec::new(), Vec::new());
                for _ in 0..ROUNDS {
                    through_mesh.push(Round::measure(mesh.run(protocol, body, in_flight)).await);
                    through_tcp.push(Round::measure(tcp.run(protocol, body, in_flight)).await);
                }
                report(protocol, body, in_flight, &Row::of(&through_mesh), &Row::of(&through_tcp));
            }
        }
    }
}

fn report(protocol: Protocol, body: usize, in_flight: usize, mesh: &Row, tcp: &Row) {
    let columns = |row: &Row| {
        let span = format!("{:.0}–{:.0}", row.slowest, row.fastest);
        let megabytes = row.median.per_second * body as f64 / 1e6;
        format!("{:>8.0} {span:>15} {megabytes:>7.0} {:>8.1}", row.median.per_second, row.median.cpu_us)
    };
    println!(
        "{:<8} {body:>8} {in_flight:>9} │ {} │ {} │ {:>5.1}% {:>5.1}x",
        protocol.word(),
        columns(mesh),
        columns(tcp),
        100.0 * mesh.median.per_second / tcp.median.per_second,
        mesh.median.cpu_us / tcp.median.cpu_us,
    );
}

/// Rounds of one kind.
struct Row {
    median: Round,
    slowest: f64,
    fastest: f64,
}

/// One round, per exchange.
#[derive(Clone, Copy)]
struct Round {
    per_second: f64,
    cpu_us: f64,
}

impl Round {
    async fn measure(exchanges: impl Future<Output = u64>) -> Self {
        let (start, cpu) = (Instant::now(), cpu_time());
        let done = exchanges.await as f64;
        Self { per_second: done / start.elapsed().as_secs_f64(), cpu_us: (cpu_time() - cpu).as_secs_f64() * 1e6 / done }
    }
}

impl Row {
    fn of(rounds: &[Round]) -> Self {
        let sorted = |of: fn(&Round) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (rates, cpu) = (sorted(|round| round.per_second), sorted(|round| round.cpu_us));
        let median = Round { per_second: rates[rates.len() / 2], cpu_us: cpu[cpu.len() / 2] };
        Self { median, slowest: rates[0], fastest: rates[rates.len() - 1] }
    }
}

/// CPU time of this process so far, in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

fn frame(body: usize) -> Frame {
    Frame::new(Bytes::from(vec![1; SMALL]), Bytes::from(vec![7; body]))
}

/// Request and answer of an exchange: the body goes one way.
fn shapes(protocol: Protocol, body: usize) -> (Frame, Frame) {
    if protocol == Protocol::Produce { (frame(body), frame(0)) } else { (frame(0), frame(body)) }
}

type Call = (Protocol, Frame, oneshot::Sender<Result<Frame, CallError>>);

/// Two swarms, connected; the second answers produces with nothing and fetches with a body of the size that the
/// request's last header bytes name.
struct Mesh {
    peer: PeerId,
    calls: mpsc::Sender<Call>,
    limiter: Limiter,
}

impl Mesh {
    async fn start() -> Self {
        let (mut server, mut client) = (swarm(true), swarm(false));
        server.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("a free port");
        let address: Multiaddr = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = server.select_next_some().await {
                break address;
            }
        };
        let peer = *server.local_peer_id();
        tokio::spawn(async move {
            loop {
                if let SwarmEvent::Behaviour(Event::Inbound(inbound)) = server.select_next_some().await {
                    let header = inbound.frame.header();
                    let body = u32::from_be_bytes(header[SMALL - 4..SMALL].try_into().expect("four bytes"));
                    tokio::spawn(async move { inbound.respond.respond(Ok(frame(body as usize))) });
                }
            }
        });
        let (calls, mut inputs) = mpsc::channel::<Call>(1024);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some((protocol, frame, reply)) = inputs.recv() => {
                        client.behaviour_mut().send(peer, vec![address.clone()], protocol, frame, reply);
                    }
                    _ = client.select_next_some() => {}
                }
            }
        });
        Self { peer, calls, limiter: Limiter::default() }
    }

    async fn run(&self, protocol: Protocol, body: usize, in_flight: usize) -> u64 {
        let (request, answer) = shapes(protocol, body);
        let mut header = request.header().to_vec();
        header[SMALL - 4..].copy_from_slice(&(answer.body_len() as u32).to_be_bytes());
        let request = Frame::new(header.into(), request.body());
        let end = Instant::now() + ROUND;
        let mut workers = JoinSet::new();
        for _ in 0..in_flight {
            let (calls, limiter, peer, request) =
                (self.calls.clone(), self.limiter.clone(), self.peer, request.clone());
            let answer_len = answer.body_len();
            workers.spawn(async move {
                let mut done = 0;
                while Instant::now() < end {
                    let _permit = limiter.acquire(peer, protocol).await;
                    let (reply, answered) = oneshot::channel();
                    calls.send((protocol, request.clone(), reply)).await.expect("the swarm runs");
                    let answer = answered.await.expect("completed").expect("an answer");
                    assert_eq!(answer.body_len(), answer_len);
                    done += 1;
                }
                done
            });
        }
        workers.join_all().await.into_iter().sum()
    }
}

fn swarm(serve: bool) -> Swarm<Behaviour> {
    let keypair = Keypair::generate_ed25519();
    let transport = transport(&keypair).expect("a transport");
    let behaviour = Behaviour::cluster(&ClusterId([1; 32]), serve);
    Swarm::new(transport, behaviour, keypair.public().to_peer_id(), swarm_config(Duration::from_secs(60)))
}

/// A plain connection with the same frames; one task at each end, so that no exchange waits for a thread.
struct Tcp(Mutex<(BufReader<OwnedReadHalf>, OwnedWriteHalf)>);

impl Tcp {
    async fn start(protocol: Protocol, body: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (_, answer) = shapes(protocol, body);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("a socket");
            let (reader, mut writer) = stream.into_split();
            let mut reader = BufReader::new(reader);
            while read_plain(&mut reader).await.is_some() {
                write_plain(&mut writer, &answer).await;
            }
        });
        let stream = TcpStream::connect(address).await.expect("a server");
        stream.set_nodelay(true).expect("a socket");
        let (reader, writer) = stream.into_split();
        Self(Mutex::new((BufReader::new(reader), writer)))
    }

    /// Bodies go one way only, so writing ahead never blocks both ends.
    async fn run(&self, protocol: Protocol, body: usize, in_flight: usize) -> u64 {
        let (request, answer) = shapes(protocol, body);
        let (reader, writer) = &mut *self.0.lock().await;
        let end = Instant::now() + ROUND;
        let (mut sent, mut done) = (0, 0);
        loop {
            while sent - done < in_flight as u64 && Instant::now() < end {
                write_plain(writer, &request).await;
                sent += 1;
            }
            if sent == done {
                return done;
            }
            assert_eq!(read_plain(reader).await, Some(answer.body_len()));
            done += 1;
        }
    }
}

async fn read_plain(reader: &mut BufReader<OwnedReadHalf>) -> Option<usize> {
    let mut header = vec![0; reader.read_u32().await.ok()? as usize];
    reader.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; reader.read_u32().await.ok()? as usize];
    reader.read_exact(&mut body).await.ok()?;
    Some(body.len())
}

async fn write_plain(writer: &mut OwnedWriteHalf, frame: &Frame) {
    let mut head = (frame.header().len() as u32).to_be_bytes().to_vec();
    head.extend_from_slice(frame.header());
    head.extend_from_slice(&(frame.body_len() as u32).to_be_bytes());
    let body = frame.body();
    if body.len() < 16 * KIB {
        head.extend_from_slice(&body);
        return writer.write_all(&head).await.expect("the peer reads");
    }
    writer.write_all(&head).await.expect("the peer reads");
    writer.write_all(&body).await.expect("the peer reads");
}
