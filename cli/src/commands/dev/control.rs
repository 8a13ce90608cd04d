//! The supervisor's socket: one JSON line in, one JSON line out.

use std::io;
use std::sync::Arc;

use rafka_model::limits::KIB;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::TaskTracker;

use super::directory::DevDir;
use super::fleet::Supervisor;
use super::show::Fleet;
use crate::errors::{CliError, Exit, Result};

/// A line of either side.
const LINE_BYTES_MAX: u64 = 256 * KIB as u64;

/// What a supervisor can be asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(super) enum Request {
    Status,
    Kill { node: u32 },
    Restart { node: u32 },
    Stop,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Ok(Fleet),
    Error(CliError),
}

/// Asks the supervisor of `directory`.
///
/// # Errors
/// There is none, or it refuses.
pub(super) async fn ask(directory: &DevDir, request: &Request) -> Result<Fleet> {
    let stream = match directory.with_socket(|path| std::os::unix::net::UnixStream::connect(path)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(not_running(directory));
        }
        Err(error) => return Err(lost(directory, &error)),
    };
    let reply = exchange(stream, request).await.map_err(|error| lost(directory, &error))?;
    match reply {
        Reply::Ok(fleet) => Ok(fleet),
        Reply::Error(error) => Err(error),
    }
}

async fn exchange(stream: std::os::unix::net::UnixStream, request: &Request) -> io::Result<Reply> {
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    stream.write_all(crate::output::json_line(request).as_bytes()).await?;
    let mut line = String::new();
    stream.take(LINE_BYTES_MAX).read_to_string(&mut line).await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

fn not_running(directory: &DevDir) -> CliError {
    CliError::new(Exit::NotFound, format!("no dev cluster {:?} is running", directory.name()))
        .hint("`rafka dev` starts one")
}

fn lost(directory: &DevDir, error: &io::Error) -> CliError {
    let what = format!("the supervisor of dev cluster {:?} does not answer", directory.name());
    CliError::new(Exit::Unreachable, what).because(error)
}

/// The supervisor's end.
pub(super) struct Server {
    listener: UnixListener,
}

impl Server {
    /// Listens; must be called with the directory's lock held.
    pub(super) fn bind(directory: &DevDir) -> Result<Self> {
        let bind = |path: &std::path::Path| UnixListener::bind(path);
        let listener = directory.with_socket(bind).map_err(|error| {
            CliError::failed(format!("cannot listen in {}", directory.root().display())).because(error)
        })?;
        Ok(Self { listener })
    }

    /// Answers until it is dropped; each connection is a task of `tasks`.
    pub(super) async fn serve(&self, supervisor: &Arc<Supervisor>, tasks: &TaskTracker) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let supervisor = Arc::clone(supervisor);
                    tasks.spawn(async move {
                        // Who hangs up does not want the answer.
                        let _ = answer(stream, &supervisor).await;
                    });
                }
                // Out of file descriptors: wait for some to come back.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    }
}

async fn answer(mut stream: UnixStream, supervisor: &Supervisor) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => match supervisor.answer(request).await {
            Ok(fleet) => Reply::Ok(fleet),
            Err(error) => Reply::Error(error),
        },
        Err(error) => Reply::Error(CliError::usage("the request is not understood").because(error)),
    };
    write.write_all(crate::output::json_line(&reply).as_bytes()).await?;
    write.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_of_json() {
        assert_eq!(crate::output::json_line(&Request::Kill { node: 2 }), "{\"op\":\"kill\",\"node\":2}\n");
        assert!(matches!(serde_json::from_str("{\"op\":\"stop\"}"), Ok(Request::Stop)));
        assert!(serde_json::from_str::<Request>("{\"op\":\"explode\"}").is_err());
    }
}
