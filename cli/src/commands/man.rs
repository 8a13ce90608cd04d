//! `rafka man`

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::errors::{CliError, Result};
use crate::output::note;

/// Write the manual pages to a directory.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// The directory; it is made if it does not exist.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl ManArgs {
    pub(crate) fn run(self) -> Result {
        let failed = |error| CliError::file("write manual pages to", &self.directory, &error);
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        clap_mangen::generate_to(crate::Cli::command(), &self.directory).map_err(failed)?;
        note(&format!("Manual pages written: man {}", self.directory.join("rafka.1").display()));
        Ok(())
    }
}
