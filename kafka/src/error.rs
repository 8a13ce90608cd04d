//! Kafka's error numbers.
//!
//! The broker's codes have Kafka's numbers where Kafka has the error; its own (from 1000) become the code that makes a
//! client do what is right: ask again, ask elsewhere, or give up.

use rafka_broker::{ErrorCode, Failure};

use crate::wire::Str;

/// No error.
pub(crate) const NONE: i16 = 0;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal;)*) => {
        $($(#[doc = $doc])+ pub(crate) const $name: i16 = $number;)*

        /// Codes of the wire that the broker does not have.
        const WIRE: &[(i16, &str)] = &[$(($number, stringify!($name))),*];
    };
}

codes! {
    /// The request is refused while no connection could be kept; asking again may help.
    NETWORK_EXCEPTION = 13;
    /// `acks` is not -1, 0 or 1.
    INVALID_REQUIRED_ACKS = 21;
    /// The client may not use this transactional id.
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53;
    /// What is asked for needs an authorizer, and there is none.
    SECURITY_DISABLED = 54;
    /// A session that this node does not keep.
    FETCH_SESSION_ID_NOT_FOUND = 70;
    /// The leader has no listener by which this client came.
    LISTENER_NOT_FOUND = 72;
    /// No such user, quota or other thing.
    RESOURCE_NOT_FOUND = 91;
    /// An endpoint of another kind than the one that was asked.
    MISMATCHED_ENDPOINT_TYPE = 114;
    /// No such kind of endpoint.
    UNSUPPORTED_ENDPOINT_TYPE = 115;
}

/// The number for a request about records.
pub(crate) fn data(code: ErrorCode) -> i16 {
    match code {
        // Nothing was done: the same again, here.
        ErrorCode::Busy => number(ErrorCode::RequestTimedOut),
        // Elsewhere, by fresh metadata.
        ErrorCode::NotReady | ErrorCode::ControllerUnavailable | ErrorCode::LeaderNotAvailable => {
            number(ErrorCode::NotLeaderOrFollower)
        }
        // Perhaps it was done: what a client thinks when its connection breaks.
        ErrorCode::OutcomeUnknown => NETWORK_EXCEPTION,
        ErrorCode::DiskFull => number(ErrorCode::StorageError),
        other => number(other),
    }
}

/// The number for a request about records that names its topics: one that was deleted meanwhile is unknown by name.
pub(crate) fn by_name(code: ErrorCode) -> i16 {
    match code {
        ErrorCode::UnknownTopicId => number(ErrorCode::UnknownTopicOrPartition),
        code => data(code),
    }
}

/// The number for a request about metadata.
pub(crate) fn admin(code: ErrorCode) -> i16 {
    match code {
        // Clients look for the controller again.
        ErrorCode::NotReady | ErrorCode::ControllerUnavailable => number(ErrorCode::NotController),
        ErrorCode::OutcomeUnknown => number(ErrorCode::RequestTimedOut),
        ErrorCode::LeaderNotAvailable => number(code),
        other => data(other),
    }
}

/// The number for a request to the coordinator of a group.
///
/// Source: what Kafka 4.3 makes of errors of its offsets topic: clients look for the coordinator again.
pub(crate) fn group(code: ErrorCode) -> i16 {
    let told = match code {
        // The coordinator, wherever it is, cannot do it now. Perhaps it was done; a commit may come again.
        ErrorCode::Busy
        | ErrorCode::ControllerUnavailable
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::NotReady
        | ErrorCode::OutcomeUnknown
        | ErrorCode::RequestTimedOut
        | ErrorCode::UnknownTopicId
        | ErrorCode::UnknownTopicOrPartition => ErrorCode::CoordinatorNotAvailable,
        // Another node is, or should be, the coordinator.
        ErrorCode::DiskFull
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::NotLeaderOrFollower
        | ErrorCode::StorageError
        | ErrorCode::UnknownLeaderEpoch => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge => ErrorCode::Unknown,
        other => other,
    };
    number(told)
}

/// Kafka's number of a code that Kafka has.
pub(crate) fn number(code: ErrorCode) -> i16 {
    i16::try_from(code.number()).unwrap_or(-1)
}

/// Number and words of a refused admin request.
pub(crate) fn refusal(failure: &Failure) -> (i16, Option<Str>) {
    (admin(failure.code), Some(failure.message.clone().into()))
}

/// The name of a number, for metrics: a closed set.
pub(crate) fn name(number: i16) -> &'static str {
    if let Some((_, name)) = WIRE.iter().find(|(code, _)| *code == number) {
        return name;
    }
    ErrorCode::from_number(number.into()).map_or("OTHER", ErrorCode::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_broker_has_a_number_that_clients_know() {
        for code in ErrorCode::ALL {
            let asked_of_groups = group(*code);
            assert!((-1..=133).contains(&asked_of_groups) && asked_of_groups != NONE, "{code:?}");
            for number in [data(*code), admin(*code)] {
                assert!((-1..=133).contains(&number) && number != NONE, "{code:?} is {number}");
                let kept = code.number() < 1000 && *code != ErrorCode::LeaderNotAvailable;
                assert!(!kept || i32::from(number) == code.number(), "{code:?} keeps Kafka's number");
            }
            assert_eq!(*code == ErrorCode::Unknown, data(*code) == -1, "{code:?} is told apart");
        }
    }

    #[test]
    fn whoever_cannot_be_coordinated_now_looks_for_the_coordinator_again() {
        let all = |codes: &[ErrorCode]| codes.iter().map(|code| group(*code)).collect::<Vec<_>>();
        let codes = [ErrorCode::Busy, ErrorCode::OutcomeUnknown, ErrorCode::NotEnoughReplicas, ErrorCode::NotReady];
        assert_eq!(all(&codes), [15; 4]);
        assert_eq!(all(&[ErrorCode::NotLeaderOrFollower, ErrorCode::StorageError, ErrorCode::DiskFull]), [16; 3]);
        assert_eq!(all(&[ErrorCode::CoordinatorLoadInProgress, ErrorCode::UnknownMemberId]), [14, 25]);
        assert_eq!(group(ErrorCode::MessageTooLarge), -1);
    }

    #[test]
    fn no_number_has_two_names() {
        for (number, name) in WIRE {
            assert_eq!(ErrorCode::from_number((*number).into()), None, "{name} is the broker's own");
            assert_eq!(super::name(*number), *name);
        }
        assert_eq!(name(3), "UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(name(12345), "OTHER");
    }

    #[test]
    fn what_may_be_tried_again_stays_so() {
        assert_eq!(data(ErrorCode::NotReady), 6);
        assert_eq!((data(ErrorCode::LeaderNotAvailable), admin(ErrorCode::LeaderNotAvailable)), (6, 5));
        assert_eq!(admin(ErrorCode::ControllerUnavailable), 41);
        assert_eq!(data(ErrorCode::OutcomeUnknown), 13);
        assert_eq!(data(ErrorCode::DiskFull), 56);
    }
}
