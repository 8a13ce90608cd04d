//! Questions before something is destroyed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::errors::{CliError, Result};

/// Asks on a terminal whether to do `what`; off one it is done only with `--yes`.
///
/// # Errors
/// Usage without a terminal and `--yes`; failed when the answer is no.
pub(crate) fn confirm(what: &str, yes: bool) -> Result {
    if yes {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(CliError::usage(format!("refusing to {what} without being asked twice")).hint("add --yes"));
    }
    let _ = write!(io::stderr(), "{}{}? [y/N] ", what[..1].to_uppercase(), &what[1..]);
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| CliError::failed("cannot read the answer").because(error))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(CliError::failed("nothing was done")),
    }
}
