//! A log beside a plain vector that says what it must hold.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rafka_log::disk::{Crash, Disk, Faults, FaultyDisk, MemoryDisk};
use rafka_log::{LogConfig, LogReader, PartitionLog, ReadError, Recovery, SegmentBatches, Shutdown};
use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Offset, RecordBatch, StorageEngine, Timestamp};

pub(crate) const DIR: &str = "/data/topic-0";

pub(crate) fn dir() -> &'static Path {
    Path::new(DIR)
}

/// Small segments and dense indexes, so that a short history has many of both.
pub(crate) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 150,
        retention_ms: None,
        retention_bytes: Some(6000),
        file_delete_delay_ms: 1000,
        ..LogConfig::default()
    }
}

/// A batch whose records have the given timestamps and values of `bytes` bytes.
pub(crate) fn batch(times: &[i64], bytes: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    for (i, time) in times.iter().enumerate() {
        let value: Vec<u8> = (0..bytes).map(|at| (at as i64 * 7 + time + i as i64) as u8).collect();
        builder.push(Timestamp(*time), None, Some(&value), &[]);
    }
    builder.build()
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append {
        records: usize,
        bytes: usize,
        time: i64,
    },
    AppendAsIs {
        records: usize,
    },
    NextEpoch {
        durable: bool,
    },
    Flush,
    Checkpoint,
    Wait(i64),
    Retain,
    /// Per mille of the log that stays.
    Truncate(i64),
    /// Per mille of the log that goes.
    AdvanceStart(i64),
    RestartBehind(i64),
    Reopen,
}

/// What the log must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) flushed: i64,
    pub(crate) batches: Vec<RecordBatch>,
}

impl Model {
    fn bytes(&self, from: i64, below: i64) -> Vec<u8> {
        let inside =
            |batch: &&RecordBatch| batch.header().next_offset().0 > from && batch.header().next_offset().0 <= below;
        self.batches.iter().filter(inside).flat_map(|batch| batch.bytes().to_vec()).collect()
    }

    fn records(&self, below: i64) -> Vec<(i64, i64)> {
        let records = self.batches.iter().flat_map(|batch| batch.records().expect("decodes"));
        let all = records.map(|record| record.expect("decodes")).map(|record| (record.offset.0, record.timestamp.0));
        all.filter(|(offset, _)| (self.start..below).contains(offset)).collect()
    }

    /// Forgets the batches that reach beyond `end`.
    pub(crate) fn cut(&mut self, end: i64) {
        let gone = self.batches.iter().find(|batch| batch.header().next_offset().0 > end);
        self.end = gone.map_or(self.end, |batch| batch.header().base_offset.0).max(self.start);
        self.batches.retain(|batch| batch.header().next_offset().0 <= end);
        self.flushed = self.flushed.min(self.end);
    }
}

pub(crate) struct World {
    pub(crate) memory: Arc<MemoryDisk>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) config: LogConfig,
    pub(crate) log: Option<PartitionLog>,
    pub(crate) model: Model,
    pub(crate) now: i64,
    pub(crate) epoch: i32,
    /// The step during which the machine stopped, and the batch it was about to append.
    pub(crate) interrupted: Option<(Step, Option<RecordBatch>)>,
}

impl World {
    pub(crate) fn new(config: LogConfig, halt_at: Option<u64>) -> Self {
        let memory = Arc::new(MemoryDisk::new());
        let (disk, faults) = FaultyDisk::new(memory.clone());
        if let Some(n) = halt_at {
            faults.halt_at(n);
        }
        let mut world = Self {
            memory,
            faults,
            config,
            log: None,
            model: Model::default(),
            now: 1_000_000,
            epoch: 0,
            interrupted: None,
        };
        match world.open(Arc::new(disk), Shutdown::MemoryKept) {
            Ok((log, _)) => world.log = Some(log),
            Err(_) if world.faults.halted() => world.interrupted = Some((Step::Reopen, None)),
            Err(error) => panic!("{error}"),
        }
        world
    }

    pub(crate) fn open(
        &self,
        disk: Arc<dyn Disk>,
        shutdown: Shutdown,
    ) -> Result<(PartitionLog, Recovery), rafka_log::LogError> {
        PartitionLog::open(disk, dir(), &self.config, Timestamp(self.now), shutdown)
    }

