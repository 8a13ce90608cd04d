//! Reading the log: recent entries from memory, older ones from disk.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use openraft::errors::LeaderChanged;
use openraft::storage::LeaderBoundedStreamError;
use openraft::{OptionalSend, RaftLogReader};
use rafka_log::disk::DiskFile;
use rafka_model::limits::METADATA_READ_BYTES_MAX;

use super::super::types::{LeaderId, LogId, RaftEntry, TypeConfig, Vote};
use super::writer::{Place, segment_path};
use super::{Shared, Slot, frame, weight};

/// Reads entries; a cheap clone for each task that does.
#[derive(Clone)]
pub(in super::super) struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Entries of `from..to` as far as there are any; stops early once `bytes_max` bytes are read, after at least one.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<RaftEntry>> {
        // A purge may take a file away between the look and the read; then there is less to look at.
        loop {
            let (entries, absent) = self.look(from, to, bytes_max);
            if absent.is_empty() {
                return Ok(entries);
            }
            let shared = self.shared.clone();
            let read = tokio::task::spawn_blocking(move || shared.load(&absent));
            match read.await.map_err(io::Error::other)? {
                Ok(mut loaded) => {
                    loaded.extend(entries);
                    return Ok(loaded);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.begins_after(from) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn begins_after(&self, index: u64) -> bool {
        self.shared.state.lock().first > index
    }

    /// What memory has of a range, and where the rest lies. Memory always holds the newer part.
    fn look(&self, from: u64, to: u64, bytes_max: usize) -> (Vec<RaftEntry>, Vec<(LogId, Place)>) {
        let mut state = self.shared.state.lock();
        let (mut entries, mut absent, mut bytes) = (Vec::new(), Vec::new(), 0);
        for index in from.max(state.first)..to.min(state.end()) {
            if bytes > bytes_max {
                break;
            }
            match state.slot(index) {
                Some(Slot { entry: Some(entry), .. }) => {
                    bytes += weight(entry);
                    entries.push(entry.clone());
                }
                Some(Slot { id, place: Some(place), .. }) => {
                    bytes += place.length as usize;
                    absent.push((*id, *place));
                }
                _ => break,
            }
        }
        (entries, absent)
    }

    fn vote(&self) -> Option<Vote> {
        self.shared.state.lock().vote
    }

    /// An error unless this voter still follows `leader`.
    fn check(&self, leader: LeaderId) -> Result<(), LeaderBoundedStreamError<TypeConfig>> {
        let vote = self.vote();
        match vote {
            Some(vote) if vote.committed && vote.leader_id == leader => Ok(()),
            _ => Err(LeaderChanged::new(leader, vote).into()),
        }
    }
}

impl Shared {
    fn load(&self, absent: &[(LogId, Place)]) -> io::Result<Vec<RaftEntry>> {
        let mut open: Option<(u64, Arc<dyn DiskFile>)> = None;
        let mut entries = Vec::with_capacity(absent.len());
        for (id, place) in absent {
            let path = segment_path(&self.dir, place.segment);
            if open.as_ref().is_none_or(|(segment, _)| *segment != place.segment) {
                open = Some((place.segment, self.disk.open(&path)?));
            }
            let Some((_, file)) = &open else { continue };
            let damaged = |reason: String| {
                let at = place.position;
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is damaged at byte {at}, entry {id}: {reason}", path.display()),
                )
            };
            let mut bytes = Vec::new();
            let from = place.position as usize - frame::FRAME_HEADER_BYTES;
            let length = frame::FRAME_HEADER_BYTES + place.length as usize;
            file.read_to(&mut bytes, length, from as u64)?;
            let (header, at) = frame::frame_at(&bytes, 0).map_err(damaged)?;
            if header.id != *id {
                return Err(damaged(format!("found entry {}", header.id)));
            }
            let payload = Bytes::from(bytes).slice(at as usize..);
            entries.push(frame::entry(&header, payload).map_err(damaged)?);
        }
        Ok(entries)
    }
}

/// The half-open range of positions that `range` means.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<RaftEntry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        self.read(from, to, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        self.read(start, end, METADATA_READ_BYTES_MAX).await
    }

    async fn entries_stream<R>(&mut self, range: R) -> impl futures::Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let reader = self.clone();
        let chunks = stream::try_unfold(from, move |from| {
            let reader = reader.clone();
            async move {
                let chunk = reader.read(from, to, METADATA_READ_BYTES_MAX).await?;
                let next = chunk.last().map(|entry| entry.log_id.index + 1);
                io::Result::Ok(next.map(|next| (stream::iter(chunk.into_iter().map(io::Result::Ok)), next)))
            }
        });
        chunks.try_flatten().boxed()
    }

    async fn leader_bounded_stream<R>(
        &mut self,
        leader: LeaderId,
        range: R,
    ) -> impl futures::Stream<Item = Result<RaftEntry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let reader = self.clone();
        let chunks = stream::try_unfold(from, move |from| {
            let reader = reader.clone();
            async move {
                reader.check(leader)?;
                let chunk = reader.read(from, to, METADATA_READ_BYTES_MAX).await?;
                // Entries read before a change of leader may have been replaced meanwhile.
                reader.check(leader)?;
                let next = chunk.last().map(|entry| entry.log_id.index + 1);
                let chunk = chunk.into_iter().map(Ok::<_, LeaderBoundedStreamError<TypeConfig>>);
                Ok::<_, LeaderBoundedStreamError<TypeConfig>>(next.map(|next| (stream::iter(chunk), next)))
            }
        });
        chunks.try_flatten().boxed()
    }
}
