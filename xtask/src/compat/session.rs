//! One client at work: requests to its driver, with an end to every wait.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::clients::{self, Client};
use super::cluster::Cluster;

/// A driver ends its operations after 30 seconds; some take several.
const ANSWER_WITHIN: Duration = Duration::from_secs(100);
/// What is changed in one place is seen everywhere within this time.
pub(super) const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Why a case has not passed.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The client has no such thing.
    Cannot(String),
    /// It has, and it did not do what it should.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cannot(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

/// `Err(Failed)` unless `right`.
pub(super) fn check(right: bool, otherwise: impl FnOnce() -> String) -> Result<(), Trouble> {
    if right { Ok(()) } else { Err(Trouble::Failed(otherwise())) }
}

/// A client and the brokers it works with.
pub(super) struct Session<'a> {
    client: &'a Client,
    work: &'a Path,
    /// The brokers.
    pub(super) cluster: &'a Cluster,
    driver: Option<Driver>,
    cannot: Vec<String>,
    groups: Vec<String>,
    topics: usize,
}

struct Driver {
    process: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl<'a> Session<'a> {
    /// The driver is started by the first request.
    pub(super) fn new(client: &'a Client, work: &'a Path, cluster: &'a Cluster) -> Self {
        Self { client, work, cluster, driver: None, cannot: Vec::new(), groups: Vec::new(), topics: 0 }
    }

    /// The same client as another process.
    pub(super) fn aside(&self) -> Self {
        let (cannot, groups) = (self.cannot.clone(), self.groups.clone());
        Self { cannot, groups, ..Self::new(self.client, self.work, self.cluster) }
    }

    /// Starts the driver; returns the client's version.
    pub(super) fn hello(&mut self) -> Result<String, Trouble> {
        let answer = self.ask("hello", json!({}))?;
        let words = |of: &str| {
            let words = answer[of].as_array().into_iter().flatten();
            words.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        (self.cannot, self.groups) = (words("cannot"), words("groups"));
        Ok(answer["version"].as_str().unwrap_or("unknown").to_owned())
    }

    /// False if the client cannot say `what` when it sends.
    pub(super) fn says(&self, what: &str) -> bool {
        !self.cannot.iter().any(|one| one == what)
    }

    /// `Err(Cannot)` if the client cannot do `what` with groups.
    pub(super) fn can(&self, what: &str) -> Result<(), Trouble> {
        match self.groups.iter().any(|one| one == what) {
            true => Ok(()),
            false => Err(Trouble::Cannot(format!("the client has no {what} for groups"))),
        }
    }

    /// A name that no other case has.
    pub(super) fn new_topic(&mut self, case: &str) -> String {
        self.topics += 1;
        format!("{}-{case}-{}", self.client.name, self.topics)
    }

    /// Has the client do `op`, at all nodes.
    pub(super) fn ask(&mut self, op: &str, fields: Value) -> Result<Value, Trouble> {
        let bootstrap = self.cluster.bootstrap();
        self.ask_at(&bootstrap, op, fields)
    }

    /// Has the client do `op`, knowing only `bootstrap`.
    pub(super) fn ask_at(&mut self, bootstrap: &str, op: &str, fields: Value) -> Result<Value, Trouble> {
        self.begin(bootstrap, op, fields)?;
        self.answer()
    }

    /// Sends a request; [`Self::answer`] waits for what comes.
    pub(super) fn begin(&mut self, bootstrap: &str, op: &str, mut fields: Value) -> Result<(), Trouble> {
        fields["op"] = json!(op);
        fields["bootstrap"] = json!(bootstrap);
        if self.driver.is_none() {
            self.driver = Some(self.start().map_err(|error| Trouble::Failed(format!("driver: {error}")))?);
        }
        let driver = self.driver.as_mut().expect("it was started");
        let sent = writeln!(driver.input, "{fields}").and_then(|()| driver.input.flush());
        if sent.is_err() {
            self.driver = None;
            return Err(Trouble::Failed("the driver has ended".to_owned()));
        }
        Ok(())
    }

    /// The next line of the driver. One that says nothing in time is ended; the next request has a new one.
    pub(super) fn answer(&mut self) -> Result<Value, Trouble> {
        let failed = |why: String| Err(Trouble::Failed(why));
        let Some(driver) = &self.driver else { return failed("no driver".to_owned()) };
        let Ok(line) = driver.lines.recv_timeout(ANSWER_WITHIN) else {
            self.driver = None;
            return failed("the driver does not answer".to_owned());
        };
        let Ok(answer) = serde_json::from_str::<Value>(&line) else {
            return failed(format!("the driver says {line}"));
        };
        let detail = || answer["detail"].as_str().unwrap_or("no reason given").to_owned();
        match answer.get("ok") {
            Some(Value::Bool(false)) => failed(detail()),
            Some(Value::Null) => Err(Trouble::Cannot(detail())),
            _ => Ok(answer),
        }
    }

    fn start(&self) -> std::io::Result<Driver> {
        let mut process = clients::driver(self.client, self.work, &self.cluster.clients_prefix()).spawn()?;
        let input = process.stdin.take().expect("it is piped");
        let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Ok(Driver { process, input, lines })
    }

    /// Makes a topic: by the client if it can, else from the side.
    pub(super) fn create(&mut self, topic: &str, partitions: u32, configs: Value) -> Result<(), Trouble> {
        let fields = json!({ "topic": topic, "partitions": partitions, "configs": configs });
        match self.ask("create", fields) {
            Err(Trouble::Cannot(_)) => {
                let count = partitions.to_string();
                let mut words = vec!["topic".to_owned(), "create".to_owned(), topic.to_owned(), "-p".to_owned(), count];
                for (name, value) in configs.as_object().into_iter().flatten() {
                    words.extend(["-c".to_owned(), format!("{name}={}", value.as_str().unwrap_or_default())]);
                }
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.rafka(&words, "").map(|_| ())
            }
            result => result.map(|_| ()),
        }
    }

    /// Runs `rafka`.
    pub(super) fn rafka(&self, words: &[&str], input: &str) -> Result<String, Trouble> {
        match self.cluster.rafka_cli(words, input) {
            None => Err(Trouble::Cannot("only with Rafka".to_owned())),
            Some(result) => result.map_err(Trouble::Failed),
        }
    }

    /// Reads records by the client; by `rafka subscribe` if it reads in groups only.
    pub(super) fn read(
        &mut self,
        topic: &str,
        partitions: &[u32],
        offset: Option<i64>,
        count: usize,
    ) -> Result<Vec<Value>, Trouble> {
        let wait = SEEN_WITHIN.as_millis();
        let fields =
            json!({ "topic": topic, "partitions": partitions, "offset": offset, "count": count, "wait_ms": wait });
        match self.ask("read", fields) {
            Err(Trouble::Cannot(_)) if offset.is_none() => self.read_by_rafka(topic),
            result => Ok(result?["records"].as_array().cloned().unwrap_or_default()),
        }
    }

    /// All records of a topic, by `rafka subscribe`.
    pub(super) fn read_by_rafka(&self, topic: &str) -> Result<Vec<Value>, Trouble> {
        let said = self.rafka(&["subscribe", topic, "--from-beginning", "--exit-at-end", "-o", "json"], "")?;
        let parsed = said.lines().map(|line| {
            let mut record: Value = serde_json::from_str(line).map_err(|error| Trouble::Failed(error.to_string()))?;
            let headers = record["headers"].as_array().cloned().unwrap_or_default();
            record["headers"] = headers.iter().map(|header| json!([header["key"], header["value"]])).collect();
            Ok(record)
        });
        parsed.collect()
    }

    /// Asks again until the answer is `right`.
    pub(super) fn eventually(
        &mut self,
        op: &str,
        fields: &Value,
        right: impl Fn(&Value) -> bool,
    ) -> Result<(), Trouble> {
        let until = Instant::now() + SEEN_WITHIN;
        loop {
            let answer = self.ask(op, fields.clone());
            match &answer {
                Ok(answer) if right(answer) => return Ok(()),
                Err(Trouble::Cannot(why)) => return Err(Trouble::Cannot(why.clone())),
                _ if Instant::now() > until => {
                    let said: String = answer.map_or_else(|trouble| trouble.to_string(), |value| value.to_string());
                    return Err(Trouble::Failed(format!("{op} says {}", said.chars().take(300).collect::<String>())));
                }
                _ => std::thread::sleep(LOOK_EVERY),
            }
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
