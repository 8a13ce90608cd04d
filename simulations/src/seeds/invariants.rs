//! The invariants of the cluster protocol, checked as things happen: each check looks only at what changed.
//!
//! The truth of a partition is the sequence of batches that some leader declared committed (its high watermark passed
//! them). Everybody is measured by it: whoever leads must hold all of it, whoever could be elected too, consumers see
//! nothing else.

use std::collections::BTreeMap;

use rafka_broker::metadata::{Image, PartitionState};
use rafka_model::{NodeId, ProducerId, TopicPartition};

use super::Violation;
use super::shadow::{Piece, Shadow};

/// What is known to be committed in each partition, and the first thing that went wrong.
#[derive(Debug, Default)]
pub(super) struct Truths {
    by_partition: BTreeMap<TopicPartition, Truth>,
    pub(super) violation: Option<Violation>,
    pub(super) step: u64,
    /// Partitions of which every member is to be looked at again.
    pub(super) suspects: Vec<TopicPartition>,
}

/// A replica in the leader epoch in which it believes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    pub(super) node: NodeId,
    pub(super) epoch: i32,
}

/// What is committed in a partition.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) log: Shadow,
    /// Records below were given up: deleted, or too old.
    deleted: i64,
    /// Each deletion: by the leader of which epoch, and before which offset. Holds of the records of that time also where
    /// a leader that never heard of it was elected uncleanly.
    deletions: Vec<(i32, i64)>,
    /// Offset behind the last batch that was acknowledged with acks=all.
    pub(super) acknowledged: i64,
    /// Batches change, as records vanish from them.
    pub(super) compacts: bool,
    /// Epoch of the last leader whose log an operator made the truth: what leaders of earlier ones say does not count.
    forgiven: i32,
    /// Leader by epoch.
    leaders: BTreeMap<i32, NodeId>,
    /// High watermark told to clients, by leader epoch.
    told: BTreeMap<i32, i64>,
    /// The last sequence number of each producer, with its epoch and the base offset of that batch.
    sequences: BTreeMap<ProducerId, (i16, i32, i64)>,
}

impl Truths {
    /// Notes that something is wrong; only the first is kept.
    pub(super) fn violate(&mut self, invariant: u8, text: String) {
        let step = self.step;
        self.violation.get_or_insert(Violation { step, invariant, text });
    }

    pub(super) fn of(&mut self, at: TopicPartition) -> &mut Truth {
        self.by_partition.entry(at).or_default()
    }

    pub(super) fn get(&self, at: TopicPartition) -> Option<&Truth> {
        self.by_partition.get(&at)
    }

    /// Since then an operator chose to lose records.
    fn is_past(&self, at: TopicPartition, epoch: i32) -> bool {
        self.by_partition.get(&at).is_some_and(|truth| epoch < truth.forgiven)
    }

    pub(super) fn suspect(&mut self, at: TopicPartition) {
        if !self.suspects.contains(&at) {
            self.suspects.push(at);
        }
    }

    /// Up to where a leader that heard `before` to be committed is known to agree. After an unclean election that is less
    /// where those who heard it have flushed more than whoever was elected then.
    pub(super) fn known(&self, at: TopicPartition, before: i64) -> i64 {
        let forgiven = self.by_partition.get(&at).filter(|truth| truth.forgiven > 0);
        forgiven.map_or(before, |truth| before.min(truth.log.end()))
    }

    /// A leader's high watermark moved from `before` to `now` over its log `shadow` (invariants 4, 6, 10).
    pub(super) fn commits(&mut self, at: TopicPartition, who: Who, shadow: &Shadow, before: i64, now: i64) {
        if self.is_past(at, who.epoch) {
            return;
        }
        let who = who.node;
        if now < before {
            self.violate(6, format!("the high watermark of leader {who} of {at} fell from {before} to {now}"));
            return;
        }
        if now > shadow.end() {
            self.violate(4, format!("leader {who} of {at} commits {now}, its log ends at {}", shadow.end()));
            return;
        }
        let truth = self.by_partition.entry(at).or_default();
        let end = truth.log.end();
        let mut wrong = None;
        for piece in shadow.from(before.min(now)).iter().take_while(|piece| piece.base < now) {
            if piece.next > end {
                if piece.base > truth.log.end() {
                    // Nobody ever saw what is missing here: it was deleted before it could be noted.
                    truth.log.restart(piece.base);
                }
                if let Some(words) = truth.follows(piece, shadow.start) {
                    wrong = Some((10, format!("{at} at leader {who}: {words}")));
                    break;
                }
                truth.log.push(*piece);
            } else if let Some(other) = truth.contradicts(piece) {
                let words = format!("leader {who} of {at} commits {piece}, {other} was committed there");
                wrong = Some((4, words));
                break;
            }
        }
        if let Some((invariant, words)) = wrong {
            self.violate(invariant, words);
        }
    }

