//! The sidecar cache: batches of partitions that other nodes lead, as their leaders gave them out.
//!
//! A leader gives out committed records only, so nothing else is ever here. With each partition goes a *mark*: what its
//! leader last said of it. Records are given out only while the mark is young, of the leader epoch that the image names,
//! and only below the high watermark that it tells; what comes behind is the leader's to say.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use rafka_broker::metadata::Image;
use rafka_broker::request::{EpochEnd, FetchPartition, Fetched};
use rafka_cache::Stats;
use rafka_model::limits::{GATEWAY_FRESH_MS_MAX, GATEWAY_MARK_MS_MAX};
use rafka_model::{BatchHeader, Chunks, LeaderEpoch, Offset, TopicPartition};
use tokio::time::Instant;

use crate::partitions::BatchCache;

const YOUNG: Duration = Duration::from_millis(GATEWAY_MARK_MS_MAX);
const FRESH: Duration = Duration::from_millis(GATEWAY_FRESH_MS_MAX);

/// The cache and its marks.
#[derive(Debug)]
pub(crate) struct HotCache {
    batches: BatchCache,
    marks: Mutex<HashMap<TopicPartition, Mark>>,
}

/// What a leader last said of its partition.
#[derive(Clone, Copy, Debug)]
struct Mark {
    epoch: LeaderEpoch,
    high_watermark: Offset,
    log_start: Offset,
    heard: Instant,
    /// Where an earlier epoch ended; as long as the leader stays, it does not change.
    end: Option<(LeaderEpoch, EpochEnd)>,
}

impl HotCache {
    /// A cache of `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { batches: BatchCache::new(bytes_max), marks: Mutex::default() }
    }

    /// What the leader of `epoch` gave out, in an answer with records of so many bytes in all.
    pub(crate) fn take_in(&self, at: TopicPartition, epoch: LeaderEpoch, fetched: &Fetched, answer_bytes: usize) {
        let mut marks = self.marks.lock();
        let mut mark = Mark {
            epoch,
            high_watermark: fetched.high_watermark,
            log_start: fetched.log_start,
            heard: Instant::now(),
            end: None,
        };
        match marks.get(&at) {
            Some(known) if known.epoch > epoch => return,
            Some(known) if known.epoch == epoch => {
                mark.high_watermark = mark.high_watermark.max(known.high_watermark);
                mark.log_start = mark.log_start.max(known.log_start);
                mark.end = known.end;
                if mark.log_start > known.log_start {
                    self.batches.drop_below(at, mark.log_start);
                }
            }
            _ => self.batches.drop_partition(at),
        }
        marks.insert(at, mark);
        // Under the lock: a mark of a newer leader must not come between.
        for records in fetched.records.as_slice() {
            if let Some(next) = end_of(records) {
                self.batches.fill(at, records, next, answer_bytes);
            }
        }
    }

    /// The log begins here now.
    pub(crate) fn starts_at(&self, at: TopicPartition, log_start: Offset) {
        if let Some(mark) = self.marks.lock().get_mut(&at).filter(|mark| mark.log_start < log_start) {
            mark.log_start = log_start;
            self.batches.drop_below(at, log_start);
        }
    }

    /// The records that `part` asks for, as far as they are here; none if they are and there is no room for them. `epoch`
    /// is the leader's by the image.
    pub(crate) fn read(
        &self,
        part: &FetchPartition,
        epoch: LeaderEpoch,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Fetched> {
        let mark = *self.marks.lock().get(&part.partition)?;
        let is_current = mark.epoch == epoch && part.leader_epoch.is_none_or(|believed| believed == epoch);
        if !is_current || mark.heard.elapsed() > YOUNG {
            return None;
        }
        if part.offset < mark.log_start || part.offset >= mark.high_watermark {
            return None;
        }
        let run = self.batches.read(part.partition, part.offset, mark.high_watermark, max_bytes, at_least_one)?;
        let mut records = Chunks::new();
        records.extend(run.pieces);
        Some(Fetched {
            high_watermark: mark.high_watermark,
            last_stable_offset: mark.high_watermark,
            log_start: mark.log_start,
            records,
        })
    }

    /// Has the leader of `epoch` said only now that there is nothing where `part` reads?
    pub(crate) fn is_drained(&self, part: &FetchPartition, epoch: LeaderEpoch) -> bool {
        self.marks.lock().get(&part.partition).is_some_and(|mark| {
            let is_current = mark.epoch == epoch && part.leader_epoch.is_none_or(|believed| believed == epoch);
            is_current && part.offset == mark.high_watermark && mark.heard.elapsed() <= FRESH
        })
    }

    /// An answer without records about a partition whose leader was not waited for. A high watermark is told only if it
    /// lies beyond what is asked for: nobody may take it for the end of the log.
    pub(crate) fn nothing(&self, at: TopicPartition, offset: Offset) -> Fetched {
        let mark = self.marks.lock().get(&at).copied();
        let (high_watermark, log_start) = match mark {
            Some(mark) if mark.high_watermark > offset => (mark.high_watermark, mark.log_start),
            _ => (Offset(-1), Offset(-1)),
        };
        Fetched { high_watermark, last_stable_offset: high_watermark, log_start, records: Chunks::new() }
    }

    /// Where an epoch before `current` ended, if its leader told.
    pub(crate) fn end_of(&self, at: TopicPartition, current: LeaderEpoch, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let marks = self.marks.lock();
        let (asked, end) = marks.get(&at).filter(|mark| mark.epoch == current)?.end?;
        (asked == epoch).then_some(end)
    }

    /// The leader of `current` told where an epoch before ended.
    pub(crate) fn ended(&self, at: TopicPartition, current: LeaderEpoch, epoch: LeaderEpoch, end: EpochEnd) {
        if let Some(mark) = self.marks.lock().get_mut(&at).filter(|mark| mark.epoch == current && epoch < current) {
            mark.end = Some((epoch, end));
        }
    }

    /// Forgets what the image does not have any more, or has under another leader.
    pub(crate) fn keep_only(&self, image: &Image) {
        self.marks.lock().retain(|at, mark| {
            let stays = image.partition(*at).is_some_and(|state| state.leader_epoch <= mark.epoch);
            if !stays {
                self.batches.drop_partition(*at);
            }
            stays
        });
    }

    pub(crate) fn stats(&self) -> Stats {
        self.batches.stats()
    }
}

