//! Finding a cluster before being in one: a swarm that speaks hello and nothing else.
//!
//! A node that has never been in a cluster asks everybody it was told of. Whoever knows a cluster answers with it;
//! with `--bootstrap-expect N` the nodes that know none count each other and agree on who founds it (CLUSTER.md,
//! "Bootstrap"): each nominates the smallest peer id of the N it has heard, and the nominee founds only once N
//! nominations, its own included, name it.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId, Swarm};
use rafka_model::ClusterId;
use rafka_protocols::address::BootstrapAddress;
use rafka_protocols::hello::{self, Admission, ClusterKey, Hello};
use rafka_protocols::rpc::{self, CallError, Inbound};
use rafka_protocols::transport::swarm_config;
use rafka_protocols::{Frame, Protocol};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::{IDLE, StartError, connections, listen_on};
use crate::bootstrap;

/// How often everybody is asked again.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// How often waiting is reported.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// How to look for a cluster.
pub struct Search<'a> {
    /// Identity.
    pub key: &'a Keypair,
    /// Where to be found while looking.
    pub listen: &'a [Multiaddr],
    /// Whom to ask.
    pub bootstrap: &'a [BootstrapAddress],
    /// Nodes that found a cluster together; `None` only joins.
    pub expect: Option<u32>,
    /// The only cluster to accept.
    pub cluster: Option<ClusterId>,
    /// This node's nomination of an earlier run.
    pub nominee: Option<PeerId>,
}

/// What the search came to.
#[derive(Debug)]
pub enum Outcome {
    /// A cluster, and the peer that told of it.
    Join(ClusterKey, Box<Hello>, PeerId),
    /// This node founds it.
    Found,
}

/// Looks until there is an outcome. `nominated` must make the nomination durable before it returns.
///
/// Cancel safety: dropping the future ends the search; a nomination already made stays.
///
/// # Errors
/// [`StartError::Listen`] when an address cannot be bound.
pub async fn search(
    search: Search<'_>,
    mut nominated: impl FnMut(PeerId) -> Result<(), String>,
) -> Result<Outcome, StartError> {
    let local = search.key.public().to_peer_id();
    let transport = connections(search.key, search.listen)?;
    let mut swarm = Swarm::new(transport, rpc::Behaviour::hello_only(), local, swarm_config(IDLE));
    listen_on(&mut swarm, search.listen).await?;
    let mut ballot = Ballot::new(local, search.expect, search.nominee);
    let (answers, mut answered) = tokio::sync::mpsc::channel(64);
    let mut asking = HashSet::new();
    let mut tick = tokio::time::interval(ASK_EVERY);
    let mut reported = Instant::now();
    loop {
        tokio::select! {
            _ = tick.tick() => {
                for address in bootstrap::resolve_all(search.bootstrap).await.addresses {
                    let _ = swarm.dial(DialOpts::unknown_peer_id().address(address).build());
                }
                for peer in swarm.connected_peers().copied().collect::<Vec<_>>() {
                    ask(&mut swarm, peer, &mut asking, &answers);
                }
                if reported.elapsed() >= REPORT_EVERY {
                    reported = Instant::now();
                    info!(heard = ballot.heard(), expect = search.expect, bootstrap = ?search.bootstrap, "waiting for a cluster");
                }
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => ask(&mut swarm, peer_id, &mut asking, &answers),
                SwarmEvent::Behaviour(rpc::Event::Inbound(inbound)) => greet(inbound, ballot.nominee()),
                SwarmEvent::OutgoingConnectionError { error, .. } => debug!(%error, "dial failed"),
                _ => {}
            },
            Some((peer, answer)) = answered.recv() => {
                asking.remove(&peer);
                let Some(hello) = heard(answer, &peer) else { continue };
                let Some(cluster) = hello.cluster else {
                    ballot.hear(peer, hello.nominee.and_then(|nominee| nominee.parse().ok()));
                    if let Some(nominee) = ballot.nominate() {
                        nominated(nominee).map_err(|e| StartError::Build(format!("cannot store the nomination: {e}")))?;
                    }
                    if ballot.is_elected() {
                        return Ok(Outcome::Found);
                    }
                    continue;
                };
                // It has a cluster and knows nobody in it yet: a founder that is not registered, or another joiner.
                // Whoever joined by such an answer would know nobody to register with.
                if hello.members.is_empty() {
                    debug!(%peer, "the peer does not know its cluster yet");
                    continue;
                }
                match search.cluster {
                    Some(pinned) if pinned != cluster.id => {
                        warn!(%peer, cluster = %cluster.id, expected = %pinned, "this peer is in another cluster than --cluster-id names");
                    }
                    _ => return Ok(Outcome::Join(cluster, Box::new(hello), peer)),
                }
            }
        }
    }
}

type Answer = (PeerId, Result<Frame, CallError>);

