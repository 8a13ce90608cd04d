//! What a step of a coordinator may use and fill.

use std::time::Duration;

use rafka_model::Monotonic;

use super::config::Config;
use super::coordinator::{Context, Output, Token};
use super::request::GroupReply;
use super::rules::Rules;
use super::timers::Timers;
use crate::{ErrorCode, Failure};

/// Surroundings of a group while it takes a step.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) config: &'a Config,
    pub(super) rules: Rules,
    pub(super) timers: &'a mut Timers,
    pub(super) output: &'a mut Output,
    /// Generations begun.
    pub(super) rebalances: &'a mut u64,
    /// Bytes that the members of all groups may still take.
    pub(super) room: usize,
}

impl Work<'_> {
    pub(super) fn reply(&mut self, token: Token, reply: GroupReply) {
        self.output.replies.push((token, Ok(reply)));
    }

    pub(super) fn refuse(&mut self, token: Token, code: ErrorCode, why: &str) {
        self.output.replies.push((token, Err(Failure::new(code, why))));
    }

    /// So many milliseconds from now; none if negative.
    pub(super) fn after(&self, ms: i32) -> Monotonic {
        self.context.now.plus(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }
}
