//! Hello: what a stranger may learn.

use rafka_broker::metadata::Image;
use rafka_model::limits::HELLO_MEMBERS_MAX;
use rafka_protocols::Frame;
use rafka_protocols::hello::{self, Admission, ClusterKey, Hello, Member};

use super::{Served, Service, malformed, outcome};

pub(super) fn serve(service: &Service, frame: &Frame) -> Served {
    let answer = hello::decode_request(frame).map_err(malformed).map(|()| greeting(service));
    (hello::encode_reply(&answer), outcome(&answer))
}

fn greeting(service: &Service) -> Hello {
    let image = service.cluster.images.current();
    Hello {
        cluster: Some(ClusterKey::new(service.cluster.public_key)),
        members: members(&image),
        nominee: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        admission: if service.join_token().is_some() { Admission::Token } else { Admission::Open },
    }
}

/// Voters first, then nodes in service, then the others.
fn members(image: &Image) -> Vec<Member> {
    let mut nodes: Vec<_> = image.nodes.values().collect();
    nodes.sort_by_key(|node| (!image.voters.contains(&node.id), node.fenced, node.id));
    let member = |node: &&rafka_broker::metadata::Node| Member {
        peer_id: node.peer_id.clone(),
        addresses: node.addresses.clone(),
        voter: image.voters.contains(&node.id),
    };
    nodes.iter().take(HELLO_MEMBERS_MAX).map(member).collect()
}
