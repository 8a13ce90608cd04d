//! Log lines on standard error, and a handle that changes their level while the node runs.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{LogFormat, LogLevel};

/// Libraries that say at `info` what only their authors want to know. A level that names them wins.
const QUIET: &str = "openraft=warn,hickory_net=warn,hickory_resolver=warn,netlink_proto=warn";

/// Logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Somebody in this process set up logging before.
    #[error("logging is set up already")]
    Taken,
    /// The level is not understood.
    #[error("log level {level:?}: {reason}")]
    Level {
        /// As given.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Changes the level of the running process. Cheap to clone.
#[derive(Clone)]
pub struct LevelHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    current: Arc<Mutex<LogLevel>>,
}

impl LevelHandle {
    /// The level in force.
    #[must_use]
    pub fn current(&self) -> LogLevel {
        self.current.lock().clone()
    }

    /// Puts `level` in force for the whole process.
    ///
    /// # Errors
    /// [`LoggingError::Level`]; the old one stays.
    pub fn set(&self, level: &LogLevel) -> Result<(), LoggingError> {
        let filter = filter(level)?;
        let mut current = self.current.lock();
        let failed = |error: reload::Error| LoggingError::Level { level: level.to_string(), reason: error.to_string() };
        self.filter.reload(filter).map_err(failed)?;
        *current = level.clone();
        Ok(())
    }
}

/// Sets up logging for the process: to standard error, which nothing but logs, progress and hints may use.
///
/// # Errors
/// [`LoggingError`].
pub fn init(level: &LogLevel, format: LogFormat) -> Result<LevelHandle, LoggingError> {
    let (subscriber, handle) = subscriber(level, format, stderr().is_terminal(), stderr)?;
    subscriber.try_init().map_err(|_| LoggingError::Taken)?;
    Ok(handle)
}

/// The same without making it the process's own, to be used in tests and by programs that run several nodes.
///
/// # Errors
/// [`LoggingError::Level`].
pub fn subscriber<W>(
    level: &LogLevel,
    format: LogFormat,
    terminal: bool,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + use<W>, LevelHandle), LoggingError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let lines = fmt::layer().with_writer(writer).with_ansi(terminal);
    let format = match format {
        LogFormat::Auto if terminal => LogFormat::Pretty,
        LogFormat::Auto => LogFormat::Json,
        format => format,
    };
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        LogFormat::Compact => lines.compact().with_target(false).boxed(),
        LogFormat::Pretty | LogFormat::Auto => lines.boxed(),
    };
    let handle = LevelHandle { filter: handle, current: Arc::new(Mutex::new(level.clone())) };
    Ok((tracing_subscriber::registry().with(filter).with(lines), handle))
}

fn filter(level: &LogLevel) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(format!("{QUIET},{level}"))
        .map_err(|error| LoggingError::Level { level: level.to_string(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock())).expect("text")
        }
    }

    fn level(text: &str) -> LogLevel {
        text.parse().expect("a level")
    }

    fn logging(
        level_text: &str,
        format: LogFormat,
        terminal: bool,
    ) -> (impl Subscriber + Send + Sync, LevelHandle, Lines) {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, handle) =
            subscriber(&level(level_text), format, terminal, move || writer.clone()).expect("a level");
        (subscriber, handle, lines)
    }

    #[test]
    fn the_level_changes_while_the_process_runs_and_libraries_stay_quiet() {
        let (subscriber, handle, lines) = logging("info", LogFormat::Compact, false);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("hidden");
            tracing::info!("seen");
            tracing::info!(target: "openraft::core", "chatter");
            handle.set(&level("warn,openraft=debug")).expect("changes");
            tracing::info!("hidden");
            tracing::debug!(target: "openraft::core", "asked for");
        });
        let text = lines.take();
        assert!(text.contains("seen") && text.contains("asked for"), "{text}");
        assert!(!text.contains("hidden") && !text.contains("chatter"), "{text}");
        assert_eq!(handle.current(), level("warn,openraft=debug"));
    }

    #[test]
    fn auto_is_json_off_a_terminal_and_for_people_on_one() {
        let (off, _handle, lines) = logging("info", LogFormat::Auto, false);
        tracing::subscriber::with_default(off, || tracing::info!(partitions = 3, "ready"));
        let object: serde_json::Value = serde_json::from_str(lines.take().trim()).expect("one JSON object");
        assert_eq!((&object["message"], &object["partitions"]), (&"ready".into(), &3.into()));
        let (on, _handle, lines) = logging("info", LogFormat::Auto, true);
        tracing::subscriber::with_default(on, || tracing::info!("ready"));
        assert!(lines.take().contains("\u{1b}["), "coloured");
    }
}
