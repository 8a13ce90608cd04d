//! The rules of the house that no compiler checks.
//!
//! Each rule is a function from the repository to a list of violations, so that tests can call them one by one and
//! `cargo xtask check` all of them.

mod features;
mod layers;
mod limits;
mod sources;
mod supply;

use std::path::Path;
use std::process::Command;

pub use features::features;
pub use layers::layers;
pub use limits::limits;
pub use sources::{libp2p_is_named_in_its_rooms, shape};
pub use supply::supply;

/// A rule: the repository in, violations out; an error if it cannot be checked.
pub type Rule = fn(&Path) -> Result<Vec<String>, String>;

/// Checks every rule.
///
/// # Errors
/// All violations, one a line.
pub fn check(root: &Path) -> Result<(), String> {
    let rules: [Rule; 6] = [layers, supply, features, libp2p_is_named_in_its_rooms, shape, limits];
    let mut violations = Vec::new();
    for rule in rules {
        violations.extend(rule(root)?);
    }
    match violations.is_empty() {
        true => Ok(()),
        false => Err(format!("{} rules of the house are broken:\n  {}", violations.len(), violations.join("\n  "))),
    }
}

/// The standard output of a cargo command in `root`.
fn cargo(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
