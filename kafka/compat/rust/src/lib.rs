//! The part that the Rust drivers share: one JSON request a line in, one JSON reply a line out (see `../README.md`).

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Longest time for one operation of a client.
pub const WAIT: Duration = Duration::from_secs(30);
/// [`until`] says that it is under way after so many records.
const PROGRESS: usize = 200;

/// A record as the runner writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    pub partition: i32,
    #[serde(default)]
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, Option<String>)>,
    pub timestamp: i64,
}

/// What the runner asks for; each operation reads its own fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Request {
    pub op: String,
    pub bootstrap: String,
    pub topic: String,
    pub topics: Vec<String>,
    pub partitions: Value,
    pub configs: BTreeMap<String, String>,
    pub name: String,
    pub value: String,
    pub count: usize,
    pub partition: i32,
    pub offset: Option<i64>,
    pub time: i64,
    pub codec: String,
    pub acks: String,
    pub idempotent: bool,
    pub records: Vec<Record>,
    pub file: String,
    pub wait_ms: u64,
    pub member: String,
    pub group: String,
    pub protocol: String,
    pub assignor: String,
    pub instance: Option<String>,
    pub pattern: bool,
    pub session_ms: u64,
    pub metadata: String,
}

impl Request {
    /// The partitions of a request that names several.
    pub fn list(&self) -> Vec<i32> {
        self.partitions.as_array().into_iter().flatten().filter_map(Value::as_i64).map(|number| number as i32).collect()
    }

    /// The number of partitions of a request that says one.
    pub fn number(&self) -> i32 {
        self.partitions.as_i64().unwrap_or(1) as i32
    }
}

/// Why there is no answer.
pub enum Failure {
    /// The client has no way to do it.
    Unsupported(String),
    /// It tried.
    Failed(String),
}

impl<E: Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

pub type Answer = Result<Value, Failure>;

/// The answer to an operation that the client lacks.
pub fn unsupported(request: &Request) -> Answer {
    Err(Failure::Unsupported(format!("the client has no {}", request.op.replace('_', " "))))
}

/// A client, at one bootstrap address.
pub trait Driver: Sized {
    /// Version of the client.
    fn version() -> String;

    /// What it cannot say: `timestamps`, `headers`.
    const CANNOT: &'static [&'static str] = &[];

    /// What it can do with groups.
    const GROUPS: &'static [&'static str] = &[];

    fn open(bootstrap: &str) -> impl Future<Output = Result<Self, Failure>>;

    fn answer(&self, request: &Request) -> impl Future<Output = Answer>;
}

/// Calls `send(n)` for n = 0, 1, ... until there is a file at `path`; returns how often.
pub async fn until(path: &str, mut send: impl AsyncFnMut(usize) -> Result<(), Failure>) -> Result<usize, Failure> {
    let mut sent = 0;
    while !Path::new(path).exists() {
        send(sent).await?;
        sent += 1;
        if sent == PROGRESS {
            say(&json!({ "progress": sent }));
        }
    }
    Ok(sent)
}

/// Answers requests until standard input ends.
pub async fn serve<D: Driver>() {
    let mut opened: HashMap<String, D> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let request: Request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(error) => {
                say(&json!({ "ok": false, "detail": error.to_string() }));
                continue;
            }
        };
        if request.op == "hello" {
            say(&json!({ "ok": true, "version": D::version(), "cannot": D::CANNOT, "groups": D::GROUPS }));
            continue;
        }
        say(&match tokio::time::timeout(3 * WAIT, answer(&mut opened, &request)).await {
            Ok(Ok(Value::Object(fields))) => {
                Value::Object(Map::from_iter([("ok".to_owned(), json!(true))].into_iter().chain(fields)))
            }
            Ok(Ok(_)) => json!({ "ok": true }),
            Ok(Err(Failure::Unsupported(detail))) => json!({ "ok": null, "detail": detail }),
            Ok(Err(Failure::Failed(detail))) => json!({ "ok": false, "detail": detail }),
            Err(_) => json!({ "ok": false, "detail": "not done in time" }),
        });
    }
}

async fn answer<D: Driver>(opened: &mut HashMap<String, D>, request: &Request) -> Answer {
    if !opened.contains_key(&request.bootstrap) {
        let driver = tokio::time::timeout(WAIT, D::open(&request.bootstrap)).await??;
        opened.insert(request.bootstrap.clone(), driver);
    }
    opened[&request.bootstrap].answer(request).await
}

fn say(reply: &Value) {
    let mut out = std::io::stdout().lock();
    // Without a runner there is nobody to tell.
    let _ = writeln!(out, "{reply}").and_then(|()| out.flush());
}
