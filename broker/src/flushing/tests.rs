use proptest::prelude::*;

use super::*;

fn ms(ms: u64) -> Monotonic {
    Monotonic::default().plus(Duration::from_millis(ms))
}

fn flushing(flushes_per_second: u32, linger_ms: u64) -> Flushing<u32, u32> {
    Flushing::new(Config { flushes_per_second, linger: Duration::from_millis(linger_ms) })
}

#[test]
fn urgency_follows_durability_and_what_is_dirty() {
    let lazy =
        Policy { durability: Durability::Replicated, bytes_max: 100, records_max: 10, delay: Duration::from_secs(5) };
    assert_eq!(lazy.urgency(99, 9), Urgency::Within(Duration::from_secs(5)));
    assert_eq!(lazy.urgency(100, 0), Urgency::Now);
    assert_eq!(lazy.urgency(0, 10), Urgency::Now);
    assert_eq!(Policy { durability: Durability::Fsync, ..lazy }.urgency(0, 0), Urgency::Now);
}

#[test]
fn who_asks_is_served_in_order_and_once() {
    let mut logs = flushing(1, 0);
    assert!(logs.ask(2, 2, ms(0)));
    assert!(logs.ask(1, 1, ms(0)));
    assert!(!logs.ask(2, 20, ms(0)), "asked already: with the newer handle");
    assert_eq!([logs.next_asked(ms(0)), logs.next_asked(ms(0))], [Next::Flush(20), Next::Flush(1)]);
    assert_eq!(logs.next_asked(ms(0)), Next::Idle);
    assert!(logs.ask(2, 2, ms(1)), "what came during the sync is covered by the next");
}

#[test]
fn a_sync_may_wait_for_company() {
    let mut logs = flushing(1, 2);
    logs.ask(1, 1, ms(0));
    assert_eq!(logs.next_asked(ms(1)), Next::Wait(ms(2)));
    assert_eq!(logs.next_asked(ms(2)), Next::Flush(1));
}

#[test]
fn the_earliest_deadline_goes_first_under_the_budget() {
    let mut logs = flushing(100, 0);
    assert!(logs.later(1, 1, ms(50)));
    assert!(logs.later(2, 2, ms(40)));
    assert!(!logs.later(3, 3, ms(45)), "another one is due sooner");
    assert!(!logs.later(2, 2, ms(90)), "the deadline stands");
    assert_eq!(logs.next_due(ms(0)), Next::Wait(ms(40)));
    assert_eq!(logs.next_due(ms(60)), Next::Flush(2));
    assert_eq!(logs.next_due(ms(60)), Next::Wait(ms(70)), "a hundred a second");
    assert_eq!(logs.overdue(ms(70)), Duration::from_millis(25));
    assert_eq!([logs.next_due(ms(70)), logs.next_due(ms(80))], [Next::Flush(3), Next::Flush(1)]);
    assert_eq!(logs.next_due(ms(90)), Next::Idle);
    assert!(logs.is_empty());
}

#[test]
fn a_sync_that_is_asked_for_is_not_due_any_more() {
    let mut logs = flushing(100, 0);
    logs.later(1, 1, ms(50));
    logs.ask(1, 1, ms(10));
    assert_eq!(logs.next_asked(ms(10)), Next::Flush(1));
    assert_eq!(logs.next_due(ms(60)), Next::Idle);
    logs.later(1, 1, ms(50));
    logs.ask(1, 1, ms(50));
    assert_eq!(logs.next_due(ms(50)), Next::Flush(1));
    assert_eq!(logs.next_asked(ms(50)), Next::Flush(1), "who asked is not made to wait for the other thread");
    logs.later(1, 1, ms(50));
    logs.ask(1, 1, ms(50));
    logs.remove(1);
    assert_eq!((logs.next_due(ms(99)), logs.next_asked(ms(99)), logs.len()), (Next::Idle, Next::Idle, 0));
}

proptest! {
    /// Whatever is said in whichever order, what is dirty gets handed out, and nothing else.
    #[test]
    fn everything_dirty_is_handed_out(steps in proptest::collection::vec((0u32..5, 0u32..20, 0u64..50), 0..200)) {
        let mut logs = flushing(10_000, 1);
        let mut dirty = BTreeSet::new();
        let mut now = 0;
        let take = |logs: &mut Flushing<u32, u32>, dirty: &mut BTreeSet<u32>, asked: bool, at: u64| {
            let next = if asked { logs.next_asked(ms(at)) } else { logs.next_due(ms(at)) };
            if let Next::Flush(key) = next {
                assert!(dirty.remove(&key) || asked || logs.len() < 20, "{key} was handed out clean");
            }
            next
        };
        for (kind, key, wait) in steps {
            match kind {
                0 => drop((logs.ask(key, key, ms(now)), dirty.insert(key))),
                1 | 2 => drop((logs.later(key, key, ms(now + wait)), dirty.insert(key))),
                3 => drop(take(&mut logs, &mut dirty, true, now)),
                _ => drop(take(&mut logs, &mut dirty, false, now)),
            }
            now += wait / 10;
        }
        now += 100;
        while take(&mut logs, &mut dirty, true, now) != Next::Idle {}
        while take(&mut logs, &mut dirty, false, now) != Next::Idle {
            now += 1;
        }
        assert!(dirty.is_empty() && logs.is_empty(), "{dirty:?}");
    }
}
