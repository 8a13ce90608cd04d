//! `rafka debug …`.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, Subcommand};
use rafka_model::limits::BATCH_HEADER_BYTES;
use rafka_model::{BatchError, BatchHeader, RecordBatch};
use serde::Serialize;

use crate::errors::{CliError, Result};
use crate::output::{Format, Out, table};
use crate::times::show_time;

/// Look inside.
#[derive(Args, Debug)]
pub(crate) struct DebugArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the record batches of a segment file, and check them.
    DumpLog(DumpLogArgs),
}

#[derive(Args, Debug)]
struct DumpLogArgs {
    /// A `.log` file of a partition.
    segment: PathBuf,
    /// The records of each batch, too (as objects, with -o json).
    #[arg(short, long)]
    records: bool,
    /// End after so many batches.
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
}

/// A batch.
#[derive(Debug, Serialize)]
struct Line {
    position: u64,
    bytes: usize,
    base_offset: i64,
    last_offset: i64,
    records: u32,
    leader_epoch: i32,
    codec: &'static str,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    crc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    contents: Option<Vec<Contents>>,
}

/// A record.
#[derive(Debug, Serialize)]
struct Contents {
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
}

const COLUMNS: [&str; 8] = ["POSITION", "OFFSETS", "RECORDS", "BYTES", "EPOCH", "CODEC", "TIME", "CRC"];

impl DebugArgs {
    pub(crate) fn run(self, out: Out) -> Result {
        match self.verb {
            Verb::DumpLog(args) => args.run(out),
        }
    }
}

impl DumpLogArgs {
    fn run(self, out: Out) -> Result {
        let format = out.structured()?;
        let failed = |error| CliError::file("read", &self.segment, &error);
        let file = File::open(&self.segment).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut batches = Batches { input: BufReader::with_capacity(1 << 20, file), position: 0, bytes };
        let (mut number, mut rows) = (0, Vec::new());
        let mut stdout = BufWriter::new(io::stdout().lock());
        let write = |stdout: &mut dyn Write, text: &str| {
            stdout.write_all(text.as_bytes()).map_err(|error| CliError::stdout(&error))
        };
        let mut result = Ok(());
        while self.count.is_none_or(|most| number < most) {
            let line = match batches.next(self.records) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => {
                    let what = format!("{} is damaged at byte {}", self.segment.display(), batches.position);
                    result = Err(CliError::failed(what).because(error));
                    break;
                }
            };
            number += 1;
            match format {
                Format::Json => write(&mut stdout, &crate::output::json_line(&line))?,
                Format::Yaml => write(&mut stdout, &yaml(&line)?)?,
                _ => {
                    rows.push(line.cells());
                    rows.extend(line.contents.into_iter().flatten().map(Contents::cells));
                }
            }
        }
        if format == Format::Table {
            write(&mut stdout, &table(&COLUMNS, rows))?;
        }
        stdout.flush().map_err(|error| CliError::stdout(&error))?;
        result
    }
}

/// One batch as one document.
fn yaml(line: &Line) -> Result<String> {
    let text = serde_saphyr::to_string(line).map_err(|error| CliError::failed("cannot write YAML").because(error))?;
    Ok(format!("---\n{text}"))
}

impl Line {
    fn cells(&self) -> Vec<String> {
        vec![
            self.position.to_string(),
            format!("{}..{}", self.base_offset, self.last_offset),
            self.records.to_string(),
            self.bytes.to_string(),
            self.leader_epoch.to_string(),
            self.codec.to_owned(),
            show_time(rafka_client::Timestamp(self.max_timestamp)),
            self.crc.clone(),
        ]
    }
}

impl Contents {
    fn cells(self) -> Vec<String> {
        let text = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
        let words = format!("{}: {}", text(self.key), text(self.value));
        vec![String::new(), self.offset.to_string(), words]
    }
}

/// The batches of a segment, read one after the other.
struct Batches<R> {
    input: R,
    position: u64,
    /// Of the whole file.
    bytes: u64,
}

