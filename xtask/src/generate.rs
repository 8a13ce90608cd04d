//! Files that come from code. The work is done by tests (`xtask/tests/generated.rs`, `corpus.rs`), which may depend on
//! every crate, so that a plain `cargo test` notices a stale file; this command runs them with the variable
//! [`VARIABLE`] set.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `write` lets the tests write what they would otherwise compare.
pub const VARIABLE: &str = "RAFKA_GENERATE";
/// The folder with the built `rafka`, from which the page of the command line is made.
pub const BINARIES: &str = "RAFKA_BIN_DIR";

/// Writes the files, or compares them if `check`. The binary `rafka` is taken from [`BINARIES`], else from
/// `target/release`, where it must have been built.
///
/// # Errors
/// In words.
pub fn run(check: bool) -> Result<(), String> {
    let root = crate::root();
    let binaries = std::env::var_os(BINARIES).map_or_else(|| root.join("target/release"), PathBuf::from);
    let binaries = root.join(binaries);
    if !binaries.join("rafka").exists() {
        return Err(format!("no rafka in {}; build it, or name its folder in {BINARIES}", binaries.display()));
    }
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--quiet", "--package", "xtask", "--test", "generated", "--test", "corpus"])
        .env(VARIABLE, if check { "check" } else { "write" })
        .env(BINARIES, binaries)
        .current_dir(&root)
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    match status.success() {
        true => Ok(()),
        false if check => Err("generated files are stale: run `cargo xtask generate`".to_owned()),
        false => Err("not all files could be generated".to_owned()),
    }
}

/// Whether the files shall be written.
#[must_use]
pub fn writes() -> bool {
    std::env::var(VARIABLE).is_ok_and(|mode| mode == "write")
}

/// Writes `content` to `path` (from the root) if [`writes`], else compares.
///
/// # Errors
/// If the file cannot be written, or differs.
pub fn keep(path: &str, content: &[u8]) -> Result<(), String> {
    let full = crate::root().join(path);
    if writes() {
        let folder = full.parent().unwrap_or(Path::new("."));
        return fs::create_dir_all(folder)
            .and_then(|()| fs::write(&full, content))
            .map_err(|error| format!("{path}: {error}"));
    }
    let found = fs::read(&full).map_err(|error| format!("{path}: {error}; run `cargo xtask generate`"))?;
    if found == content {
        return Ok(());
    }
    let (found, content) = (String::from_utf8_lossy(&found), String::from_utf8_lossy(content));
    let line = found.lines().zip(content.lines()).take_while(|(a, b)| a == b).count();
    let at = |text: &str| text.lines().nth(line).unwrap_or("(nothing)").to_owned();
    Err(format!("{path}:{} is stale: it has {:?}, not {:?}", line + 1, at(&found), at(&content)))
}
