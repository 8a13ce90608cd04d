//! Ctrl-C and SIGTERM, as something that can be waited for and looked at.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::errors::{CliError, Exit, Result};

/// Fires at the first signal. A second one ends the process at once.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(CancellationToken);

impl Interrupt {
    /// Takes the signals over from the operating system's defaults.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub(crate) fn install() -> Result<Self> {
        let failed = |error| CliError::failed("cannot listen for signals").because(error);
        let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
        let token = CancellationToken::new();
        let fired = token.clone();
        tokio::spawn(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupts.recv() => {}
                    _ = terminations.recv() => {}
                }
                if fired.is_cancelled() {
                    std::process::exit(i32::from(Exit::Interrupted as u8));
                }
                fired.cancel();
            }
        });
        Ok(Self(token))
    }

    /// Has it fired?
    pub(crate) fn fired(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for it. Cancel safe.
    pub(crate) async fn wait(&self) {
        self.0.cancelled().await;
    }
}
