//! The task that is the controller while this voter leads.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rafka_broker::controller::{Answer, Config, Controller, Event, Heartbeat};
use rafka_broker::metadata::Entry;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::limits::{CONTROLLER_BATCH_MAX, CONTROLLER_DRAIN_MS_MAX};
use rafka_model::{MetadataIndex, Monotonic};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ClusterKey;
use super::handle::{Ask, Beat, Counters, Handle, Shared, inactive};
use super::records::Records;
use crate::consensus::{Leadership, MetadataLog, ProposeError};
use crate::image::ImageStore;

/// A leader that cannot pass its barrier tries again after this time.
const BARRIER_RETRY: Duration = Duration::from_millis(100);

/// Drives the controller over the metadata log `L`.
pub struct Driver<L> {
    log: L,
    config: Config,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Ask>,
    beats: mpsc::Receiver<Beat>,
    leadership: watch::Receiver<Leadership>,
    began: Instant,
}

/// The controller from one barrier to the next failure.
struct Term {
    controller: Controller,
    waiting: VecDeque<Waiting>,
    /// Last entry that is known to be this controller's, or that it began with.
    applied: MetadataIndex,
}

/// An answer that may go out once `index` is applied.
struct Waiting {
    index: MetadataIndex,
    reply: Reply,
}

enum Reply {
    Answer(oneshot::Sender<Result<Answer, Failure>>, Answer),
    Heartbeat(oneshot::Sender<Result<Heartbeat, Failure>>, Heartbeat),
}

/// Why leading ended.
enum End {
    /// This voter may lead again.
    Lost,
    /// The node or its log stops.
    Stop,
}

impl<L: MetadataLog> Driver<L> {
    /// A driver, and the door to it. `images` is the store that `log` applies to.
    #[must_use]
    pub fn new(log: L, images: Arc<ImageStore>, key: Arc<ClusterKey>, config: Config) -> (Handle, Self) {
        let records = Records::new(key.clone(), images.clone());
        let (active, counters) = (watch::Sender::new(false), Counters::default());
        let shared = Arc::new(Shared { images, key, records, active, counters });
        let (handle, inbox, beats) = Handle::new(shared.clone());
        let leadership = log.leadership();
        (handle, Self { log, config, shared, inbox, beats, leadership, began: Instant::now() })
    }

    /// Runs until `stop` is cancelled or the metadata log has stopped for good.
    pub async fn run(mut self, stop: CancellationToken) {
        while self.until_leading(&stop).await {
            let end = self.lead(&stop).await;
            self.shared.active.send_replace(false);
            if matches!(end, End::Stop) {
                break;
            }
        }
        self.inbox.close();
        self.beats.close();
        self.refuse_queued();
    }

    /// Waits for leadership and passes the barrier; false when that will never be.
    async fn until_leading(&mut self, stop: &CancellationToken) -> bool {
        loop {
            self.refuse_queued();
            let now = *self.leadership.borrow_and_update();
            if now.stopped {
                return false;
            }
            let log = self.log.clone();
            tokio::select! {
                () = stop.cancelled() => return false,
                changed = self.leadership.changed() => if changed.is_err() { return false },
                passed = barrier(&log), if now.leads => match passed {
                    Ok(()) => {
                        self.shared.records.set_term(now.term);
                        return true;
                    }
                    Err(error) => tracing::debug!(%error, term = now.term, "leads, but has not passed the barrier"),
                },
                // Sent while this node was ceasing to be the controller.
                Some(ask) = self.inbox.recv() => drop(ask.reply.send(Err(inactive()))),
                Some(beat) = self.beats.recv() => drop(beat.reply.send(Err(inactive()))),
            }
        }
    }

    async fn lead(&mut self, stop: &CancellationToken) -> End {
        let image = self.shared.images.current();
        tracing::info!(index = %image.index, term = self.leadership.borrow().term, "this node is the controller");
        let mut term = Term {
            controller: Controller::new((*image).clone(), self.config, self.now()),
            waiting: VecDeque::new(),
            applied: image.index,
        };
        drop(image);
        if let Err(end) = self.commit(&mut term, stop).await {
            return end;
        }
        self.shared.active.send_replace(true);
        loop {
            let deadline = term.controller.next_deadline().map(|at| self.began + Duration::from_nanos(at.0));
            let mut leadership = self.leadership.clone();
            tokio::select! {
                () = stop.cancelled() => return End::Stop,
                _ = leadership.wait_for(|now| !now.leads) => return self.lost(),
                Some(beat) = self.beats.recv() => self.beat(&mut term, beat),
                Some(ask) = self.inbox.recv() => self.decide(&mut term, ask),
                () = sleep_until(deadline) => term.controller.tick(self.now()),
            }
            self.drain(&mut term);
            if let Err(end) = self.commit(&mut term, stop).await {
                return end;
            }
        }
    }

