//! The clients, how they are installed, and how their drivers are started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::network::behind;

/// A client of Kafka.
pub(super) struct Client {
    /// As on the command line and on the page.
    pub(super) name: &'static str,
    /// Language or kind.
    pub(super) kind: &'static str,
    /// What its driver runs on.
    runtime: &'static Runtime,
    /// Program of the driver; `{work}` and `{source}` stand for the caches and for `kafka/compat`.
    driver: &'static [&'static str],
}

/// Something that several clients share: what must be there already, and what is installed once.
struct Runtime {
    name: &'static str,
    /// Programs without which it cannot be.
    programs: &'static [&'static str],
    /// Debian packages, installed by root where they are missing.
    packages: &'static [&'static str],
    /// Files (in `kafka/compat`) that it is made of: when they change, it is installed again.
    sources: &'static [&'static str],
    /// Commands, run in a folder of its own in which `sources` lie.
    commands: &'static [&'static [&'static str]],
}

const PYTHON: Runtime = Runtime {
    name: "python",
    programs: &["python3"],
    packages: &[],
    sources: &["python/requirements.txt"],
    commands: &[
        &["python3", "-m", "venv", "{work}/python/venv"],
        &["{work}/python/venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"],
    ],
};
const KCAT: Runtime = Runtime { name: "kcat", packages: &["kcat"], ..PYTHON };
const KAFKAJS: Runtime = Runtime {
    name: "javascript/kafkajs",
    programs: &["node", "npm"],
    packages: &[],
    sources: &["javascript/kafkajs/package.json", "javascript/kafkajs/package-lock.json"],
    commands: &[&["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]],
};
const CONFLUENT_JAVASCRIPT: Runtime = Runtime {
    name: "javascript/confluent",
    programs: &["node", "npm", "make", "c++"],
    packages: &["libssl-dev", "libzstd-dev", "zlib1g-dev"],
    sources: &["javascript/confluent/package.json", "javascript/confluent/package-lock.json"],
    // Built against the system's libraries: what it would fetch by itself comes from beyond the registry.
    commands: &[&[
        "env",
        "CKJS_LINKING=dynamic",
        "npm_config_build_from_source=true",
        "npm",
        "ci",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]],
};
const JAVA: Runtime = Runtime {
    name: "java",
    programs: &["java", "javac", "mvn"],
    packages: &[],
    sources: &[
        "java/pom.xml",
        "java/Compat.java",
        "java/Clients.java",
        "java/Members.java",
        "java/Tools.java",
        "java/GroupTools.java",
    ],
    commands: &[
        &["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory={work}/java/jars"],
        &[
            "javac",
            "-cp",
            "{work}/java/jars/*",
            "-d",
            "{work}/java",
            "Compat.java",
            "Clients.java",
            "Members.java",
            "Tools.java",
            "GroupTools.java",
        ],
    ],
};
const GO: Runtime = Runtime {
    name: "go",
    programs: &["go"],
    packages: &[],
    sources: &[
        "go/go.mod",
        "go/go.sum",
        "go/compat/compat.go",
        "go/compat/seen.go",
        "go/franz/main.go",
        "go/franz/groups.go",
        "go/sarama/main.go",
        "go/sarama/groups.go",
    ],
    commands: &[&["go", "build", "-C", "{source}/go", "-o", "{work}/go/", "./franz", "./sarama"]],
};
const RUST: Runtime = Runtime {
    name: "rust",
    programs: &["cargo", "cc", "make"],
    packages: &[],
    sources: &[
        "rust/Cargo.toml",
        "rust/Cargo.lock",
        "rust/src/lib.rs",
        "rust/src/bin/rdkafka/main.rs",
        "rust/src/bin/rdkafka/groups.rs",
        "rust/src/bin/rskafka.rs",
    ],
    commands: &[&[
        "env",
        "CARGO_TARGET_DIR={work}/rust/target",
        "CARGO_PROFILE_DEV_DEBUG=0",
        "cargo",
        "build",
        "--quiet",
        "--locked",
        "--manifest-path",
        "{source}/rust/Cargo.toml",
    ]],
};

macro_rules! java {
    ($class:literal) => {
        &["java", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", "{work}/java/jars/*:{work}/java", $class]
    };
}
macro_rules! python {
    ($file:literal) => {
        &["{work}/python/venv/bin/python", concat!("{source}/python/", $file)]
    };
}

/// All of them, in the order of the page.
pub(super) const CLIENTS: &[Client] = &[
    Client { name: "confluent-kafka", kind: "Python", runtime: &PYTHON, driver: python!("confluent.py") },
    Client { name: "kafka-python", kind: "Python", runtime: &PYTHON, driver: python!("kafka_python.py") },
    Client { name: "aiokafka", kind: "Python", runtime: &PYTHON, driver: python!("aio.py") },
    Client { name: "kcat", kind: "command line", runtime: &KCAT, driver: python!("kcat.py") },
    Client {
        name: "kafkajs",
        kind: "JavaScript",
        runtime: &KAFKAJS,
        driver: &["node", "{work}/javascript/kafkajs/driver.js"],
    },
    Client {
        name: "kafka-javascript",
        kind: "JavaScript",
        runtime: &CONFLUENT_JAVASCRIPT,
        driver: &["node", "{work}/javascript/confluent/driver.js"],
    },
    Client { name: "java", kind: "Java", runtime: &JAVA, driver: java!("Clients") },
    Client { name: "apache-tools", kind: "command line", runtime: &JAVA, driver: java!("Tools") },
    Client { name: "franz-go", kind: "Go", runtime: &GO, driver: &["{work}/go/franz"] },
    Client { name: "sarama", kind: "Go", runtime: &GO, driver: &["{work}/go/sarama"] },
    Client { name: "rust-rdkafka", kind: "Rust", runtime: &RUST, driver: &["{work}/rust/target/debug/rdkafka"] },
    Client { name: "rskafka", kind: "Rust", runtime: &RUST, driver: &["{work}/rust/target/debug/rskafka"] },
];

/// Files that JavaScript drivers are made of: beside their packages, where Node looks for those.
const JAVASCRIPT: &[&str] = &["javascript/compat.js", "javascript/kafkajs/driver.js", "javascript/confluent/driver.js"];

/// Installs what `client` needs, unless it is there.
///
/// # Errors
/// In words: what is missing, or what went wrong.
pub(super) fn install(client: &Client, work: &Path) -> Result<(), String> {
    for file in JAVASCRIPT {
        let text = fs::read_to_string(source().join(file)).map_err(|error| format!("{file}: {error}"))?;
        place(&work.join(file), text.as_bytes())?;
    }
    let runtime = client.runtime;
    // Two runtimes may share a folder, and then differ in their packages only.
    let folder = work.join(if runtime.sources == PYTHON.sources { PYTHON.name } else { runtime.name });
    let mut hash = blake3::Hasher::new();
    for file in runtime.sources {
        let text = fs::read(source().join(file)).map_err(|error| format!("{file}: {error}"))?;
        let name = Path::new(file).file_name().expect("sources are files");
        place(&folder.join(name), &text)?;
        hash.update(&text);
    }
    if let Some(missing) = runtime.programs.iter().find(|program| !there_is(program)) {
        return Err(format!("{missing} is not installed"));
    }
    packages(runtime)?;
    let (stamp, wanted) = (folder.join("installed"), hash.finalize().to_hex().to_string());
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    println!("installing {} ...", runtime.name);
    for words in runtime.commands {
        call(
            Command::new(fill(words[0], work))
                .args(words[1..].iter().map(|word| fill(word, work)))
                .current_dir(&folder),
        )?;
    }
    place(&stamp, wanted.as_bytes())
}

/// The driver of `client`, ready to be started behind `prefix`.
pub(super) fn driver(client: &Client, work: &Path, prefix: &[String]) -> Command {
    let mut command = behind(prefix, fill(client.driver[0], work));
    command.args(client.driver[1..].iter().map(|word| fill(word, work)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn packages(runtime: &Runtime) -> Result<(), String> {
    let installed = |package: &&&str| {
        let status = Command::new("dpkg").args(["-s", package]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let missing: Vec<&str> = runtime.packages.iter().filter(|package| !installed(package)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {} ...", missing.join(" "));
    let _ = call(Command::new("apt-get").args(["update", "-qq"]));
    call(Command::new("apt-get").args(["install", "-y", "-qq"]).args(&missing))
}

fn call(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{shown}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            let tail: Vec<&str> = said.lines().rev().take(12).collect();
            Err(format!("{shown}: {}\n{}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join("\n")))
        }
    }
}

fn there_is(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

fn source() -> PathBuf {
    crate::root().join("kafka/compat")
}

fn fill(word: &str, work: &Path) -> String {
    word.replace("{work}", &work.display().to_string()).replace("{source}", &source().display().to_string())
}

fn place(path: &Path, content: &[u8]) -> Result<(), String> {
    let folder = path.parent().expect("files lie in folders");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, content))
        .map_err(|error| format!("{}: {error}", path.display()))
}
