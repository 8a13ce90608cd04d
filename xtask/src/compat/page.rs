//! `docs/kafka-compatibility.md`: written from the results, and read back to compare with.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::cases::CASES;
use super::clients::CLIENTS;
use super::session::Trouble;

/// What came of a case with a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cell {
    /// Proven.
    Yes,
    /// The client cannot.
    Never,
    /// Not proven.
    No,
}

impl Cell {
    /// Of a run.
    pub(super) fn of(result: &Result<(), Trouble>) -> Self {
        match result {
            Ok(()) => Self::Yes,
            Err(Trouble::Cannot(_)) => Self::Never,
            Err(Trouble::Failed(_)) => Self::No,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Never => "-",
            Self::No => "**no**",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Yes, Self::Never, Self::No].into_iter().find(|cell| cell.text() == text)
    }
}

/// Results by number of nodes, case and client; versions of the clients.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Page {
    cells: BTreeMap<(usize, String, String), Cell>,
    versions: BTreeMap<String, String>,
}

/// Instead of a version.
const NOT_RUN: &str = "not run yet";

const INTRODUCTION: &str = "\
# Kafka clients that work with Rafka

Written by `cargo xtask compat --write`, which runs every client below against real nodes, and fails in CI if a case that has passed does not
pass any more. *yes*: proven. *-*: the client has no such thing. **no**: it does not work yet.

Not covered yet: consumer groups and transactions. kafkajs reads in groups only: what it sends is read back by `rafka subscribe`.
";

impl Page {
    /// Of the text of a page; what is not a result is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let (mut nodes, mut header) = (None, Vec::new());
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                nodes = title.split(' ').next().and_then(|word| word.parse().ok());
                header.clear();
            }
            let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")) else { continue };
            let words: Vec<&str> = row.split('|').map(str::trim).collect();
            match nodes {
                Some(_) if header.is_empty() => header = words.iter().skip(1).map(|&word| word.to_owned()).collect(),
                Some(nodes) => {
                    for (client, cell) in header.iter().zip(&words[1..]) {
                        if let Some(cell) = Cell::parse(cell) {
                            page.cells.insert((nodes, words[0].trim_matches('`').to_owned(), client.clone()), cell);
                        }
                    }
                }
                None if words.len() == 3
                    && words[2] != NOT_RUN
                    && CLIENTS.iter().any(|client| client.name == words[0]) =>
                {
                    page.versions.insert(words[0].to_owned(), words[2].to_owned());
                }
                None => {}
            }
        }
        page
    }

    /// Keeps a result.
    pub(super) fn set(&mut self, nodes: usize, case: &str, client: &str, cell: Cell) {
        self.cells.insert((nodes, case.to_owned(), client.to_owned()), cell);
    }

    /// Keeps the version of a client.
    pub(super) fn set_version(&mut self, client: &str, version: &str) {
        self.versions.insert(client.to_owned(), version.to_owned());
    }

    /// True if something is not proven with so many nodes.
    pub(super) fn failed(&self, nodes: usize) -> bool {
        self.cells.iter().any(|((of, _, _), cell)| *of == nodes && *cell == Cell::No)
    }

    /// What `before` has proven and this page has not.
    pub(super) fn lost_since(&self, before: &Self) -> Vec<String> {
        let proven = before.cells.iter().filter(|(_, cell)| **cell == Cell::Yes);
        let lost = proven.filter(|(key, _)| self.cells.get(*key).is_some_and(|cell| *cell != Cell::Yes));
        lost.map(|((nodes, case, client), _)| format!("{client}: {case} with {nodes} node(s)")).collect()
    }

    /// One line.
    pub(super) fn summary(&self) -> String {
        let count = |wanted| self.cells.values().filter(|cell| **cell == wanted).count();
        let (yes, no, never) = (count(Cell::Yes), count(Cell::No), count(Cell::Never));
        format!("compat: {yes} passed, {no} failed, {never} not of the client")
    }

    /// The page.
    pub(super) fn text(&self) -> String {
        let mut text = INTRODUCTION.to_owned();
        text.push_str("\n| client | kind | version |\n|---|---|---|\n");
        for client in CLIENTS {
            let version = self.versions.get(client.name).map_or(NOT_RUN, String::as_str);
            let _ = writeln!(text, "| {} | {} | {version} |", client.name, client.kind);
        }
        let nodes: std::collections::BTreeSet<usize> = self.cells.keys().map(|(nodes, _, _)| *nodes).collect();
        for nodes in nodes {
            let _ = writeln!(text, "\n## {nodes} {}\n", if nodes == 1 { "node" } else { "nodes" });
            let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
            let _ = writeln!(text, "| case | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
            for case in CASES {
                let cell = |client: &&str| {
                    let key = (nodes, case.name.to_owned(), (*client).to_owned());
                    self.cells.get(&key).map_or(" ", |cell| cell.text())
                };
                let _ =
                    writeln!(text, "| `{}` | {} |", case.name, names.iter().map(cell).collect::<Vec<_>>().join(" | "));
            }
        }
        text.push_str("\n## What the cases prove\n\n| case | proves |\n|---|---|\n");
        for case in CASES {
            let _ = writeln!(text, "| `{}` | {} |", case.name, case.proves);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_written_reads_back_the_same() {
        let mut page = Page::default();
        page.set(1, "codec-none", "kcat", Cell::Yes);
        page.set(1, "codec-none", "java", Cell::No);
        page.set(3, "create-topic", "kcat", Cell::Never);
        page.set_version("kcat", "1.7.1, librdkafka 2.0.2");
        assert_eq!(Page::parse(&page.text()), page);
    }

    #[test]
    fn what_passed_and_fails_now_is_lost_and_nothing_else() {
        let (mut before, mut now) = (Page::default(), Page::default());
        for (case, was, is) in [("a", Cell::Yes, Cell::No), ("b", Cell::No, Cell::No), ("c", Cell::Yes, Cell::Yes)] {
            before.set(1, case, "kcat", was);
            now.set(1, case, "kcat", is);
        }
        before.set(3, "a", "kcat", Cell::Yes);
        assert_eq!(now.lost_since(&before), ["kcat: a with 1 node(s)"]);
    }
}
