//! Any inputs in any order.

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Append(i64),
    Flush(i64),
    Wait(Acks),
    Fetch(bool, i64, i64),
    Isr(bool, bool),
    Elr(bool),
    Fsync(bool),
    MinInsync(u32),
    Answer(u8),
    Time(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (1i64..20).prop_map(Act::Append),
        (0i64..200).prop_map(Act::Flush),
        prop_oneof![Just(Acks::All), Just(Acks::Leader)].prop_map(Act::Wait),
        (any::<bool>(), 0i64..200, 0i64..200).prop_map(|(a, end, flushed)| Act::Fetch(a, end, flushed)),
        (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Act::Isr(a, b)),
        any::<bool>().prop_map(Act::Elr),
        any::<bool>().prop_map(Act::Fsync),
        (1u32..3).prop_map(Act::MinInsync),
        (0u8..4).prop_map(Act::Answer),
        (0u64..30).prop_map(Act::Time),
    ]
}

/// What a test keeps beside the leader.
struct Model {
    bench: Bench,
    config: Config,
    end: i64,
    flushed: i64,
    partition_epoch: i32,
    waiting: BTreeMap<Ticket, (Acks, i64)>,
    tickets: u64,
}

impl Model {
    fn act(&mut self, act: Act) -> Vec<Output> {
        let epoch = self.partition_epoch;
        let input = match act {
            Act::Append(records) => {
                self.end += records;
                appended(self.end)
            }
            Act::Flush(to) => {
                self.flushed = self.flushed.max(to.min(self.end));
                flushed(to)
            }
            Act::Wait(acks) => {
                self.tickets += 1;
                self.waiting.insert(Ticket(self.tickets), (acks, self.end));
                let (ticket, next) = (Ticket(self.tickets), Offset(self.end));
                Input::Wait { ticket, acks, next, deadline: seconds_in(15) }
            }
            Act::Fetch(a, end, flushed) => return self.bench.fetch(if a { A } else { B }, end, flushed).1,
            Act::Isr(a, b) => {
                self.partition_epoch += 1;
                let others = [(A, a), (B, b)].into_iter().filter_map(|(id, is_in)| is_in.then_some(id));
                changed(&[ME].into_iter().chain(others).collect::<Vec<_>>(), self.partition_epoch)
            }
            Act::Elr(a) => {
                self.partition_epoch += 1;
                let partition_epoch = PartitionEpoch(self.partition_epoch);
                Input::Changed(PartitionState { elr: vec![if a { A } else { B }], partition_epoch, ..state(&[ME]) })
            }
            Act::Fsync(fsync) => {
                self.config.durability = if fsync { Durability::Fsync } else { Durability::Replicated };
                Input::Configured(self.config)
            }
            Act::MinInsync(min_insync) => {
                self.config.min_insync = min_insync;
                Input::Configured(self.config)
            }
            Act::Answer(0) => answered(epoch, Err(ErrorCode::IneligibleReplica)),
            Act::Answer(1) => answered(epoch, Err(ErrorCode::OutcomeUnknown)),
            Act::Answer(2) => answered(epoch, Ok(epoch + 1)),
            Act::Answer(_) => answered(epoch - 1, Err(ErrorCode::IneligibleReplica)),
            Act::Time(seconds) => return self.bench.wait_until(seconds),
        };
        self.bench.run([input])
    }

    fn check(&mut self, before: Offset, out: Vec<Output>) -> Result<(), TestCaseError> {
        let leader = &self.bench.leader;
        let mark = leader.high_watermark();
        prop_assert!(mark >= before && mark.0 <= self.end);
        let moved = out.iter().any(|output| matches!(output, Output::AdvanceHighWatermark(_)));
        prop_assert_eq!(moved, mark > before);
        if moved && self.config.durability == Durability::Fsync {
            prop_assert!(mark.0 <= self.flushed);
        }
        for output in out {
            match output {
                Output::Acknowledge(ticket) => {
                    let (acks, next) = self.waiting.remove(&ticket).expect("answered once");
                    prop_assert!(acks != Acks::All || mark.0 >= next);
                    let fsync = self.config.durability == Durability::Fsync;
                    prop_assert!(!fsync || acks != Acks::Leader || self.flushed >= next);
                }
                Output::Refuse(ticket, _) => prop_assert!(self.waiting.remove(&ticket).is_some()),
                Output::Propose(proposal) => {
                    prop_assert_eq!(proposal.partition_epoch, PartitionEpoch(self.partition_epoch));
                    prop_assert!(proposal.isr.iter().any(|(member, _)| *member == ME), "the leader stays");
                }
                Output::AdvanceHighWatermark(_) => {}
                Output::Resign => prop_assert!(false, "the epoch never changed"),
            }
        }
        prop_assert_eq!(leader.uncommitted.len() + leader.unflushed.len(), self.waiting.len());
        prop_assert_eq!(leader.check_invariants(), Ok(()));
        Ok(())
    }
}

proptest! {
    /// Claim: the high watermark never falls and never passes the leader's own safe end; each produce is answered once,
    /// and acknowledged only when it is safe by the words of its topic; everybody who may be elected counts.
    #[test]
    fn answers_come_once_and_only_when_true(acts in proptest::collection::vec(act(), 1..80)) {
        let bench = Bench::empty(&[ME], REPLICATED);
        let mut model = Model {
            bench,
            config: REPLICATED,
            end: 0,
            flushed: 0,
            partition_epoch: 9,
            waiting: BTreeMap::new(),
            tickets: 0,
        };
        for act in acts {
            let before = model.bench.leader.high_watermark();
            let out = model.act(act);
            model.check(before, out)?;
        }
    }
}
