//! A process that is a node: configuration, logging, signals, exit codes.

use std::future::Future;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::args::{NodeArgs, version};
use crate::config::{self, Loaded};
use crate::logging::{self, LevelHandle};
use crate::server::{Ready, Server, ServerError};

/// Exit code for a configuration that cannot be used (`EX_CONFIG`).
const BAD_CONFIG: u8 = 78;
/// A node that is not in service by then says so, and goes on trying.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Runs a node until a signal ends it: the whole of `rafka-node` and of `rafka node start`.
#[must_use]
pub fn main_with(args: &NodeArgs) -> ExitCode {
    main_until(args, std::future::pending())
}

/// As [`main_with`]; ends also when `stop` does.
#[must_use]
pub fn main_until(args: &NodeArgs, stop: impl Future<Output = ()>) -> ExitCode {
    let began = Instant::now();
    let loaded = config::load(&args.sources()).and_then(|loaded| {
        config::check_doors(&loaded.config)?;
        Ok(loaded)
    });
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let level = match logging::init(&loaded.config.node.log_level, loaded.config.node.log_format) {
        Ok(level) => level,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    raise_open_files();
    crate::memory::keep_freed();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("rafka").build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(loaded, level, began, stop));
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn run(loaded: Loaded, level: LevelHandle, began: Instant, stop: impl Future<Output = ()>) -> ExitCode {
    let Loaded { config, file, .. } = loaded;
    info!(
        version = version(),
        config = file.as_ref().map_or_else(|| "none".to_owned(), |f| f.display().to_string()),
        "rafka-node"
    );
    let mut ended = std::pin::pin!(ended(stop));
    // Joining waits for peers that may never come, so a signal must be heard meanwhile.
    let server = tokio::select! {
        started = Server::start(config, Some(level), began) => match started {
            Ok(server) => server,
            Err(error) => return failed(&error),
        },
        () = &mut ended => return ExitCode::SUCCESS,
    };
    let outcome = tokio::select! {
        outcome = serve(&server) => outcome,
        () = &mut ended => Ok(()),
    };
    match outcome {
        Ok(()) => {
            server.shutdown().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            let code = failed(&error);
            server.shutdown().await;
            code
        }
    }
}

/// Reports when the node is ready; ends only when the cluster refuses it.
async fn serve(server: &Server) -> Result<(), ServerError> {
    let ready = wait_ready(server).await?;
    info!(
        node = ready.node_id, peer = ready.peer_id, cluster = ready.cluster_id, mesh = ?ready.mesh,
        kafka = ?ready.kafka, ops = ready.ops, ready_ms = ready.ready_ms, "ready"
    );
    server.write_ready_file(&ready)?;
    Err(ServerError::Refused(server.refused().await))
}

async fn wait_ready(server: &Server) -> Result<Ready, ServerError> {
    let mut waited = Duration::ZERO;
    loop {
        match tokio::time::timeout(REPORT_EVERY, server.ready()).await {
            Ok(ready) => return ready,
            Err(_) => {
                waited += REPORT_EVERY;
                warn!(waited_s = waited.as_secs(), "not in service yet: the controller has not been heard");
            }
        }
    }
}

/// Three parts: what, why, and what to do next where that is known.
fn failed(problem: &ServerError) -> ExitCode {
    error!(error = %problem, "the node ends");
    eprintln!("error: {problem}");
    if let Some(hint) = problem.hint() {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}

/// Ends with the first of: SIGINT, SIGTERM, `stop`.
async fn ended(stop: impl Future<Output = ()>) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return stop.await;
    };
    tokio::select! {
        _ = interrupt.recv() => info!("SIGINT"),
        _ = terminate.recv() => info!("SIGTERM"),
        () = stop => {}
    }
}

impl ServerError {
    /// What the user can do about it.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Mesh(crate::mesh::StartError::Listen { .. }) => {
                Some("another program may use this port; choose another with --listen, or any free one with port 0")
            }
            Self::Refused(failure) if failure.code == rafka_broker::ErrorCode::DuplicateBrokerRegistration => Some(
                "stop the other process; a copied data directory must not run twice: delete the copy and start with an empty one",
            ),
            Self::Refused(_) => Some("check --join-token-file and --cluster-id against a node that is in the cluster"),
            _ => None,
        }
    }
}

/// Allows as many open files as the system lets us have: each active log holds one.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the limit of open files");
    }
}
