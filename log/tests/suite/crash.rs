//! Crashes at every operation of the disk.

use proptest::prelude::*;
use rafka_log::disk::Crash;

use crate::support::{Step, World, config, history, memory_config};

/// Goes on after a crash: the log takes appends, and a second crash costs nothing that was flushed.
fn live_on(world: &mut World, seed: u64, context: &str) {
    world.run(&[
        Step::NextEpoch { durable: false },
        Step::Append { records: 2, bytes: 300, time: 1 },
        Step::Append { records: 1, bytes: 30, time: 1 },
        Step::Flush,
        Step::Append { records: 1, bytes: 200, time: 1 },
    ]);
    world.check(context);
    world.boot(Crash::Power { seed }, &format!("{context}, and again"));
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_promised() {
    let steps = history();
    for n in 0.. {
        let mut finished = false;
        let crashes = [Crash::Kill].into_iter().chain((0..3).map(|seed| Crash::Power { seed: seed * 1000 + n }));
        for crash in crashes {
            let mut world = World::new(config(), Some(n));
            world.run(&steps);
            finished = !world.faults.halted();
            let context = format!("stopped at operation {n} in {:?}, {crash:?}", world.interrupted_step());
            world.boot(crash, &context);
            live_on(&mut world, n, &context);
        }
        if finished {
            assert!(n > 100, "the history is worth its name");
            return;
        }
    }
}

#[test]
fn a_second_crash_during_recovery_loses_nothing_either() {
    let steps = history();
    for n in (5..130).step_by(4) {
        for m in 0..12 {
            let mut world = World::new(config(), Some(n));
            world.run(&steps);
            let survived = world.memory.crash(Crash::Power { seed: n });
            world.memory = std::sync::Arc::new(survived);
            let (disk, faults) = rafka_log::disk::FaultyDisk::new(world.memory.clone());
            faults.halt_at(m);
            // Opening fails or not; what it leaves must open again.
            let opened = world.open(std::sync::Arc::new(disk), rafka_log::Shutdown::PowerLost);
            drop(opened);
            world.boot(Crash::Power { seed: m }, &format!("operation {n}, then {m} of recovery"));
        }
    }
}

#[test]
fn what_recovery_cuts_off_a_closed_segment_does_not_come_back() {
    let append = |bytes| Step::Append { records: 1, bytes, time: 1 };
    let steps = [append(100), append(100), Step::Flush, Step::Checkpoint, append(1900)];
    // From the beginning of the second segment on.
    for (n, seed) in (20..30).flat_map(|n| (0..128).map(move |seed| (n, seed))) {
        let mut world = World::new(config(), Some(n));
        world.run(&steps);
        let context = format!("stopped at operation {n}, seed {seed}");
        world.boot(Crash::Power { seed: seed / 8 }, &context);
        world.run(&[append(10), Step::Flush, Step::Checkpoint]);
        world.boot(Crash::Power { seed }, &format!("{context}, and again"));
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..6usize, 0..900usize, -50..50i64).prop_map(|(records, bytes, time)| Step::Append { records, bytes, time }),
        3 => (1..4usize).prop_map(|records| Step::AppendAsIs { records }),
        1 => any::<bool>().prop_map(|durable| Step::NextEpoch { durable }),
        3 => Just(Step::Flush),
        3 => Just(Step::Checkpoint),
        2 => (0..3000i64).prop_map(Step::Wait),
        2 => Just(Step::Retain),
        1 => (0..1000i64).prop_map(Step::Truncate),
        1 => (0..=1000i64).prop_map(Step::AdvanceStart),
        1 => (-60..30i64).prop_map(Step::RestartBehind),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_like_the_vector_whatever_the_crash(
        steps in prop::collection::vec(step(), 1..60),
        halt in 0..400u64,
        seed in any::<u64>(),
        kill in any::<bool>(),
    ) {
        let mut world = World::new(config(), Some(halt));
        world.run(&steps);
        if world.interrupted.is_none() {
            world.check("before the crash");
        }
        let crash = if kill { Crash::Kill } else { Crash::Power { seed } };
        world.boot(crash, &format!("{crash:?} after {:?}", world.interrupted_step()));
        live_on(&mut world, seed, "after the crash");
    }

    #[test]
    fn any_history_reads_like_the_vector_in_both_engines(steps in prop::collection::vec(step(), 1..50)) {
        for config in [config(), memory_config()] {
            let mut world = World::new(config, None);
            for step in &steps {
                world.run(std::slice::from_ref(step));
            }
            world.check("at the end");
        }
    }

    #[test]
    fn a_clean_stop_leaves_nothing_to_repair(
        before in prop::collection::vec(step(), 1..30),
        after in prop::collection::vec(step(), 1..10),
    ) {
        let mut world = World::new(config(), None);
        world.run(&before);
        world.run(&[Step::Reopen]);
        world.check("after a clean stop");
        world.run(&after);
        world.check("and after more");
        world.run(&[Step::Reopen]);
        world.boot(Crash::Power { seed: 3 }, "a clean stop survives the power too");
    }
}
