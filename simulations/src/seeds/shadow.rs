//! What a log holds, batch by batch, beside the log itself: so that logs can be compared without reading them.

use bytes::Bytes;
use rafka_log::LogReader;
use rafka_model::{BatchHeader, ProducerId, RecordBatch};

/// A batch of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Piece {
    pub(super) base: i64,
    /// Offset behind its last record.
    pub(super) next: i64,
    pub(super) epoch: i32,
    /// Checksum of what the producer made; stays the same when the batch is stamped and copied.
    pub(super) crc: u32,
    pub(super) producer: ProducerId,
    pub(super) producer_epoch: i16,
    pub(super) sequence: i32,
}

impl Piece {
    pub(super) fn of(header: &BatchHeader) -> Self {
        Self {
            base: header.base_offset.0,
            next: header.next_offset().0,
            epoch: header.leader_epoch.0,
            crc: header.crc,
            producer: header.producer_id,
            producer_epoch: header.producer_epoch,
            sequence: header.base_sequence,
        }
    }
}

impl std::fmt::Display for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}..{} e{} {:08x}]", self.base, self.next, self.epoch, self.crc)
    }
}

/// The batches of a log, in order, without gaps.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadow {
    /// Log start; the first batch may begin below it.
    pub(super) start: i64,
    pieces: Vec<Piece>,
    /// Where it ends while it is empty.
    empty_end: i64,
}

impl Shadow {
    /// Reads a log.
    ///
    /// # Errors
    /// What the log said.
    pub(super) fn read(reader: &LogReader) -> Result<Self, String> {
        let (start, end) = (reader.log_start(), reader.log_end());
        let mut shadow = Self { start: start.0, pieces: Vec::new(), empty_end: start.0 };
        let mut at = start;
        while at < end {
            let bytes = reader.read(at, end, 1 << 20, true).map_err(|error| error.to_string())?;
            if bytes.is_empty() {
                return Err(format!("nothing can be read at {at}, the log ends at {end}"));
            }
            for batch in RecordBatch::split(bytes) {
                let batch = batch.map_err(|error| error.to_string())?;
                at = batch.header().next_offset();
                shadow.pieces.push(Piece::of(batch.header()));
            }
        }
        Ok(shadow)
    }

    pub(super) fn end(&self) -> i64 {
        self.pieces.last().map_or(self.empty_end, |last| last.next)
    }

    pub(super) fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    /// Drops the batches that reach beyond `end`.
    pub(super) fn truncate(&mut self, end: i64) {
        while self.pieces.last().is_some_and(|last| last.next > end) {
            let base = self.pieces.pop().map_or(end, |piece| piece.base);
            // A log that starts inside a batch does not go back behind its start with it.
            self.empty_end = base.max(self.start).min(end);
        }
        if self.pieces.is_empty() {
            self.empty_end = self.empty_end.min(end);
            self.start = self.start.min(end);
        }
    }

    pub(super) fn restart(&mut self, at: i64) {
        self.pieces.clear();
        (self.start, self.empty_end) = (at, at);
    }

    /// The batches that hold offsets from `from` on.
    pub(super) fn from(&self, from: i64) -> &[Piece] {
        let first = self.pieces.partition_point(|piece| piece.next <= from);
        &self.pieces[first..]
    }

    /// Drops what lies wholly below `start`.
    pub(super) fn advance_start(&mut self, start: i64) {
        self.start = self.start.max(start);
        let gone = self.pieces.partition_point(|piece| piece.next <= start);
        if gone == self.pieces.len() && gone > 0 {
            self.empty_end = self.end();
        }
        self.pieces.drain(..gone);
    }
}

/// The batches in `bytes`, checked.
///
/// # Errors
/// What is wrong with them.
pub(super) fn pieces(bytes: &Bytes) -> Result<Vec<Piece>, String> {
    RecordBatch::split(bytes.clone())
        .map(|batch| batch.map(|batch| Piece::of(batch.header())).map_err(|error| error.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(base: i64, next: i64) -> Piece {
        let (producer, producer_epoch, sequence) = (ProducerId::NONE, -1, -1);
        Piece { base, next, epoch: 0, crc: base as u32, producer, producer_epoch, sequence }
    }

    fn shadow() -> Shadow {
        let mut shadow = Shadow::default();
        [(49, 52), (52, 55)].into_iter().for_each(|(base, next)| shadow.push(piece(base, next)));
        shadow.advance_start(51);
        shadow
    }

    #[test]
    fn a_log_that_starts_inside_a_batch_is_cut_as_logs_are() {
        for (end, left) in [(53, (51, 52)), (52, (51, 52)), (51, (51, 51)), (40, (40, 40))] {
            let mut shadow = shadow();
            shadow.truncate(end);
            assert_eq!((shadow.start, shadow.end()), left, "cut at {end}");
        }
    }
}
