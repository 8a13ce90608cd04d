//! One coordinator: its queue, its machine, and what it owes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use parking_lot::Mutex;
use rafka_broker::group::request::Listed;
use rafka_broker::group::{Context, Coordinator, GroupRecord, GroupReply, GroupRequest, Output, Token};
use rafka_broker::metadata::Image;
use rafka_broker::request::{Acks, Produce, ProducePartition};
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{
    GROUP_APPENDS_MAX, GROUP_BATCH_BYTES, GROUP_BATCH_REQUESTS_MAX, GROUP_QUEUE_MAX, GROUP_RECORDS_BYTES_MAX,
    GROUP_RELOAD_MS, GROUP_RELOAD_MS_MAX,
};
use rafka_model::{BatchBuilder, Compression, LeaderEpoch, Timestamp, TopicPartition};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Inner, loading, unavailable};

/// A machine that wants to be woken at once is left alone for this long: a wrong alarm must not keep a core busy.
const REST: Duration = Duration::from_millis(1);
/// Without an alarm.
const LONG: Duration = Duration::from_secs(3600);

type Answer = Result<GroupReply, Failure>;

/// A coordinator, as its callers see it.
pub(super) struct Shard {
    pub(super) at: TopicPartition,
    /// The epoch in which this node leads the partition.
    pub(super) epoch: LeaderEpoch,
    queue: mpsc::Sender<Work>,
    phase: watch::Sender<Phase>,
    /// There while it is ready.
    pub(super) machine: Mutex<Option<Coordinator>>,
}

/// What a coordinator is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Reads its log.
    Loading,
    /// Answers.
    Ready,
    /// Could not read its log; tries again.
    Failed(Arc<str>),
}

/// What is asked of a coordinator.
pub(super) enum Work {
    Ask(Box<GroupRequest>, Owed),
    List(oneshot::Sender<Vec<Listed>>),
}

/// A request that has no answer yet.
pub(super) struct Owed {
    reply: oneshot::Sender<Answer>,
    /// When a commit came in.
    began: Option<Instant>,
}

/// A reply that waits for records to be committed.
enum Told {
    Answer(Owed, Answer),
    List(oneshot::Sender<Vec<Listed>>, Vec<Listed>),
}

impl Shard {
    pub(super) fn new(at: TopicPartition, epoch: LeaderEpoch) -> (Arc<Self>, mpsc::Receiver<Work>) {
        let (queue, work) = mpsc::channel(GROUP_QUEUE_MAX);
        let phase = watch::Sender::new(Phase::Loading);
        (Arc::new(Self { at, epoch, queue, phase, machine: Mutex::new(None) }), work)
    }

    /// The answer; `None` if the coordinator ended before it gave one.
    pub(super) async fn ask(&self, request: GroupRequest) -> Option<Answer> {
        if let Some(refusal) = self.refusal() {
            return Some(Err(refusal));
        }
        let began = matches!(request, GroupRequest::Commit(_)).then(Instant::now);
        let (reply, answer) = oneshot::channel();
        self.queue.send(Work::Ask(Box::new(request), Owed { reply, began })).await.ok()?;
        answer.await.ok()
    }

    /// The groups that it knows; as [`Self::ask`].
    pub(super) async fn list(&self) -> Option<Result<Vec<Listed>, Failure>> {
        if let Some(refusal) = self.refusal() {
            return Some(Err(refusal));
        }
        let (reply, answer) = oneshot::channel();
        self.queue.send(Work::List(reply)).await.ok()?;
        answer.await.ok().map(Ok)
    }

    fn refusal(&self) -> Option<Failure> {
        match &*self.phase.borrow() {
            Phase::Ready => None,
            Phase::Loading => Some(loading(self.at)),
            Phase::Failed(why) => Some(unavailable(format!("the coordinator cannot load its groups: {why}"))),
        }
    }
}

/// The life of a coordinator: loads, answers, and begins again after a failure, until it does not lead any more.
pub(super) async fn run(inner: Arc<Inner>, shard: Arc<Shard>, mut queue: mpsc::Receiver<Work>, pause: Duration) {
    tokio::time::sleep(pause).await;
    let mut wait_ms = GROUP_RELOAD_MS;
    while inner.partitions.leads_in(shard.at) == Some(shard.epoch) {
        shard.phase.send_replace(Phase::Loading);
        let ended = match super::load::load(&inner, shard.at, shard.epoch).await {
            Ok(machine) => {
                *shard.machine.lock() = Some(machine);
                shard.phase.send_replace(Phase::Ready);
                let began = Instant::now();
                let Err(failure) = Driver::new(&inner, &shard).run(&mut queue).await;
                if began.elapsed() > Duration::from_millis(GROUP_RELOAD_MS_MAX) {
                    wait_ms = GROUP_RELOAD_MS;
                }
                inner.figures.lost();
                shard.phase.send_replace(Phase::Loading);
                failure
            }
            Err(failure) => {
                shard.phase.send_replace(Phase::Failed(failure.message.as_str().into()));
                failure
            }
        };
        if let Some(machine) = shard.machine.lock().take() {
            inner.figures.dropped(&machine);
        }
        // Dropped without an answer: whoever asked finds the coordinator again.
        while queue.try_recv().is_ok() {}
        if inner.partitions.leads_in(shard.at) != Some(shard.epoch) {
            return;
        }
        tracing::warn!(partition = %shard.at.partition, failure = %ended, wait_ms, "a coordinator begins again");
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(GROUP_RELOAD_MS_MAX);
    }
}

