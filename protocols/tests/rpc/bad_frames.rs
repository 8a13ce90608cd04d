//! A peer that writes whatever it likes on the substreams of a protocol.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Event, Message, OutboundFailure, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{StreamProtocol, Swarm};
use rafka_protocols::Protocol;
use rafka_protocols::rpc::{Direction, Outcome};
use rafka_protocols::transport::{memory_transport, swarm_config};

use crate::harness::{CLUSTER, PATIENCE, Peer, soon};

/// Writes a request as it is, reads what comes.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> io::Result<Vec<u8>> {
        Err(io::Error::other("asks only"))
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        io.read_to_end(&mut answer).await?;
        Ok(answer)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
        _: Vec<u8>,
    ) -> io::Result<()> {
        Err(io::Error::other("asks only"))
    }
}

struct RawPeer(Swarm<request_response::Behaviour<Raw>>);

impl RawPeer {
    fn new(protocol: Protocol) -> Self {
        let keypair = Keypair::generate_ed25519();
        let transport = memory_transport(&keypair).expect("a keypair that signs");
        let name = [(protocol.name(&CLUSTER), ProtocolSupport::Outbound)];
        let behaviour = request_response::Behaviour::new(name, request_response::Config::default());
        Self(Swarm::new(transport, behaviour, keypair.public().to_peer_id(), swarm_config(PATIENCE)))
    }

    /// What comes back for `bytes`: nothing, if the peer closes the substream.
    async fn say(&mut self, to: &Peer, bytes: &[u8]) -> Vec<u8> {
        let addresses = vec![to.address.clone()];
        self.0.behaviour_mut().send_request_with_addresses(&to.id, bytes.to_vec(), addresses);
        loop {
            match soon(self.0.select_next_some()).await {
                SwarmEvent::Behaviour(Event::Message { message: Message::Response { response, .. }, .. }) => {
                    return response;
                }
                SwarmEvent::Behaviour(Event::OutboundFailure { error: OutboundFailure::Io(_), .. }) => {
                    return Vec::new();
                }
                SwarmEvent::ConnectionClosed { cause, .. } => panic!("the connection died: {cause:?}"),
                SwarmEvent::Behaviour(event) => panic!("{event:?}"),
                _ => {}
            }
        }
    }
}

const GOOD: &[u8] = b"\0\0\0\x02hi\0\0\0\x02yo";

#[tokio::test]
async fn bad_frames_cost_their_substream_and_nothing_else() {
    let mut asked = Peer::member().await;
    asked.inbox.close();
    let mut raw = RawPeer::new(Protocol::Produce);
    let two = [GOOD, GOOD].concat();
    let bad: [&[u8]; 8] = [
        b"",
        b"\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x05hi",
        b"\0\0\0\x02hi\xff\xff\xff\xff",
        b"\0\0\0\x02hi\0\0\0\x09yo",
        b"\0\0\0\x02hi\0\0\0\x02yo!",
        &two,
    ];
    for (i, bytes) in bad.into_iter().enumerate() {
        assert_eq!(raw.say(&asked, bytes).await, b"", "frame {i}");
        assert_eq!(asked.counters.requests(Direction::Inbound, Protocol::Produce, Outcome::Frame), i as u64 + 1);
    }
    // Nobody serves here, which is an answer: the words of a dropped responder.
    assert_ne!(raw.say(&asked, GOOD).await, b"");
    assert_eq!(asked.made_and_closed(), (1, 0));
}

#[tokio::test]
async fn a_request_for_a_protocol_without_bodies_may_have_none() {
    let mut asked = Peer::member().await;
    asked.echo();
    let mut raw = RawPeer::new(Protocol::Hello);
    assert_eq!(raw.say(&asked, GOOD).await, b"");
    assert_eq!(raw.say(&asked, b"\0\0\0\0\0\0\0\0").await, [0; 8]);
}
