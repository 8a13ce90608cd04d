//! A compacted log beside a plain list of everything that was ever appended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use rafka_log::disk::{Crash, Faults, FaultyDisk, MemoryDisk};
use rafka_log::{
    Compacted, CompactionError, CompactionLimits, CompactionReport, LogConfig, LogReader, PartitionLog, Shutdown,
};
use rafka_model::config::CleanupPolicy;
use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Offset, ProducerId, Record, RecordBatch, Timestamp};

use crate::support::{check_closed_segments, dir, read_all};

pub(crate) const RETENTION_MS: u64 = 10_000;
pub(crate) const EXPIRATION_MS: u64 = 1_000_000_000;

/// Small segments that are always due.
pub(crate) fn config() -> LogConfig {
    LogConfig {
        cleanup: CleanupPolicy { delete: false, compact: true },
        delete_retention_ms: RETENTION_MS,
        min_cleanable_dirty_ratio_ppm: 0,
        segment_bytes: 1500,
        index_interval_bytes: 150,
        file_delete_delay_ms: 1000,
        ..LogConfig::default()
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Keys with the sizes of their values, `None` is a tombstone.
    Append {
        records: Vec<(u8, Option<usize>)>,
        codec: usize,
        producer: Option<u8>,
    },
    Flush,
    NextEpoch,
    Wait(i64),
    Compact {
        buffer_bytes: usize,
    },
    /// Per mille of the log that goes.
    AdvanceStart(i64),
    /// Per mille of the log that stays.
    Truncate(i64),
    Reopen,
}

#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) record: Record,
    /// When a round took it in first.
    pub(crate) cleaned: Option<i64>,
}

/// The last batch of a producer: offset of its last record, first sequence number, epoch.
pub(crate) type LastBatch = (i64, i32, i16);

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) flushed: i64,
    pub(crate) records: BTreeMap<i64, Written>,
    pub(crate) batches: BTreeMap<i64, (ProducerId, LastBatch)>,
    /// Time of the last round.
    pub(crate) round: i64,
    /// What a round looked at lies before it, and is committed: nobody truncates that.
    pub(crate) clean: i64,
}

impl Model {
    fn cut(&mut self, end: i64) {
        self.records.split_off(&end);
        self.batches.split_off(&end);
        self.end = end;
        self.flushed = self.flushed.min(end);
    }

    /// Offset of the newest record of each key before `below`.
    fn newest(&self, below: i64) -> BTreeMap<Bytes, i64> {
        let records = self.records.range(self.start..below);
        records.filter_map(|(offset, written)| Some((written.record.key.clone()?, *offset))).collect()
    }
}

pub(crate) struct World {
    pub(crate) memory: Arc<MemoryDisk>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) config: LogConfig,
    pub(crate) log: Option<PartitionLog>,
    pub(crate) model: Model,
    pub(crate) now: i64,
    epoch: i32,
    sequences: BTreeMap<u8, i32>,
}

impl World {
    pub(crate) fn new(config: LogConfig, halt_at: Option<u64>) -> Self {
        let memory = Arc::new(MemoryDisk::new());
        let (disk, faults) = FaultyDisk::new(memory.clone());
        if let Some(n) = halt_at {
            faults.halt_at(n);
        }
        let now = 1_000_000;
        let opened = PartitionLog::open(Arc::new(disk), dir(), &config, Timestamp(now), Shutdown::MemoryKept);
        let log = opened.ok().map(|(log, _)| log);
        assert!(log.is_some() || faults.halted());
        Self { memory, faults, config, log, model: Model::default(), now, epoch: 0, sequences: BTreeMap::new() }
    }

    pub(crate) fn log(&mut self) -> &mut PartitionLog {
        self.log.as_mut().expect("open")
    }

