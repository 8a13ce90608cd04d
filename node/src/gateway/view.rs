//! The cluster as clients of a gateway are shown it: one node, which leads, follows and coordinates everything.

use std::sync::Arc;

use parking_lot::Mutex;
use rafka_broker::metadata::{Image, Node, PartitionState, Topic};
use rafka_model::{MetadataIndex, NodeId};

/// Makes the shown image of the real one, once for each.
#[derive(Debug, Default)]
pub(super) struct View {
    last: Mutex<Option<Shown>>,
}

#[derive(Clone, Debug)]
struct Shown {
    /// What it was made of.
    index: MetadataIndex,
    me: Option<NodeId>,
    image: Arc<Image>,
}

impl View {
    /// `real` as the clients of `me` see it.
    pub(super) fn of(&self, real: &Image, me: Option<NodeId>) -> Arc<Image> {
        let last = self.last.lock().clone();
        if let Some(shown) = last.as_ref().filter(|shown| shown.index == real.index && shown.me == me) {
            return shown.image.clone();
        }
        let before = last.filter(|shown| shown.me == me).map(|shown| shown.image);
        let image = Arc::new(shown(real, me, before.as_deref()));
        let mut last = self.last.lock();
        if last.as_ref().is_none_or(|last| last.index <= real.index) {
            *last = Some(Shown { index: real.index, me, image: image.clone() });
        }
        image
    }
}

/// `before` is an earlier one of the same node: topics that have not changed since are shared with it.
fn shown(real: &Image, me: Option<NodeId>, before: Option<&Image>) -> Image {
    let topic = |topic: &Arc<Topic>| -> Arc<Topic> {
        let known = before.and_then(|before| before.topics.get(&topic.id));
        match known {
            Some(known) if known.changed == topic.changed => known.clone(),
            _ => Arc::new(Topic {
                partitions: topic.partitions.iter().map(|state| partition(state, me)).collect(),
                ..Topic::clone(topic)
            }),
        }
    };
    let node = me.and_then(|me| real.nodes.get(&me));
    Image {
        index: real.index,
        cluster: real.cluster.clone(),
        voters: me.into_iter().collect(),
        last_node: real.last_node,
        next_producer: real.next_producer,
        nodes: node.map(|node| (node.id, Node { fenced: false, ..node.clone() })).into_iter().collect(),
        topics: real.topics.iter().map(|(id, real)| (*id, topic(real))).collect(),
        topic_ids: real.topic_ids.clone(),
    }
}

/// Led here, if it is led at all. The epochs are the real ones: clients notice by them that a leader has changed.
fn partition(real: &PartitionState, me: Option<NodeId>) -> PartitionState {
    let leader = real.leader.and(me);
    PartitionState {
        replicas: me.into_iter().collect(),
        leader,
        leader_epoch: real.leader_epoch,
        partition_epoch: real.partition_epoch,
        isr: leader.into_iter().collect(),
        elr: Vec::new(),
        ..PartitionState::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::testing::{ORDERS, image};

    #[test]
    fn one_node_leads_whatever_is_led() {
        let mut real = image(&[1, 2, 0]);
        let view = View::default();
        let shown = view.of(&real, Some(NodeId(3)));
        assert_eq!(shown.nodes.keys().copied().collect::<Vec<_>>(), [NodeId(3)]);
        let leaders: Vec<_> = shown.topics[&ORDERS].partitions.iter().map(|state| state.leader).collect();
        assert_eq!(leaders, [Some(NodeId(3)), Some(NodeId(3)), None]);
        assert!(Arc::ptr_eq(&shown, &view.of(&real, Some(NodeId(3)))), "made once");
        real.index.0 += 1;
        let next = view.of(&real, Some(NodeId(3)));
        assert!(Arc::ptr_eq(&shown.topics[&ORDERS], &next.topics[&ORDERS]), "unchanged topics are shared");
        let topic = Arc::make_mut(real.topics.get_mut(&ORDERS).expect("there"));
        (real.index.0, topic.changed.0, topic.partitions[0].leader) = (9, 9, None);
        assert_eq!(view.of(&real, Some(NodeId(3))).topics[&ORDERS].partitions[0].leader, None);
    }
}
