//! `rafka cheat`

use clap::{Args, ValueEnum};

use crate::errors::Result;
use crate::output::emit;

/// Show examples.
#[derive(Args, Debug)]
pub(crate) struct CheatArgs {
    /// Only those of one topic.
    #[arg(value_enum)]
    topic: Option<Page>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Page {
    /// A cluster on this machine.
    Dev,
    /// Making and changing topics.
    Topic,
    /// Publishing.
    Publish,
    /// Subscribing.
    Subscribe,
    /// Consumer groups.
    Group,
    /// Nodes and clusters by hand.
    Node,
    /// Looking at cluster and mesh.
    Cluster,
    /// Scripts.
    Script,
}

impl Page {
    fn text(self) -> &'static str {
        match self {
            Self::Dev => include_str!("cheat/dev.txt"),
            Self::Topic => include_str!("cheat/topic.txt"),
            Self::Publish => include_str!("cheat/publish.txt"),
            Self::Subscribe => include_str!("cheat/subscribe.txt"),
            Self::Group => include_str!("cheat/group.txt"),
            Self::Node => include_str!("cheat/node.txt"),
            Self::Cluster => include_str!("cheat/cluster.txt"),
            Self::Script => include_str!("cheat/script.txt"),
        }
    }
}

impl CheatArgs {
    pub(crate) fn run(self) -> Result {
        let pages = match &self.topic {
            Some(page) => std::slice::from_ref(page),
            None => Page::value_variants(),
        };
        emit(&pages.iter().map(|page| page.text()).collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// Words of a line as a shell would see them; enough for the sheets.
    fn words(command: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for letter in command.chars() {
            match (quote, letter) {
                (None, '\'' | '"') => quote = Some(letter),
                (Some(open), letter) if letter == open => quote = None,
                (None, ' ') => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
                (_, letter) => word.push(letter),
            }
        }
        words.extend((!word.is_empty()).then_some(word));
        words
    }

    #[test]
    fn every_line_of_the_sheets_is_a_command_that_parses() {
        for page in Page::value_variants() {
            for line in page.text().lines().filter(|line| line.starts_with("  ")) {
                let line = line.split("  #").next().unwrap_or(line).trim();
                for command in line.split(['|', '&']).map(str::trim).filter(|part| part.starts_with("rafka ")) {
                    let parsed = crate::Cli::try_parse_from(words(command.split(" > ").next().unwrap_or(command)));
                    assert!(parsed.is_ok(), "{command}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
                }
            }
        }
    }
}
