//! The chunk that the user is in, record by record.

use std::collections::VecDeque;

use rafka_model::batch::Records;
use rafka_model::{Offset, PartitionId, RecordBatch, TopicName};

use super::fetcher::{Chunk, Progress, Slot};
use crate::{ConsumedRecord, Error, ErrorKind};

/// The chunk that is being read.
pub(super) struct Current {
    pub(super) slot: Slot,
    topic: TopicName,
    partition: PartitionId,
    pub(super) from: Offset,
    stop: Option<Offset>,
    batches: VecDeque<RecordBatch>,
    records: Option<Records>,
    pub(super) bytes: usize,
    /// The offset behind all of it that is wanted.
    end: Offset,
    pub(super) progress: Progress,
    /// A record was given away since `progress` was told.
    pub(super) given: bool,
}

impl Current {
    pub(super) fn new(chunk: Chunk) -> Self {
        let Chunk { slot, topic, partition, from, next, stop, batches, bytes, progress } = chunk;
        let end = stop.map_or(next, |stop| stop.min(next)).max(from);
        Self { slot, topic, partition, from, stop, batches, records: None, bytes, end, progress, given: false }
    }

    /// What was given is done with.
    pub(super) fn confirm(&mut self) {
        if std::mem::take(&mut self.given) {
            self.progress.set(self.from);
        }
    }

    /// There is nothing more in it: what follows the last record (markers, compacted records) is done with, too.
    pub(super) fn finish(&mut self) {
        (self.from, self.given) = (self.end.max(self.from), true);
    }

    pub(super) fn next(&mut self) -> Option<Result<ConsumedRecord, Error>> {
        loop {
            let Some(records) = &mut self.records else {
                let batch = self.batches.pop_front()?;
                // Markers of transactions are not records of a user.
                if batch.header().is_control() {
                    continue;
                }
                match batch.records() {
                    Ok(records) => self.records = Some(records),
                    Err(error) => return Some(Err(self.corrupt(&error, batch.header().base_offset))),
                }
                continue;
            };
            match records.next() {
                Some(Ok(record)) if record.offset < self.from => {}
                Some(Ok(record)) if self.stop.is_some_and(|stop| record.offset >= stop) => {}
                Some(Ok(record)) => {
                    self.from = record.offset.plus(1);
                    self.given = true;
                    return Some(Ok(ConsumedRecord {
                        topic: self.topic.clone(),
                        partition: self.partition,
                        offset: record.offset,
                        timestamp: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    }));
                }
                Some(Err(error)) => return Some(Err(self.corrupt(&error, self.from))),
                None => self.records = None,
            }
        }
    }

    fn corrupt(&self, error: &rafka_model::BatchError, at: Offset) -> Error {
        let what = format!("{}/{} cannot be read at offset {at}", self.topic, self.partition);
        Error::new(ErrorKind::Failed, what).because(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Timestamp};

    use super::*;

    fn current(from: i64, stop: Option<i64>) -> Current {
        let mut builder = BatchBuilder::new(Compression::None);
        for value in ["a", "b", "c"] {
            builder.push(Timestamp(1), None, Some(value.as_bytes()), &[]);
        }
        let batch = builder.build().stamp(Offset(10), LeaderEpoch(1));
        Current::new(Chunk {
            slot: Slot::first(),
            topic: TopicName::new("t").expect("legal"),
            partition: PartitionId(0),
            from: Offset(from),
            next: batch.header().next_offset(),
            stop: stop.map(Offset),
            bytes: batch.len(),
            batches: [batch].into(),
            progress: Progress::default(),
        })
    }

    fn offset(current: &mut Current) -> Option<i64> {
        current.next().map(|record| record.expect("sound").offset.0)
    }

    #[test]
    fn a_record_is_done_with_when_that_is_said_and_not_when_it_is_given() {
        let mut current = current(11, None);
        let progress = current.progress.clone();
        current.confirm();
        assert_eq!(progress.get(), None, "nothing was given yet");
        assert_eq!(offset(&mut current), Some(11), "those below were read before");
        assert_eq!(progress.get(), None);
        current.confirm();
        assert_eq!(progress.get(), Some(Offset(12)));
        assert_eq!((offset(&mut current), offset(&mut current)), (Some(12), None));
        assert_eq!(progress.get(), Some(Offset(12)));
        current.finish();
        current.confirm();
        assert_eq!(progress.get(), Some(Offset(13)));
    }

    #[test]
    fn what_lies_behind_the_stop_is_neither_given_nor_done_with() {
        let mut current = current(10, Some(12));
        assert_eq!([(); 3].map(|()| offset(&mut current)), [Some(10), Some(11), None]);
        current.finish();
        current.confirm();
        assert_eq!(current.progress.get(), Some(Offset(12)));
    }
}
