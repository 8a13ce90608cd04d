//! Every committed fuzz input goes through its target in the normal tests, and every seed is a real encoding.

mod group_log;
mod seeds;
#[path = "../../../fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate shares this file")]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use targets::TARGETS;
use xtask::generate::keep;
use xtask::root;

/// Inputs of one target that may be committed; more make the tests slow.
const INPUTS_MAX: usize = 20;

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = root().join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
    files.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

#[test]
fn every_input_goes_through_its_target() {
    // Seeds may be written by the test beside this one; read them after it.
    seeds_are_real_and_committed();
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(!inputs.is_empty() && inputs.len() <= INPUTS_MAX, "{name}: {} inputs", inputs.len());
        for (path, input) in inputs {
            println!("{}", path.display());
            target(&input);
        }
    }
}

/// What mutation finds first, on every machine: each seed cut at every length, and with every byte changed.
#[test]
fn damaged_seeds_harm_no_target() {
    for (target, _, seed) in seeds::all() {
        let run = lookup(target);
        for at in (0..seed.len()).step_by(seed.len() / 256 + 1) {
            run(&seed[..at]);
            for mask in [0x01, 0x80, 0xff] {
                let mut damaged = seed.clone();
                damaged[at] ^= mask;
                run(&damaged);
            }
        }
    }
}

#[test]
fn there_is_a_program_and_a_seed_for_every_target() {
    let folder = root().join("fuzz/fuzz_targets");
    let programs: BTreeSet<String> = fs::read_dir(folder)
        .expect("readable")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let seeded: BTreeSet<String> = seeds::all().into_iter().map(|(target, ..)| target.to_owned()).collect();
    assert_eq!(programs, names);
    assert_eq!(seeded, names);
}

fn lookup(target: &str) -> targets::Target {
    TARGETS.iter().find(|(name, _)| *name == target).map(|(_, run)| *run).expect("a target")
}

fn seeds_are_real_and_committed() {
    for (target, name, seed) in seeds::all() {
        assert!(lookup(target)(&seed), "{target}/{name} is refused");
        keep(&format!("fuzz/corpus/{target}/{name}"), &seed).expect("committed");
    }
}
