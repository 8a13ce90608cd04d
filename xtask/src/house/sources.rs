//! Rules about the text of the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders of the crates.
const CRATES: &[&str] =
    &["model", "log", "broker", "cache", "protocols", "dht", "kafka", "client", "node", "cli", "simulations", "xtask"];

/// Lines of the longest file.
const FILE_LINES_MAX: usize = 600;

/// `node` names libp2p in its swarm module only, and `cli` never: peers and addresses come from there by other names.
///
/// # Errors
/// If a source cannot be read.
pub fn libp2p_is_named_in_its_rooms(root: &Path) -> Result<Vec<String>, String> {
    let mut violations = Vec::new();
    for folder in ["node/src", "cli/src"] {
        for (path, text) in rust_files(root, folder)? {
            let room = path.strip_prefix(folder).map(|path| path.display().to_string()).unwrap_or_default();
            if room == "mesh.rs" || room.starts_with("mesh/") || is_test(&path) {
                continue;
            }
            let lines = production(&text).filter(|(_, line)| line.contains("libp2p::") || line.contains("libp2p_"));
            violations.extend(lines.map(|(n, _)| format!("{}:{n} names libp2p", path.display())));
        }
    }
    Ok(violations)
}

/// No `mod.rs`, no overlong file, `lib.rs` begins with its documentation, nothing unfinished.
///
/// # Errors
/// If a source cannot be read.
pub fn shape(root: &Path) -> Result<Vec<String>, String> {
    let mut violations = Vec::new();
    for folder in CRATES {
        for (path, text) in rust_files(root, folder)? {
            let shown = path.display();
            let lines = text.lines().count();
            if path.ends_with("mod.rs") {
                violations.push(format!("{shown}: use foo.rs beside foo/ instead of mod.rs"));
            }
            if lines > FILE_LINES_MAX && !is_test(&path) {
                violations.push(format!("{shown}: {lines} lines, at most {FILE_LINES_MAX}"));
            }
            if path.ends_with("src/lib.rs") && !text.starts_with("//!") {
                violations.push(format!("{shown}: says nothing about its crate"));
            }
            let unfinished = ["todo!(", "unimplemented!(", "#[ignore", "allow(dead_code"];
            let found = production(&text).filter(|(_, line)| unfinished.iter().any(|word| line.contains(word)));
            violations.extend(found.filter(|_| *folder != "xtask").map(|(n, _)| format!("{shown}:{n} is unfinished")));
        }
    }
    Ok(violations)
}

/// Rust files below `root/folder`, sorted, by their path from `root`, without build output.
pub(super) fn rust_files(root: &Path, folder: &str) -> Result<Vec<(PathBuf, String)>, String> {
    let (mut found, mut folders) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = folders.pop() {
        let broken = |error: std::io::Error| format!("{}: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(broken)? {
            let path = entry.map_err(broken)?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).map_err(broken)?;
                found.push((path.strip_prefix(root).unwrap_or(&path).to_owned(), text));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.iter().any(|part| part == "tests" || part == "benches")
}

/// Numbered lines of code that is shipped: without comments, and without the tests at the end of the file.
fn production(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    let shipped = numbered.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    shipped.map(|(n, line)| (n, line.split("//").next().unwrap_or(line)))
}
