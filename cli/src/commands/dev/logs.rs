//! `rafka dev logs`

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rafka_model::limits::MIB;

use super::NameArgs;
use super::directory::DevDir;
use crate::errors::{CliError, Exit, Result};
use crate::interrupt::Interrupt;
use crate::output::emit;

/// New lines are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of one read; earlier lines of a longer log are left out without `--follow`'s help.
const TAIL_BYTES: u64 = 4 * MIB as u64;

/// Show what the nodes have logged.
#[derive(Args, Debug)]
pub(super) struct LogsArgs {
    /// Number of the node; without it all of them, each line with its node.
    node: Option<u32>,
    /// Go on with what they log from now on, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// Only so many last lines of each node.
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    #[command(flatten)]
    cluster: NameArgs,
}

/// One node's log.
struct Tail {
    path: PathBuf,
    prefix: String,
    position: u64,
    /// A line that has not ended.
    begun: String,
}

impl LogsArgs {
    pub(super) async fn run(self) -> Result {
        let directory = DevDir::of_user(&self.cluster.name)?;
        let there = directory.nodes();
        let nodes = match self.node {
            Some(node) if there.contains(&node) => vec![node],
            Some(node) => return Err(CliError::new(Exit::NotFound, format!("there is no log of a node {node}"))),
            None if there.is_empty() => {
                let what = format!("there are no logs of a dev cluster {:?}", directory.name());
                return Err(CliError::new(Exit::NotFound, what).hint("`rafka dev` starts one"));
            }
            None => there,
        };
        let several = nodes.len() > 1;
        let tail = |node: u32| Tail {
            path: directory.node(node).log(),
            prefix: if several { format!("node {node} | ") } else { String::new() },
            position: 0,
            begun: String::new(),
        };
        let mut tails: Vec<Tail> = nodes.into_iter().map(tail).collect();
        for tail in &mut tails {
            let lines = tail.read()?;
            let skipped = self.lines.map_or(0, |most| lines.len().saturating_sub(most));
            emit(&lines[skipped..].concat())?;
        }
        if !self.follow {
            return Ok(());
        }
        let interrupt = Interrupt::install()?;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = interrupt.wait() => return Err(CliError::silent(Exit::Interrupted)),
            }
            for tail in &mut tails {
                emit(&tail.read()?.concat())?;
            }
        }
    }
}

impl Tail {
    /// The lines that have come since the last look.
    fn read(&mut self) -> Result<Vec<String>> {
        self.read_bytes().map_err(|error| CliError::file("read", &self.path, &error))
    }

    fn read_bytes(&mut self) -> io::Result<Vec<String>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            // A node that has not started yet has logged nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let end = file.metadata()?.len();
        if end < self.position {
            self.position = 0;
            self.begun.clear();
        }
        let from = self.position.max(end.saturating_sub(TAIL_BYTES));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        self.position = from + file.take(end - from).read_to_end(&mut bytes)? as u64;
        let text = std::mem::take(&mut self.begun) + &String::from_utf8_lossy(&bytes);
        let mut lines: Vec<String> = Vec::new();
        for line in text.split_inclusive('\n') {
            if line.ends_with('\n') {
                lines.push(format!("{}{line}", self.prefix));
            } else {
                self.begun = line.to_owned();
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_once_and_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let mut tail = Tail { path: path.clone(), prefix: "node 1 | ".to_owned(), position: 0, begun: String::new() };
        assert!(tail.read().expect("nothing yet").is_empty());
        std::fs::write(&path, "a\nb").expect("written");
        assert_eq!(tail.read().expect("read"), ["node 1 | a\n"]);
        std::fs::write(&path, "a\nbc\nd\n").expect("written");
        assert_eq!(tail.read().expect("read"), ["node 1 | bc\n", "node 1 | d\n"]);
        std::fs::write(&path, "e\n").expect("a new file");
        assert_eq!(tail.read().expect("read"), ["node 1 | e\n"]);
    }
}