/// Offset behind the last of whole batches; `None` without any.
fn end_of(mut records: &[u8]) -> Option<Offset> {
    let mut end = None;
    while let Ok(header) = BatchHeader::parse(records) {
        end = Some(header.next_offset());
        records = records.get(header.total_bytes()..)?;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::testing::{at, batch, image};

    fn fetched(batches: &[(i64, &str)], high_watermark: i64, log_start: i64) -> Fetched {
        let records: Vec<u8> = batches.iter().flat_map(|(base, value)| batch(*base, value).to_vec()).collect();
        let high_watermark = Offset(high_watermark);
        Fetched {
            high_watermark,
            last_stable_offset: high_watermark,
            log_start: Offset(log_start),
            records: bytes::Bytes::from(records).into(),
        }
    }

    fn wanted(offset: i64) -> FetchPartition {
        FetchPartition { partition: at(0), leader_epoch: None, offset: Offset(offset), max_bytes: 1 << 20 }
    }

    const EPOCH: LeaderEpoch = LeaderEpoch(3);

    fn reads(cache: &HotCache, offset: i64) -> Option<usize> {
        cache.read(&wanted(offset), EPOCH, 1 << 20, true).map(|found| found.records.len())
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_given_out_while_the_leader_was_heard_lately() {
        let cache = HotCache::new(1 << 20);
        cache.take_in(at(0), EPOCH, &fetched(&[(0, "a"), (1, "b")], 9, 0), 0);
        let one = batch(0, "a").len();
        assert_eq!((reads(&cache, 0), reads(&cache, 1), reads(&cache, 2)), (Some(2 * one), Some(one), None));
        let other = FetchPartition { leader_epoch: Some(LeaderEpoch(2)), ..wanted(0) };
        assert!(cache.read(&other, EPOCH, 1 << 20, true).is_none(), "the leader must say that it is fenced");
        assert_eq!(cache.nothing(at(0), Offset(8)).high_watermark, Offset(9));
        assert_eq!(cache.nothing(at(0), Offset(9)).high_watermark, Offset(-1), "the end is the leader's to tell");
        tokio::time::advance(YOUNG * 2).await;
        assert_eq!(reads(&cache, 0), None);
        cache.take_in(at(0), EPOCH, &fetched(&[], 9, 0), 0);
        assert_eq!(reads(&cache, 0), Some(2 * one), "an empty answer is a sign of life");
    }

    #[tokio::test]
    async fn what_was_deleted_or_has_another_leader_is_gone() {
        let cache = HotCache::new(1 << 20);
        cache.take_in(at(0), EPOCH, &fetched(&[(0, "a"), (1, "b"), (2, "c")], 3, 0), 0);
        cache.starts_at(at(0), Offset(1));
        assert!(reads(&cache, 0).is_none() && reads(&cache, 1).is_some());
        cache.take_in(at(0), EPOCH, &fetched(&[], 3, 2), 0);
        assert!(reads(&cache, 1).is_none() && reads(&cache, 2).is_some());
        cache.take_in(at(0), LeaderEpoch(2), &fetched(&[], 1, 0), 0);
        assert!(reads(&cache, 2).is_some(), "an old leader changes nothing");
        cache.keep_only(&image(&[1, 1, 1]));
        assert!(reads(&cache, 2).is_some());
        let mut gone = image(&[1, 1, 1]);
        gone.topics.clear();
        cache.keep_only(&gone);
        assert!(reads(&cache, 2).is_none() && cache.stats().entries == 0);
    }
}
