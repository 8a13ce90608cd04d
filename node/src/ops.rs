//! Ops HTTP: `/metrics`, `/livez`, `/readyz`, `/startupz`, `/status`, `/loglevel`.
//!
//! For probes, scrapers and operators on the same machine or network; there is no authentication, so beyond loopback
//! it must be opened aloud (see `config::check_doors`). Connections, bodies and times are bounded: a door that tells
//! how the node is must not be a way to bring it down.

mod health;
mod listener;
mod routes;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rafka_model::limits::OPS_IDLE_MS_MAX;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use health::{Health, Hold, Report};

use crate::config::{self, OpsListen};
use crate::logging::LevelHandle;
use crate::metrics::Metrics;

/// What the door shows.
#[derive(Clone)]
pub struct Shown {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For the probes.
    pub health: Health,
    /// For `/loglevel`; `None` when several nodes share a process, where no node owns the level.
    pub level: Option<LevelHandle>,
    /// For `/status`: one JSON object. Must not wait for anything long.
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
}

/// The running door.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; the port is the real one if any free one was asked for.
    pub address: SocketAddr,
    /// Ends after `shutdown`, once open requests are answered; the caller keeps the deadline.
    pub task: JoinHandle<()>,
}

/// The door could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("ops HTTP cannot listen on {address}: {error}{}", hint(error))]
pub struct BindError {
    /// The configured address.
    pub address: SocketAddr,
    /// What the operating system said.
    pub error: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "\n  hint: another program uses this port; choose another with --ops-listen, or any free one with port 0"
        }
        io::ErrorKind::AddrNotAvailable => "\n  hint: --ops-listen must name an address of this machine",
        _ => "",
    }
}

/// Opens the door, unless the configuration says `none`.
///
/// # Errors
/// [`BindError`]; nothing runs then.
pub async fn start(
    config: &config::Ops,
    shown: Shown,
    shutdown: CancellationToken,
) -> Result<Option<Running>, BindError> {
    let OpsListen::At(address) = config.listen else { return Ok(None) };
    let failed = |error| BindError { address, error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let listener = listener::Limited::new(listener, config.connections_max, Duration::from_millis(OPS_IDLE_MS_MAX));
    let server = axum::serve(listener, routes::router(shown)).with_graceful_shutdown(shutdown.cancelled_owned());
    let task = tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "ops HTTP ended");
        }
    });
    Ok(Some(Running { address, task }))
}
