use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use rafka_model::limits::{KIB, MIB};

use super::*;

type Ends = [Machine<u64, u64>; 2];

fn frame(bytes: usize) -> Frame {
    Frame::new(Bytes::new(), Bytes::from(vec![0; bytes]))
}

/// Answers to produces have a header alone.
fn answer(bytes: usize) -> Frame {
    Frame::new(Bytes::from(vec![0; bytes]), Bytes::new())
}

/// Two ends that have granted each other what they may.
fn lane(now: Instant) -> Ends {
    let mut ends = [Machine::new(now, Some(Class::Produce)), Machine::new(now, None)];
    settle(&mut ends, now);
    ends
}

fn head(message: &Message) -> Head {
    Head::decode(&message.head()).expect("what a machine says is legal")
}

/// Gives `message` to a machine as a driver does.
fn give(machine: &mut Machine<u64, u64>, now: Instant, message: Message) -> Result<Outcome<u64, u64>, Violation> {
    let head = head(&message);
    machine.check(&head)?;
    machine.heard(now);
    Ok(match message.frame() {
        Some(_) => machine.frame(now, message),
        None => machine.word(now, &head),
    })
}

fn request(id: u64, bytes: usize) -> Message {
    Message::Request { id, protocol: Protocol::Produce, frame: frame(bytes) }
}

fn reply(id: u64) -> Message {
    Message::Reply { id, protocol: Protocol::Produce, frame: frame(0) }
}

/// Moves everything between the ends; what was served and answered, by end.
fn settle(ends: &mut Ends, now: Instant) -> [(Vec<u64>, Vec<u64>); 2] {
    let mut seen: [(Vec<u64>, Vec<u64>); 2] = Default::default();
    loop {
        let mut moved = false;
        for from in 0..2 {
            while let Some(message) = ends[from].take(now) {
                moved = true;
                let to = 1 - from;
                match give(&mut ends[to], now, message).expect("both keep the rules") {
                    Outcome::Serve { id, .. } => {
                        seen[to].0.push(id);
                        ends[to].respond(now, id, frame(0));
                    }
                    Outcome::Answered(token, ..) => seen[to].1.push(token),
                    _ => {}
                }
            }
        }
        if !moved {
            return seen;
        }
    }
}

#[test]
fn requests_of_both_ends_are_answered_each_to_its_caller() {
    let now = Instant::now();
    let mut ends = lane(now);
    for id in 1..=3 {
        ends[0].call(now, id, Protocol::Produce, frame(10), 100 + id).expect("open");
        ends[1].call(now, id, Protocol::Produce, frame(10), 200 + id).expect("open");
    }
    let seen = settle(&mut ends, now);
    assert_eq!(seen, [(vec![1, 2, 3], vec![101, 102, 103]), (vec![1, 2, 3], vec![201, 202, 203])]);
    assert_eq!((ends[0].under_way(), ends[1].under_way()), ((0, 0), (0, 0)));
}

#[test]
fn no_more_is_sent_than_the_other_end_grants_but_one_request_of_any_size_is() {
    let now = Instant::now();
    let [mut here, mut there] = lane(now);
    for id in 1..=5 {
        let bytes = if id == 5 { 20 * MIB } else { 6 * MIB };
        here.call(now, id, Protocol::Produce, frame(bytes), id).expect("open");
    }
    let mut sent = |there: &mut Machine<u64, u64>| {
        let messages: Vec<_> = std::iter::from_fn(|| here.take(now)).collect();
        let ids = messages.into_iter().filter_map(|message| match give(there, now, message).expect("legal") {
            Outcome::Serve { id, .. } => Some(id),
            _ => None,
        });
        let ids = ids.collect::<Vec<_>>();
        while let Some(message) = there.take(now) {
            give(&mut here, now, message).expect("legal");
        }
        ids
    };
    assert_eq!(sent(&mut there), [1, 2], "16 MiB are granted");
    assert_eq!(sent(&mut there), []);
    there.respond(now, 1, frame(0));
    there.respond(now, 2, frame(0));
    assert_eq!(sent(&mut there), [], "until the replies are back");
    assert_eq!(sent(&mut there), [3, 4]);
    there.respond(now, 3, frame(0));
    there.respond(now, 4, frame(0));
    assert_eq!((sent(&mut there), sent(&mut there)), (vec![], vec![5]), "alone, a request may have any size");
}

