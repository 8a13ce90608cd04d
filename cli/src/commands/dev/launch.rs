//! `rafka dev start`: the life of a supervisor, and of the process that leaves one behind.

use std::fs::OpenOptions;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::control::{self, Request, Server};
use super::directory::DevDir;
use super::fleet::{Plan, Supervisor};
use super::{StartArgs, ports, show};
use crate::context::{Context, Store};
use crate::errors::{CliError, Exit, Result};
use crate::interrupt::Interrupt;
use crate::output::{Out, note};

/// A supervisor in the background is asked this often whether its nodes are ready.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// The last answers are on their way for at most this long.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) async fn run(args: StartArgs, out: Out) -> Result {
    let began = Instant::now();
    let directory = DevDir::of_user(&args.cluster.name)?;
    directory.create()?;
    if args.detach { detach(&args, &directory, out).await } else { supervise(args, &directory, out, began).await }
}

fn already_running(directory: &DevDir) -> CliError {
    CliError::new(Exit::Conflict, format!("dev cluster {:?} is already running", directory.name()))
        .hint("`rafka dev status` shows it, `rafka dev stop` stops it, --name starts another one")
}

async fn supervise(args: StartArgs, directory: &DevDir, out: Out, began: Instant) -> Result {
    if args.detached {
        // A session of its own, so that the end of the terminal does not concern it.
        rustix::process::setsid().map_err(|error| CliError::failed("cannot leave the terminal").because(error))?;
    }
    let interrupt = Interrupt::install()?;
    let Some(_lock) = directory.lock()? else { return Err(already_running(directory)) };
    directory.clear_stale().await?;
    if directory.is_kept() && !args.keep {
        return Err(CliError::new(
            Exit::Conflict,
            format!("dev cluster {:?} has data that was to be kept", directory.name()),
        )
        .hint("use it with --keep, delete it with `rafka dev purge`, or start another cluster with --name"));
    }
    if args.keep {
        directory.set_kept()?;
    }
    let (ports, notes) = ports::choose(args.nodes, args.base_ports())?;
    notes.iter().for_each(|text| note(text));
    let plan = Plan { keep: args.keep, memory: args.memory, set: args.set.clone() };
    let supervisor = Supervisor::new(directory, plan, &ports, began);
    let server = Server::bind(directory)?;
    let tasks = TaskTracker::new();
    let result = {
        let life = live(&args, &supervisor, out);
        tokio::select! {
            result = life => result,
            () = supervisor.stop_asked() => Ok(()),
            () = interrupt.wait() => Err(CliError::silent(Exit::Interrupted)),
            () = server.serve(&supervisor, &tasks) => Ok(()),
        }
    };
    supervisor.stop_all().await;
    let cleaned = if args.keep { Ok(()) } else { directory.remove_data() };
    let _ = args.ready_file.as_ref().map(std::fs::remove_file);
    supervisor.set_stopped();
    tasks.close();
    let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    let _ = std::fs::remove_file(directory.root().join("control.sock"));
    result.and(cleaned)
}

/// Starts the nodes, says that they are ready, and then lets them live for ever.
async fn live(args: &StartArgs, supervisor: &Arc<Supervisor>, out: Out) -> Result {
    supervisor.start().await?;
    let fleet = supervisor.show();
    let _selected = Selected::new(&fleet)?;
    if let Some(path) = &args.ready_file {
        let part = path.with_extension("part");
        let write = std::fs::write(&part, crate::output::json_line(&fleet)).and_then(|()| std::fs::rename(&part, path));
        write.map_err(|error| CliError::file("write", path, &error))?;
    }
    match show::ready(&fleet, out) {
        // The cluster lives on when nobody reads what it says (`rafka dev | head -1`).
        Err(error) if error.code() != Exit::Ok as u8 => return Err(error),
        _ => {}
    }
    std::future::pending().await
}

/// The cluster's context is selected as long as this lives; then the one before is again.
struct Selected {
    store: Store,
    name: String,
    before: Option<String>,
}

impl Selected {
    fn new(fleet: &show::Fleet) -> Result<Self> {
        let store = Store::of_user()?;
        let name = fleet.name.clone();
        let context = Context { bootstrap: fleet.bootstrap(), ..Context::default() };
        let before = store.update(|contexts| {
            contexts.contexts.insert(name.clone(), context);
            Ok(contexts.current.replace(name.clone()))
        })?;
        Ok(Self { store, before: before.filter(|before| *before != name), name })
    }
}

