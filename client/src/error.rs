//! Errors in three parts: what failed, why (with the node's code), what to do about it.

use std::fmt;

use rafka_broker::{ErrorCode, Failure};
use rafka_model::NodeId;
use rafka_protocols::rpc::CallError;

/// What kind of trouble an [`Error`] is; decides a program's exit code or reaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum ErrorKind {
    /// The topic, partition or peer does not exist.
    NotFound,
    /// It exists already, or contradicts what exists.
    Conflict,
    /// The credentials do not allow it.
    Denied,
    /// The request itself is wrong; the same one will never succeed.
    Invalid,
    /// No node could be reached, or none that could answer.
    Unreachable,
    /// Not done in the time given.
    Timeout,
    /// Sent, but the answer never came: it may or may not have happened.
    OutcomeUnknown,
    /// The producer, consumer or client was closed.
    Closed,
    /// Anything else that a node refused.
    Failed,
}

/// Why: the answer of a node, or what the network said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cause {
    /// The node's code, when a node answered.
    pub code: Option<ErrorCode>,
    /// Who answered, when known.
    pub node: Option<NodeId>,
    /// In words.
    pub message: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code {
            write!(f, "{} ({})", code.name(), code.number())?;
            if let Some(node) = self.node {
                write!(f, " from node {node}")?;
            }
            if !self.message.is_empty() {
                write!(f, ": ")?;
            }
        }
        f.write_str(&self.message)
    }
}

/// An error of the SDK. Prints as `what: cause`; the parts are there for programs that lay them out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Parts {
    kind: ErrorKind,
    what: String,
    cause: Option<Cause>,
    hint: Option<String>,
    retriable: bool,
}

impl Error {
    /// An error without cause and hint.
    #[must_use]
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        let retriable = matches!(kind, ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::OutcomeUnknown);
        Self(Box::new(Parts { kind, what: what.into(), cause: None, hint: None, retriable }))
    }

    /// What a node's refusal means for `what` was being done.
    #[must_use]
    pub fn refused(what: impl Into<String>, failure: &Failure, node: Option<NodeId>) -> Self {
        let mut error = Self::new(kind_of(failure.code), what);
        error.0.retriable = failure.code.is_retriable();
        error.0.cause = Some(Cause { code: Some(failure.code), node, message: failure.message.clone() });
        error.0.hint = hint_of(failure.code).map(str::to_owned);
        error
    }

    /// What a broken exchange means for `what` was being done.
    #[must_use]
    pub fn call(what: impl Into<String>, error: &CallError) -> Self {
        let kind = match error {
            CallError::Timeout | CallError::ConnectionClosed => ErrorKind::OutcomeUnknown,
            CallError::Dial(_) | CallError::Busy => ErrorKind::Unreachable,
            CallError::TooLarge(_) => ErrorKind::Invalid,
            CallError::Unsupported | CallError::Frame(_) => ErrorKind::Failed,
        };
        let hint = match error {
            CallError::Unsupported => Some("the peer is of another cluster, or of another version of Rafka"),
            CallError::Dial(_) => Some("check that the node runs: `rafka cluster nodes`, `rafka mesh ping`"),
            _ => None,
        };
        let message = match error {
            CallError::Dial(attempts) => format!("cannot connect: {}", tidy(attempts)),
            other => other.to_string(),
        };
        let mut made = Self::new(kind, what).because(message);
        made.0.hint = hint.map(str::to_owned);
        made
    }

    /// The same error with this cause in words.
    #[must_use]
    pub fn because(mut self, message: impl Into<String>) -> Self {
        self.0.cause = Some(Cause { code: None, node: None, message: message.into() });
        self
    }

    /// The same error with this cause.
    #[must_use]
    pub(crate) fn with_cause(mut self, cause: Option<Cause>) -> Self {
        self.0.cause = cause;
        self
    }

    /// The same error with this advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::new(ErrorKind::Closed, format!("{what} is closed"))
    }

    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What failed: lower case, one line, names the thing.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// Why it failed.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        self.0.cause.as_ref()
    }

    /// What the user can do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The node's code, when a node refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        self.0.cause.as_ref()?.code
    }

    /// True if the same request may succeed later.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        self.0.retriable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.what)?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Failed dials without the peer id that every address ends with, each once.
fn tidy(attempts: &str) -> String {
    let mut seen: Vec<String> = Vec::new();
    for attempt in attempts.split("; ") {
        let short = match attempt.split_once("/p2p/") {
            Some((address, rest)) => {
                format!("{address}{}", rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric()))
            }
            None => attempt.to_owned(),
        };
        if !seen.contains(&short) {
            seen.push(short);
        }
    }
    seen.join("; ")
}