#[test]
fn a_peer_that_sends_more_than_it_may_or_answers_nothing_breaks_the_rules() {
    let now = Instant::now();
    let fresh = || Machine::<u64, u64>::new(now, None);
    let violation = |machine: &mut Machine<u64, u64>, message| give(machine, now, message).expect_err("refused");
    let mut machine = fresh();
    give(&mut machine, now, request(1, 17 * MIB)).expect("the first may be large");
    assert_eq!(violation(&mut machine, request(2, 0)), Violation::OverCredit);
    assert_eq!(violation(&mut machine, request(1, 0)), Violation::IdInUse(1));
    let mut machine = fresh();
    for id in 0..u64::from(LANE_REQUESTS_MAX) {
        give(&mut machine, now, request(id, 0)).expect("granted");
    }
    assert_eq!(violation(&mut machine, request(u64::MAX, 0)), Violation::OverCredit);
    assert_eq!(violation(&mut machine, reply(1)), Violation::UnknownReply(1));
    assert_eq!(violation(&mut machine, Message::NotServed { id: 1 }), Violation::UnknownReply(1));
    machine.call(now, 7, Protocol::Fetch, frame(0), 7).expect("open");
    assert_eq!(machine.take(now), None, "nothing was granted yet");
    assert_eq!(violation(&mut machine, reply(7)), Violation::UnknownReply(7), "not sent yet");
    let class = |class| Message::Grant { class, requests: 1, bytes: 1 };
    give(&mut machine, now, class(Class::Fetch)).expect("the first");
    while machine.take(now).is_some() {}
    assert_eq!(violation(&mut machine, reply(7)), Violation::UnknownReply(7), "of another protocol");
    assert_eq!(violation(&mut machine, class(Class::Produce)), Violation::ClassChanged);
    give(&mut machine, now, Message::Close).expect("a close");
    assert_eq!(violation(&mut machine, request(5, 0)), Violation::AfterClose);
}

#[test]
fn a_cancelled_call_is_not_sent_or_its_late_reply_is_dropped() {
    let now = Instant::now();
    let [mut here, mut there] = lane(now);
    here.call(now, 1, Protocol::Produce, frame(0), 1).expect("open");
    here.cancel(1);
    assert!(here.take(now).is_none(), "cancelled before it was sent");
    here.call(now, 2, Protocol::Produce, frame(0), 2).expect("open");
    let sent = here.take(now).expect("sent");
    assert!(matches!(give(&mut there, now, sent).expect("legal"), Outcome::Serve { id: 2, .. }));
    there.watch(2, 55);
    here.cancel(2);
    here.cancel(2);
    let cancel = here.take(now).expect("said");
    assert_eq!((&cancel, here.take(now)), (&Message::Cancel { id: 2 }, None));
    assert!(matches!(give(&mut there, now, cancel).expect("legal"), Outcome::LostInterest(55)));
    assert_eq!(here.under_way(), (1, 0), "it counts until its reply is back");
    there.respond(now, 2, answer(3));
    let late = there.take(now).expect("a reply");
    assert!(matches!(give(&mut here, now, late.clone()).expect("legal"), Outcome::Nothing));
    assert_eq!(here.under_way(), (0, 0));
    assert_eq!(give(&mut here, now, late).expect_err("twice"), Violation::UnknownReply(2));
}

#[test]
fn an_orderly_close_ends_what_is_under_way_and_sends_the_rest_elsewhere() {
    let now = Instant::now();
    let [mut here, mut there] = lane(now);
    here.call(now, 1, Protocol::Produce, frame(0), 1).expect("open");
    let first = here.take(now).expect("sent");
    give(&mut there, now, first).expect("legal");
    there.close();
    here.call(now, 2, Protocol::Produce, frame(0), 2).expect("the close has not come yet");
    let crossing = here.take(now).expect("sent");
    assert!(matches!(give(&mut there, now, crossing).expect("legal"), Outcome::Nothing));
    there.respond(now, 1, frame(0));
    here.call(now, 3, Protocol::Produce, frame(0), 3).expect("not sent");
    let (mut answered, mut declined) = (Vec::new(), Vec::new());
    while let Some(message) = there.take(now) {
        match give(&mut here, now, message).expect("legal") {
            Outcome::Answered(token, ..) => answered.push(token),
            Outcome::NotServed(token) => declined.push(token),
            _ => {}
        }
    }
    assert_eq!((answered, declined, here.unsent()), (vec![1], vec![2], vec![3]));
    assert_eq!(here.call(now, 4, Protocol::Produce, frame(0), 4), Err(4));
    assert!(!there.is_over(), "the other end has not closed");
    while let Some(message) = here.take(now) {
        give(&mut there, now, message).expect("legal");
    }
    assert!(here.is_over() && there.is_over());
}

#[test]
fn an_end_says_that_it_lives_closes_what_nobody_uses_and_gives_up_a_silent_peer() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut machine = Machine::<u64, u64>::new(start, Some(Class::Fetch));
    while machine.take(start).is_some() {}
    machine.tick(at(LANE_BEAT_MS)).expect("not silent yet");
    assert_eq!(machine.take(at(LANE_BEAT_MS)), Some(Message::Idle));
    assert_eq!(machine.tick(at(LANE_SILENCE_MS_MAX)), Err(Violation::Silent));
    machine.heard(at(LANE_IDLE_MS));
    machine.tick(at(LANE_IDLE_MS)).expect("heard");
    let said: Vec<_> = std::iter::from_fn(|| machine.take(at(LANE_IDLE_MS))).collect();
    assert_eq!(said, [Message::Idle, Message::Close]);
    let mut busy = Machine::<u64, u64>::new(start, Some(Class::Fetch));
    busy.call(start, 1, Protocol::Fetch, frame(0), 1).expect("open");
    busy.heard(at(LANE_IDLE_MS));
    busy.tick(at(LANE_IDLE_MS)).expect("heard");
    assert!(!busy.is_ending(), "a call is under way");
}