    /// A follower's high watermark moved (invariants 4 and 6).
    pub(super) fn follows(&mut self, at: TopicPartition, who: Who, shadow: &Shadow, before: i64, now: i64) {
        if self.is_past(at, who.epoch) {
            return;
        }
        let who = who.node;
        let truth = self.by_partition.entry(at).or_default();
        let compared = shadow.from(before).iter().take_while(|piece| piece.base < now);
        let mut wrong = None;
        for piece in compared {
            if let Some(other) = truth.contradicts(piece) {
                wrong = Some(format!("follower {who} of {at} has {piece} below its high watermark {now}, not {other}"));
                break;
            }
        }
        if wrong.is_none() && now > truth.log.end().max(truth.deleted) {
            wrong = Some(format!("follower {who} of {at} believes that {now} is committed, {} is", truth.log.end()));
        }
        if let Some(words) = wrong {
            self.violate(4, words);
        }
    }

    /// Nobody has begun to lead in a later epoch. Who hears of its election late may be a leader of the past by then, but
    /// what it says still counts.
    pub(super) fn is_latest(&self, at: TopicPartition, epoch: i32) -> bool {
        let last = self.by_partition.get(&at).and_then(|truth| truth.leaders.last_key_value());
        last.is_none_or(|(last, _)| *last <= epoch)
    }

    /// `who` begins to lead with this log (invariant 7); if nobody led later, it has everything (invariant 1).
    pub(super) fn leads(&mut self, at: TopicPartition, who: Who, shadow: &Shadow) {
        let latest = self.is_latest(at, who.epoch);
        let Who { node: who, epoch } = who;
        let truth = self.by_partition.entry(at).or_default();
        let other = *truth.leaders.entry(epoch).or_insert(who);
        let missing = if latest { truth.missing(shadow) } else { None };
        if other != who {
            self.violate(7, format!("{at} has two leaders in epoch {epoch}: {other} and {who}"));
        }
        if let Some(words) = missing {
            self.violate(1, format!("{who} leads {at} in epoch {epoch} and lacks {words}"));
        }
    }

    /// A leader appended in `epoch` (invariant 7).
    pub(super) fn appends(&mut self, at: TopicPartition, who: NodeId, epoch: i32) {
        if self.by_partition.get(&at).and_then(|truth| truth.leaders.get(&epoch)) != Some(&who) {
            self.violate(7, format!("{who} appends to {at} in epoch {epoch}, in which it does not lead"));
        }
    }

    /// A batch was acknowledged with acks=all up to `next` by a leader whose log is `shadow` (invariant 1).
    pub(super) fn acknowledges(&mut self, at: TopicPartition, who: Who, next: i64) {
        if self.is_past(at, who.epoch) {
            return;
        }
        let who = who.node;
        let truth = self.by_partition.entry(at).or_default();
        truth.acknowledged = truth.acknowledged.max(next);
        if next > truth.log.end() {
            let end = truth.log.end();
            self.violate(1, format!("{who} acknowledges {at} up to {next}, {end} is committed"));
        }
    }

    /// A member of ISR or ELR that runs must hold everything (invariant 2).
    pub(super) fn member(&mut self, at: TopicPartition, who: NodeId, shadow: &Shadow, state: &PartitionState) {
        let Some(truth) = self.by_partition.get(&at) else { return };
        if let Some(words) = truth.missing(shadow) {
            let (isr, elr) = (ids(&state.isr), ids(&state.elr));
            self.violate(2, format!("{who} is in isr {isr} or elr {elr} of {at} and lacks {words}"));
        }
    }

    /// A client was told a high watermark in `epoch` (invariant 6).
    pub(super) fn tells(&mut self, at: TopicPartition, who: Who, high_watermark: i64) {
        if self.is_past(at, who.epoch) {
            return;
        }
        let Who { node: who, epoch } = who;
        let truth = self.by_partition.entry(at).or_default();
        let highest = truth.told.range(..=epoch).map(|(_, told)| *told).max().unwrap_or(0);
        truth.told.insert(epoch, high_watermark.max(highest));
        if high_watermark < highest {
            let words = format!("{who} says that {at} ends at {high_watermark} in epoch {epoch}, {highest} was said");
            self.violate(6, words);
        }
    }

