//! The threads of the data path, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use parking_lot::Mutex;
use rafka_model::limits::OPEN_THREADS_MAX;

use super::Inner;

/// Why the logs were not closed in order.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ShutdownError {
    /// Some logs could not be flushed or closed.
    #[error("{count} partitions were not closed cleanly, the first because: {first}")]
    NotClean {
        /// How many.
        count: usize,
        /// Why the first of them.
        first: String,
    },
    /// The node failed on the way; see its log.
    #[error("closing partitions failed")]
    Failed,
}

/// The running threads. Dropping them ends them.
#[derive(Debug)]
pub(super) struct Threads {
    inner: Arc<Inner>,
    handles: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Threads {
    pub(super) fn start(inner: &Arc<Inner>) -> std::io::Result<Self> {
        let threads = Self { inner: inner.clone(), handles: Arc::default() };
        for number in 0..inner.config.fsync_threads.clamp(1, OPEN_THREADS_MAX) {
            threads.spawn(format!("rafka-fsync-{number}"), |inner| inner.flusher.run_asked(inner))?;
        }
        threads.spawn("rafka-flush".to_owned(), |inner| inner.flusher.run_due(inner))?;
        threads.spawn("rafka-keeper".to_owned(), |inner| inner.keeper.run(inner))?;
        threads.spawn("rafka-cleaner".to_owned(), |inner| inner.cleaner.run(inner))?;
        Ok(threads)
    }

    fn spawn(&self, name: String, work: impl FnOnce(&Arc<Inner>) + Send + 'static) -> std::io::Result<()> {
        let inner = self.inner.clone();
        let handle = Builder::new().name(name).spawn(move || work(&inner))?;
        self.handles.lock().push(handle);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        stop(&self.inner, &self.handles);
    }
}

fn stop(inner: &Inner, handles: &Mutex<Vec<JoinHandle<()>>>) {
    inner.stopping.store(true, Ordering::Release);
    inner.flusher.stop();
    inner.keeper.stop();
    inner.cleaner.stop();
    let handles = std::mem::take(&mut *handles.lock());
    for handle in handles {
        if handle.join().is_err() {
            tracing::error!("a thread of the data path had failed");
        }
    }
}

/// Stops the threads, then closes every log on a few others.
pub(super) async fn run(inner: &Arc<Inner>, threads: &Threads) -> Result<(), ShutdownError> {
    let (inner, handles) = (inner.clone(), threads.handles.clone());
    let work = tokio::task::spawn_blocking(move || {
        stop(&inner, &handles);
        close_all(&inner)
    });
    work.await.unwrap_or_else(|error| {
        tracing::error!(%error, "closing partitions failed");
        Err(ShutdownError::Failed)
    })
}

fn close_all(inner: &Inner) -> Result<(), ShutdownError> {
    // A reconciliation that still opens logs ends first; none begins any more.
    let _progress = inner.progress.lock();
    let replicas: Vec<_> = inner.replicas.load().values().cloned().collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(replica) = replicas.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = replica.close(inner) {
                let (topic, partition) = (&replica.topic, replica.at.partition);
                tracing::error!(%topic, %partition, %error, "log not closed cleanly");
                failures.lock().push(error.to_string());
            }
        }
    };
    let threads = inner.config.open_threads.clamp(1, OPEN_THREADS_MAX);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let failures = failures.into_inner();
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(ShutdownError::NotClean { count: failures.len(), first: first.clone() }),
    }
}
