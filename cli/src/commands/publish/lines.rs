//! Cuts chunks of bytes into lines without copying them, except lines that cross a chunk's end.

use std::io::BufRead as _;

use bytes::{Bytes, BytesMut};
use rafka_model::limits::BATCH_BYTES_MAX;

/// No record may be larger, so no line may.
const LINE_BYTES_MAX: usize = BATCH_BYTES_MAX as usize;

/// One line as a record's key and value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    pub(super) key: Option<Bytes>,
    pub(super) value: Bytes,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum LineError {
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    TooLong { line: u64 },
    #[error("line {line} has no key separator {separator:?}")]
    NoKey { line: u64, separator: String },
}

/// The state between chunks: the beginning of a line that has not ended.
#[derive(Debug)]
pub(super) struct Lines {
    separator: Option<String>,
    begun: BytesMut,
    chunk: Bytes,
    line: u64,
}

impl Lines {
    pub(super) fn new(separator: Option<String>) -> Self {
        Self { separator, begun: BytesMut::new(), chunk: Bytes::new(), line: 0 }
    }

    /// Takes the next chunk; the one before must have been used up.
    pub(super) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "lines of the last chunk were not taken");
        self.chunk = chunk;
    }

    /// The next line that ends within what was pushed.
    pub(super) fn next(&mut self) -> Option<Result<Line, LineError>> {
        if self.chunk.is_empty() {
            return None;
        }
        // The standard library's search for a byte; reading from memory cannot fail.
        let length = (&self.chunk[..]).skip_until(b'\n').unwrap_or(self.chunk.len());
        let mut piece = self.chunk.split_to(length);
        if self.begun.len() + piece.len() > LINE_BYTES_MAX {
            self.chunk.clear();
            return Some(Err(LineError::TooLong { line: self.line + 1 }));
        }
        if !piece.ends_with(b"\n") {
            self.begun.extend_from_slice(&piece);
            return None;
        }
        piece.truncate(length - 1);
        if !self.begun.is_empty() {
            self.begun.extend_from_slice(&piece);
            piece = self.begun.split().freeze();
        }
        Some(self.line(piece))
    }

    /// The last line, if the input did not end with a line end.
    pub(super) fn last(&mut self) -> Option<Result<Line, LineError>> {
        let rest = self.begun.split().freeze();
        (!rest.is_empty()).then(|| self.line(rest))
    }

    fn line(&mut self, bytes: Bytes) -> Result<Line, LineError> {
        self.line += 1;
        let Some(separator) = &self.separator else { return Ok(Line { key: None, value: bytes }) };
        match find(&bytes, separator.as_bytes()) {
            Some(at) => Ok(Line { key: Some(bytes.slice(..at)), value: bytes.slice(at + separator.len()..) }),
            None => Err(LineError::NoKey { line: self.line, separator: separator.clone() }),
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() { None } else { bytes.windows(wanted.len()).position(|window| window == wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&str], separator: Option<&str>) -> Vec<Result<(Option<String>, String), LineError>> {
        let mut lines = Lines::new(separator.map(str::to_owned));
        let mut found = Vec::new();
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        for chunk in chunks {
            lines.push(Bytes::copy_from_slice(chunk.as_bytes()));
            while let Some(line) = lines.next() {
                found.push(line);
            }
        }
        found.extend(lines.last());
        found.into_iter().map(|line| line.map(|line| (line.key.as_ref().map(text), text(&line.value)))).collect()
    }

    fn values(chunks: &[&str]) -> Vec<String> {
        cut(chunks, None).into_iter().map(|line| line.expect("a line").1).collect()
    }

    #[test]
    fn lines_are_the_same_however_the_input_is_chunked() {
        let whole = "a\n\nbc\r\nlast";
        let expected = ["a", "", "bc\r", "last"];
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let chunks = [&whole[..first], &whole[first..second], &whole[second..]];
                assert_eq!(values(&chunks), expected, "{chunks:?}");
            }
        }
        assert_eq!(values(&["a\n"]), ["a"], "a line end at the end begins no line");
        assert!(values(&[""]).is_empty());
    }

    #[test]
    fn keys_stand_before_the_first_separator() {
        let keyed = cut(&["k::v::w\n::x\ny::\n"], Some("::"));
        let line = |key: &str, value: &str| Ok((Some(key.to_owned()), value.to_owned()));
        assert_eq!(keyed, [line("k", "v::w"), line("", "x"), line("y", "")]);
        let error = cut(&["a:b\nc\n"], Some(":")).pop().expect("a line").expect_err("no key");
        assert_eq!(error.to_string(), "line 2 has no key separator \":\"");
    }

    #[test]
    fn an_endless_line_is_refused_before_it_fills_the_memory() {
        let mut lines = Lines::new(None);
        let chunk = Bytes::from(vec![b'x'; 1 << 20]);
        let error = (0..100).find_map(|_| {
            lines.push(chunk.clone());
            lines.next()
        });
        assert_eq!(error, Some(Err(LineError::TooLong { line: 1 })));
    }
}