    /// A consumer got these batches (invariant 5).
    pub(super) fn consumes(&mut self, at: TopicPartition, leader: Who, who: usize, pieces: &[Piece]) {
        if self.is_past(at, leader.epoch) {
            return;
        }
        let truth = self.by_partition.entry(at).or_default();
        for piece in pieces {
            let wrong = if piece.next > truth.log.end() {
                Some(format!("nothing of which is committed beyond {}", truth.log.end()))
            } else {
                truth.contradicts(piece).map(|other| format!("{other} was committed there"))
            };
            if let Some(words) = wrong {
                let leader = leader.node;
                self.violate(5, format!("consumer {who} got {piece} of {at} from {leader}, {words}"));
                return;
            }
        }
    }

    /// Everything that the metadata log must obey (invariants 7, 8, 9 and 15).
    pub(super) fn applied(&mut self, before: &Image, after: &Image) {
        let checked = after.check_invariants().and_then(|()| rafka_broker::invariants::transition(before, after));
        if let Err(violation) = checked {
            self.violate(9, format!("metadata entry {}: {}", after.index, violation.0));
        }
    }

    /// An operator chose to lose what the elected leader lacks: its log is the truth now, up to what it knows to be
    /// committed, and further as far as it agrees; but not beyond `sure`, what it cannot lose to the next power cut.
    pub(super) fn forgive(&mut self, at: TopicPartition, epoch: i32, shadow: &Shadow, high_watermark: i64, sure: i64) {
        let truth = self.by_partition.entry(at).or_default();
        truth.forgiven = truth.forgiven.max(epoch);
        let common = truth.common(shadow).max(high_watermark).min(sure);
        truth.log = shadow.clone();
        truth.log.truncate(common);
        truth.acknowledged = truth.acknowledged.min(common);
        truth.deleted = truth.deleted.min(shadow.end()).max(shadow.start);
        truth.told.values_mut().for_each(|told| *told = (*told).min(common));
        truth.sequences.clear();
    }
}

impl Truth {
    /// A leader is about to delete everything before an offset.
    pub(super) fn delete(&mut self, epoch: i32, before: i64) {
        self.deleted = self.deleted.max(before);
        self.deletions.push((epoch, before));
    }

    /// It need not be there any more, whatever became of the partition since.
    fn was_deleted(&self, piece: &Piece) -> bool {
        self.deletions.iter().any(|(epoch, before)| piece.epoch <= *epoch && piece.next <= *before)
    }

    /// The committed batch where `piece` is, if it is another one.
    fn contradicts(&self, piece: &Piece) -> Option<Piece> {
        let there = self.log.from(piece.base).first()?;
        let same = there.base == piece.base && there.next == piece.next && there.epoch == piece.epoch;
        let same = same && (self.compacts || there.crc == piece.crc);
        // What was deleted need not be known exactly.
        (!same && piece.next > self.deleted && there.base < piece.next).then_some(*there)
    }

    /// What of the truth `shadow` does not hold, in words.
    fn missing(&self, shadow: &Shadow) -> Option<String> {
        let given_up = |piece: &&Piece| piece.next <= self.deleted || self.was_deleted(piece);
        let mut before = self.log.from(self.log.start).iter().take_while(|piece| piece.next <= shadow.start);
        if let Some(gone) = before.find(|piece| !given_up(piece)) {
            return Some(format!("{gone}, which lies before its start {}", shadow.start));
        }
        let (from, end) = (shadow.start.max(self.deleted), self.log.end());
        if shadow.end() < end && end > from {
            return Some(format!("{}..{end} (acknowledged up to {})", shadow.end(), self.acknowledged));
        }
        let mut theirs = shadow.from(from).iter();
        for piece in self.log.from(from) {
            let found = theirs.next();
            if found.is_none_or(|found| self.contradicts(found).is_some() || found.base != piece.base) {
                let found = found.map(ToString::to_string).unwrap_or_default();
                return Some(format!("{piece} (has {found}; acknowledged up to {})", self.acknowledged));
            }
        }
        None
    }

    /// Up to where `shadow` agrees.
    fn common(&self, shadow: &Shadow) -> i64 {
        let mut common = shadow.start.max(self.deleted);
        let mut theirs = shadow.from(common).iter();
        for piece in self.log.from(common) {
            match theirs.next() {
                Some(found) if self.contradicts(found).is_none() && found.base == piece.base => common = piece.next,
                _ => return common.min(shadow.end()),
            }
        }
        common.max(self.log.end()).min(shadow.end())
    }

