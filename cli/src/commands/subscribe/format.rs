//! `--format`: a record as text of the user's making, with the letters of kcat where kcat has them.

use std::io::Write as _;
use std::str::FromStr;

use bytes::Bytes;
use rafka_client::ConsumedRecord;

/// A parsed format.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    KeyBytes,
    Value,
    ValueBytes,
    Headers,
    Time,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(format: &str) -> Result<Self, String> {
        let (mut parts, mut text) = (Vec::new(), Vec::new());
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            let part = match letter {
                '\\' => {
                    text.push(escape(&mut letters)?);
                    continue;
                }
                '%' => match letters.next() {
                    Some('%') => {
                        text.push(b'%');
                        continue;
                    }
                    Some('t') => Part::Topic,
                    Some('p') => Part::Partition,
                    Some('o') => Part::Offset,
                    Some('k') => Part::Key,
                    Some('K') => Part::KeyBytes,
                    Some('v' | 's') => Part::Value,
                    Some('V' | 'S') => Part::ValueBytes,
                    Some('h') => Part::Headers,
                    Some('T') => Part::Time,
                    Some(other) => return Err(format!("no %{other}; there are %t %p %o %k %v %h %T %K %V %%")),
                    None => return Err("a % at the end stands for nothing; write %% for a percent sign".to_owned()),
                },
                letter => {
                    text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }
}

fn escape(letters: &mut std::str::Chars<'_>) -> Result<u8, String> {
    Ok(match letters.next() {
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let mut digit = || letters.next().and_then(|letter| letter.to_digit(16));
            match (digit(), digit()) {
                #[allow(clippy::cast_possible_truncation, reason = "two hex digits are a byte")]
                (Some(high), Some(low)) => (high * 16 + low) as u8,
                _ => return Err("\\x needs two hex digits".to_owned()),
            }
        }
        Some(other) => return Err(format!("no \\{other}; there are \\n \\r \\t \\0 \\xHH \\\\")),
        None => return Err("a \\ at the end stands for nothing; write \\\\ for a backslash".to_owned()),
    })
}

impl Template {
    /// Appends `record` to `buffer`.
    pub(super) fn write(&self, record: &ConsumedRecord, buffer: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => buffer.extend_from_slice(text),
                Part::Topic => buffer.extend_from_slice(record.topic.as_str().as_bytes()),
                Part::Partition => put(buffer, record.partition),
                Part::Offset => put(buffer, record.offset),
                Part::Key => buffer.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Part::KeyBytes => put(buffer, length(record.key.as_ref())),
                Part::Value => buffer.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Part::ValueBytes => put(buffer, length(record.value.as_ref())),
                Part::Headers => headers(record, buffer),
                Part::Time => put(buffer, record.timestamp),
            }
        }
    }
}

fn put(buffer: &mut Vec<u8>, thing: impl std::fmt::Display) {
    // Writing to memory cannot fail.
    let _ = write!(buffer, "{thing}");
}

/// −1 for Kafka's null, as kcat has it.
fn length(bytes: Option<&Bytes>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX))
}

fn headers(record: &ConsumedRecord, buffer: &mut Vec<u8>) {
    for (i, header) in record.headers.iter().enumerate() {
        if i > 0 {
            buffer.push(b',');
        }
        buffer.extend_from_slice(header.key.as_bytes());
        buffer.push(b'=');
        buffer.extend_from_slice(header.value.as_deref().unwrap_or(b"NULL"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::sink::sample;
    use super::*;

    fn formatted(format: &str) -> String {
        let mut buffer = Vec::new();
        format.parse::<Template>().expect("a format").write(&sample(), &mut buffer);
        String::from_utf8(buffer).expect("text")
    }

    #[test]
    fn every_letter_stands_for_its_part() {
        assert_eq!(formatted(r"%t %p %o %k %v %h %T\n"), "orders 1 7 a {\"id\":1} trace=x,none=NULL 1795229425000\n");
        assert_eq!(formatted(r"%s|%K|%V|%S|100 %%"), "{\"id\":1}|1|8|8|100 %");
        assert_eq!(formatted(r"é\t\x41\\\0."), "é\tA\\\0.");
    }

    #[test]
    fn nulls_are_empty_with_length_minus_one() {
        let mut buffer = Vec::new();
        let record = ConsumedRecord { key: None, value: None, ..sample() };
        "%k:%K:%v:%V".parse::<Template>().expect("a format").write(&record, &mut buffer);
        assert_eq!(buffer, b":-1::-1");
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for wrong in ["%", "%z", r"\q", r"\x4", r"\"] {
            assert!(wrong.parse::<Template>().is_err(), "{wrong}");
        }
    }
}