    /// Takes in what is queued, for a bounded time: the entry that comes of it carries all of it.
    fn drain(&mut self, term: &mut Term) {
        let until = Instant::now() + Duration::from_millis(CONTROLLER_DRAIN_MS_MAX);
        for _ in 0..CONTROLLER_BATCH_MAX {
            if let Ok(beat) = self.beats.try_recv() {
                self.beat(term, beat);
            } else if let Ok(ask) = self.inbox.try_recv() {
                self.decide(term, ask);
            } else {
                return;
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    fn decide(&self, term: &mut Term, ask: Ask) {
        self.shared.counters.commands.fetch_add(1, Ordering::Relaxed);
        let decision = term.controller.evaluate(ask.command, self.now());
        term.waiting.push_back(Waiting { index: decision.index, reply: Reply::Answer(ask.reply, decision.answer) });
    }

    /// A heartbeat that changes nothing is answered at once; one that brings a node into service when that is applied.
    fn beat(&self, term: &mut Term, beat: Beat) {
        self.shared.counters.heartbeats.fetch_add(1, Ordering::Relaxed);
        let before = term.controller.overlay().index;
        match term.controller.heartbeat(beat.node, beat.epoch, beat.applied, self.now()) {
            Ok(heard) if heard.index > before || self.is_fenced(&beat) != heard.fenced => {
                term.waiting.push_back(Waiting { index: heard.index, reply: Reply::Heartbeat(beat.reply, heard) });
            }
            answer => drop(beat.reply.send(answer)),
        }
    }

    fn is_fenced(&self, beat: &Beat) -> bool {
        self.shared.images.current().nodes.get(&beat.node).is_none_or(|node| node.fenced)
    }

    /// Proposes what was decided and releases the answers, until nothing is left to propose: heartbeats are heard
    /// meanwhile, and may lead to more.
    async fn commit(&mut self, term: &mut Term, stop: &CancellationToken) -> Result<(), End> {
        loop {
            term.controller.take_events().iter().for_each(tell);
            for question in term.controller.take_questions() {
                // Replicas cannot be asked yet; with one replica only a lost disk leads here.
                tracing::debug!(?question, "no leader without knowing how far the logs of its replicas reach");
            }
            let entries = term.controller.take_entries();
            if entries.is_empty() {
                term.release();
                return Ok(());
            }
            for entry in entries {
                // Noted before it is applied: who sees the image that lacks a topic must find the tombstone there.
                self.shared.records.note(&entry, &self.shared.images.current());
                match self.propose(&entry, term, stop).await {
                    Ok(index) => {
                        self.shared.counters.entries.fetch_add(1, Ordering::Relaxed);
                        term.applied = index;
                        term.release();
                    }
                    Err(error) => {
                        self.shared.records.forget(entry.index);
                        self.shared.counters.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(index = %entry.index, %error, "a decision of the controller did not get through");
                        term.abandon(&error);
                        let stopped = matches!(error, ProposeError::Stopped(_));
                        return Err(if stopped { End::Stop } else { self.lost() });
                    }
                }
            }
        }
    }

    async fn propose(
        &mut self,
        entry: &Entry,
        term: &mut Term,
        stop: &CancellationToken,
    ) -> Result<MetadataIndex, ProposeError> {
        let log = self.log.clone();
        let mut proposal = pin!(log.propose(entry));
        let mut leadership = self.leadership.clone();
        loop {
            tokio::select! {
                biased;
                proposed = &mut proposal => return proposed,
                () = stop.cancelled() => return Err(ProposeError::OutcomeUnknown("this node is stopping".to_owned())),
                _ = leadership.wait_for(|now| !now.leads) => {
                    return Err(ProposeError::OutcomeUnknown("this node no longer leads".to_owned()));
                }
                Some(beat) = self.beats.recv() => self.beat(term, beat),
            }
        }
    }

    fn lost(&self) -> End {
        if self.leadership.borrow().stopped { End::Stop } else { End::Lost }
    }

    fn refuse_queued(&mut self) {
        while let Ok(ask) = self.inbox.try_recv() {
            let _ = ask.reply.send(Err(inactive()));
        }
        while let Ok(beat) = self.beats.try_recv() {
            let _ = beat.reply.send(Err(inactive()));
        }
    }

    fn now(&self) -> Monotonic {
        Monotonic::default().plus(self.began.elapsed())
    }
}

impl Term {
    /// Lets the answers go that rest on nothing later than what this controller knows to be applied.
    fn release(&mut self) {
        while let Some(first) = self.waiting.pop_front_if(|first| first.index <= self.applied) {
            first.reply.send();
        }
    }

    /// Everything that was decided and is not applied is void; callers are told what is known of it. The image is no
    /// guide here: another leader may have put something else at the same index.
    fn abandon(&mut self, error: &ProposeError) {
        self.release();
        let failure = match error {
            ProposeError::NotLeader { .. } => inactive(),
            ProposeError::Refused(reason) => {
                let text = format!("the metadata has moved on, try again: {reason}");
                Failure::new(ErrorCode::ControllerUnavailable, text)
            }
            ProposeError::OutcomeUnknown(_) | ProposeError::Stopped(_) => {
                Failure::new(ErrorCode::OutcomeUnknown, error.to_string())
            }
        };
        self.waiting.drain(..).for_each(|waiting| waiting.reply.fail(failure.clone()));
    }
}

impl Reply {
    // Whoever no longer waits does not care.
    fn send(self) {
        match self {
            Self::Answer(reply, answer) => drop(reply.send(Ok(answer))),
            Self::Heartbeat(reply, heard) => drop(reply.send(Ok(heard))),
        }
    }

    fn fail(self, failure: Failure) {
        match self {
            Self::Answer(reply, _) => drop(reply.send(Err(failure))),
            Self::Heartbeat(reply, _) => drop(reply.send(Err(failure))),
        }
    }
}

/// Writes into the log what the controller decided and an operator should know.
fn tell(event: &Event) {
    match event {
        Event::UncleanElection { at, leader, leader_epoch, last_known } => {
            tracing::warn!(%at, %leader, %leader_epoch, ?last_known, "elected uncleanly: acknowledged records may be lost");
        }
        Event::Drained(node) => tracing::info!(%node, "drained: no replicas are left"),
    }
}

/// Passes the barrier, or fails after a pause.
async fn barrier<L: MetadataLog>(log: &L) -> Result<(), ProposeError> {
    let passed = log.barrier().await;
    if passed.is_err() {
        tokio::time::sleep(BARRIER_RETRY).await;
    }
    passed
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
