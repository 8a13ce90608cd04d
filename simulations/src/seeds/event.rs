//! What happens, and what is said.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use rafka_broker::ErrorCode;
use rafka_broker::controller::{Answer, Command, Heartbeat, Question};
use rafka_broker::replication::{ReplicaFetch, ReplicaFetched};
use rafka_broker::request::Acks;
use rafka_log::Flush;
use rafka_model::{BrokerEpoch, Chunks, LeaderEpoch, MetadataIndex, NodeId, Offset, RecordBatch, TopicPartition};

/// Somebody who sends and receives.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Address {
    Broker(usize),
    Client(usize),
    Admin,
}

impl Address {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Broker(i) => i as u64,
            Self::Client(i) => 1_000 + i as u64,
            Self::Admin => 999,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broker(i) => write!(f, "b{i}"),
            Self::Client(i) => write!(f, "c{i}"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

/// A question to the controller.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "boxed where it is sent")]
pub(super) enum Ask {
    Heartbeat { node: NodeId, epoch: BrokerEpoch, applied: MetadataIndex },
    Command(Command),
}

/// Its answer.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Heartbeat(Heartbeat),
    Answer(Answer),
    /// The controller is elsewhere, perhaps there.
    NotController(Option<usize>),
    Refused(ErrorCode),
}

/// A produce of one batch.
#[derive(Clone, Debug)]
pub(super) struct Produce {
    pub(super) request: u64,
    pub(super) at: TopicPartition,
    pub(super) acks: Acks,
    pub(super) believed: Option<LeaderEpoch>,
    pub(super) batch: RecordBatch,
}

/// Why a client's request was refused, and who might know better.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) code: ErrorCode,
    pub(super) hint: Option<(NodeId, LeaderEpoch)>,
}

/// What a consumer got.
#[derive(Clone, Debug)]
pub(super) struct Consumed {
    pub(super) log_start: Offset,
    pub(super) records: Chunks,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Fetch(Box<ReplicaFetch>),
    Fetched(Box<ReplicaFetched>),
    Ask(u64, Box<Ask>),
    Told(u64, Box<Told>),
    /// How far does a log reach?
    Question(Question),
    /// Send me what follows this entry.
    Pull(MetadataIndex),
    /// The metadata log reaches this far: the entries come with it.
    Feed(MetadataIndex),
    Produce(Box<Produce>),
    Produced(u64, Result<(), Refused>),
    Consume {
        request: u64,
        at: TopicPartition,
        believed: Option<LeaderEpoch>,
        offset: Offset,
    },
    Consumed(u64, Result<Box<Consumed>, Refused>),
    /// Move the log start of a partition here, at most to the high watermark.
    DeleteRecords {
        request: u64,
        at: TopicPartition,
        before: Offset,
    },
}

impl Message {
    pub(super) fn kind(&self) -> u64 {
        match self {
            Self::Fetch(fetch) => 1 | fetch.request << 8,
            Self::Fetched(fetched) => 2 | fetched.request << 8,
            Self::Ask(id, _) => 3 | id << 8,
            Self::Told(id, _) => 4 | id << 8,
            Self::Pull(index) => 5 | index.0 << 8,
            Self::Feed(index) => 6 | index.0 << 8,
            Self::Produce(produce) => 7 | produce.request << 8,
            Self::Produced(request, result) => 8 | request << 8 | u64::from(result.is_ok()) << 40,
            Self::Consume { request, .. } => 9 | request << 8,
            Self::Consumed(request, result) => 10 | request << 8 | u64::from(result.is_ok()) << 40,
            Self::DeleteRecords { request, .. } => 11 | request << 8,
            Self::Question(question) => 12 | question.partition_epoch.0 as u64 >> 8,
        }
    }
}

#[derive(Debug)]
pub(super) enum Event {
    Inject(u32),
    Deliver {
        from: Address,
        to: Address,
        message: Message,
    },
    /// A broker's timer; void if the process or its plans changed.
    Wake {
        broker: usize,
        life: u64,
        token: u64,
    },
    /// A sync comes to its end.
    Synced {
        broker: usize,
        life: u64,
        at: TopicPartition,
        flush: Box<Flush>,
    },
    /// A process starts, if none runs.
    Start {
        broker: usize,
    },
    /// A process that was told to stop in order is to be gone by now.
    Stop {
        broker: usize,
        life: u64,
    },
    /// A process dies, and starts again after `down`.
    Die {
        broker: usize,
        down: u64,
    },
    /// One of several blows that hit a machine.
    Blow {
        broker: usize,
        choice: u64,
    },
    /// A client's timer.
    Client {
        client: usize,
        token: u64,
    },
    Admin,
    /// A proposal reaches a majority, or not.
    Commit {
        host: usize,
        term: u64,
    },
    /// The voters look whether they have a leader.
    Vote,
    /// A passing fault is over.
    Heal(Passing),
}

/// Faults that end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Passing {
    Cut(u64),
    Weather(u64),
    DiskFull(usize),
    FailingSyncs(usize),
    SlowSyncs(usize),
}

/// Events by time; equal times by the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Planned>>,
    count: u64,
}

#[derive(Debug)]
struct Planned {
    time: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        (self.time, self.number) == (other.time, other.number)
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

impl Queue {
    pub(super) fn plan(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.heap.push(Reverse(Planned { time, number: self.count, event }));
    }

    pub(super) fn next(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse(Planned { time, event, .. })| (time, event))
    }
}
