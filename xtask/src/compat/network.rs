//! A network in which the clients reach one node only. `scripts/netns.sh` makes it, and removes it when this process ends,
//! in whatever way.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

/// Ends with this where namespaces are not allowed.
const NOT_ALLOWED: i32 = 77;
/// How long a connection may take, seconds. What is cut off is refused at once, or never answers.
const CONNECTED_WITHIN: &str = "2";
/// Where the clients find the node that they reach.
pub(super) const GATEWAY: &str = "10.78.0.1";

/// Why there is no network.
pub(super) enum Refused {
    /// This machine does not allow it.
    NotAllowed(String),
    /// It should have.
    Failed(String),
}

/// Namespaces for nodes and for clients.
pub(super) struct Network {
    id: String,
    /// Keeps it until its input ends.
    keeper: Child,
}

impl Network {
    /// Namespaces for so many nodes; the clients reach the last one.
    pub(super) fn new(nodes: usize) -> Result<Self, Refused> {
        let failed = |error: std::io::Error| Refused::Failed(format!("scripts/netns.sh: {error}"));
        let id = format!("rafka-{}", std::process::id());
        let mut command = Command::new(crate::root().join("scripts/netns.sh"));
        command.args([&id, &nodes.to_string(), &nodes.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().map_err(failed)?;
        let mut output = BufReader::new(keeper.stdout.take().expect("it is piped"));
        let mut said = String::new();
        output.read_line(&mut said).map_err(failed)?;
        if said.trim_end() == "ready" {
            return Ok(Self { id, keeper });
        }
        output.read_to_string(&mut said).map_err(failed)?;
        let status = keeper.wait().map_err(failed)?;
        match status.code() {
            Some(NOT_ALLOWED) => Err(Refused::NotAllowed(said.trim_end().to_owned())),
            _ => Err(Refused::Failed(format!("scripts/netns.sh: {status}: {said}"))),
        }
    }

    /// Address of a node for the others.
    pub(super) fn address(index: usize) -> String {
        format!("10.77.0.{}", index + 1)
    }

    /// What is put before a program that runs beside a node.
    pub(super) fn of_node(&self, index: usize) -> Vec<String> {
        self.of(&(index + 1).to_string())
    }

    /// What is put before a program that runs beside the clients.
    pub(super) fn of_clients(&self) -> Vec<String> {
        self.of("client")
    }

    fn of(&self, name: &str) -> Vec<String> {
        ["ip", "netns", "exec", &format!("{}-{name}", self.id)].map(str::to_owned).to_vec()
    }

    /// True if a connection to `address` (host:port) comes about behind `prefix`.
    pub(super) fn reaches(prefix: &[String], address: &str) -> Result<bool, String> {
        let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address} has no port"))?;
        let mut command = behind(prefix, "timeout");
        command.args([CONNECTED_WITHIN, "bash", "-c", "exec 3<>/dev/tcp/$0/$1", host, port]);
        let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
        status.map(|status| status.success()).map_err(|error| format!("{command:?}: {error}"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// `program`, with `prefix` before it if there is one.
pub(super) fn behind(prefix: &[String], program: impl AsRef<std::ffi::OsStr>) -> Command {
    match prefix.split_first() {
        None => Command::new(program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of namespaces that are this process's.
    fn left() -> Vec<String> {
        let listed = Command::new("ip").args(["netns", "list"]).output().expect("it runs");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mine = format!("rafka-{}-", std::process::id());
        listed.lines().filter(|line| line.starts_with(&mine)).map(str::to_owned).collect()
    }

    #[test]
    fn what_runs_in_a_network_ends_with_it() {
        let network = match Network::new(2) {
            Ok(network) => network,
            Err(Refused::NotAllowed(why)) => return eprintln!("SKIPPED: {why}"),
            Err(Refused::Failed(why)) => panic!("{why}"),
        };
        assert_eq!(left().len(), 4);
        assert_eq!(Network::reaches(&network.of_clients(), "10.78.0.1:9"), Ok(false));
        let mut process = behind(&network.of_clients(), "sleep").arg("600").spawn().expect("it starts");
        drop(network);
        assert!(!process.wait().expect("it has ended").success());
        assert_eq!(left(), Vec::<String>::new());
    }
}
