//! Hints between real swarms.

use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{Behaviour, Event, MessageAcceptance, MessageAuthenticity};
use libp2p::identity::Keypair;
use libp2p::swarm::{Config, Swarm, SwarmEvent};
use rafka_model::{ClusterId, MetadataIndex, NodeId, TopicId};
use rafka_protocols::gossip::{self, Channel, Hint, MetaHint};
use rafka_protocols::transport::{memory_transport, swarm_config};

const PATIENCE: Duration = Duration::from_secs(40);

fn swarm(cluster: &ClusterId, config: Config) -> Swarm<Behaviour> {
    let keypair = Keypair::generate_ed25519();
    let transport = memory_transport(&keypair).expect("a keypair that signs");
    let id = keypair.public().to_peer_id();
    let behaviour = Behaviour::new(MessageAuthenticity::Signed(keypair), gossip::config(cluster)).expect("a config");
    let mut swarm = Swarm::new(transport, behaviour, id, config);
    for channel in Channel::ALL {
        swarm.behaviour_mut().subscribe(&channel.topic(cluster)).expect("allowed");
    }
    swarm
}

/// Lets both run until `pick` finds what it looks for in an event of either.
async fn run<T>(
    left: &mut Swarm<Behaviour>,
    right: &mut Swarm<Behaviour>,
    mut pick: impl FnMut(usize, &mut Swarm<Behaviour>, SwarmEvent<Event>) -> Option<T>,
) -> T {
    let found = async {
        loop {
            let picked = tokio::select! {
                event = left.select_next_some() => pick(0, left, event),
                event = right.select_next_some() => pick(1, right, event),
            };
            if let Some(picked) = picked {
                break picked;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("a test does not take this long")
}

async fn listen(swarm: &mut Swarm<Behaviour>) -> libp2p::Multiaddr {
    swarm.listen_on("/memory/0".parse().expect("an address")).expect("a memory address");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    }
}

#[tokio::test]
async fn a_hint_reaches_a_member_with_its_source() {
    let cluster = ClusterId([7; 32]);
    let (mut left, mut right) = (swarm(&cluster, swarm_config(PATIENCE)), swarm(&cluster, swarm_config(PATIENCE)));
    let address = listen(&mut left).await;
    right.dial(address).expect("an address");
    let meta = Channel::Meta.topic(&cluster);
    run(&mut left, &mut right, |side, _, event| match event {
        SwarmEvent::Behaviour(Event::Subscribed { topic, .. }) if side == 0 && topic == meta.hash() => Some(()),
        _ => None,
    })
    .await;
    let hint = Hint::Meta(MetaHint {
        prev_index: MetadataIndex(3),
        index: MetadataIndex(4),
        fenced: vec![NodeId(7)],
        topics: vec![TopicId([1; 16])],
        ..MetaHint::default()
    });
    left.behaviour_mut().publish(meta.clone(), gossip::encode(&hint)).expect("a subscriber");
    let source = *left.local_peer_id();
    let heard = run(&mut left, &mut right, |_, swarm, event| match event {
        SwarmEvent::Behaviour(Event::Message { propagation_source, message_id, message }) => {
            assert_eq!((message.source, &message.topic), (Some(source), &meta.hash()));
            let accept = MessageAcceptance::Accept;
            swarm.behaviour_mut().report_message_validation_result(&message_id, &propagation_source, accept);
            Some(gossip::decode(Channel::Meta, &message.data))
        }
        _ => None,
    })
    .await;
    assert_eq!(heard, Ok(hint));
}

#[tokio::test]
async fn another_clusters_gossip_is_not_even_spoken() {
    // Negotiated at once rather than lazily, so that the refusal is an event.
    let eager = || Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE);
    let (mut left, mut right) = (swarm(&ClusterId([7; 32]), eager()), swarm(&ClusterId([8; 32]), eager()));
    let address = listen(&mut left).await;
    right.dial(address).expect("an address");
    run(&mut left, &mut right, |_, _, event| match event {
        SwarmEvent::Behaviour(Event::GossipsubNotSupported { .. }) => Some(()),
        SwarmEvent::Behaviour(Event::Subscribed { .. }) => panic!("a stranger subscribed"),
        _ => None,
    })
    .await;
}