    /// Why `piece` must not be the next batch of its producer, in words.
    fn follows(&mut self, piece: &Piece, log_start: i64) -> Option<String> {
        if piece.producer == ProducerId::NONE {
            return None;
        }
        let last = piece.sequence + (piece.next - piece.base) as i32 - 1;
        let before = self.sequences.insert(piece.producer, (piece.producer_epoch, last, piece.base));
        let (epoch, sequence, base) = before?;
        let next = match piece.producer_epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => return Some(format!("{piece} is of an older epoch of {}", piece.producer)),
            std::cmp::Ordering::Equal => sequence + 1,
            std::cmp::Ordering::Greater => 0,
        };
        // A producer all of whose batches are gone is not known any more, and may go on anywhere (KIP-360).
        let known = base >= log_start;
        (piece.sequence != next && known).then(|| {
            format!("{piece} has sequence number {} of producer {}, {next} is next", piece.sequence, piece.producer)
        })
    }
}

pub(super) fn ids(nodes: &[NodeId]) -> String {
    let all: Vec<_> = nodes.iter().map(ToString::to_string).collect();
    format!("{{{}}}", all.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rafka_model::{PartitionId, TopicId};

    const AT: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionId(0) };

    fn who(node: u64, epoch: i32) -> Who {
        Who { node: NodeId(node), epoch }
    }

    /// A log of batches of ten records, from one number to another, all of one epoch.
    fn log(from: i64, to: i64, epoch: i32) -> Shadow {
        let mut shadow = Shadow::default();
        shadow.restart(from * 10);
        for base in (from..to).map(|i| i * 10) {
            let (producer, producer_epoch, sequence) = (ProducerId::NONE, -1, -1);
            shadow.push(Piece { base, next: base + 10, epoch, crc: base as u32, producer, producer_epoch, sequence });
        }
        shadow
    }

    /// What a member with this log lacks, if it is noticed.
    fn member(truths: &mut Truths, shadow: &Shadow) -> Option<u8> {
        truths.member(AT, NodeId(5), shadow, &PartitionState::default());
        truths.violation.take().map(|violation| violation.invariant)
    }

    #[test]
    fn what_was_deleted_need_not_come_back_with_a_leader_that_never_heard_of_it() {
        let mut truths = Truths::default();
        truths.leads(AT, who(1, 0), &log(0, 4, 0));
        truths.commits(AT, who(1, 0), &log(0, 4, 0), 0, 40);
        truths.of(AT).delete(0, 20);
        assert_eq!(member(&mut truths, &log(2, 4, 0)), None);
        // An empty log becomes the truth, and then an old one.
        truths.forgive(AT, 1, &log(0, 0, 0), 0, 0);
        truths.forgive(AT, 2, &log(0, 3, 0), 30, 30);
        assert_eq!(member(&mut truths, &log(2, 3, 0)), None);
        assert_eq!(member(&mut truths, &log(0, 3, 0)), None);
        assert_eq!(member(&mut truths, &log(2, 2, 0)), Some(2));
        // What is written since there was never deleted.
        truths.forgive(AT, 3, &log(0, 3, 3), 30, 30);
        assert_eq!(member(&mut truths, &log(2, 3, 3)), Some(2));
    }

    #[test]
    fn what_an_unclean_leader_has_not_flushed_is_not_the_truth_yet() {
        let mut truths = Truths::default();
        truths.commits(AT, who(1, 0), &log(0, 4, 0), 0, 40);
        truths.forgive(AT, 1, &log(0, 3, 0), 30, 20);
        assert_eq!(member(&mut truths, &log(0, 2, 0)), None);
        let known = truths.known(AT, 30);
        truths.commits(AT, who(2, 1), &log(0, 3, 0), known, 30);
        assert_eq!(member(&mut truths, &log(0, 2, 0)), Some(2));
    }

    #[test]
    fn who_hears_of_its_election_late_counts_until_somebody_leads_later() {
        let mut truths = Truths::default();
        truths.leads(AT, who(1, 0), &log(0, 2, 0));
        assert!(truths.is_latest(AT, 0) && truths.is_latest(AT, 3));
        truths.leads(AT, who(2, 3), &log(0, 2, 0));
        assert!(!truths.is_latest(AT, 2) && truths.is_latest(AT, 3));
        truths.commits(AT, who(2, 3), &log(0, 2, 0), 0, 20);
        truths.leads(AT, who(1, 2), &log(0, 1, 0));
        assert_eq!(truths.violation, None, "nobody listens to it");
        truths.leads(AT, who(1, 4), &log(0, 1, 0));
        assert_eq!(truths.violation.map(|violation| violation.invariant), Some(1));
    }
}
