//! Following a plan: what may begin, how far it is, what to take back.

use std::collections::{BTreeMap, BTreeSet};

use rafka_model::limits::MOVES_PER_NODE_MAX;
use rafka_model::{NodeId, TopicPartition};

use super::{Move, Rule, Rules, Why, settled};
use crate::metadata::{Image, PartitionState};

/// A reassignment to begin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Start {
    /// Which partition.
    pub at: TopicPartition,
    /// The replicas that it shall have, in order of preference.
    pub replicas: Vec<NodeId>,
    /// Which moves of the plan this is.
    pub steps: Vec<usize>,
}

/// How far one move is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// It has not begun.
    Waiting,
    /// The data is being copied.
    Running,
    /// It is done.
    Done,
    /// The partition is gone or was changed otherwise, or another move of it comes first.
    Void,
}

/// How far a plan is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Moves that have not begun.
    pub waiting: usize,
    /// Moves under way.
    pub running: usize,
    /// Moves that are done.
    pub done: usize,
    /// Moves that cannot be done any more, or only once others of their partition are done.
    pub void: usize,
    /// Data of the moves that are not done, as of the plan.
    pub bytes_left: u64,
}

/// Which moves of a plan begin now, so that no node takes part, as receiver or as the leader that is copied from, in more
/// than [`MOVES_PER_NODE_MAX`] moves, those of others with them.
#[must_use]
pub fn start(moves: &[Move], image: &Image) -> Vec<Start> {
    start_with(moves, image, Rules::default())
}

/// As [`start`], for runs in which a rule does not hold.
#[must_use]
pub fn start_with(moves: &[Move], image: &Image, rules: Rules) -> Vec<Start> {
    let mut by_partition: BTreeMap<TopicPartition, Vec<usize>> = BTreeMap::new();
    for (step, it) in moves.iter().enumerate() {
        by_partition.entry(it.at).or_default().push(step);
    }
    let mut busy = busy(image);
    let mut starts = Vec::new();
    for it in moves {
        // At the first of its moves a partition is looked at, with all of them.
        let Some((steps, state)) = by_partition.remove(&it.at).zip(image.partition(it.at)) else { continue };
        let Some((steps, replicas)) = may_begin_together(moves, &steps, state, image, rules) else { continue };
        let copies = steps.iter().map(|step| &moves[*step]).filter(|it| it.why != Why::Leaders);
        let takers: BTreeSet<NodeId> = copies.map(|it| it.to).collect();
        if !takers.is_empty() {
            let parties: BTreeSet<NodeId> = takers.into_iter().chain(state.leader).collect();
            let full = |id: &NodeId| busy.get(id).is_some_and(|moves| *moves >= MOVES_PER_NODE_MAX);
            if parties.iter().any(full) && rules.hold(Rule::MovesAreRationed) {
                continue;
            }
            parties.into_iter().for_each(|id| *busy.entry(id).or_default() += 1);
        }
        starts.push(Start { at: it.at, replicas, steps });
    }
    starts
}

/// Those of a partition's moves that may begin now, and where they lead. Moves for balance begin with all others or not
/// at all: half of them may be worse than none.
fn may_begin_together(
    moves: &[Move],
    steps: &[usize],
    state: &PartitionState,
    image: &Image,
    rules: Rules,
) -> Option<(Vec<usize>, Vec<NodeId>)> {
    let mut replicas = settled(state);
    let mut begin = Vec::new();
    let mut all = true;
    for step in steps {
        let it = &moves[*step];
        match status(it, image) {
            Status::Done => continue,
            Status::Running => all = false,
            Status::Waiting | Status::Void if may_begin(it, state, image, rules) && it.apply(&mut replicas) => {
                begin.push(*step);
            }
            Status::Waiting | Status::Void => all = false,
        }
    }
    if !all {
        begin.retain(|step| moves[*step].why <= Why::Draining);
        replicas = settled(state);
        begin.retain(|step| moves[*step].apply(&mut replicas));
    }
    (!begin.is_empty()).then_some((begin, replicas))
}

/// Moves in which each node takes part now.
fn busy(image: &Image) -> BTreeMap<NodeId, u32> {
    let mut busy = BTreeMap::new();
    for state in image.topics.values().flat_map(|topic| &topic.partitions) {
        if !state.adding.is_empty() {
            let parties: BTreeSet<NodeId> = state.adding.iter().copied().chain(state.leader).collect();
            parties.into_iter().for_each(|id| *busy.entry(id).or_default() += 1);
        }
    }
    busy
}

fn may_begin(it: &Move, state: &PartitionState, image: &Image, rules: Rules) -> bool {
    let under_way = !state.adding.is_empty() || !state.removing.is_empty();
    // A move that waits for a node which is given up is redirected; all others are let finish.
    let redirected = it.from.is_some_and(|from| state.adding.contains(&from));
    let free = !under_way || redirected || !rules.hold(Rule::MovesUnderWayStay);
    let taker = image.nodes.get(&it.to);
    let open = taker.is_some_and(|node| {
        (!node.fenced || !rules.hold(Rule::FencedNodesGetNothing))
            && (!node.draining || !rules.hold(Rule::DrainingNodesGetNothing))
    });
    let led = state.leader.is_some() || !rules.hold(Rule::LeaderlessPartitionsStay);
    free && open && led
}

/// How far a move is, by the image.
#[must_use]
pub fn status(it: &Move, image: &Image) -> Status {
    let Some(state) = image.partition(it.at) else { return Status::Void };
    let replicas = settled(state);
    let has = |id: NodeId| replicas.contains(&id);
    let done = match it.why {
        Why::Leaders => replicas.first() == Some(&it.to),
        _ => has(it.to) && it.from.is_none_or(|from| !has(from)),
    };
    if done && (state.adding.contains(&it.to) || it.from.is_some_and(|from| state.removing.contains(&from))) {
        Status::Running
    } else if done {
        Status::Done
    } else if it.target(state).is_some() {
        Status::Waiting
    } else {
        Status::Void
    }
}

/// How far a plan is, by the image.
#[must_use]
pub fn progress(moves: &[Move], image: &Image) -> Progress {
    let mut progress = Progress::default();
    for it in moves {
        let status = status(it, image);
        match status {
            Status::Waiting => progress.waiting += 1,
            Status::Running => progress.running += 1,
            Status::Done => progress.done += 1,
            Status::Void => progress.void += 1,
        }
        if matches!(status, Status::Waiting | Status::Running) {
            progress.bytes_left += it.bytes;
        }
    }
    progress
}

/// The partitions whose reassignment is to be taken back to give a plan up: what it has begun and not finished.
#[must_use]
pub fn cancel(moves: &[Move], image: &Image) -> Vec<TopicPartition> {
    let running = moves.iter().filter(|it| status(it, image) == Status::Running).map(|it| it.at);
    running.collect::<BTreeSet<_>>().into_iter().collect()
}