    /// Runs steps until they are over or the machine stops.
    pub(crate) fn run(&mut self, steps: &[Step]) {
        for step in steps {
            if self.interrupted.is_some() {
                return;
            }
            self.step(step);
            if self.faults.halted() && self.interrupted.is_none() {
                // It stopped in something that does not fail, like saving an index.
                self.interrupted = Some((Step::Checkpoint, None));
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let now = Timestamp(self.now);
        let mut log = self.log.take().expect("the machine runs");
        let failed = match step {
            Step::Append { records, bytes, time } => {
                let times: Vec<i64> = (0..*records as i64).map(|i| self.now + time * (i % 3)).collect();
                self.append(&mut log, batch(&times, *bytes), false)
            }
            Step::AppendAsIs { records } => {
                let stamped =
                    batch(&vec![self.now; *records], 40).stamp(Offset(self.model.end), LeaderEpoch(self.epoch));
                self.append(&mut log, stamped, true)
            }
            Step::NextEpoch { durable } => {
                self.epoch += 1;
                durable.then(|| log.begin_epoch(LeaderEpoch(self.epoch))).and_then(Result::err).map(|_| None)
            }
            Step::Flush => match log.flush() {
                Ok(end) => {
                    assert_eq!((end.0, log.dirty_bytes(), log.dirty_since()), (self.model.end, 0, None));
                    self.model.flushed = self.model.end;
                    None
                }
                Err(_) => Some(None),
            },
            Step::Checkpoint => log.checkpoint().err().map(|_| None),
            Step::Wait(ms) => {
                self.now += ms;
                None
            }
            Step::Retain => log.retain(now, Offset(self.model.end)).err().map(|_| None),
            Step::Truncate(kept) => {
                let offset = self.model.start + (self.model.end - self.model.start) * kept / 1000;
                match log.truncate_to(Offset(offset)) {
                    Ok(end) => {
                        assert!(end.0 <= offset.max(self.model.start));
                        self.model.cut(offset);
                        assert_eq!(end.0, self.model.end);
                        None
                    }
                    Err(_) => Some(None),
                }
            }
            Step::AdvanceStart(gone) => {
                let offset = self.model.start + (self.model.end - self.model.start) * gone / 1000;
                log.advance_log_start(Offset(offset)).err().map(|_| None)
            }
            Step::RestartBehind(distance) => {
                let offset = (self.model.end + distance).max(0);
                match log.restart_at(Offset(offset)) {
                    Ok(()) => {
                        self.model = Model { start: offset, end: offset, flushed: offset, batches: Vec::new() };
                        None
                    }
                    Err(_) => Some(None),
                }
            }
            Step::Reopen => match log.close_clean() {
                Ok(()) => {
                    self.model.flushed = self.model.end;
                    let (disk, faults) = FaultyDisk::new(self.memory.clone());
                    let reopened = self.open(Arc::new(disk), Shutdown::MemoryKept);
                    let (again, recovery) = reopened.expect("opens after a clean stop");
                    assert_eq!(recovery, Recovery::default(), "nothing to repair after a clean stop");
                    // The fault counts from the beginning of the world.
                    drop(faults);
                    self.log = Some(again);
                    return;
                }
                Err(_) => {
                    self.stop(step, None);
                    return;
                }
            },
        };
        if let Some(pending) = failed {
            self.stop(step, pending);
        } else {
            self.model.start = log.log_start().0.max(self.model.start);
            assert_eq!(log.log_start().0, self.model.start);
            self.log = Some(log);
        }
    }

    fn stop(&mut self, step: &Step, pending: Option<RecordBatch>) {
        assert!(self.faults.halted(), "{step:?} failed though the machine runs");
        self.interrupted = Some((step.clone(), pending));
    }

    /// `Some(pending batch)` if it failed.
    fn append(&mut self, log: &mut PartitionLog, batch: RecordBatch, as_is: bool) -> Option<Option<RecordBatch>> {
        let now = Timestamp(self.now);
        let stamped = batch.clone().stamp(Offset(self.model.end), LeaderEpoch(self.epoch));
        let appended = match as_is {
            true => log.append_as_is(&batch, now).map(|last| (last, None)),
            false => log.append(LeaderEpoch(self.epoch), batch, now).map(|a| (a.last_offset, Some(a.into_batch()))),
        };
        match appended {
            Ok((last, returned)) => {
                assert_eq!(last, stamped.header().last_offset());
                assert!(returned.is_none_or(|returned| returned == stamped));
                self.model.end = last.0 + 1;
                self.model.batches.push(stamped);
                None
            }
            Err(_) => Some(Some(stamped)),
        }
    }

    /// Boots after a crash and checks that the log holds what it must; then the model is what was found.
    pub(crate) fn boot(&mut self, crash: Crash, context: &str) {
        let survived = Arc::new(self.memory.crash(crash));
        let (shutdown, at_least) = match crash {
            Crash::Kill => (Shutdown::MemoryKept, self.model.end),
            Crash::Power { .. } => (Shutdown::PowerLost, self.model.flushed),
        };
        let (disk, faults) = FaultyDisk::new(survived.clone());
        let opened = PartitionLog::open(Arc::new(disk), dir(), &self.config, Timestamp(self.now), shutdown);
        let (log, recovery) = opened.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(recovery.damaged.is_empty(), "{context}: {recovery:?}");
        let (start, end) = (log.log_start().0, log.log_end().0);
        let interrupted = self.interrupted.take();
        let mut at_least = at_least.max(start);
        match &interrupted {
            Some((Step::RestartBehind(distance), _)) => {
                let offset = (self.model.end + distance).max(0);
                if start == offset && end == offset {
                    self.model = Model { start, end, flushed: end, batches: Vec::new() };
                }
                at_least = start;
            }
            Some((Step::Truncate(kept), _)) => {
                at_least = at_least.min(self.model.start + (self.model.end - self.model.start) * kept / 1000);
                at_least = at_least.min(end);
            }
            Some((Step::AdvanceStart(_) | Step::Retain, _)) => {
                assert!(start >= self.model.start, "{context}");
                self.model.start = start;
            }
            _ => {}
        }
        if let Some((_, Some(pending))) = interrupted {
            self.model.end = pending.header().next_offset().0;
            self.model.batches.push(pending);
        }
        assert_eq!(start, self.model.start, "{context}: log start");
        assert!(
            at_least <= end && end <= self.model.end.max(start),
            "{context}: {at_least} <= {end} <= {}",
            self.model.end
        );
        if end < self.model.end {
            self.model.cut(end);
        } else if end > self.model.end {
            // The log's start was durable, what lay before it was not: it begins anew there.
            (self.model.end, self.model.batches) = (end, Vec::new());
        }
        assert_eq!(end, self.model.end, "{context}: ends between two batches");
        self.model.flushed = self.model.flushed.min(end);
        check_closed_segments(&*survived, context);
        (self.memory, self.faults, self.log) = (survived, faults, Some(log));
        check(&self.log.as_ref().expect("open").reader(), &self.model, context);
    }

    pub(crate) fn interrupted_step(&self) -> Option<&Step> {
        self.interrupted.as_ref().map(|(step, _)| step)
    }

    pub(crate) fn check(&self, context: &str) {
        check(&self.log.as_ref().expect("open").reader(), &self.model, context);
    }
}

/// No closed segment has anything behind its batches: nobody would look there again.
pub(crate) fn check_closed_segments(disk: &dyn Disk, context: &str) {
    let names = disk.list(dir()).expect("lists");
    let segments: Vec<_> = names.iter().filter(|name| name.ends_with(".log")).map(|name| dir().join(name)).collect();
    for closed in segments.split_last().map_or(&[][..], |(_, closed)| closed) {
        let batches = SegmentBatches::open(disk, closed).expect("opens");
        let bytes: u64 = batches.map(|batch| batch.expect("whole").1.len() as u64).sum();
        assert_eq!(disk.len(closed).expect("there"), bytes, "{context}: {} has a tail", closed.display());
    }
}

/// Everything that a reader can ask has the answer of the plain vector.
pub(crate) fn check(reader: &LogReader, model: &Model, context: &str) {
    assert_eq!((reader.log_start().0, reader.log_end().0), (model.start, model.end), "{context}");
    assert_eq!(read_all(reader, model.start, model.end), Ok(model.bytes(model.start, model.end)), "{context}");
    for batch in model.batches.iter().filter(|batch| batch.header().base_offset.0 >= model.start) {
        let header = batch.header();
        for offset in [header.base_offset, header.last_offset()] {
            let one = reader.read(offset, Offset(model.end), 1, true).expect("reads");
            assert_eq!(one, batch.bytes(), "{context}: a read in a batch returns the whole batch");
        }
        let too_small = batch.len() as u32 - 1;
        assert!(reader.read(header.base_offset, Offset(model.end), too_small, false).expect("reads").is_empty());
        assert!(reader.read(header.base_offset, header.last_offset(), 1 << 20, true).expect("reads").is_empty());
        assert_eq!(reader.epoch_at(header.base_offset), Some(header.leader_epoch), "{context}");
        let ends = model.batches.iter().find(|other| other.header().leader_epoch > header.leader_epoch);
        let ends = ends.map_or(Offset(model.end), |other| other.header().base_offset);
        let end = reader.end_offset_for_epoch(header.leader_epoch);
        assert!(end.is_some_and(|(epoch, end)| epoch == header.leader_epoch && end == ends), "{context}: {end:?}");
    }
    let outside =
        |offset| matches!(reader.read(Offset(offset), Offset(model.end), 1, true), Err(ReadError::OutOfRange { .. }));
    assert!(outside(model.start - 1) && outside(model.end + 1), "{context}");
    let middle = model.start + (model.end - model.start) / 2;
    let boundary = model.batches.iter().map(|batch| batch.header().next_offset().0).find(|next| *next >= middle);
    for below in [Some(model.end), boundary].into_iter().flatten() {
        let records = model.records(below);
        let newest = records.iter().map(|(_, time)| *time).max();
        let newest = records.iter().find(|(_, time)| Some(*time) == newest).copied();
        let found = reader.max_timestamp(Offset(below)).expect("reads").map(|(offset, time)| (offset.0, time.0));
        assert_eq!(found, newest, "{context}: max timestamp below {below}");
        let times = records.iter().step_by(1 + records.len() / 8).map(|(_, time)| *time);
        for time in times.flat_map(|time| [time, time + 1]) {
            let first = records.iter().find(|(_, t)| *t >= time).copied();
            let found = reader.offset_for_timestamp(Timestamp(time), Offset(below)).expect("reads");
            assert_eq!(
                found.map(|(offset, time)| (offset.0, time.0)),
                first,
                "{context}: first at {time} below {below}"
            );
        }
    }
}

pub(crate) fn read_all(reader: &LogReader, from: i64, below: i64) -> Result<Vec<u8>, ReadError> {
    let (mut at, mut all) = (from, Vec::new());
    while at < below {
        let bytes: Bytes = reader.read(Offset(at), Offset(below), 700, true)?;
        let last = RecordBatch::split(bytes.clone()).last().expect("at least one").expect("whole");
        at = last.header().next_offset().0;
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// A history in which every kind of change happens, some of them twice in a row.
pub(crate) fn history() -> Vec<Step> {
    let append = |records, bytes| Step::Append { records, bytes, time: 5 };
    vec![
        append(1, 10),
        append(3, 100),
        Step::Flush,
        append(2, 300),
        Step::Checkpoint,
        append(1, 700),
        append(4, 200),
        Step::NextEpoch { durable: true },
        append(1, 50),
        append(5, 150),
        append(2, 600),
        Step::Flush,
        Step::Checkpoint,
        append(2, 400),
        append(1, 900),
        Step::Truncate(600),
        append(2, 200),
        append(2, 500),
        Step::NextEpoch { durable: false },
        Step::AppendAsIs { records: 3 },
        append(3, 300),
        append(3, 500),
        Step::AdvanceStart(300),
        Step::Retain,
        append(1, 20),
        Step::Checkpoint,
        append(6, 200),
        Step::Wait(2000),
        Step::Retain,
        Step::Flush,
        append(2, 100),
        Step::RestartBehind(10),
        append(2, 300),
        Step::Flush,
        append(3, 600),
        append(3, 600),
        Step::Truncate(0),
        append(1, 10),
    ]
}

pub(crate) fn memory_config() -> LogConfig {
    LogConfig { storage_engine: StorageEngine::Memory, ..config() }
}
