//! Records onto standard output, in large writes.

use std::io::{self, Write};

use rafka_client::ConsumedRecord;
use rafka_model::limits::KIB;

use super::format::Template;
use super::json;
use crate::errors::{CliError, Result};

/// Bytes gathered before they are written, while there is more to come.
const WRITE_BYTES: usize = 256 * KIB;

/// How a record is written.
pub(super) enum Shape {
    Json,
    Raw,
    Template(Template),
}

/// A buffer in front of standard output.
pub(super) struct Sink {
    shape: Shape,
    buffer: Vec<u8>,
    output: Box<dyn Write>,
}

impl Sink {
    pub(super) fn stdout(shape: Shape) -> Self {
        Self { shape, buffer: Vec::with_capacity(2 * WRITE_BYTES), output: Box::new(io::stdout()) }
    }

    /// Takes a record; it may stay in the buffer.
    ///
    /// # Errors
    /// Nobody reads any more (exit code 0), or the output is full.
    pub(super) fn write(&mut self, record: &ConsumedRecord) -> Result {
        match &self.shape {
            Shape::Json => json::write(record, &mut self.buffer),
            Shape::Raw => {
                self.buffer.extend_from_slice(record.value.as_deref().unwrap_or_default());
                self.buffer.push(b'\n');
            }
            Shape::Template(template) => template.write(record, &mut self.buffer),
        }
        if self.buffer.len() < WRITE_BYTES { Ok(()) } else { self.flush() }
    }

    /// True if everything taken was written.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Writes what is in the buffer.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) fn flush(&mut self) -> Result {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.output.write_all(&self.buffer).and_then(|()| self.output.flush());
        self.buffer.clear();
        // One large record must not keep its memory for ever.
        self.buffer.shrink_to(4 * WRITE_BYTES);
        written.map_err(|error| CliError::stdout(&error))
    }
}

#[cfg(test)]
pub(super) fn sample() -> ConsumedRecord {
    use bytes::Bytes;
    use rafka_client::{Header, Offset, PartitionId, Timestamp, TopicName};
    let header = |key: &str, value: Option<&'static str>| Header { key: key.to_owned(), value: value.map(Bytes::from) };
    ConsumedRecord {
        topic: TopicName::new("orders").expect("a name"),
        partition: PartitionId(1),
        offset: Offset(7),
        timestamp: Timestamp(1_795_229_425_000),
        key: Some(Bytes::from_static(b"a")),
        value: Some(Bytes::from_static(b"{\"id\":1}")),
        headers: vec![header("trace", Some("x")), header("none", None)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_ends_quietly() {
        let mut sink = Sink { shape: Shape::Raw, buffer: Vec::new(), output: Box::new(Closed) };
        sink.write(&sample()).expect("buffered");
        assert_eq!(sink.flush().expect_err("closed").code(), 0);
    }
}
