//! Requests that wait: for an offset mark (a high watermark, a flushed end) to pass, or for their deadline.
//!
//! Data only. The driver arms one timer for [`Purgatory::next_deadline`] and says when marks move.

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::{Monotonic, Offset};

/// The requests parked at one mark of one partition, by the caller's key. Bounded by the requests that a node serves
/// at once ([`NODE_REQUESTS_MAX`](rafka_model::limits::NODE_REQUESTS_MAX)): each parks at most once here.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Purgatory<K> {
    parked: BTreeMap<K, (Offset, Monotonic)>,
    by_mark: BTreeSet<(Offset, K)>,
    by_deadline: BTreeSet<(Monotonic, K)>,
}

impl<K> Default for Purgatory<K> {
    fn default() -> Self {
        Self { parked: BTreeMap::new(), by_mark: BTreeSet::new(), by_deadline: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> Purgatory<K> {
    /// Parks `key` until the mark reaches `mark`, at the latest until `deadline`. A key that is parked already moves.
    ///
    /// A produce whose last record has offset `n` waits for mark `n + 1`; so does a fetch at `n` that found nothing.
    pub fn park(&mut self, key: K, mark: Offset, deadline: Monotonic) {
        self.cancel(key);
        self.parked.insert(key, (mark, deadline));
        self.by_mark.insert((mark, key));
        self.by_deadline.insert((deadline, key));
    }

    /// The mark stands at `mark` now: takes out those that waited for it or less, nearest mark first.
    pub fn passed(&mut self, mark: Offset) -> Vec<K> {
        let woken: Vec<K> = self.by_mark.iter().take_while(|(at, _)| *at <= mark).map(|(_, key)| *key).collect();
        woken.iter().for_each(|key| _ = self.cancel(*key));
        woken
    }

    /// It is `now`: takes out those whose deadline has come, earliest first.
    pub fn expired(&mut self, now: Monotonic) -> Vec<K> {
        let over: Vec<K> = self.by_deadline.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        over.iter().for_each(|key| _ = self.cancel(*key));
        over
    }

    /// Takes `key` out (its client is gone, or another partition woke it); false if it was not parked.
    pub fn cancel(&mut self, key: K) -> bool {
        let Some((mark, deadline)) = self.parked.remove(&key) else { return false };
        self.by_mark.remove(&(mark, key));
        self.by_deadline.remove(&(deadline, key));
        true
    }

    /// Takes out all of them, nearest mark first.
    pub fn drain(&mut self) -> Vec<K> {
        std::mem::take(self).by_mark.into_iter().map(|(_, key)| key).collect()
    }

    /// The next deadline of anyone parked.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// How many are parked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Nobody is parked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mark_wakes_those_it_reaches_and_a_deadline_the_rest() {
        let mut purgatory = Purgatory::default();
        purgatory.park('b', Offset(5), Monotonic(10));
        purgatory.park('a', Offset(9), Monotonic(20));
        purgatory.park('c', Offset(7), Monotonic(30));
        assert_eq!(purgatory.passed(Offset(4)), []);
        assert_eq!(purgatory.passed(Offset(7)), ['b', 'c']);
        assert_eq!(purgatory.next_deadline(), Some(Monotonic(20)));
        assert_eq!(purgatory.expired(Monotonic(19)), []);
        assert_eq!(purgatory.expired(Monotonic(20)), ['a']);
        assert!(purgatory.is_empty() && purgatory.next_deadline().is_none());
    }

    proptest! {
        #[test]
        fn everyone_leaves_exactly_once(
            steps in proptest::collection::vec((0u8..5, 0u8..12, 0i64..20, 0u64..20), 1..150),
        ) {
            let mut purgatory = Purgatory::default();
            let mut naive: Vec<(u8, i64, u64)> = Vec::new();
            for (what, key, mark, time) in steps {
                let mut out = |leaves: &dyn Fn(&(u8, i64, u64)) -> bool| {
                    let (gone, stay): (Vec<_>, Vec<_>) = naive.iter().partition(|parked| leaves(parked));
                    naive = stay;
                    gone
                };
                match what {
                    0 | 1 => {
                        out(&|parked| parked.0 == key);
                        naive.push((key, mark, time));
                        purgatory.park(key, Offset(mark), Monotonic(time));
                    }
                    2 => {
                        let mut gone = out(&|parked| parked.1 <= mark);
                        gone.sort_by_key(|parked| (parked.1, parked.0));
                        let gone: Vec<_> = gone.into_iter().map(|parked| parked.0).collect();
                        prop_assert_eq!(purgatory.passed(Offset(mark)), gone);
                    }
                    3 => {
                        let mut gone = out(&|parked| parked.2 <= time);
                        gone.sort_by_key(|parked| (parked.2, parked.0));
                        let gone: Vec<_> = gone.into_iter().map(|parked| parked.0).collect();
                        prop_assert_eq!(purgatory.expired(Monotonic(time)), gone);
                    }
                    _ => prop_assert_eq!(purgatory.cancel(key), !out(&|parked| parked.0 == key).is_empty()),
                }
                prop_assert_eq!(purgatory.len(), naive.len());
                prop_assert_eq!(purgatory.next_deadline(), naive.iter().map(|parked| Monotonic(parked.2)).min());
            }
            naive.sort_by_key(|parked| (parked.1, parked.0));
            prop_assert_eq!(purgatory.drain(), naive.into_iter().map(|parked| parked.0).collect::<Vec<_>>());
        }
    }
}
