//! `rafka completions`

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, env::Shells};

use crate::errors::{CliError, Result};
use crate::output::{Out, emit};

/// Print the script that teaches a shell to complete `rafka`.
///
/// The script asks `rafka` at each Tab and so knows the cluster's topics. For bash: `source <(rafka completions bash)` in
/// ~/.bashrc; for zsh the same in ~/.zshrc; for fish: `rafka completions fish | source` in config.fish.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
    /// A script that works without `rafka`, and so knows commands and flags but no topics.
    #[arg(long = "static")]
    fixed: bool,
}

impl CompletionsArgs {
    pub(crate) fn run(self, _: Out) -> Result {
        let mut script = Vec::new();
        if self.fixed {
            clap_complete::generate(self.shell, &mut crate::Cli::command(), "rafka", &mut script);
        } else {
            let name = self.shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let failed = || CliError::failed(format!("no completions for {name}"));
            let shells = Shells::builtins();
            let shell = shells.completer(&name).ok_or_else(failed)?;
            let written = shell.write_registration("COMPLETE", "rafka", "rafka", "rafka", &mut script);
            written.map_err(|error| failed().because(error))?;
        }
        emit(&String::from_utf8_lossy(&script))
    }
}