    /// Runs steps until they are over or the machine stops.
    pub(crate) fn run(&mut self, steps: &[Step]) {
        for step in steps {
            if self.log.is_none() || self.faults.halted() {
                return;
            }
            if let Err(error) = self.step(step) {
                assert!(self.faults.halted(), "{step:?} failed though the machine runs: {error}");
            }
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let (now, start, end) = (Timestamp(self.now), self.model.start, self.model.end);
        match step {
            Step::Append { records, codec, producer } => self.append(records, Compression::ALL[*codec], *producer),
            Step::Flush => {
                let flushed = self.log().flush();
                self.model.flushed = flushed.as_ref().map_or(self.model.flushed, |flushed| flushed.0);
                flushed.map(drop).map_err(|error| error.to_string())
            }
            Step::NextEpoch => {
                self.epoch += 1;
                Ok(())
            }
            Step::Wait(ms) => {
                self.now += ms;
                self.log().retain(now, Offset(end)).map(drop).map_err(|error| error.to_string())
            }
            Step::Compact { buffer_bytes } => {
                if let Some(report) = self.compact(*buffer_bytes)? {
                    self.check_clean(report.clean_until.0);
                }
                Ok(())
            }
            Step::AdvanceStart(gone) => {
                let raised = self.log().advance_log_start(Offset(start + (end - start) * gone / 1000));
                self.model.start = raised.as_ref().map_or(self.log().log_start().0, |raised| raised.0);
                raised.map(drop).map_err(|error| error.to_string())
            }
            Step::Truncate(kept) => {
                let from = start.max(self.model.clean);
                let offset = from + (end - from) * kept / 1000;
                // However far it comes before a crash.
                self.model.flushed = self.model.flushed.min(start);
                let cut = self.log().truncate_to(Offset(offset));
                if let Ok(cut) = cut {
                    assert!(cut.0 <= offset && cut.0 >= from.min(end), "{cut} of {from}..{end}");
                    self.model.cut(cut.0);
                    self.model.start = self.log().log_start().0;
                    self.model.flushed = cut.0;
                }
                cut.map(drop).map_err(|error| error.to_string())
            }
            Step::Reopen => {
                drop(self.log.take());
                self.boot(Crash::Kill, "reopened");
                Ok(())
            }
        }
    }

    fn append(
        &mut self,
        records: &[(u8, Option<usize>)],
        codec: Compression,
        producer: Option<u8>,
    ) -> Result<(), String> {
        let mut builder = BatchBuilder::new(codec);
        if let Some(producer) = producer {
            let sequence = self.sequences.entry(producer).or_insert(0);
            builder = builder.idempotent(ProducerId(i64::from(producer)), 1, *sequence);
            *sequence += records.len() as i32;
        }
        for (i, (key, size)) in records.iter().enumerate() {
            let value = size.map(|size| vec![*key; size]);
            builder.push(Timestamp(self.now - i as i64), Some(&[*key]), value.as_deref(), &[]);
        }
        let stamped = builder.build().stamp(Offset(self.model.end), LeaderEpoch(self.epoch));
        let (now, epoch) = (Timestamp(self.now), LeaderEpoch(self.epoch));
        let done = self.log().append(epoch, stamped.clone(), now).map(drop);
        // A failed one may be there after the crash.
        self.note(&stamped);
        done.map_err(|error| error.to_string())
    }

    pub(crate) fn note(&mut self, stamped: &RecordBatch) {
        let header = stamped.header();
        for record in stamped.records().expect("decodes") {
            let record = record.expect("decodes");
            self.model.records.insert(record.offset.0, Written { record, cleaned: None });
        }
        let last = (header.last_offset().0, header.base_sequence, header.producer_epoch);
        self.model.batches.insert(header.base_offset.0, (header.producer_id, last));
        self.model.end = header.next_offset().0;
    }

    pub(crate) fn compact(&mut self, buffer_bytes: usize) -> Result<Option<CompactionReport>, String> {
        let Some(compacted) = self.run_round(buffer_bytes)? else { return Ok(None) };
        let now = Timestamp(self.now);
        let report = self.log().apply_compaction(compacted, now).map_err(|error| error.to_string())?;
        Ok(Some(report))
    }

    /// A round, not applied yet.
    pub(crate) fn run_round(&mut self, buffer_bytes: usize) -> Result<Option<Compacted>, String> {
        let (now, end) = (Timestamp(self.now), Offset(self.model.end));
        let plan = self.log().compaction_plan(now, end).map_err(|error| error.to_string())?;
        let Some(plan) = plan else { return Ok(None) };
        let limits = CompactionLimits { buffer_bytes, producer_expiration_ms: EXPIRATION_MS };
        let compacted = match plan.run(limits, &mut |_| true) {
            Ok(compacted) => compacted,
            Err(error @ (CompactionError::Read(_) | CompactionError::Storage(_))) => return Err(error.to_string()),
            Err(error) => panic!("{error}"),
        };
        self.model.round = self.now;
        // It looked at what is committed and synced, perhaps further than it came.
        self.model.clean = self.model.clean.max(self.log().flushed().0);
        let clean_until = compacted.report().clean_until.0;
        let now = self.now;
        for (_, written) in self.model.records.range_mut(..clean_until) {
            written.cleaned = written.cleaned.or(Some(now));
        }
        Ok(Some(compacted))
    }

    /// The same stopped machine once more: its history may end in many ways.
    pub(crate) fn fork(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            faults: self.faults.clone(),
            config: self.config.clone(),
            log: None,
            model: self.model.clone(),
            now: self.now,
            epoch: self.epoch,
            sequences: self.sequences.clone(),
        }
    }

