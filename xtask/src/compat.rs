//! Real Kafka clients against real nodes: installs the clients, starts nodes, has every client prove every case, and
//! compares with what `docs/kafka-compatibility.md` says. The drivers lie in `kafka/compat`.

mod cases;
mod clients;
mod cluster;
mod groups;
mod members;
mod network;
mod page;
mod records;
mod rolling;
mod session;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::{Args, ValueEnum};

use self::cases::Case;
use self::clients::{CLIENTS, Client};
use self::cluster::Cluster;
use self::network::{Network, Refused};
use self::page::{Cell, Known, Page, Setup};
use self::rolling::Part;
use self::session::{Session, Trouble};

/// The page of the results.
const PAGE: &str = "docs/kafka-compatibility.md";
/// A client's cases of groups are done by so many processes, case by case.
const LANES: usize = 4;
/// So many such processes work at once: they wait more than they work.
const BESIDE: usize = 12;

/// Whose brokers the clients talk to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Against {
    /// The nodes of this repository.
    Rafka,
    /// Apache Kafka: a case that fails there is wrong itself.
    Kafka,
}

/// What to run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Only these clients.
    #[arg(long, value_delimiter = ',')]
    clients: Vec<String>,
    /// Numbers of nodes, one after the other [default: 1,3; with --namespaces 5].
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=100))]
    nodes: Vec<u8>,
    /// Only these cases.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Let the clients know one node only, by its gateway listener.
    #[arg(long)]
    gateway: bool,
    /// Put each node in a network namespace of its own, and the clients where they reach that one listener only.
    #[arg(long, requires = "gateway")]
    namespaces: bool,
    /// Write the page of the results, instead of comparing with it.
    #[arg(long)]
    write: bool,
    /// Install the clients, run nothing.
    #[arg(long)]
    install: bool,
    /// Whose brokers.
    #[arg(long, value_enum, default_value = "rafka")]
    against: Against,
}

impl Options {
    fn known(&self) -> Known {
        match (self.gateway, self.namespaces) {
            (false, _) => Known::Directly,
            (true, false) => Known::ByGateway,
            (true, true) => Known::CutOff,
        }
    }

    fn nodes(&self) -> &[u8] {
        match (self.nodes.as_slice(), self.namespaces) {
            ([], false) => &[1, 3],
            ([], true) => &[5],
            (chosen, _) => chosen,
        }
    }
}

/// Runs the clients, and prints what came of it.
///
/// # Errors
/// In words: what cannot be installed or started, and which case has passed before and does not any more.
pub fn run(options: &Options) -> Result<(), String> {
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    known("client", &options.clients, &names)?;
    known("case", &options.cases, &all_cases().map(|(name, _)| name).collect::<Vec<_>>())?;
    if options.gateway && options.against == Against::Kafka {
        return Err("gateways are Rafka's".to_owned());
    }
    let work = crate::root().join("target/compat");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    forget_old_runs(&work);
    let chosen = CLIENTS.iter().filter(|client| wanted(&options.clients, client.name));
    let ready = install(chosen, &work)?;
    if options.install {
        return Ok(());
    }
    let path = crate::root().join(PAGE);
    let before = Page::parse(&fs::read_to_string(&path).unwrap_or_default());
    let mut page = Page::default();
    for nodes in options.nodes() {
        with_nodes(options, usize::from(*nodes), &ready, &work, &mut page)?;
    }
    println!("{}", page.summary());
    if options.against == Against::Kafka {
        return Ok(());
    }
    let lost = page.lost_since(&before);
    if options.write {
        let mut written = before;
        written.take(page);
        return fs::write(&path, written.text()).map_err(|error| format!("{PAGE}: {error}"));
    }
    match lost.is_empty() {
        true => Ok(()),
        false => Err(format!("passed before, and fails now:\n{}", lost.join("\n"))),
    }
}

/// The clients that this machine can run. Without CI a missing runtime is only said, loudly.
fn install<'a>(chosen: impl Iterator<Item = &'a Client>, work: &Path) -> Result<Vec<&'a Client>, String> {
    let mut ready = Vec::new();
    for client in chosen {
        match clients::install(client, work) {
            Ok(()) => ready.push(client),
            Err(error) => skip(&format!("{}: {error}", client.name))?,
        }
    }
    match ready.is_empty() {
        true => Err("no client is left".to_owned()),
        false => Ok(ready),
    }
}

/// Says loudly what is left out; in CI it is an error.
fn skip(what: &str) -> Result<(), String> {
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        return Err(what.to_owned());
    }
    eprintln!("\n*** SKIPPED: {what} ***\n");
    Ok(())
}

