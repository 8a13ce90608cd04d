//! Topic names, with Kafka's rules.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::TOPIC_NAME_BYTES_MAX;

/// A legal topic name: 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..` (Kafka's rules). Cheap to clone.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize)]
#[serde(transparent)]
pub struct TopicName(Arc<str>);

/// Why a text is not a topic name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// The empty text.
    #[error("topic name is empty")]
    Empty,
    /// `.` or `..`.
    #[error("topic name cannot be \".\" or \"..\"")]
    Dots,
    /// Over the limit.
    #[error("topic name has {bytes} bytes, limit is {TOPIC_NAME_BYTES_MAX}")]
    TooLong {
        /// Length of what was given.
        bytes: usize,
    },
    /// A character outside the set.
    #[error("topic name {name:?} contains {found:?}; allowed are letters, digits, '.', '_' and '-'")]
    Character {
        /// What was given.
        name: String,
        /// The first character outside the set.
        found: char,
    },
}

impl TopicName {
    /// Checks `name` against Kafka's rules.
    ///
    /// # Errors
    /// [`NameError`] says which rule is broken.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name == "." || name == ".." {
            return Err(NameError::Dots);
        }
        if name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(NameError::TooLong { bytes: name.len() });
        }
        let legal = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(found) = name.chars().find(|c| !legal(c)) {
            return Err(NameError::Character { name: name.to_owned(), found });
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Kafka treats names that differ only in `.` and `_` as colliding (they share metric names).
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        let same = |a: u8, b: u8| a == b || (matches!(a, b'.' | b'_') && matches!(b, b'.' | b'_'));
        self.0.len() == other.0.len() && self.0.bytes().zip(other.0.bytes()).all(|(a, b)| same(a, b))
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for TopicName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_rules_hold() {
        for good in ["a", "orders.v1_x-Y", &"x".repeat(249), "...", "__consumer_offsets"] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "é", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
        let name = |text| TopicName::new(text).expect("legal");
        assert!(name("a.b").collides_with(&name("a_b")));
        assert!(!name("a.b").collides_with(&name("a-b")));
    }
}