/// What happens to a lane in [`every_call_ends_once`].
#[derive(Clone, Debug)]
enum Happening {
    Call {
        end: usize,
        bytes: usize,
    },
    Cancel {
        end: usize,
        nth: usize,
    },
    /// One message goes from this end to the other.
    Move {
        end: usize,
    },
    Respond {
        end: usize,
        nth: usize,
        bytes: usize,
    },
    Decline {
        end: usize,
        nth: usize,
    },
    Close {
        end: usize,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    let (end, nth) = (0usize..2, 0usize..8);
    prop_oneof![
        6 => (end.clone(), prop_oneof![0usize..100, (KIB..5 * MIB)]).prop_map(|(end, bytes)| Happening::Call { end, bytes }),
        2 => (end.clone(), nth.clone()).prop_map(|(end, nth)| Happening::Cancel { end, nth }),
        20 => end.clone().prop_map(|end| Happening::Move { end }),
        5 => (end.clone(), nth.clone(), 0usize..100).prop_map(|(end, nth, bytes)| Happening::Respond { end, nth, bytes }),
        1 => (end.clone(), nth).prop_map(|(end, nth)| Happening::Decline { end, nth }),
        1 => end.prop_map(|end| Happening::Close { end }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Two ends that keep the rules never find each other breaking them, whatever crosses on the way; each call ends
    /// exactly once, and one that is said not to be sent was never served.
    #[test]
    fn every_call_ends_once(happenings in prop::collection::vec(happening(), 0..400), closes: bool) {
        let now = Instant::now();
        let mut ends = lane(now);
        let mut ids = [0u64; 2];
        let mut open: [BTreeSet<u64>; 2] = Default::default();
        let mut serving: [BTreeSet<u64>; 2] = Default::default();
        let mut begun: [BTreeSet<u64>; 2] = Default::default();
        let mut declined: [BTreeSet<u64>; 2] = Default::default();
        let nth = |set: &BTreeSet<u64>, n: usize| set.iter().nth(n).copied();
        for (nth_happening, happening) in happenings.into_iter().enumerate() {
            match happening {
                Happening::Call { end, bytes } => {
                    ids[end] += 1;
                    let id = ids[end];
                    if ends[end].call(now, id, Protocol::Produce, frame(bytes), id).is_ok() {
                        open[end].insert(id);
                    }
                }
                Happening::Cancel { end, nth: n } => if let Some(id) = nth(&open[end], n) {
                    ends[end].cancel(id);
                    open[end].remove(&id);
                },
                Happening::Move { end } => {
                    let Some(message) = ends[end].take(now) else { continue };
                    let other = 1 - end;
                    match give(&mut ends[other], now, message).map_err(|e| TestCaseError::fail(e.to_string()))? {
                        Outcome::Serve { id, .. } => {
                            prop_assert!(begun[other].insert(id), "served twice");
                            serving[other].insert(id);
                        }
                        Outcome::Answered(id, ..) => {
                            prop_assert!(open[other].remove(&id), "ended twice");
                            prop_assert!(begun[end].contains(&id));
                        }
                        Outcome::NotServed(id) => {
                            prop_assert!(open[other].remove(&id), "ended twice");
                            prop_assert!(!begun[end].contains(&id) || declined[end].contains(&id));
                        }
                        _ => {}
                    }
                }
                Happening::Respond { end, nth: n, bytes } => if let Some(id) = nth(&serving[end], n) {
                    serving[end].remove(&id);
                    ends[end].respond(now, id, answer(bytes));
                },
                Happening::Decline { end, nth: n } => if let Some(id) = nth(&serving[end], n) {
                    serving[end].remove(&id);
                    declined[end].insert(id);
                    ends[end].decline(now, id);
                },
                Happening::Close { end } if closes => ends[end].close(),
                Happening::Close { .. } => {}
            }
            // A task may be late to ask.
            for end in (0..2).filter(|end| (nth_happening + end) % 3 == 0) {
                for id in ends[end].unsent() {
                    prop_assert!(open[end].remove(&id), "ended twice");
                    prop_assert!(!begun[1 - end].contains(&id));
                }
            }
        }
        // The lane breaks here: what is left ends now, as unknown or as not sent.
        for end in 0..2 {
            let left: BTreeMap<u64, bool> = ends[end].end().0.into_iter().collect();
            prop_assert_eq!(left.keys().copied().collect::<BTreeSet<_>>(), open[end].clone());
            for (id, is_sent) in left {
                prop_assert!(is_sent || !begun[1 - end].contains(&id));
            }
        }
    }
}
