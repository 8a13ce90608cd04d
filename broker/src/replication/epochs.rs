//! What a log knows of its leader epochs, and where two logs part (KIP-101, KIP-279, KIP-595).

use rafka_model::{LeaderEpoch, Offset};

/// The history of a replica's log. The driver answers from its log, under the lock under which it appends.
pub trait Epochs {
    /// Offset of the first record that is kept.
    fn log_start(&self) -> Offset;

    /// Offset behind the last record.
    fn log_end(&self) -> Offset;

    /// The largest epoch that is at most `epoch`, and where it ends; `None` if `epoch` is newer than all, or there are
    /// none. An epoch older than all ends where the oldest begins.
    fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;

    /// The newest epoch.
    fn latest_epoch(&self) -> Option<LeaderEpoch>;
}

/// As [`Epochs::end_offset_for_epoch`], but what is newer than all ends with the log. `None` without epochs.
pub(super) fn end_of(log: &impl Epochs, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
    log.end_offset_for_epoch(epoch).or_else(|| log.latest_epoch().map(|latest| (latest, log.log_end())))
}

/// Where another log, which ends at `offset` with a record of the epoch `last`, parts from `log`: of the largest epoch
/// named, only what lies before the offset named can be in both. `None` if the other is a beginning of `log`.
pub(super) fn divergence(
    log: &impl Epochs,
    offset: Offset,
    last: Option<LeaderEpoch>,
) -> Option<(LeaderEpoch, Offset)> {
    let end = log.log_end();
    let Some(last) = last else {
        return (offset > end).then(|| (log.latest_epoch().unwrap_or_default(), end));
    };
    // Without epochs this log is empty: everything before it was committed once, by whomever.
    let (epoch, until) = end_of(log, last).unwrap_or((last, end));
    (epoch < last || until < offset).then_some((epoch, until))
}
