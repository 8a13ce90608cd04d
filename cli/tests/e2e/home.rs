//! A user with a home of their own, and their dev cluster.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The program under test: the one that cargo built, or the one in `$RAFKA_BIN_DIR`.
pub(crate) fn program() -> PathBuf {
    match std::env::var_os("RAFKA_BIN_DIR") {
        Some(directory) => Path::new(&directory).join("rafka"),
        None => env!("CARGO_BIN_EXE_rafka").into(),
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Standard output of a command that must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// A command that must have failed so.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &str) -> Self {
        assert!(self.code == code && self.err.contains(words), "expected exit {code} and {words:?}: {self:?}");
        self
    }

    /// Each line of standard output as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

/// A home directory that is gone after the test.
pub(crate) struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into it.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RAFKA_")) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.path()).env("HOME", self.path()).stdin(Stdio::null());
        command.env("XDG_CONFIG_HOME", self.path().join("config")).env("XDG_STATE_HOME", self.path().join("state"));
        command
    }

    /// Runs a command; words are separated by single spaces.
    pub(crate) fn run(&self, line: &str) -> Done {
        self.run_words(&line.split(' ').collect::<Vec<_>>())
    }

    pub(crate) fn run_words(&self, words: &[&str]) -> Done {
        self.finish(self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts"))
    }

    /// Runs a command with this on its standard input.
    pub(crate) fn pipe(&self, input: impl AsRef<[u8]>, line: &str) -> Done {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = self.command(&words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.as_ref().to_vec();
        // A command that ends early closes its input.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let done = self.finish(child);
        writer.join().expect("wrote");
        done
    }

    fn finish(&self, child: Child) -> Done {
        let output = child.wait_with_output().expect("ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Starts a command that goes on; its output can be read line by line.
    pub(crate) fn start(&self, line: &str) -> Running {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = self.command(&words);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let err = BufReader::new(child.stderr.take().expect("piped"));
        Running { child, out, err }
    }
}

/// A command that goes on.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) out: BufReader<ChildStdout>,
    pub(crate) err: BufReader<ChildStderr>,
}

impl Running {
    /// The next line of standard output, without its end; empty when there is none.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("text");
        line.trim_end_matches('\n').to_owned()
    }

    /// Lines of standard error up to one that contains this; it is returned.
    #[track_caller]
    pub(crate) fn said(&mut self, words: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert!(self.err.read_line(&mut line).expect("text") > 0, "{words:?} was not said: {all}");
            if line.contains(words) {
                return line;
            }
            all.push_str(&line);
        }
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().expect("piped").write_all(text.as_bytes()).expect("written");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Waits for its end: exit code, and what was left of its output. Its standard input stays open.
    pub(crate) fn end(mut self) -> Done {
        let _stdin = self.child.stdin.take();
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("text");
        self.err.read_to_string(&mut err).expect("text");
        Done { code: self.child.wait().expect("ends").code().unwrap_or(-1), out, err }
    }
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("is there");
}

/// A dev cluster in the foreground of some terminal.
pub(crate) struct Dev {
    pub(crate) home: Home,
    pub(crate) supervisor: Option<Running>,
    /// Content of the ready file.
    pub(crate) ready: Value,
}

impl Dev {
    pub(crate) fn start(nodes: u32) -> Self {
        Self::start_in(Home::new(), &format!("--nodes {nodes}"))
    }

    pub(crate) fn start_in(home: Home, flags: &str) -> Self {
        let ready_file = home.path().join("ready.json");
        let line = format!("dev start --base-port 0 -o json --ready-file {} {flags}", ready_file.display());
        let mut supervisor = home.start(line.trim_end());
        // The first line of output comes when all nodes are ready, and the ready file before it.
        if supervisor.line().is_empty() {
            panic!("the cluster did not start: {:?}", supervisor.end());
        }
        let ready = std::fs::read_to_string(&ready_file).expect("written");
        Self { ready: serde_json::from_str(&ready).expect("JSON"), home, supervisor: Some(supervisor) }
    }

    pub(crate) fn run(&self, line: &str) -> Done {
        self.home.run(line)
    }

    pub(crate) fn pipe(&self, input: impl AsRef<[u8]>, line: &str) -> Done {
        self.home.pipe(input, line)
    }

    /// A cluster with a topic.
    pub(crate) fn with_topic(line: &str) -> Self {
        let dev = Self::start(1);
        dev.run(&format!("topic create {line}")).ok();
        dev
    }

    pub(crate) fn data_dir(&self, node: usize) -> PathBuf {
        self.ready["nodes"][node - 1]["data_dir"].as_str().expect("a path").into()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.signal(Signal::TERM);
            let _ = supervisor.child.wait();
        }
    }
}
