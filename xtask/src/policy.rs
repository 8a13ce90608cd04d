//! The part of `deny.toml` that is checked here, so that no further tool is needed for it.

use std::path::Path;

/// What dependencies may be.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// Licences that any crate may have.
    pub(crate) licences: Vec<String>,
    /// Crate and the licence that it alone may have besides.
    pub(crate) exceptions: Vec<(String, String)>,
    /// Crates that may not be there.
    pub(crate) banned: Vec<String>,
}

impl Policy {
    /// Reads `deny.toml` in `root`.
    ///
    /// # Errors
    /// What cannot be read or is not sorted.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let path = root.join("deny.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut policy = Self::default();
        for (section, key, value) in assignments(text) {
            let texts = || strings(&value);
            match (section.as_str(), key.as_str()) {
                ("licenses", "allow") => policy.licences = texts(),
                ("licenses", "exceptions") => policy.exceptions = pairs("licenses.exceptions", &texts())?,
                // Each ban is { crate = "…", reason = "…" }.
                ("bans", "deny") => policy.banned = texts().into_iter().step_by(2).collect(),
                _ => {}
            }
        }
        for (what, list) in [("licenses.allow", &policy.licences), ("bans.deny", &policy.banned)] {
            if list.is_empty() {
                return Err(format!("deny.toml: {what} is missing"));
            }
            if !list.is_sorted() {
                return Err(format!("deny.toml: {what} is not sorted"));
            }
        }
        Ok(policy)
    }
}

/// `crate = "a", allow = ["b"]` as (a, b).
fn pairs(what: &str, texts: &[String]) -> Result<Vec<(String, String)>, String> {
    let pairs = texts.as_chunks::<2>();
    if !pairs.1.is_empty() {
        return Err(format!("deny.toml: {what} must be a crate and one licence each"));
    }
    Ok(pairs.0.iter().map(|[name, licence]| (name.clone(), licence.clone())).collect())
}

/// Section, key and text of each assignment of a TOML document; values may go over several lines.
fn assignments(text: &str) -> Vec<(String, String, String)> {
    let (mut section, mut found) = (String::new(), Vec::<(String, String, String)>::new());
    let mut open = 0_i32;
    for line in text.lines().map(uncommented) {
        let brackets = line.matches('[').count() as i32 - line.matches(']').count() as i32;
        if open > 0 {
            if let Some((_, _, value)) = found.last_mut() {
                value.push_str(line);
            }
            open += brackets;
        } else if let Some((key, value)) = line.split_once('=') {
            found.push((section.clone(), key.trim().to_owned(), value.to_owned()));
            open = brackets;
        } else if line.starts_with('[') {
            section = line.trim_matches(['[', ']', ' ']).to_owned();
        }
    }
    found
}

/// The line without its comment. No string of ours holds a `#`.
fn uncommented(line: &str) -> &str {
    line.split('#').next().unwrap_or(line).trim()
}

/// The quoted strings of a value, in order.
fn strings(value: &str) -> Vec<String> {
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_exceptions_and_bans_are_read() {
        let policy = Policy::parse(
            "[licenses]\n# a comment\nallow = [\n  \"ISC\", # short\n  \"MIT\",\n]\nexceptions = [{ crate = \"a\", allow = [\"MPL-2.0\"] }]\n\
             [bans]\nmultiple-versions = \"allow\"\ndeny = [\n  { crate = \"b\", reason = \"r\" },\n  { crate = \"c\", reason = \"r\" },\n]\n",
        )
        .expect("legal");
        assert_eq!(policy.licences, ["ISC", "MIT"]);
        assert_eq!(policy.exceptions, [("a".to_owned(), "MPL-2.0".to_owned())]);
        assert_eq!(policy.banned, ["b", "c"]);
    }

    #[test]
    fn unsorted_lists_are_refused() {
        let error = Policy::parse("[licenses]\nallow = [\"MIT\", \"ISC\"]\n[bans]\ndeny = [\"b\", \"r\"]\n");
        assert_eq!(error.expect_err("unsorted"), "deny.toml: licenses.allow is not sorted");
    }
}