fn kind_of(code: ErrorCode) -> ErrorKind {
    use ErrorCode as C;
    match code {
        C::UnknownTopicOrPartition | C::UnknownTopicId | C::GroupIdNotFound => ErrorKind::NotFound,
        C::TopicAlreadyExists
        | C::DuplicateBrokerRegistration
        | C::NonEmptyGroup
        | C::GroupSubscribedToTopic
        | C::FencedInstanceId
        | C::UnreleasedInstanceId => ErrorKind::Conflict,
        C::TopicAuthorizationFailed | C::ClusterAuthorizationFailed => ErrorKind::Denied,
        C::RequestTimedOut => ErrorKind::Timeout,
        C::OutcomeUnknown => ErrorKind::OutcomeUnknown,
        C::LeaderNotAvailable
        | C::ControllerUnavailable
        | C::NotReady
        | C::Busy
        | C::NotCoordinator
        | C::CoordinatorNotAvailable
        | C::CoordinatorLoadInProgress => ErrorKind::Unreachable,
        C::OffsetOutOfRange
        | C::MessageTooLarge
        | C::InvalidTopic
        | C::InvalidTimestamp
        | C::UnsupportedVersion
        | C::InvalidPartitions
        | C::InvalidReplicationFactor
        | C::InvalidConfig
        | C::InvalidRequest
        | C::UnsupportedCompressionType
        | C::InvalidRecord
        | C::InvalidGroupId
        | C::OffsetMetadataTooLarge
        | C::UnsupportedAssignor
        | C::InvalidRegularExpression => ErrorKind::Invalid,
        _ => ErrorKind::Failed,
    }
}

fn hint_of(code: ErrorCode) -> Option<&'static str> {
    use ErrorCode as C;
    Some(match code {
        C::UnknownTopicOrPartition | C::UnknownTopicId => "list the topics: `rafka topic list`",
        C::MessageTooLarge => "raise `max.message.bytes` of the topic, or send smaller records",
        C::LeaderNotAvailable => "the node that holds the partition is down: `rafka cluster health`",
        C::ControllerUnavailable => "the metadata quorum has no leader at the moment: `rafka cluster health`",
        C::ClusterAuthorizationFailed => "give the cluster's join token",
        C::DiskFull => "free space on the node's data volume, or delete records",
        C::NotEnoughReplicas | C::NotEnoughReplicasAfterAppend => {
            "wait for the replicas, or lower `min.insync.replicas`"
        }
        C::OffsetOutOfRange => "see the offsets there are: `rafka topic offsets`",
        C::GroupIdNotFound => "list the groups: `rafka group list`",
        C::NonEmptyGroup | C::GroupSubscribedToTopic => {
            "stop the group's consumers first: `rafka group describe` shows them"
        }
        C::CoordinatorNotAvailable | C::CoordinatorLoadInProgress => {
            "the group's coordinator is starting or down: `rafka cluster health`"
        }
        C::FencedInstanceId | C::UnreleasedInstanceId => {
            "give each running consumer an instance id of its own, or wait until the session of the old one ends"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_three_parts() {
        let failure = Failure::new(ErrorCode::UnknownTopicOrPartition, "no topic \"order\"");
        let error = Error::refused("topic \"order\" not found", &failure, Some(NodeId(2)));
        assert_eq!(error.what(), "topic \"order\" not found");
        let cause = error.cause().expect("a node refused").to_string();
        assert_eq!(cause, "UNKNOWN_TOPIC_OR_PARTITION (3) from node 2: no topic \"order\"");
        assert!(error.advice().is_some());
        assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::NotFound, true));
    }

    #[test]
    fn failed_dials_are_told_once_and_short() {
        let attempt =
            "/ip4/127.0.0.1/tcp/7301/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA: Connection refused";
        let error = Error::call("asking", &CallError::Dial(format!("{attempt}; {attempt}")));
        let cause = error.cause().expect("has one").to_string();
        assert_eq!(cause, "cannot connect: /ip4/127.0.0.1/tcp/7301: Connection refused");
        assert_eq!(tidy("the peer cannot be dialled"), "the peer cannot be dialled");
    }

    #[test]
    fn a_lost_connection_leaves_the_outcome_unknown() {
        let error = Error::call("publishing to orders/3", &CallError::ConnectionClosed);
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        assert!(error.is_retriable());
    }
}
