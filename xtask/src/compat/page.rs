//! `docs/kafka-compatibility.md`: written from the results, and read back to compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use super::all_cases;
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

/// How the clients know the nodes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Known {
    /// All of them.
    Directly,
    /// One of them, by its gateway listener.
    ByGateway,
    /// The same, and they reach no other: each node is in a network namespace of its own.
    CutOff,
}

impl Known {
    const ALL: [Self; 3] = [Self::Directly, Self::ByGateway, Self::CutOff];

    /// After the number of nodes.
    fn text(self) -> &'static str {
        match self {
            Self::Directly => "",
            Self::ByGateway => ", known by the gateway of one",
            Self::CutOff => " in network namespaces, the gateway of one within reach",
        }
    }
}

/// What the clients have worked with.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Setup {
    known: Known,
    nodes: usize,
}

impl Setup {
    /// So many nodes.
    pub(super) fn new(nodes: usize, known: Known) -> Self {
        Self { known, nodes }
    }

    fn parse(title: &str) -> Option<Self> {
        let (nodes, how) = title.split_once(" node")?;
        let how = how.strip_prefix('s').unwrap_or(how);
        let known = Known::ALL.into_iter().find(|known| known.text() == how)?;
        Some(Self { known, nodes: nodes.parse().ok()? })
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.nodes, if self.nodes == 1 { "node" } else { "nodes" }, self.known.text())
    }
}

/// Results by what the clients have worked with, case and client; versions of the clients.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Page {
    cells: BTreeMap<(Setup, String, String), Cell>,
    versions: BTreeMap<String, String>,
}

/// Instead of a version.
const NOT_RUN: &str = "not run yet";

const INTRODUCTION: &str = "\
# Kafka clients that work with Rafka

Written by `cargo xtask compat --write`, which runs every client below against real nodes, and fails in CI if a case that has passed does not
pass any more. *yes*: proven. *-*: the client has no such thing. **no**: it does not work yet.

Clients that reach one node only: `cargo xtask compat --gateway --namespaces` puts each of five nodes in a network namespace of its own (root,
Linux), and the clients in another one, from where no address of a node answers but one gateway listener. Whatever asks for another node means
the same one there, and all five are restarted where a case restarts nodes, the gateway too. CI leaves it out.

Not covered yet: transactions. In cases that are not about groups, what kafkajs sends is read back by `rafka subscribe`: it reads in groups only.
";

impl Page {
    /// Of the text of a page; what is not a result is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let (mut setup, mut header) = (None, Vec::new());
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("## ") {
                setup = Setup::parse(title);
                header.clear();
            }
            let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix(" |")) else { continue };
            let words: Vec<&str> = row.split('|').map(str::trim).collect();
            match setup {
                Some(_) if header.is_empty() => header = words.iter().skip(1).map(|&word| word.to_owned()).collect(),
                Some(setup) => {
                    for (client, cell) in header.iter().zip(&words[1..]) {
                        if let Some(cell) = Cell::parse(cell) {
                            page.cells.insert((setup, words[0].trim_matches('`').to_owned(), client.clone()), cell);
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
    pub(super) fn set(&mut self, setup: Setup, case: &str, client: &str, cell: Cell) {
        self.cells.insert((setup, case.to_owned(), client.to_owned()), cell);
    }

    /// Keeps the version of a client.
    pub(super) fn set_version(&mut self, client: &str, version: &str) {
        self.versions.insert(client.to_owned(), version.to_owned());
    }

    /// Takes the results of another run, instead of its own where it has them, too.
    pub(super) fn take(&mut self, newer: Self) {
        self.cells.extend(newer.cells);
        self.versions.extend(newer.versions);
    }

    /// True if something is not proven with `setup`.
    pub(super) fn failed(&self, setup: Setup) -> bool {
        self.cells.iter().any(|((of, _, _), cell)| *of == setup && *cell == Cell::No)
    }

    /// What `before` has proven and this page has not.
    pub(super) fn lost_since(&self, before: &Self) -> Vec<String> {
        let proven = before.cells.iter().filter(|(_, cell)| **cell == Cell::Yes);
        let lost = proven.filter(|(key, _)| self.cells.get(*key).is_some_and(|cell| *cell != Cell::Yes));
        lost.map(|((setup, case, client), _)| format!("{client}: {case} with {setup}")).collect()
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
        let setups: BTreeSet<Setup> = self.cells.keys().map(|(setup, _, _)| *setup).collect();
        for setup in setups {
            let _ = writeln!(text, "\n## {setup}\n");
            let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
            let _ = writeln!(text, "| case | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
            for (case, _) in all_cases() {
                let cell = |client: &&str| {
                    let key = (setup, case.to_owned(), (*client).to_owned());
                    self.cells.get(&key).map_or(" ", |cell| cell.text())
                };
                let _ = writeln!(text, "| `{case}` | {} |", names.iter().map(cell).collect::<Vec<_>>().join(" | "));
            }
        }
        text.push_str("\n## What the cases prove\n\n| case | proves |\n|---|---|\n");
        for (case, proves) in all_cases() {
            let _ = writeln!(text, "| `{case}` | {proves} |");
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
        page.set(Setup::new(1, Known::Directly), "codec-none", "kcat", Cell::Yes);
        page.set(Setup::new(1, Known::Directly), "codec-none", "java", Cell::No);
        page.set(Setup::new(3, Known::ByGateway), "create-topic", "kcat", Cell::No);
        page.set(Setup::new(5, Known::CutOff), "create-topic", "kcat", Cell::Never);
        page.set_version("kcat", "1.7.1, librdkafka 2.0.2");
        assert_eq!(Page::parse(&page.text()), page);
    }

    #[test]
    fn what_passed_and_fails_now_is_lost_and_nothing_else() {
        let (mut before, mut now) = (Page::default(), Page::default());
        for (case, was, is) in [("a", Cell::Yes, Cell::No), ("b", Cell::No, Cell::No), ("c", Cell::Yes, Cell::Yes)] {
            before.set(Setup::new(1, Known::Directly), case, "kcat", was);
            now.set(Setup::new(1, Known::Directly), case, "kcat", is);
        }
        before.set(Setup::new(3, Known::Directly), "a", "kcat", Cell::Yes);
        assert_eq!(now.lost_since(&before), ["kcat: a with 1 node"]);
    }
}
