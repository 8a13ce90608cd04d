//! What a lane saves: the same produces through a lane, through request-response and over a plain TCP connection, on
//! loopback, in the same run. Both ends live in this process.
//!
//! ```sh
//! cargo bench -p rafka-protocols --bench lanes
//! ```
//! Rounds are interleaved, so that a busy machine disturbs all alike. `cpu µs` is what both ends take for an exchange.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm};
use rafka_model::ClusterId;
use rafka_model::limits::{KIB, MIB};
use rafka_protocols::lane::{self, Gate, Lanes, Serve, Setup};
use rafka_protocols::rpc::{Behaviour, Budget, CallError, Counters, Event, Limiter};
use rafka_protocols::transport::{swarm_config, transport};
use rafka_protocols::{Frame, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(600);
const CLUSTER: ClusterId = ClusterId([1; 32]);
const DEADLINE: Duration = Duration::from_secs(30);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    // On a worker: the main thread is none, and waking it for each exchange costs plain TCP up to 15 times its time.
    runtime.expect("a runtime").block_on(async { tokio::spawn(compare()).await.expect("no panic") });
}

async fn compare() {
    let (lane, exchanges) = (Lane::start().await, Exchanges::start().await);
    println!("medians of {ROUNDS} rounds, both ends together; produces: the body goes up, a few bytes come down");
    println!(
        "{:>8} {:>9} │ {:>8} {:>7} {:>8} │ {:>8} {:>7} {:>8} │ {:>8} {:>7} {:>8} │ {:>9} {:>9}",
        "body",
        "in flight",
        "lane/s",
        "MB/s",
        "cpu µs",
        "rr/s",
        "MB/s",
        "cpu µs",
        "tcp/s",
        "MB/s",
        "cpu µs",
        "lane÷rr",
        "lane÷tcp"
    );
    for body in [KIB, 64 * KIB, MIB] {
        for in_flight in [1, 8, 64] {
            let tcp = Tcp::start().await;
            let mut rounds: [Vec<Round>; 3] = Default::default();
            for _ in 0..ROUNDS {
                rounds[0].push(Round::measure(lane.run(body, in_flight)).await);
                rounds[1].push(Round::measure(exchanges.run(body, in_flight)).await);
                rounds[2].push(Round::measure(tcp.run(body, in_flight)).await);
            }
            let [lane, exchange, tcp] = rounds.map(Round::median);
            let columns = |round: &Round| {
                let megabytes = round.per_second * body as f64 / 1e6;
                format!("{:>8.0} {megabytes:>7.0} {:>8.1}", round.per_second, round.cpu_us)
            };
            println!(
                "{body:>8} {in_flight:>9} │ {} │ {} │ {} │ {:>8.1}x {:>8.2}x",
                columns(&lane),
                columns(&exchange),
                columns(&tcp),
                lane.per_second / exchange.per_second,
                lane.per_second / tcp.per_second,
            );
        }
    }
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

    fn median(rounds: Vec<Self>) -> Self {
        let middle = |of: fn(&Self) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self { per_second: middle(|round| round.per_second), cpu_us: middle(|round| round.cpu_us) }
    }
}

/// CPU time of this process so far, in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

fn request(body: usize) -> Frame {
    Frame::new(Bytes::from(vec![1; 64]), Bytes::from(vec![7; body]))
}

fn answer() -> Frame {
    Frame::new(Bytes::from_static(&[2; 64]), Bytes::new())
}

/// `in_flight` callers, one exchange after another each, for a round.
async fn callers<F>(in_flight: usize, exchange: impl Fn() -> F + Clone + Send + 'static) -> u64
where
    F: Future<Output = ()> + Send + 'static,
{
    let end = Instant::now() + ROUND;
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let exchange = exchange.clone();
        workers.spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                exchange().await;
                done += 1;
            }
            done
        });
    }
    workers.join_all().await.into_iter().sum()
}

struct Everybody;

impl Gate for Everybody {
    fn admits(&self, _: &PeerId, _: &Multiaddr) -> bool {
        true
    }

    fn left(&self, _: &PeerId) {}
}

/// Two lane swarms; the second answers at once.
struct Lane {
    _server: Lanes,
    client: Lanes,
    peer: PeerId,
    address: Vec<Multiaddr>,
}

