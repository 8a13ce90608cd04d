//! Gossip: the controller tells that the index grew, members that they joined; everyone else hurries to look. Loads go to
//! [`super::load`].

use std::sync::Arc;

use rafka_broker::metadata::Image;
use rafka_model::MetadataIndex;
use rafka_protocols::gossip::{ClusterHint, Hint, MetaHint};
use tokio::sync::{Notify, mpsc};
use tracing::debug;

use super::Cluster;
use crate::mesh::GossipMessage;

/// Topics that one hint names; beyond, it says that there are more.
const HINT_TOPICS_MAX: usize = 256;

/// Takes hints: rings `hurry` when the sender knows a later index than this node.
pub async fn listen(cluster: Arc<Cluster>, mut gossip: mpsc::Receiver<GossipMessage>, hurry: Arc<Notify>) {
    while let Some(GossipMessage { source, hint }) = gossip.recv().await {
        debug!(%source, ?hint, "gossip");
        match hint {
            Hint::Meta(meta) if meta.index > cluster.images.index() => hurry.notify_one(),
            Hint::Cluster(ClusterHint::Join { .. }) => hurry.notify_one(),
            Hint::Load(load) => cluster.loads.heard(&cluster.images.current(), &source, load),
            _ => {}
        }
    }
}

/// On a voter: tells everyone what each change of the image was about.
pub async fn tell(cluster: Arc<Cluster>) {
    let mut images = cluster.images.subscribe();
    let mut before = images.borrow_and_update().clone();
    while images.changed().await.is_ok() {
        let after = images.borrow_and_update().clone();
        if cluster.controller.as_ref().is_some_and(crate::controller::Handle::is_active) {
            cluster.mesh.publish(Hint::Meta(difference(&before, &after)));
        }
        before = after;
    }
}

fn difference(before: &Image, after: &Image) -> MetaHint {
    let turned = |fenced: bool| {
        let was = |id| before.nodes.get(id).map(|node| node.fenced);
        let now = after.nodes.iter().filter(|(_, node)| node.fenced == fenced);
        now.filter(|(id, _)| was(id) != Some(fenced)).map(|(id, _)| *id).collect()
    };
    let since: MetadataIndex = before.index;
    let mut topics = after.topics.values().filter(|topic| topic.changed > since).map(|topic| topic.id);
    let named = topics.by_ref().take(HINT_TOPICS_MAX).collect();
    MetaHint {
        prev_index: since,
        index: after.index,
        fenced: turned(true),
        unfenced: turned(false),
        topics: named,
        more: topics.next().is_some(),
    }
}