/// Never: a coordinator ends with a failure, or is dropped.
enum Never {}

/// Drives a machine that is loaded.
struct Driver<'a> {
    inner: &'a Arc<Inner>,
    shard: &'a Shard,
    images: watch::Receiver<Arc<Image>>,
    /// Requests that the machine has not answered.
    waiting: HashMap<Token, Owed>,
    next_token: Token,
    /// Appends that are not committed yet …
    appends: FuturesOrdered<BoxFuture<'static, Result<(), Failure>>>,
    /// … and what may be told once each is.
    held: VecDeque<Vec<Told>>,
    /// The machine was given an alarm's time off.
    ticked: bool,
}

impl<'a> Driver<'a> {
    fn new(inner: &'a Arc<Inner>, shard: &'a Shard) -> Self {
        let images = inner.images.subscribe();
        let (waiting, appends, held) = (HashMap::new(), FuturesOrdered::new(), VecDeque::new());
        Self { inner, shard, images, waiting, next_token: 0, appends, held, ticked: false }
    }

    /// Answers until a failure: then nothing of what was not committed may be believed.
    async fn run(mut self, queue: &mut mpsc::Receiver<Work>) -> Result<Never, Failure> {
        self.step(|machine, context| machine.loaded(context)).await?;
        loop {
            let alarm = tokio::time::Instant::now() + self.until_alarm();
            tokio::select! {
                settled = self.appends.next(), if !self.held.is_empty() => {
                    settled.unwrap_or(Ok(()))?;
                    self.held.pop_front().into_iter().flatten().for_each(|told| self.tell(told));
                }
                work = queue.recv(), if self.held.len() < GROUP_APPENDS_MAX => match work {
                    Some(work) => self.serve(work, queue).await?,
                    None => return Err(Failure::new(ErrorCode::NotCoordinator, "the coordinator was closed")),
                },
                changed = self.images.changed() => {
                    changed.map_err(|_| Failure::new(ErrorCode::NotReady, "the node is stopping"))?;
                    self.step(|machine, context| machine.image_changed(context)).await?;
                }
                () = tokio::time::sleep_until(alarm) => {
                    self.ticked = true;
                    self.step(|machine, context| machine.tick(context)).await?;
                }
            }
        }
    }

    fn until_alarm(&mut self) -> Duration {
        let next = self.shard.machine.lock().as_ref().and_then(Coordinator::next_timeout);
        let wait = next.map_or(LONG, |next| next.since(self.inner.clock.monotonic()));
        // Just after an alarm, the next one comes a little later.
        if std::mem::take(&mut self.ticked) { wait.max(REST) } else { wait }
    }

    /// Takes `first`, and what else waits, to the machine.
    async fn serve(&mut self, first: Work, queue: &mut mpsc::Receiver<Work>) -> Result<(), Failure> {
        self.check_leader()?;
        let image = self.images.borrow_and_update().clone();
        let (records, told) = self.hand_over(first, queue, &image)?;
        self.put(records, told).await;
        Ok(())
    }

