//! Some seeds of the simulator, as the tests have time for; the command `seeds` runs many more.

use rafka_broker::replication::Rule;
use rafka_model::Durability;
use rafka_simulations::seeds::{Mutant, Options, run};

#[test]
fn seeds_keep_the_invariants_in_both_modes_and_repeat() {
    for durability in [Durability::Replicated, Durability::Fsync] {
        let options = Options { durability, ..Options::default() };
        for seed in 0..20 {
            let outcome = run(seed, &options);
            assert_eq!(outcome.violation, None, "seed {seed}, {durability:?}");
            assert_eq!(outcome, run(seed, &options), "seed {seed}, {durability:?} is not deterministic");
            let told = run(seed, &Options { trace: true, ..options.clone() });
            assert_eq!(
                told.trace_hash, outcome.trace_hash,
                "seed {seed}, {durability:?} goes another way when it is told"
            );
            assert!(!told.trace.is_empty() && outcome.trace.is_empty());
        }
    }
}

#[test]
fn a_skipped_injection_does_nothing_and_the_others_are_what_they_were() {
    let options = Options::default();
    let all = run(3, &options);
    let none = run(3, &Options { skip: (0..all.injections + 1_000).collect(), ..options });
    assert_eq!(none.violation, None);
    assert!(none.faults.keys().all(|fault| !fault.contains("power") && !fault.contains("kill")), "{:?}", none.faults);
}

#[test]
fn a_rule_that_is_off_is_noticed() {
    let options = Options { broken: Some(Mutant::Replication(Rule::MaximalIsrCounts)), ..Options::default() };
    let found = (0..400).find_map(|seed| run(seed, &options).violation);
    assert!(found.is_some(), "the high watermark ignores members, and nobody notices");
}