    /// Boots after a crash and checks the log; the model is cut to what was found.
    pub(crate) fn boot(&mut self, crash: Crash, context: &str) {
        let survived = Arc::new(self.memory.crash(crash));
        let shutdown = match crash {
            Crash::Kill => Shutdown::MemoryKept,
            Crash::Power { .. } => Shutdown::PowerLost,
        };
        let (disk, faults) = FaultyDisk::new(survived.clone());
        let opened = PartitionLog::open(Arc::new(disk), dir(), &self.config, Timestamp(self.now), shutdown);
        let (log, recovery) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(
            recovery.damaged.is_empty() && (self.model.clean == 0 || !recovery.scanned_all),
            "{context}: {recovery:?}"
        );
        let (start, end) = (log.log_start().0, log.log_end().0);
        assert!(start >= self.model.start, "{context}");
        assert!(end >= self.model.flushed.min(self.model.end) && end <= self.model.end.max(start), "{context}: {end}");
        self.model.cut(end);
        self.model.start = start;
        self.model.flushed = self.model.flushed.min(end);
        check_closed_segments(&*survived, context);
        (self.memory, self.faults, self.log) = (survived, faults, Some(log));
        self.check(context);
    }

    fn batches(&self) -> Vec<RecordBatch> {
        let reader = self.log.as_ref().expect("open").reader();
        batches(&reader)
    }

