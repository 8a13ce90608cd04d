//! The fetcher: one stream of fetches from a node to a leader's, of one request at a time.

use std::time::Duration;

use rafka_model::Monotonic;
use rafka_model::limits::REPLICA_FETCH_TIMEOUT_MS;

use super::exchange::{FetchPartition, Identity, ReplicaFetch, ReplicaFetched};
use super::rules::{Rule, Rules};

/// Numbers the fetches of its partitions from one leader, and knows the answer that it waits for.
///
/// One partition is never in two fetchers at once. Leaders ignore numbers that do not grow, so a partition that moves to
/// another fetcher of the same registration needs [`Self::continue_after`] there first.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Fetcher {
    me: Identity,
    next: u64,
    outstanding: Option<Outstanding>,
    rules: Rules,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Outstanding {
    request: u64,
    gives_up_at: Monotonic,
}

impl Fetcher {
    /// A fetcher whose first request has the number `first_request`, at least 1 and larger than any that another fetcher
    /// of this registration used for its partitions.
    #[must_use]
    pub fn new(me: Identity, first_request: u64) -> Self {
        Self::with_rules(me, first_request, Rules::default())
    }

    /// As [`Self::new`], with a choice of rules.
    #[must_use]
    pub fn with_rules(me: Identity, first_request: u64, rules: Rules) -> Self {
        Self { me, next: first_request.max(1), outstanding: None, rules }
    }

    /// The number of the request that would come next.
    #[must_use]
    pub fn next_request(&self) -> u64 {
        self.next
    }

    /// Partitions come from another fetcher, which has used the numbers up to `request`.
    pub fn continue_after(&mut self, request: u64) {
        self.next = self.next.max(request.saturating_add(1));
    }

    /// True while an answer is awaited: the next request is to wait for it, or for [`Self::timed_out`].
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.outstanding.is_some()
    }

    /// The next request, to be sent now. Of one that is still outstanding, the answer is not heard any more.
    pub fn begin(&mut self, now: Monotonic, partitions: Vec<FetchPartition>) -> ReplicaFetch {
        let request = self.next;
        self.next += 1;
        let gives_up_at = now.plus(Duration::from_millis(REPLICA_FETCH_TIMEOUT_MS));
        self.outstanding = Some(Outstanding { request, gives_up_at });
        ReplicaFetch { replica: self.me.node, broker_epoch: self.me.broker_epoch, request, partitions }
    }

    /// An answer came. False: not to the outstanding request; drop it. True: give its partitions to their
    /// [`Follower`](super::Follower)s and carry out what they say before [`Self::begin`].
    pub fn answered(&mut self, answer: &ReplicaFetched) -> bool {
        let awaited = answer.broker_epoch == self.me.broker_epoch
            && self.outstanding.is_some_and(|outstanding| outstanding.request == answer.request);
        if awaited {
            self.outstanding = None;
        }
        awaited || !self.rules.hold(Rule::OutstandingAnswersOnly)
    }

    /// It is `now`, or the connection broke (say [`Monotonic`]'s largest): true if the outstanding request was given up.
    pub fn timed_out(&mut self, now: Monotonic) -> bool {
        self.outstanding.take_if(|outstanding| outstanding.gives_up_at <= now).is_some()
    }

    /// When the outstanding request is given up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.outstanding.map(|outstanding| outstanding.gives_up_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rafka_model::{BrokerEpoch, NodeId};

    const ME: Identity = Identity { node: NodeId(2), broker_epoch: BrokerEpoch(7) };

    fn answer(request: u64) -> ReplicaFetched {
        ReplicaFetched { broker_epoch: ME.broker_epoch, request, partitions: Vec::new() }
    }

    #[test]
    fn only_the_answer_to_the_one_outstanding_request_is_heard_and_once() {
        let mut fetcher = Fetcher::new(ME, 0);
        let first = fetcher.begin(Monotonic(0), Vec::new());
        assert_eq!((first.request, first.replica, first.broker_epoch), (1, NodeId(2), BrokerEpoch(7)));
        assert!(fetcher.is_waiting());
        assert!(!fetcher.timed_out(Monotonic(1)));
        assert!(fetcher.timed_out(fetcher.next_deadline().expect("waits")));
        assert_eq!(fetcher.next_deadline(), None);
        let second = fetcher.begin(Monotonic(5), Vec::new());
        assert!(!fetcher.answered(&answer(first.request)), "given up");
        let another = ReplicaFetched { broker_epoch: BrokerEpoch(6), ..answer(second.request) };
        assert!(!fetcher.answered(&another), "asked by an earlier process");
        assert!(fetcher.answered(&answer(second.request)));
        assert!(!fetcher.answered(&answer(second.request)), "came twice");
        let mut careless = Fetcher::with_rules(ME, 1, Rules::without(Rule::OutstandingAnswersOnly));
        let late = careless.begin(Monotonic(0), Vec::new()).request;
        careless.begin(Monotonic(1), Vec::new());
        assert!(careless.answered(&answer(late)));
    }

    #[test]
    fn numbers_grow_also_over_a_move_of_partitions() {
        let mut fetcher = Fetcher::new(ME, 1);
        fetcher.continue_after(40);
        fetcher.continue_after(20);
        assert_eq!(fetcher.next_request(), 41);
        assert_eq!(fetcher.begin(Monotonic(0), Vec::new()).request, 41);
    }
}