impl Lane {
    async fn start() -> Self {
        let setup = |key: &Keypair, listen: Vec<Multiaddr>, serve| Setup {
            local: key.public().to_peer_id(),
            connections: transport(key).expect("a transport"),
            cluster: CLUSTER,
            listen,
            any_port: false,
            gate: Arc::new(Everybody),
            serve,
            exchanges: Arc::new(Counters::default()),
        };
        let serve = Serve {
            sink: Box::new(|inbound| inbound.respond.respond(Ok(answer()))),
            places: Arc::new(Semaphore::new(4096)),
            budget: Budget::new(512 * MIB),
        };
        let (here, there) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let any = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
        let server = lane::start(setup(&there, any, Some(serve))).await.expect("a free port");
        let client = lane::start(setup(&here, Vec::new(), None)).await.expect("nothing to listen on");
        let peer = there.public().to_peer_id();
        Self { _server: server.lanes, client: client.lanes, peer, address: server.listening }
    }

    async fn run(&self, body: usize, in_flight: usize) -> u64 {
        let (lanes, peer, address, request) = (self.client.clone(), self.peer, self.address.clone(), request(body));
        callers(in_flight, move || {
            let (lanes, address, request) = (lanes.clone(), address.clone(), request.clone());
            async move {
                let answer = lanes.call(peer, address, Protocol::Produce, request, DEADLINE).await;
                assert_eq!(answer.expect("an answer").header().len(), 64);
            }
        })
        .await
    }
}

type Call = (Frame, oneshot::Sender<Result<Frame, CallError>>);

/// Two control swarms; the second answers at once.
struct Exchanges {
    peer: PeerId,
    calls: mpsc::Sender<Call>,
    limiter: Limiter,
}

impl Exchanges {
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
                    inbound.respond.respond(Ok(answer()));
                }
            }
        });
        let (calls, mut inputs) = mpsc::channel::<Call>(1024);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some((frame, reply)) = inputs.recv() => {
                        client.behaviour_mut().send(peer, vec![address.clone()], Protocol::Produce, frame, reply);
                    }
                    _ = client.select_next_some() => {}
                }
            }
        });
        Self { peer, calls, limiter: Limiter::default() }
    }

    async fn run(&self, body: usize, in_flight: usize) -> u64 {
        let (calls, limiter, peer, request) = (self.calls.clone(), self.limiter.clone(), self.peer, request(body));
        callers(in_flight, move || {
            let (calls, limiter, request) = (calls.clone(), limiter.clone(), request.clone());
            async move {
                let _permit = limiter.acquire(peer, Protocol::Produce).await;
                let (reply, answered) = oneshot::channel();
                calls.send((request, reply)).await.expect("the swarm runs");
                assert_eq!(answered.await.expect("completed").expect("an answer").header().len(), 64);
            }
        })
        .await
    }
}

fn swarm(serve: bool) -> Swarm<Behaviour> {
    let keypair = Keypair::generate_ed25519();
    let transport = transport(&keypair).expect("a transport");
    let behaviour = Behaviour::cluster(&CLUSTER, serve);
    Swarm::new(transport, behaviour, keypair.public().to_peer_id(), swarm_config(Duration::from_secs(60)))
}

/// A plain connection with the same frames; one task at each end, so that no exchange waits for a thread.
struct Tcp(Mutex<(BufReader<OwnedReadHalf>, OwnedWriteHalf)>);

impl Tcp {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("a socket");
            let (reader, mut writer) = stream.into_split();
            let mut reader = BufReader::new(reader);
            while read_plain(&mut reader).await.is_some() {
                write_plain(&mut writer, &answer()).await;
            }
        });
        let stream = TcpStream::connect(address).await.expect("a server");
        stream.set_nodelay(true).expect("a socket");
        let (reader, writer) = stream.into_split();
        Self(Mutex::new((BufReader::new(reader), writer)))
    }

    /// Bodies go one way only, so writing ahead never blocks both ends.
    async fn run(&self, body: usize, in_flight: usize) -> u64 {
        let request = request(body);
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
            read_plain(reader).await.expect("an answer");
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