    fn hand_over(
        &mut self,
        first: Work,
        queue: &mut mpsc::Receiver<Work>,
        image: &Image,
    ) -> Result<(Vec<GroupRecord>, Vec<Told>), Failure> {
        let (mut records, mut told, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut guard = self.shard.machine.lock();
        let machine = guard.as_mut().ok_or_else(dropped)?;
        let mut next = Some(first);
        for _ in 0..GROUP_BATCH_REQUESTS_MAX {
            let Some(work) = next.take().or_else(|| queue.try_recv().ok()) else { break };
            match work {
                Work::List(reply) => told.push(Told::List(reply, machine.list())),
                Work::Ask(request, owed) => {
                    let token = self.next_token;
                    self.next_token += 1;
                    self.waiting.insert(token, owed);
                    let Output { records: more, replies } =
                        machine.handle(&context(self.inner, image)?, token, *request);
                    bytes += more.iter().map(size).sum::<usize>();
                    records.extend(more);
                    told.extend(replies.into_iter().filter_map(|reply| settle(&mut self.waiting, reply)));
                }
            }
            if bytes >= GROUP_BATCH_BYTES {
                break;
            }
        }
        Ok((records, told))
    }

    /// Has the machine do something that nobody asked for.
    async fn step(&mut self, work: impl FnOnce(&mut Coordinator, &Context<'_>) -> Output) -> Result<(), Failure> {
        self.check_leader()?;
        let image = self.images.borrow_and_update().clone();
        let context = context(self.inner, &image)?;
        let output = self.shard.machine.lock().as_mut().map(|machine| work(machine, &context));
        let Output { records, replies } = output.ok_or_else(dropped)?;
        let told = replies.into_iter().filter_map(|reply| settle(&mut self.waiting, reply)).collect();
        self.put(records, told).await;
        Ok(())
    }

    /// Appends `records`, and tells what is to be told once they and all before them are committed.
    async fn put(&mut self, records: Vec<GroupRecord>, told: Vec<Told>) {
        if !records.is_empty() {
            let append = append(self.inner.clone(), self.shard.at, self.shard.epoch, records).await;
            self.appends.push_back(append);
            self.held.push_back(told);
        } else if let Some(last) = self.held.back_mut() {
            last.extend(told);
        } else {
            told.into_iter().for_each(|told| self.tell(told));
        }
    }

    fn tell(&self, told: Told) {
        // Whoever does not listen any more does not want to know.
        match told {
            Told::List(reply, list) => drop(reply.send(list)),
            Told::Answer(Owed { reply, began }, answer) => {
                if let Some(began) = began {
                    self.inner.figures.committed(began.elapsed());
                }
                drop(reply.send(answer));
            }
        }
    }

    /// Does this node still lead? Then what the machine says is worth something.
    fn check_leader(&self) -> Result<(), Failure> {
        if self.inner.partitions.leads_in(self.shard.at) == Some(self.shard.epoch) {
            return Ok(());
        }
        Err(Failure::new(ErrorCode::NotCoordinator, "another node may coordinate these groups now"))
    }
}

/// Ends once the records are in the log, or refused; what it returns then waits until they are committed.
async fn append(
    inner: Arc<Inner>,
    partition: TopicPartition,
    epoch: LeaderEpoch,
    records: Vec<GroupRecord>,
) -> BoxFuture<'static, Result<(), Failure>> {
    let records = encode(&records, inner.clock.wall());
    let part = ProducePartition { partition, leader_epoch: Some(epoch), records };
    let timeout_ms = inner.config.commit_timeout_ms;
    let produce = Produce { acks: Acks::All, timeout_ms, partitions: vec![part] };
    let unsettled = inner.partitions.append_internal(produce).await;
    Box::pin(async move { unsettled.settle().await.into_iter().try_for_each(|reply| reply.result.map(drop)) })
}

/// The keeper took the machine away.
fn dropped() -> Failure {
    Failure::new(ErrorCode::NotCoordinator, "the coordinator was ended")
}

/// Finds who is owed the answer.
fn settle(waiting: &mut HashMap<Token, Owed>, (token, answer): (Token, Answer)) -> Option<Told> {
    waiting.remove(&token).map(|owed| Told::Answer(owed, answer))
}

fn context<'a>(inner: &Inner, image: &'a Image) -> Result<Context<'a>, Failure> {
    let mut unique = [0; 16];
    let random = getrandom::fill(&mut unique);
    random.map_err(|error| Failure::new(ErrorCode::Unknown, format!("no random numbers for member ids: {error}")))?;
    let unique = u128::from_ne_bytes(unique);
    Ok(Context { now: inner.clock.monotonic(), time: inner.clock.wall(), image, unique })
}

fn size(record: &GroupRecord) -> usize {
    BatchBuilder::record_bytes(Some(&record.key), record.value.as_deref(), &[])
}

/// One batch of all records; several, end to end, only if one would be too large.
fn encode(records: &[GroupRecord], time: Timestamp) -> Bytes {
    let mut batches = Vec::with_capacity(1);
    let mut builder = BatchBuilder::new(Compression::None);
    for record in records {
        if !builder.is_empty() && builder.bytes() + size(record) > GROUP_RECORDS_BYTES_MAX {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(Compression::None));
            batches.push(full.build().bytes().clone());
        }
        builder.push(time, Some(&record.key), record.value.as_deref(), &[]);
    }
    let last = builder.build().bytes().clone();
    if batches.is_empty() {
        return last;
    }
    batches.push(last);
    batches.concat().into()
}
