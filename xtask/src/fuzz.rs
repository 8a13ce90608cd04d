//! Builds and runs the fuzz targets as `cargo fuzz --sanitizer none` does, on the stable toolchain, without installing it.
//! `cargo fuzz run TARGET` works too.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

/// Flags that make the compiler count edges and watch comparisons (cargo-fuzz's, without a sanitizer).
const RUSTFLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 --cfg fuzzing";
/// Resident memory of a target, MiB: more is a finding.
const RSS_MIB_MAX: u32 = 2048;
/// One input may take this long, seconds: more is a finding.
const INPUT_SECONDS_MAX: u32 = 20;

/// What to fuzz, and for how long.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Seconds for each target.
    #[arg(long, default_value_t = 30)]
    pub seconds: u32,
    /// Build only.
    #[arg(long)]
    pub build: bool,
    /// Targets; none means all.
    pub targets: Vec<String>,
}

/// Builds and runs.
///
/// # Errors
/// In words: what does not build, what was found and where the input lies.
pub fn run(options: &Options) -> Result<(), String> {
    let root = crate::root();
    let known = targets(&root)?;
    let wanted = match options.targets.is_empty() {
        true => known.clone(),
        false => options.targets.clone(),
    };
    if let Some(unknown) = wanted.iter().find(|target| !known.contains(target)) {
        return Err(format!("no fuzz target {unknown:?}; there are: {}", known.join(", ")));
    }
    let host = host()?;
    let started = Instant::now();
    build(&root, &host)?;
    eprintln!("fuzz: {} targets built in {:.0?}", known.len(), started.elapsed());
    if options.build {
        return Ok(());
    }
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failures = Vec::new();
    for group in wanted.chunks(jobs) {
        let running = group.iter().map(|target| start(&root, &host, target, options.seconds));
        for (target, child) in group.iter().zip(running.collect::<Vec<_>>()) {
            let output = child?.wait_with_output().map_err(|error| format!("{target}: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr);
            let summary = said.lines().rev().find(|line| line.starts_with("Done")).unwrap_or("stopped");
            println!("fuzz {target:16} {summary}");
            if !output.status.success() {
                failures.push(format!("{target}: {}\n{}", output.status, tail(&said)));
            }
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(format!("findings (inputs in fuzz/artifacts):\n{}", failures.join("\n"))),
    }
}

/// Names of the targets: the files in `fuzz/fuzz_targets`.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("fuzz/fuzz_targets");
    let broken = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(broken)? {
        let path = entry.map_err(broken)?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// The target triple of this machine. It is named to cargo, so that build scripts and macros are not instrumented.
fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say its host".to_owned())
}

fn build(root: &Path, host: &str) -> Result<(), String> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--bins", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", "fuzz/target"])
        .args(["--target", host])
        .env("RUSTFLAGS", RUSTFLAGS)
        // Of an outer cargo that runs this program, and of no use to the inner one.
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err("the fuzz targets do not build".to_owned()) }
}

fn start(root: &Path, host: &str, target: &str, seconds: u32) -> Result<std::process::Child, String> {
    let fuzz = root.join("fuzz");
    let (seeds, artifacts) = (fuzz.join("corpus").join(target), fuzz.join("artifacts").join(target));
    // New inputs go to the first folder named, so that the committed seeds stay few.
    let found = fuzz.join("target/corpus").join(target);
    for folder in [&seeds, &artifacts, &found] {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let longest = Duration::from_secs(INPUT_SECONDS_MAX.into()).as_secs();
    Command::new(fuzz.join("target").join(host).join("release").join(target))
        .args([&found, &seeds])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={RSS_MIB_MAX}"))
        .arg(format!("-timeout={longest}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-verbosity=1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{target}: {error}"))
}

fn tail(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