fn ask(
    swarm: &mut Swarm<rpc::Behaviour>,
    peer: PeerId,
    asking: &mut HashSet<PeerId>,
    answers: &tokio::sync::mpsc::Sender<Answer>,
) {
    if !asking.insert(peer) {
        return;
    }
    let (reply, answer) = oneshot::channel();
    swarm.behaviour_mut().send(peer, Vec::new(), Protocol::Hello, hello::encode_request(), reply);
    let answers = answers.clone();
    tokio::spawn(async move {
        let answer = answer.await.unwrap_or(Err(CallError::ConnectionClosed));
        let _ = answers.send((peer, answer)).await;
    });
}

/// Answers another joiner: no cluster yet, and whom this node nominates.
fn greet(inbound: Inbound, nominee: Option<PeerId>) {
    let hello = Hello {
        cluster: None,
        members: Vec::new(),
        nominee: nominee.map(|peer| peer.to_string()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        admission: Admission::Open,
    };
    inbound.respond.respond(Ok(hello::encode_reply(&Ok(hello))));
}

fn heard(answer: Result<Frame, CallError>, peer: &PeerId) -> Option<Hello> {
    match answer.map(|frame| hello::decode_reply(&frame)) {
        Ok(Ok(Ok(hello))) => Some(hello),
        Ok(Ok(Err(failure))) => {
            debug!(%peer, %failure, "hello refused");
            None
        }
        Ok(Err(error)) => {
            warn!(%peer, %error, "not a Rafka hello");
            None
        }
        Err(error) => {
            debug!(%peer, %error, "no answer to hello");
            None
        }
    }
}

/// The count of `--bootstrap-expect`. Pure, so that its rules can be tested.
#[derive(Debug)]
struct Ballot {
    local: PeerId,
    expect: Option<usize>,
    heard: BTreeMap<PeerId, Option<PeerId>>,
}

impl Ballot {
    fn new(local: PeerId, expect: Option<u32>, nominee: Option<PeerId>) -> Self {
        let expect = expect.map(|n| n as usize);
        Self { local, expect, heard: BTreeMap::from([(local, nominee)]) }
    }

    fn heard(&self) -> usize {
        self.heard.len()
    }

    fn nominee(&self) -> Option<PeerId> {
        self.heard.get(&self.local).copied().flatten()
    }

    fn hear(&mut self, peer: PeerId, nominee: Option<PeerId>) {
        self.heard.insert(peer, nominee);
    }

    /// Makes this node's one and only nomination, once enough peers were heard.
    fn nominate(&mut self) -> Option<PeerId> {
        let enough = self.expect.is_some_and(|expect| self.heard.len() >= expect);
        if !enough || self.nominee().is_some() {
            return None;
        }
        let smallest = *self.heard.keys().next()?;
        self.heard.insert(self.local, Some(smallest));
        Some(smallest)
    }

    /// True once this node has all the nominations that it expects.
    fn is_elected(&self) -> bool {
        let mine = self.heard.values().filter(|nominee| **nominee == Some(self.local)).count();
        self.expect.is_some_and(|expect| mine >= expect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted_peers(count: usize) -> Vec<PeerId> {
        let mut peers: Vec<_> = (0..count).map(|_| PeerId::random()).collect();
        peers.sort();
        peers
    }

    #[test]
    fn the_smallest_of_the_expected_founds_once_all_name_it() {
        let peers = sorted_peers(3);
        let mut ballots: Vec<_> = peers.iter().map(|peer| Ballot::new(*peer, Some(3), None)).collect();
        for _ in 0..2 {
            for i in 0..3 {
                for j in 0..3 {
                    let (peer, nominee) = (ballots[j].local, ballots[j].nominee());
                    if i != j {
                        ballots[i].hear(peer, nominee);
                    }
                }
                ballots[i].nominate();
            }
        }
        let elected: Vec<_> = ballots.iter().map(Ballot::is_elected).collect();
        assert_eq!(elected, [true, false, false]);
    }

    #[test]
    fn nobody_is_elected_by_fewer_than_expected_or_without_expectation() {
        let peers = sorted_peers(3);
        let mut two_of_three = Ballot::new(peers[0], Some(3), None);
        two_of_three.hear(peers[1], Some(peers[0]));
        assert_eq!(two_of_three.nominate(), None);
        let mut joiner = Ballot::new(peers[0], None, None);
        joiner.hear(peers[1], Some(peers[0]));
        assert_eq!(joiner.nominate(), None);
        assert!(!two_of_three.is_elected() && !joiner.is_elected());
    }

    #[test]
    fn a_nomination_of_an_earlier_run_is_never_changed() {
        let peers = sorted_peers(3);
        let mut ballot = Ballot::new(peers[1], Some(2), Some(peers[2]));
        ballot.hear(peers[0], None);
        assert_eq!(ballot.nominate(), None);
        assert_eq!(ballot.nominee(), Some(peers[2]));
    }
}
