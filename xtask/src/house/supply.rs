//! Licences and sources of what is built, and crates that may not be.

use std::collections::BTreeSet;
use std::path::Path;

use super::cargo;
use crate::policy::Policy;
use crate::spdx;

/// Platforms that are built for.
const TARGETS: &[&str] = &["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin"];
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks every crate that is built for any platform, tests with it, against `deny.toml`, and that `Cargo.lock` names
/// no source but crates.io. (Advisories need a database: `cargo deny check advisories`.)
///
/// # Errors
/// If cargo or `deny.toml` cannot be read.
pub fn supply(root: &Path) -> Result<Vec<String>, String> {
    let policy = Policy::read(root)?;
    let mut violations = Vec::new();
    for line in built(root)? {
        let (name, licence) = line.split_once('|').unwrap_or((&line, ""));
        let name = name.split(' ').next().unwrap_or(name);
        if policy.banned.iter().any(|banned| banned == name) {
            violations.push(format!("{name} is banned by deny.toml"));
        }
        let allowed = |licence: &str| {
            let excepted = |(krate, also): &(String, String)| krate == name && also == licence;
            policy.licences.iter().any(|allowed| allowed == licence) || policy.exceptions.iter().any(excepted)
        };
        match spdx::satisfied(licence, &allowed) {
            Ok(true) => {}
            Ok(false) => violations.push(format!("{name}: licence {licence:?} is not allowed by deny.toml")),
            Err(error) => violations.push(format!("{name}: {error}")),
        }
    }
    violations.extend(foreign_sources(root)?);
    Ok(violations)
}

/// `name version|licence` of every crate that is built.
fn built(root: &Path) -> Result<BTreeSet<String>, String> {
    let mut all = BTreeSet::new();
    for target in TARGETS {
        let edges = "normal,build,dev";
        let tree = ["tree", "--workspace", "--prefix", "none", "--format", "{p}|{l}", "--edges", edges, "--target"];
        let listed = cargo(root, &[&tree[..], &[target]].concat())?;
        // A crate that was listed before is marked by a star.
        all.extend(listed.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).filter(|line| !line.is_empty()));
    }
    Ok(all)
}

fn foreign_sources(root: &Path) -> Result<Vec<String>, String> {
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).map_err(|error| format!("Cargo.lock: {error}"))?;
    let sources = lock.lines().filter_map(|line| line.strip_prefix("source = \"")?.strip_suffix('"'));
    let foreign: BTreeSet<&str> = sources.filter(|source| *source != CRATES_IO).collect();
    Ok(foreign.into_iter().map(|source| format!("Cargo.lock: source {source} is not crates.io")).collect())
}