    /// What must hold at any time.
    pub(crate) fn check(&self, context: &str) {
        let batches = self.batches();
        let mut next = None;
        for batch in &batches {
            let header = batch.header();
            assert!(next.is_none_or(|next| next == header.base_offset), "{context}: offsets are dense");
            next = Some(header.next_offset());
        }
        assert!(next.is_none_or(|next| next == Offset(self.model.end)), "{context}");
        let found: BTreeMap<i64, Record> =
            records(&batches).filter(|(offset, _)| *offset >= self.model.start).collect();
        for (offset, record) in &found {
            let written = self.model.records.get(offset).map(|written| &written.record);
            assert_eq!(Some(record), written, "{context}: what is there is what was written");
        }
        for (key, offset) in self.model.newest(self.model.end) {
            let written = &self.model.records[&offset];
            let may_go = written.record.value.is_none()
                && written.cleaned.is_some_and(|since| self.model.round >= since + RETENTION_MS as i64);
            assert!(may_go || found.contains_key(&offset), "{context}: newest record of {key:?} at {offset}");
            if !found.contains_key(&offset) {
                // A tombstone goes after everything that it deletes.
                let older = found.values().find(|record| record.key.as_ref() == Some(&key));
                assert_eq!(older, None, "{context}: an older record outlived its tombstone at {offset}");
            }
        }
        let last: BTreeMap<_, _> = self.model.batches.range(self.model.start..).map(|(_, batch)| *batch).collect();
        for (producer, last) in last.into_iter().filter(|(producer, _)| *producer != ProducerId::NONE) {
            let of_producer = batches.iter().map(RecordBatch::header).filter(|header| header.producer_id == producer);
            let kept = of_producer.map(|header| (header.last_offset().0, header.base_sequence, header.producer_epoch));
            assert_eq!(kept.last(), Some(last), "{context}: last batch of producer {producer}");
        }
        self.check_lookups(&batches, context);
    }

    /// Reads in the middle, offsets and times find what a plain walk finds.
    fn check_lookups(&self, batches: &[RecordBatch], context: &str) {
        let reader = self.log.as_ref().expect("open").reader();
        let end = Offset(self.model.end);
        for batch in batches.iter().filter(|batch| batch.header().base_offset.0 >= self.model.start) {
            let header = batch.header();
            for offset in [header.base_offset, header.last_offset()] {
                let read = reader.read(offset, end, 1, true).expect("reads");
                assert!(read.starts_with(batch.bytes()), "{context}: the batch that holds {offset}");
                let some =
                    RecordBatch::split(read.clone()).any(|batch| batch.expect("whole").header().record_count > 0);
                let last = RecordBatch::split(read).last().expect("one").expect("whole");
                assert!(some || last.header().next_offset() == end, "{context}: no read without records but the last");
            }
        }
        let all: Vec<_> = records(batches).filter(|(offset, _)| *offset >= self.model.start).collect();
        let newest = all.iter().map(|(_, record)| record.timestamp).max();
        let newest = all.iter().find(|(_, record)| Some(record.timestamp) == newest);
        let found = reader.max_timestamp(end).expect("reads").map(|(offset, _)| offset.0);
        assert_eq!(found, newest.map(|(offset, _)| *offset), "{context}");
        for (_, record) in all.iter().step_by(1 + all.len() / 6) {
            let first = all.iter().find(|(_, other)| other.timestamp >= record.timestamp).map(|(offset, _)| *offset);
            let found = reader.offset_for_timestamp(record.timestamp, end).expect("reads");
            assert_eq!(found.map(|(offset, _)| offset.0), first, "{context}: first at {}", record.timestamp);
        }
    }

    /// What must hold after a round that came to its end.
    pub(crate) fn check_clean(&self, clean_until: i64) {
        self.check("after a round");
        let newest = self.model.newest(clean_until);
        let mut seen = BTreeSet::new();
        for (offset, record) in
            records(&self.batches()).filter(|(offset, _)| (self.model.start..clean_until).contains(offset))
        {
            let key = record.key.expect("keyless records go");
            assert_eq!(newest.get(&key), Some(&offset), "only the newest of {key:?} is left before {clean_until}");
            assert!(seen.insert(key));
        }
    }
}

pub(crate) fn batches(reader: &LogReader) -> Vec<RecordBatch> {
    let all = read_all(reader, reader.log_start().0, reader.log_end().0).expect("reads");
    RecordBatch::split(Bytes::from(all)).map(|batch| batch.expect("whole")).collect()
}

pub(crate) fn records(batches: &[RecordBatch]) -> impl Iterator<Item = (i64, Record)> {
    let all = batches.iter().filter(|batch| !batch.header().is_control());
    all.flat_map(|batch| batch.records().expect("decodes")).map(|record| {
        let record = record.expect("decodes");
        (record.offset.0, record)
    })
}
