//! What became of the records, counted and said.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Stdout, Write};
use std::time::{Duration, Instant};

use rafka_client::{Delivery, Error, ErrorKind, PartitionId, TopicName};
use rafka_model::limits::KIB;
use serde::Serialize;

use crate::errors::{CliError, Exit, Result};
use crate::output::{Format, count, json_line};
use crate::times::{show_bytes, show_span};

/// Counts, and the lines of `-o json`.
pub(super) struct Report {
    topic: TopicName,
    format: Format,
    quiet: bool,
    began: Instant,
    stdout: BufWriter<Stdout>,
    tally: Tally,
    broken: Option<io::ErrorKind>,
}

#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    bytes: u64,
    failed: u64,
    partitions: BTreeSet<PartitionId>,
    last: Option<Delivery>,
    failure: Option<CliError>,
    /// The failure says by its kind what the whole command failed of.
    plain: bool,
}

/// One published record.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a TopicName,
    partition: PartitionId,
    offset: Option<i64>,
    timestamp: i64,
}

/// All of them together.
#[derive(Serialize)]
struct Closing {
    records: u64,
    bytes: u64,
    seconds: f64,
}

impl Report {
    pub(super) fn new(topic: TopicName, format: Format, quiet: bool) -> Self {
        let stdout = BufWriter::with_capacity(64 * KIB, io::stdout());
        Self { topic, format, quiet, began: Instant::now(), stdout, tally: Tally::default(), broken: None }
    }

    /// A record of so many bytes arrived, or did not.
    pub(super) fn count(&mut self, bytes: u64, result: std::result::Result<Delivery, Error>) {
        match result {
            Ok(delivery) => {
                if self.format == Format::Json && !self.quiet && self.broken.is_none() {
                    self.write(&delivery);
                }
                self.tally.delivered(bytes, delivery);
            }
            Err(error) => self.tally.failed(error),
        }
    }

    fn write(&mut self, delivery: &Delivery) {
        let line = Line {
            topic: &delivery.topic,
            partition: delivery.partition,
            offset: delivery.offset.map(|offset| offset.0),
            timestamp: delivery.timestamp.0,
        };
        let stdout = &mut self.stdout;
        let written = serde_json::to_writer(&mut *stdout, &line).map_err(io::Error::from);
        let written = written.and_then(|()| stdout.write_all(b"\n"));
        self.note_broken(written);
    }

    fn note_broken(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.broken = Some(error.kind());
        }
    }

    /// Shows what was counted so far.
    pub(super) fn flush(&mut self) {
        let flushed = self.stdout.flush();
        self.note_broken(flushed);
    }

    /// A record failed, so there is no point in going on.
    pub(super) fn has_failed(&self) -> bool {
        self.tally.failed > 0
    }

    /// Nobody reads what is written any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.tally.acknowledged
    }

    /// Says the last words on standard output; an error if not everything arrived.
    pub(super) fn outcome(&self) -> Result {
        let text = match (self.format, self.quiet) {
            (Format::Json, false) => String::new(),
            (Format::Json, true) => json_line(&self.closing()),
            (Format::Yaml, _) => serde_saphyr::to_string(&self.closing())
                .map_err(|error| CliError::failed("cannot write YAML").because(error))?,
            (_, true) => String::new(),
            (_, false) if self.tally.acknowledged > 0 => self.tally.words(&self.topic, self.began.elapsed()),
            _ => String::new(),
        };
        if let Some(kind) = self.broken {
            return Err(CliError::stdout(&kind.into()));
        }
        crate::output::emit(&text)?;
        self.tally.result(&self.topic)
    }

    fn closing(&self) -> Closing {
        let Tally { acknowledged, bytes, .. } = self.tally;
        Closing { records: acknowledged, bytes, seconds: self.began.elapsed().as_secs_f64() }
    }
}

impl Tally {
    fn delivered(&mut self, bytes: u64, delivery: Delivery) {
        self.acknowledged += 1;
        self.bytes += bytes;
        if self.last.as_ref().is_none_or(|last| last.partition != delivery.partition) {
            self.partitions.insert(delivery.partition);
        }
        self.last = Some(delivery);
    }

