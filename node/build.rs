//! Notes the commit that release builds are made from.
//!
//! `RAFKA_COMMIT` wins (packagers build without `.git`); debug builds carry none, so that a commit does not cost
//! every developer a rebuild.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=RAFKA_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = match std::env::var("RAFKA_COMMIT") {
        Ok(commit) if !commit.is_empty() => Some(commit),
        _ if release => from_git(),
        _ => None,
    };
    println!("cargo::rustc-env=RAFKA_COMMIT={}", commit.unwrap_or_default());
}

fn from_git() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    // The reflog of HEAD changes with every commit and checkout.
    if let Some(log) =
        git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| std::fs::exists(log).unwrap_or(false))
    {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short", "HEAD"]).filter(|commit| !commit.is_empty())
}
