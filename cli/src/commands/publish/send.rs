//! Records on their way: a queue of promises in front of the producer's bounded buffer.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use indicatif::ProgressBar;
use rafka_client::{Header, PartitionId, Pending, Producer, Record, TopicName};

use super::input::Input;
use super::lines::{Line, Lines};
use super::report::Report;
use crate::errors::CliError;
use crate::interrupt::Interrupt;

/// Promises are looked at each time so many more were made.
const SETTLE_EVERY: usize = 256;
/// After Ctrl-C, what was taken is given this long to arrive.
const FAREWELL: Duration = Duration::from_secs(10);

/// What all records have in common.
pub(super) struct Template {
    pub(super) topic: TopicName,
    pub(super) partition: Option<PartitionId>,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Vec<Header>,
}

/// How the input ended.
pub(super) enum Ended {
    AtEnd,
    Interrupted,
    Input(CliError),
}

/// Publishes, and counts what arrives.
pub(super) struct Sender {
    producer: Producer,
    template: Template,
    report: Report,
    /// In the order in which they were taken, each with its bytes.
    promised: VecDeque<(u64, Pending)>,
}

impl Sender {
    pub(super) fn new(producer: Producer, template: Template, report: Report) -> Self {
        Self { producer, template, report, promised: VecDeque::new() }
    }

    /// Publishes one record.
    pub(super) async fn one(&mut self, value: Option<Bytes>, interrupt: &Interrupt) -> Ended {
        self.offer(None, value, interrupt).await;
        if interrupt.fired() { Ended::Interrupted } else { Ended::AtEnd }
    }

    /// Publishes the lines of `input` until it ends, a record fails, or somebody interrupts.
    pub(super) async fn lines(
        &mut self,
        input: &mut Input,
        mut lines: Lines,
        progress: &ProgressBar,
        interrupt: &Interrupt,
    ) -> Ended {
        loop {
            let chunk = match input.next_now() {
                Some(chunk) => Some(chunk),
                None => match self.wait(input, interrupt).await {
                    Some(next) => next,
                    None => return Ended::Interrupted,
                },
            };
            if self.report.has_failed() {
                return Ended::AtEnd;
            }
            let (bytes, at_end) = match chunk {
                Some(Ok(chunk)) => {
                    let bytes = chunk.len() as u64;
                    lines.push(chunk);
                    (bytes, false)
                }
                Some(Err(error)) => {
                    let what = format!("cannot read {}", input.name());
                    return Ended::Input(CliError::failed(what).because(error));
                }
                None => (0, true),
            };
            while let Some(line) = if at_end { lines.last() } else { lines.next() } {
                match line {
                    Ok(Line { key, value }) => self.offer(key, Some(value), interrupt).await,
                    Err(error) => return Ended::Input(CliError::failed(error.to_string())),
                }
                if interrupt.fired() {
                    return Ended::Interrupted;
                }
                if self.report.has_failed() || self.report.is_broken() {
                    return Ended::AtEnd;
                }
            }
            if at_end {
                return Ended::AtEnd;
            }
            progress.inc(bytes);
        }
    }

    /// Waits for the next chunk, and counts what arrives meanwhile. `None` when somebody interrupts.
    async fn wait(&mut self, input: &mut Input, interrupt: &Interrupt) -> Option<Option<std::io::Result<Bytes>>> {
        loop {
            self.settle();
            self.report.flush();
            let oldest = self.promised.front_mut();
            let waits = oldest.is_some();
            let arrived = async {
                match oldest {
                    Some((bytes, pending)) => (*bytes, pending.await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = interrupt.wait() => return None,
                (bytes, result) = arrived, if waits => {
                    self.promised.pop_front();
                    self.report.count(bytes, result);
                    if self.report.has_failed() {
                        return Some(None);
                    }
                }
                chunk = input.next() => return Some(chunk),
            }
        }
    }

    /// Hands a record to the producer; waits while its buffer is full.
    async fn offer(&mut self, key: Option<Bytes>, value: Option<Bytes>, interrupt: &Interrupt) {
        let Template { topic, partition, key: fixed, headers } = &self.template;
        let key = key.or_else(|| fixed.clone());
        let bytes = (key.as_ref().map_or(0, Bytes::len) + value.as_ref().map_or(0, Bytes::len)) as u64;
        let record = Record {
            topic: topic.clone(),
            partition: *partition,
            key,
            value,
            headers: headers.clone(),
            timestamp: None,
        };
        let taken = {
            let mut taken = pin!(self.producer.enqueue(record));
            // Nearly always there is room; only a wait pays for listening to signals.
            match futures::poll!(&mut taken) {
                Poll::Ready(taken) => taken,
                Poll::Pending => tokio::select! {
                    taken = taken => taken,
                    () = interrupt.wait() => return,
                },
            }
        };
        match taken {
            Ok(pending) => self.promised.push_back((bytes, pending)),
            Err(error) => self.report.count(bytes, Err(error)),
        }
        if self.promised.len().is_multiple_of(SETTLE_EVERY) {
            self.settle();
        }
    }

    /// Counts what has arrived, from the oldest on.
    fn settle(&mut self) {
        while let Some((bytes, pending)) = self.promised.front_mut() {
            let Some(result) = pending.now_or_never() else { break };
            self.report.count(*bytes, result);
            self.promised.pop_front();
        }
    }

    /// Delivers what was taken and counts the rest.
    pub(super) async fn finish(mut self, interrupt: &Interrupt) -> Report {
        let producer = self.producer.clone();
        let mut closed = pin!(producer.close());
        // Each record's own fate is counted below.
        let delivered = tokio::select! {
            result = &mut closed => { drop(result); true }
            () = interrupt.wait() => tokio::time::timeout(FAREWELL, &mut closed).await.is_ok(),
        };
        if !delivered {
            self.settle();
            let late =
                rafka_client::Error::new(rafka_client::ErrorKind::OutcomeUnknown, "interrupted before the answer");
            for (bytes, pending) in std::mem::take(&mut self.promised) {
                self.report.count(bytes, pending.now_or_never().unwrap_or_else(|| Err(late.clone())));
            }
        }
        for (bytes, pending) in std::mem::take(&mut self.promised) {
            self.report.count(bytes, pending.await);
        }
        self.report.flush();
        self.report
    }
}
