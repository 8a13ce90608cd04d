//! The seeded simulator as a whole.

use rafka_model::Durability;
use rafka_simulations::hunt::run_one;
use rafka_simulations::seeds::Options;

/// Claim: no acknowledged record is lost, and a seed fixes every byte of a run, whether it is told in lines or not.
#[test]
fn seeds_keep_the_invariants_and_repeat() {
    for durability in [Durability::Replicated, Durability::Fsync] {
        for seed in 1..=10 {
            let options = Options { steps: 600, durability, ..Options::default() };
            let once = run_one(seed, &options);
            assert_eq!(once.violation, None, "seed {seed}, {durability:?}");
            let again = run_one(seed, &Options { trace: true, ..options });
            assert_eq!(
                (once.trace_hash, once.steps),
                (again.trace_hash, again.steps),
                "seed {seed} is not deterministic"
            );
            assert!(!again.trace.is_empty() && once.trace.is_empty());
        }
    }
}
