//! `rafka dev purge`

use clap::Args;

use super::NameArgs;
use super::directory::DevDir;
use crate::context::Store;
use crate::errors::{CliError, Exit, Result};
use crate::output::note;
use crate::prompt::confirm;

/// Delete the data and logs of a cluster that does not run.
#[derive(Args, Debug)]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    cluster: NameArgs,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

impl PurgeArgs {
    pub(super) fn run(self) -> Result {
        let directory = DevDir::of_user(&self.cluster.name)?;
        let name = directory.name();
        if !directory.exists() {
            return Err(CliError::new(Exit::NotFound, format!("there is nothing of a dev cluster {name:?}")));
        }
        if directory.is_running() {
            return Err(
                CliError::new(Exit::Conflict, format!("dev cluster {name:?} is running")).hint("`rafka dev stop`")
            );
        }
        if directory.is_kept() {
            confirm(&format!("delete all data of dev cluster {name:?}"), self.yes)?;
        }
        directory.remove()?;
        Store::of_user()?.update(|contexts| {
            contexts.contexts.remove(name);
            if contexts.current.as_deref() == Some(name) {
                contexts.current = None;
            }
            Ok(())
        })?;
        note(&format!("Dev cluster {name:?} and its context deleted."));
        Ok(())
    }
}