    fn failed(&mut self, error: Error) {
        self.failed += 1;
        if self.failure.is_none() {
            self.plain = matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Unreachable | ErrorKind::Timeout
            );
            let not_found = error.kind() == ErrorKind::NotFound;
            let error = CliError::from(error);
            self.failure = Some(if not_found { error.or_hint("make it with `rafka topic create`") } else { error });
        }
    }

    fn words(&self, topic: &TopicName, took: Duration) -> String {
        match (&self.last, self.acknowledged) {
            (Some(Delivery { partition, offset: Some(offset), .. }), 1) => {
                format!("Published 1 record to {topic}: partition {partition}, offset {offset}\n")
            }
            (Some(Delivery { partition, offset: None, .. }), 1) => {
                format!("Published 1 record to {topic}: partition {partition}, not acknowledged\n")
            }
            _ => {
                let seconds = took.as_secs_f64().max(1e-9);
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "shown to three digits"
                )]
                let rate = (self.bytes as f64 / seconds) as u64;
                format!(
                    "Published {} to {topic}: {}, {} in {} ({}/s)\n",
                    count(self.acknowledged, "record"),
                    count(self.partitions.len() as u64, "partition"),
                    show_bytes(self.bytes),
                    show_span(took),
                    show_bytes(rate)
                )
            }
        }
    }

    fn result(&self, topic: &TopicName) -> Result {
        let Some(failure) = &self.failure else { return Ok(()) };
        // The failure of the only thing that was tried is the command's; a failure among many is a part of it.
        if self.acknowledged == 0 && self.plain {
            return Err(failure.clone());
        }
        let what = format!("{} acknowledged by {topic}, {} not", count(self.acknowledged, "record"), self.failed);
        Err(failure.clone().within(what).exit(Exit::Failed))
    }
}

#[cfg(test)]
mod tests {
    use rafka_client::{Offset, Timestamp};

    use super::*;

    fn orders() -> TopicName {
        TopicName::new("orders").expect("a name")
    }

    fn delivery(partition: u32, offset: Option<i64>) -> Delivery {
        Delivery {
            topic: orders(),
            partition: PartitionId(partition),
            offset: offset.map(Offset),
            timestamp: Timestamp(5),
        }
    }

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "cannot publish to orders/1").because("the disk is full")
    }

    #[test]
    fn one_record_is_told_with_its_place() {
        let mut tally = Tally::default();
        tally.delivered(8, delivery(1, Some(0)));
        let took = Duration::from_millis(500);
        assert_eq!(tally.words(&orders(), took), "Published 1 record to orders: partition 1, offset 0\n");
        tally.delivered(1016, delivery(2, Some(7)));
        let expected = "Published 2 records to orders: 2 partitions, 1.0 KiB in 500 ms (2.0 KiB/s)\n";
        assert_eq!(tally.words(&orders(), took), expected);
        let mut unacknowledged = Tally::default();
        unacknowledged.delivered(8, delivery(1, None));
        assert!(unacknowledged.words(&orders(), took).ends_with("partition 1, not acknowledged\n"));
    }

    #[test]
    fn a_partial_failure_says_how_much_arrived() {
        let mut tally = Tally::default();
        tally.delivered(8, delivery(1, Some(0)));
        tally.failed(error(ErrorKind::Failed));
        tally.failed(error(ErrorKind::Unreachable));
        let failure = tally.result(&orders()).expect_err("not everything arrived");
        assert_eq!(failure.code(), 1);
        let lines = failure.to_lines();
        assert!(
            lines.starts_with(
                "error: 1 record acknowledged by orders, 2 not\ncause: cannot publish to orders/1: the disk"
            ),
            "{lines}"
        );
    }

    #[test]
    fn when_nothing_arrived_the_reason_is_the_exit_code() {
        for (kind, code) in [(ErrorKind::NotFound, 3), (ErrorKind::Unreachable, 6), (ErrorKind::Invalid, 1)] {
            let mut tally = Tally::default();
            tally.failed(error(kind));
            assert_eq!(tally.result(&orders()).expect_err("failed").code(), code, "{kind:?}");
        }
    }

    #[test]
    fn the_lines_of_json_keep_their_shape() {
        let topic = orders();
        let line = Line { topic: &topic, partition: PartitionId(1), offset: Some(7), timestamp: 5 };
        assert_eq!(json_line(&line), "{\"topic\":\"orders\",\"partition\":1,\"offset\":7,\"timestamp\":5}\n");
        let closing = Closing { records: 2, bytes: 10, seconds: 0.5 };
        assert_eq!(json_line(&closing), "{\"records\":2,\"bytes\":10,\"seconds\":0.5}\n");
    }
}
