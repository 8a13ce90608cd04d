//! Bytes of standard input or of a file, read ahead by a thread in large chunks.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rafka_model::limits::MIB;
use tokio::sync::mpsc;

use crate::errors::{CliError, Result};

/// Bytes of one read.
const CHUNK_BYTES: usize = MIB;
/// Chunks read ahead.
const CHUNKS_AHEAD: usize = 4;

/// A source of bytes.
pub(super) struct Input {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    name: String,
    /// Bytes of the whole input, if that is known.
    total: Option<u64>,
}

impl Input {
    pub(super) fn stdin() -> Self {
        Self::of(io::stdin(), "standard input".to_owned(), None)
    }

    pub(super) fn file(path: &PathBuf) -> Result<Self> {
        let failed = |error| CliError::file("read", path, &error);
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if about.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let total = about.is_file().then_some(about.len());
        Ok(Self::of(file, Path::new(path).display().to_string(), total))
    }

    /// Reads in a thread of its own: a read of a terminal cannot be given up, a thread can.
    fn of(mut source: impl Read + Send + 'static, name: String, total: Option<u64>) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        std::thread::spawn(move || {
            loop {
                let chunk = read_chunk(&mut source);
                let over = !matches!(&chunk, Ok(bytes) if !bytes.is_empty());
                let at_end = matches!(&chunk, Ok(bytes) if bytes.is_empty());
                if at_end || sender.blocking_send(chunk).is_err() || over {
                    break;
                }
            }
        });
        Self { chunks, name, total }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The next bytes; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.chunks.recv().await
    }

    /// The next bytes if they are there already.
    pub(super) fn next_now(&mut self) -> Option<io::Result<Bytes>> {
        self.chunks.try_recv().ok()
    }

    /// A bar on standard error, if that is a terminal and the input is more than what somebody types.
    pub(super) fn progress(&self, quiet: bool) -> ProgressBar {
        let shown = !quiet && io::stderr().is_terminal() && (self.total.is_some() || !io::stdin().is_terminal());
        if !shown {
            return ProgressBar::hidden();
        }
        let template = match self.total {
            Some(_) => "{bar:32} {percent:>3} %  {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}",
            None => "{spinner} {bytes}  {bytes_per_sec}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(self.total, ProgressDrawTarget::stderr_with_hz(10)).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// One read of up to [`CHUNK_BYTES`]; short when the source has no more at the moment, empty at its end.
fn read_chunk(source: &mut impl Read) -> io::Result<Bytes> {
    let mut chunk = BytesMut::zeroed(CHUNK_BYTES);
    loop {
        match source.read(&mut chunk) {
            Ok(bytes) => {
                chunk.truncate(bytes);
                // A short read (a pipe, a terminal) would hold a whole chunk's memory as long as its lines live.
                return Ok(if bytes < CHUNK_BYTES / 4 { Bytes::copy_from_slice(&chunk) } else { chunk.freeze() });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
