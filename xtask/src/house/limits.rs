//! Rules about `model/src/limits.rs`.

use std::path::Path;

use super::sources::rust_files;

const FILE: &str = "model/src/limits.rs";
const USERS: &[&str] =
    &["model", "log", "broker", "cache", "protocols", "dht", "kafka", "client", "node", "cli", "simulations"];

/// Every limit is documented, and used outside of its file: a bound that nobody keeps is a lie.
///
/// # Errors
/// If a source cannot be read.
pub fn limits(root: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(root.join(FILE)).map_err(|error| format!("{FILE}: {error}"))?;
    let mut sources = Vec::new();
    for folder in USERS {
        sources.extend(rust_files(root, folder)?.into_iter().filter(|(path, _)| path != Path::new(FILE)));
    }
    let mut violations = Vec::new();
    let mut before = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("pub const ").and_then(|rest| rest.split(':').next()) {
            if !before.starts_with("///") {
                violations.push(format!("{FILE}: {name} is not documented"));
            }
            if !sources.iter().any(|(_, source)| names(source, name)) {
                violations.push(format!("{FILE}: nobody keeps {name}"));
            }
        }
        before = line;
    }
    Ok(violations)
}

/// True if `source` holds `name` as a whole word.
fn names(source: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    source
        .match_indices(name)
        .any(|(at, _)| !source[..at].ends_with(part) && !source[at + name.len()..].starts_with(part))
}
