//! Which topics: one by its name, or every one that a glob matches.

use std::str::FromStr;
use std::sync::Arc;

use globset::{Glob, GlobMatcher};
use rafka_client::{Subscription, TopicName};

/// What the user named.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Topic(TopicName),
    Glob(Arc<GlobMatcher>),
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains(['*', '?', '[', '{']) {
            return TopicName::new(text).map(Self::Topic).map_err(|error| error.to_string());
        }
        let glob = Glob::new(text).map_err(|error| format!("{text:?} is no pattern: {}", error.kind()))?;
        Ok(Self::Glob(Arc::new(glob.compile_matcher())))
    }
}

impl Pattern {
    /// Does `name` belong? Internal topics only if the pattern begins like one.
    pub(super) fn matches(&self, name: &TopicName) -> bool {
        match self {
            Self::Topic(topic) => topic == name,
            Self::Glob(glob) => {
                let internal = name.as_str().starts_with("__") && !glob.glob().glob().starts_with("__");
                !internal && glob.is_match(name.as_str())
            }
        }
    }

    pub(super) fn subscription(&self) -> Subscription {
        self.except(Vec::new())
    }

    /// What the pattern means, without these.
    pub(super) fn except(&self, names: Vec<TopicName>) -> Subscription {
        match self {
            Self::Topic(topic) => Subscription::Topics(vec![topic.clone()]),
            Self::Glob(_) => {
                let pattern = self.clone();
                Subscription::Matching(Arc::new(move |name| pattern.matches(name) && !names.contains(name)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().expect("a pattern").matches(&TopicName::new(name).expect("a name"))
    }

    #[test]
    fn a_plain_name_is_one_topic_and_a_glob_is_many() {
        assert!(matches("orders.v1", "orders.v1") && !matches("orders.v1", "orders-v1"));
        assert!(
            matches("orders*", "orders") && matches("orders.*", "orders.eu.west") && !matches("orders.*", "orders")
        );
        assert!(matches("{a,b}-?", "b-1") && !matches("{a,b}-?", "c-1"));
        assert!(matches("[a-c]x", "bx") && !matches("[!a-c]x", "bx"));
    }

    #[test]
    fn internal_topics_are_meant_only_when_they_are_named() {
        assert!(!matches("*", "__consumer_offsets") && matches("__*", "__consumer_offsets"));
    }

    #[test]
    fn what_is_neither_name_nor_pattern_is_refused() {
        assert!("a b".parse::<Pattern>().is_err() && "[".parse::<Pattern>().is_err() && "".parse::<Pattern>().is_err());
    }
}