fn with_nodes(options: &Options, nodes: usize, ready: &[&Client], work: &Path, page: &mut Page) -> Result<(), String> {
    let (folder, setup) =
        (work.join(format!("run-{}-{nodes}", std::process::id())), Setup::new(nodes, options.known()));
    let network = match options.namespaces.then(|| Network::new(nodes)).transpose() {
        Ok(network) => network,
        Err(Refused::NotAllowed(why)) => return skip(&format!("{setup}: {why}")),
        Err(Refused::Failed(why)) => return Err(why),
    };
    let cluster = match options.against {
        Against::Rafka => Cluster::rafka(nodes, options.known(), network, &folder, &binaries()?)?,
        Against::Kafka => Cluster::kafka(nodes, &folder, &work.join("java/jars"))?,
    };
    let mut parts = Vec::new();
    for &client in ready {
        let began = Instant::now();
        println!("\n{} against {} at {}", client.name, setup, cluster.bootstrap());
        let mut session = Session::new(client, work, &cluster);
        match session.hello() {
            Ok(version) => page.set_version(client.name, &version),
            Err(trouble) => println!("  driver: {trouble}"),
        }
        for case in cases::CASES.iter().filter(|case| wanted(&options.cases, case.name)) {
            let at = Instant::now();
            let result = (case.run)(&mut session);
            tell(page, setup, case.name, client.name, at, &result);
        }
        println!("  {:.1} s", began.elapsed().as_secs_f64());
        cluster.revive()?;
        parts.push(Part::new(client.name, session.aside()));
    }
    let began = Instant::now();
    println!("\ngroups of all clients");
    side_by_side(options, &parts, |client, case, at, result| tell(page, setup, case.name, client, at, &result));
    println!("  {:.1} s", began.elapsed().as_secs_f64());
    cluster.revive()?;
    if wanted(&options.cases, rolling::NAME) {
        let at = Instant::now();
        println!("\n{} of all of them", rolling::NAME);
        rolling::run(&mut parts, &cluster)?;
        for part in &parts {
            tell(page, setup, rolling::NAME, part.client, at, &part.outcome);
        }
    }
    drop(parts);
    drop(cluster);
    match page.failed(setup) {
        // What the nodes have logged may tell why.
        true => println!("the nodes' folders: {}", folder.display()),
        false => fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?,
    }
    Ok(())
}

/// Runs the cases of groups of all clients, several at a time.
fn side_by_side(
    options: &Options,
    parts: &[Part<'_>],
    mut tell: impl FnMut(&'static str, &'static Case, Instant, Result<(), Trouble>) + Send,
) {
    let mut left = VecDeque::new();
    for part in parts {
        let chosen: Vec<_> = groups::CASES.iter().filter(|case| wanted(&options.cases, case.name)).collect();
        for lane in 0..LANES {
            let cases: Vec<_> = chosen.iter().copied().skip(lane).step_by(LANES).collect();
            left.push_back((part.client, cases, part.session.aside()));
        }
    }
    let (left, tell) = (Mutex::new(left), Mutex::new(&mut tell));
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..BESIDE {
            let (next, tell) = (&next, &tell);
            scope.spawn(move || {
                while let Some((client, cases, mut session)) = next() {
                    for case in cases {
                        let at = Instant::now();
                        let result = (case.run)(&mut session);
                        tell.lock().unwrap_or_else(PoisonError::into_inner)(client, case, at, result);
                    }
                }
            });
        }
    });
}

fn tell(page: &mut Page, setup: Setup, case: &str, client: &str, at: Instant, result: &Result<(), Trouble>) {
    let (mark, said) = match result {
        Ok(()) => ("ok", String::new()),
        Err(Trouble::Cannot(why)) => ("--", why.clone()),
        Err(Trouble::Failed(why)) => ("FAILED", why.chars().take(600).collect()),
    };
    println!("  {mark:6} {case:20} {:6} ms  {client}  {said}", at.elapsed().as_millis());
    page.set(setup, case, client, Cell::of(result));
}

/// Name of each case, and what it proves, in the order of the page.
fn all_cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    let listed = cases::CASES.iter().chain(groups::CASES).map(|case| (case.name, case.proves));
    listed.chain([(rolling::NAME, rolling::PROVES)])
}

/// Folders of runs that have failed are kept for a look, until the next run.
fn forget_old_runs(work: &Path) {
    for entry in fs::read_dir(work).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("run-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // What cannot be deleted is only in the way of the next look.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Where `rafka` and `rafka-node` lie: `$RAFKA_BIN_DIR`, else the release build.
fn binaries() -> Result<PathBuf, String> {
    let folder = std::env::var_os("RAFKA_BIN_DIR").map_or_else(|| crate::root().join("target/release"), PathBuf::from);
    match folder.join("rafka").is_file() && folder.join("rafka-node").is_file() {
        true => Ok(folder),
        false => Err(format!("no rafka and rafka-node in {}: build them, or set RAFKA_BIN_DIR", folder.display())),
    }
}

fn wanted(chosen: &[String], name: &str) -> bool {
    chosen.is_empty() || chosen.iter().any(|one| one == name)
}

fn known(what: &str, chosen: &[String], all: &[&str]) -> Result<(), String> {
    match chosen.iter().find(|one| !all.contains(&one.as_str())) {
        Some(unknown) => Err(format!("no {what} {unknown:?}; there are: {}", all.join(", "))),
        None => Ok(()),
    }
}
