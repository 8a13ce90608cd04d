//! Errors in three parts (what, cause, hint), and the exit codes that scripts rely on.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use rafka_client::{Error, ErrorKind};
use rafka_node::config::ConfigError;
use serde::{Deserialize, Serialize};

/// What a command ends with; `Ok(())` is exit code 0.
pub(crate) type Result<T = ()> = std::result::Result<T, CliError>;

/// Exit codes of the contract.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Denied = 5,
    Unreachable = 6,
    Unhealthy = 10,
    BadConfig = 78,
    Interrupted = 130,
}

/// Why a command did not succeed. Nothing is printed if `error` is empty: the command has said it already.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct CliError {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The node's code by name, when a node refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    exit: u8,
}

impl CliError {
    pub(crate) fn new(exit: Exit, error: impl Into<String>) -> Self {
        Self { error: error.into(), cause: None, hint: None, code: None, exit: exit as u8 }
    }

    pub(crate) fn failed(error: impl Into<String>) -> Self {
        Self::new(Exit::Failed, error)
    }

    pub(crate) fn usage(error: impl Into<String>) -> Self {
        Self::new(Exit::Usage, error)
    }

    /// Ends the process without another word.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    pub(crate) fn because(self, cause: impl ToString) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same error, with this hint if it has none.
    pub(crate) fn or_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: self.hint.or_else(|| Some(hint.into())), ..self }
    }

    /// The same error as the cause of a larger one.
    pub(crate) fn within(self, error: impl Into<String>) -> Self {
        let cause = match self.cause {
            Some(cause) => format!("{}: {cause}", self.error),
            None => self.error,
        };
        Self { error: error.into(), cause: Some(cause), ..self }
    }

    /// The same error with another exit code.
    pub(crate) fn exit(self, exit: Exit) -> Self {
        Self { exit: exit as u8, ..self }
    }

    pub(crate) fn code(&self) -> u8 {
        self.exit
    }

    /// An operation on a file failed.
    pub(crate) fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::PermissionDenied => Exit::Denied,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("cannot {doing} {}", path.display())).because(error)
    }

    /// Standard output cannot be written. Whoever read it may have had enough: that is no failure.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Ok),
            _ => Self::failed("cannot write to standard output").because(error),
        }
    }

    /// As lines for people: `error: …`, `cause: …`, `hint: …`.
    pub(crate) fn to_lines(&self) -> String {
        let mut lines = format!("error: {}\n", self.error);
        for (name, part) in [("cause", &self.cause), ("hint", &self.hint)] {
            if let Some(part) = part {
                let _ = writeln!(lines, "{name}: {part}");
            }
        }
        lines
    }

    /// As one object for scripts.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and a number are JSON") + "\n"
    }

    /// Says it on standard error.
    pub(crate) fn print(&self, json: bool) {
        if self.error.is_empty() {
            return;
        }
        let text = if json { self.to_json() } else { self.to_lines() };
        // There is nobody left to tell if this fails.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl From<&CliError> for ExitCode {
    fn from(error: &CliError) -> Self {
        Self::from(error.exit)
    }
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::Conflict => Exit::Conflict,
            ErrorKind::Denied => Exit::Denied,
            ErrorKind::Invalid => Exit::Usage,
            ErrorKind::Unreachable | ErrorKind::Timeout | ErrorKind::OutcomeUnknown => Exit::Unreachable,
            ErrorKind::Closed | ErrorKind::Failed => Exit::Failed,
        };
        Self {
            error: error.what().to_owned(),
            cause: error.cause().map(ToString::to_string),
            hint: error.advice().map(str::to_owned),
            code: error.code().map(|code| code.name().to_owned()),
            exit: exit as u8,
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let number = error.problems.len();
        let what = if number == 1 {
            "the configuration has a problem".to_owned()
        } else {
            format!("the configuration has {number} problems")
        };
        Self::new(Exit::BadConfig, what).because(error)
    }
}

#[cfg(test)]
mod tests {
    use rafka_client::{ErrorCode, Failure, NodeId};

    use super::*;

    fn not_found() -> CliError {
        let failure = Failure::new(ErrorCode::UnknownTopicOrPartition, "");
        Error::refused("topic \"order\" not found", &failure, Some(NodeId(2))).hint("did you mean \"orders\"?").into()
    }

    #[test]
    fn an_error_has_three_lines() {
        let expected = "error: topic \"order\" not found\n\
                        cause: UNKNOWN_TOPIC_OR_PARTITION (3) from node 2\n\
                        hint: did you mean \"orders\"?\n";
        assert_eq!(not_found().to_lines(), expected);
    }

    #[test]
    fn an_error_is_one_object_for_scripts() {
        let expected = "{\"error\":\"topic \\\"order\\\" not found\",\
                        \"cause\":\"UNKNOWN_TOPIC_OR_PARTITION (3) from node 2\",\
                        \"hint\":\"did you mean \\\"orders\\\"?\",\
                        \"code\":\"UNKNOWN_TOPIC_OR_PARTITION\",\"exit\":3}\n";
        assert_eq!(not_found().to_json(), expected);
        assert_eq!(CliError::failed("no").to_json(), "{\"error\":\"no\",\"exit\":1}\n");
    }

    #[test]
    fn kinds_have_the_exit_codes_of_the_contract() {
        let exit = |kind| CliError::from(Error::new(kind, "x")).code();
        let kinds = [ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Denied, ErrorKind::Unreachable];
        assert_eq!(kinds.map(exit), [3, 4, 5, 6]);
        assert_eq!([ErrorKind::Timeout, ErrorKind::Failed, ErrorKind::Invalid].map(exit), [6, 1, 2]);
    }

    #[test]
    fn a_reader_that_had_enough_is_no_failure() {
        let error = CliError::stdout(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((error.code(), error.error.as_str()), (0, ""));
        assert_eq!(CliError::stdout(&io::ErrorKind::StorageFull.into()).code(), 1);
    }
}
