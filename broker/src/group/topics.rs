//! Which groups have offsets of which topics, so that they can be forgotten with the topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rafka_model::{TopicId, TopicName};

use crate::metadata::Image;

/// Topics with offsets; their names are kept once for all groups.
#[derive(Debug, Default)]
pub(super) struct Topics {
    topics: BTreeMap<Arc<str>, Known>,
}

#[derive(Debug)]
struct Known {
    /// None if the name is not legal, so that there can be no such topic.
    name: Option<TopicName>,
    /// The topic of this name when the image was last looked at.
    id: Option<TopicId>,
    groups: BTreeSet<Arc<str>>,
}

/// A topic that is gone.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) topic: Arc<str>,
    pub(super) id: TopicId,
    pub(super) groups: Vec<Arc<str>>,
}

impl Topics {
    /// Notes that `group` has offsets of `topic`; gives the name to keep.
    pub(super) fn note(&mut self, topic: &str, group: &Arc<str>) -> Arc<str> {
        if let Some((name, _)) = self.topics.get_key_value(topic) {
            let name = Arc::clone(name);
            if let Some(known) = self.topics.get_mut(&name) {
                known.groups.insert(Arc::clone(group));
            }
            return name;
        }
        let name = Arc::<str>::from(topic);
        let groups = BTreeSet::from([Arc::clone(group)]);
        self.topics.insert(Arc::clone(&name), Known { name: TopicName::new(topic).ok(), id: None, groups });
        name
    }

    /// Notes that `group` has no offsets of `topic` any more.
    pub(super) fn unnote(&mut self, topic: &str, group: &str) {
        if let Some(known) = self.topics.get_mut(topic) {
            known.groups.remove(group);
            if known.groups.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Topics that were there when this was last asked and are not any more. One that was never seen may be newer
    /// than the image, so nothing is concluded from its absence.
    pub(super) fn gone(&mut self, image: &Image) -> Vec<Gone> {
        let mut gone = Vec::new();
        for (topic, known) in &mut self.topics {
            let now = known.name.as_ref().and_then(|name| image.topic_ids.get(name)).copied();
            if let Some(id) = known.id.filter(|id| Some(*id) != now) {
                gone.push(Gone { topic: Arc::clone(topic), id, groups: known.groups.iter().cloned().collect() });
            }
            known.id = now;
        }
        gone
    }
}