impl<R: Read> Batches<R> {
    /// The next batch; `None` at the end, and where preallocated zeros begin.
    fn next(&mut self, records: bool) -> std::result::Result<Option<Line>, String> {
        let left = self.bytes.saturating_sub(self.position);
        let mut bytes = Vec::new();
        self.read(&mut bytes, left.min(BATCH_HEADER_BYTES as u64))?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = BatchHeader::parse(&bytes).map_err(|error| error.to_string())?;
        let total = header.total_bytes() as u64;
        if total > left {
            let needed = header.total_bytes();
            return Err(BatchError::CutOff { bytes: usize::try_from(left).unwrap_or(usize::MAX), needed }.to_string());
        }
        let rest = total - bytes.len() as u64;
        self.read(&mut bytes, rest)?;
        let batch = RecordBatch::parse(Bytes::from(bytes)).map_err(|error| error.to_string())?;
        let line = line(&batch, self.position, records)?;
        self.position += total;
        Ok(Some(line))
    }

    fn read(&mut self, into: &mut Vec<u8>, bytes: u64) -> std::result::Result<(), String> {
        let read = self.input.by_ref().take(bytes).read_to_end(into).map_err(|error| error.to_string())?;
        if read as u64 == bytes { Ok(()) } else { Err("the file became shorter".to_owned()) }
    }
}

fn line(batch: &RecordBatch, position: u64, records: bool) -> std::result::Result<Line, String> {
    let header = batch.header();
    let contents = if records { Some(contents(batch)?) } else { None };
    Ok(Line {
        position,
        bytes: batch.len(),
        base_offset: header.base_offset.0,
        last_offset: header.last_offset().0,
        records: header.record_count,
        leader_epoch: header.leader_epoch.0,
        codec: header.compression().name(),
        max_timestamp: header.max_timestamp.0,
        producer_id: header.producer_id.0,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        crc: format!("{:08x}", header.crc),
        contents,
    })
}

fn contents(batch: &RecordBatch) -> std::result::Result<Vec<Contents>, String> {
    let text = |bytes: Option<Bytes>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let records = batch.records().map_err(|error| error.to_string())?;
    let one = |record: std::result::Result<rafka_model::Record, BatchError>| {
        let record = record.map_err(|error| error.to_string())?;
        let (key, value) = (text(record.key), text(record.value));
        Ok(Contents { offset: record.offset.0, timestamp: record.timestamp.0, key, value })
    };
    records.map(one).collect()
}

#[cfg(test)]
mod tests {
    use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Offset, Timestamp};

    use super::*;

    fn segment() -> Vec<u8> {
        let mut file = Vec::new();
        for base in [0, 1] {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(Timestamp(5), Some(b"k"), Some(b"v"), &[]);
            file.extend_from_slice(builder.build().stamp(Offset(base), LeaderEpoch(3)).bytes());
        }
        file
    }

    fn dump(file: &[u8]) -> (Vec<Line>, Option<String>) {
        let mut batches = Batches { input: file, position: 0, bytes: file.len() as u64 };
        let mut lines = Vec::new();
        loop {
            match batches.next(true) {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => return (lines, None),
                Err(error) => return (lines, Some(error)),
            }
        }
    }

    #[test]
    fn batches_are_shown_up_to_the_preallocated_zeros() {
        let mut file = segment();
        file.extend([0; 5000]);
        let (lines, error) = dump(&file);
        assert_eq!(error, None);
        let offsets: Vec<_> = lines.iter().map(|line| (line.base_offset, line.leader_epoch, line.records)).collect();
        assert_eq!(offsets, [(0, 3, 1), (1, 3, 1)]);
        let record = &lines[1].contents.as_ref().expect("asked for")[0];
        assert_eq!((record.offset, record.key.as_deref(), record.value.as_deref()), (1, Some("k"), Some("v")));
    }

    #[test]
    fn damage_is_found() {
        let mut file = segment();
        let last = file.len() - 1;
        file[last] ^= 1;
        let (lines, error) = dump(&file);
        assert_eq!((lines.len(), error.expect("damaged").contains("CRC")), (1, true));
        let (lines, error) = dump(&file[..file.len() - 3]);
        assert_eq!((lines.len(), error.expect("cut off").contains("cut off")), (1, true));
    }
}