impl Drop for Selected {
    fn drop(&mut self) {
        let Self { store, name, before } = self;
        // A context that cannot be put back is the smallest trouble of a user who has lost the file.
        let _ = store.update(|contexts| {
            let still_there = before.clone().filter(|before| contexts.contexts.contains_key(before));
            if contexts.current.as_ref() == Some(name) && still_there.is_some() {
                contexts.current = still_there;
            }
            Ok(())
        });
    }
}

/// Leaves a supervisor behind, and returns when its nodes are ready.
async fn detach(args: &StartArgs, directory: &DevDir, out: Out) -> Result {
    if directory.is_running() {
        return Err(already_running(directory));
    }
    let interrupt = Interrupt::install()?;
    let log_path = directory.supervisor_log();
    let log = OpenOptions::new().create(true).write(true).truncate(true).open(&log_path);
    let log = log.map_err(|error| CliError::file("write", &log_path, &error))?;
    let program =
        std::env::current_exe().map_err(|error| CliError::failed("cannot find this program").because(error))?;
    let mut command = tokio::process::Command::new(program);
    // What it says on standard output is said here instead; its errors come back as JSON.
    command.args(["dev", "start", "--detached", "-o", "json"]).args(arguments(args));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = command.spawn().map_err(|error| CliError::failed("cannot start the supervisor").because(error))?;
    loop {
        if let Ok(fleet) = control::ask(directory, &Request::Status).await
            && fleet.ready_ms.is_some()
            && Some(fleet.pid) == child.id()
        {
            std::fs::read_to_string(&log_path).unwrap_or_default().lines().for_each(note);
            return show::ready(&fleet, out);
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            ended = child.wait() => {
                drop(ended);
                return Err(last_words(&std::fs::read_to_string(&log_path).unwrap_or_default()));
            }
            () = interrupt.wait() => {
                let _ = control::ask(directory, &Request::Stop).await;
                return Err(CliError::silent(Exit::Interrupted));
            }
        }
    }
}

/// The error that a supervisor ended with.
fn last_words(log: &str) -> CliError {
    let said = log.lines().rev().find_map(|line| serde_json::from_str::<CliError>(line).ok());
    said.unwrap_or_else(|| CliError::failed("the supervisor ended").because(log.trim()))
}

/// The flags of `args` that matter to the supervisor.
fn arguments(args: &StartArgs) -> Vec<String> {
    let mut arguments = vec![
        format!("--nodes={}", args.nodes),
        format!("--name={}", args.cluster.name),
        format!("--base-port={}", args.base_port),
        format!("--kafka-base-port={}", args.kafka_base_port),
        format!("--ops-base-port={}", args.ops_base_port),
    ];
    arguments.extend(args.keep.then(|| "--keep".to_owned()));
    arguments.extend(args.memory.then(|| "--memory".to_owned()));
    arguments.extend(args.ready_file.iter().map(|path| format!("--ready-file={}", path.display())));
    arguments.extend(args.set.iter().map(|set| format!("--set={set}")));
    arguments
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn the_supervisor_gets_the_flags_that_were_given() {
        let line = "rafka dev start --nodes 3 --name x --memory --base-port 0 --ready-file /r --set a.b=c --detach";
        let parse = |words: &[String]| match crate::Cli::try_parse_from(words).expect("parses").command {
            crate::commands::Command::Dev(super::super::DevArgs {
                verb: Some(super::super::Verb::Start(args)),
                ..
            }) => args,
            other => panic!("{other:?}"),
        };
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let args = parse(&words);
        let again: Vec<String> =
            ["rafka", "dev", "start"].map(str::to_owned).into_iter().chain(arguments(&args)).collect();
        let expected = StartArgs { detach: false, ..args };
        assert_eq!(format!("{:?}", parse(&again)), format!("{expected:?}"));
    }

    #[test]
    fn errors_of_a_supervisor_come_back_whole() {
        let error = CliError::new(Exit::Conflict, "busy").because("why").hint("what");
        assert_eq!(last_words(&format!("Port 1 is busy\n{}", error.to_json())), error);
        assert_eq!(last_words("thread panicked").code(), 1);
    }
}
