//! What callers hold: finds the lane of a peer and class, opens one where there is none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use rafka_model::limits::{LANE_RETRY_MS, LANE_RETRY_MS_MAX, LANES_KEPT_MAX};
use tokio::sync::{Notify, mpsc};

use super::handle::{Ended, Handle};
use super::{Class, Counters};
use crate::rpc::{CallError, Direction, Outcome};
use crate::{Frame, Protocol};

/// Lanes that one call tries: the first may be closing, and a second too.
const TRIES: usize = 3;
/// Peers and classes after which those without lanes are swept out.
const SWEEP_SLOTS: usize = 1024;

/// The lanes of this process. Cheap to clone; the lane swarm ends with the last one.
#[derive(Clone)]
pub struct Lanes {
    pub(super) slots: Arc<Slots>,
    pub(super) opens: mpsc::Sender<Open>,
}

/// Asks the swarm's task for a lane.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) class: Class,
}

/// Lanes by peer and class; shared with the swarm's task.
pub(super) struct Slots {
    slots: Mutex<HashMap<(PeerId, Class), Slot>>,
    /// A lane came, or could not be opened.
    changed: Notify,
    pub(super) counters: Arc<Counters>,
}

#[derive(Default)]
struct Slot {
    /// The newest is used.
    lanes: Vec<Handle>,
    is_opening: bool,
    failed: Option<Failed>,
    has_broken: bool,
}

struct Failed {
    error: CallError,
    until: Instant,
    pause: Duration,
}

enum Found {
    Lane(Handle),
    Opening,
    Failed(CallError),
}

impl Lanes {
    /// One exchange with `peer`, at most `deadline` long, over a lane; waits for one to be opened at `addresses`.
    ///
    /// Cancel safety: dropping the future gives the place up and tells the peer; it may carry the request out all the
    /// same.
    ///
    /// # Errors
    /// [`CallError`]; after `ConnectionClosed` and `Timeout` the request may have been carried out, after `Dial` it was
    /// not. A call is reported once, and tried again by itself only if nothing can have come of it.
    pub async fn call(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        protocol: Protocol,
        frame: Frame,
        deadline: Duration,
    ) -> Result<Frame, CallError> {
        let Some(class) = Class::of(protocol) else { return Err(CallError::Unsupported) };
        frame.check(protocol.request_caps()).map_err(CallError::TooLarge)?;
        let mut counting = Counting { counters: &self.slots.counters, protocol, outcome: Outcome::Cancelled };
        let exchange = async {
            for _ in 0..TRIES {
                let lane = self.lane(peer, &addresses, class).await?;
                match lane.call(protocol, frame.clone()).await {
                    Ended::Sent(result) => return result,
                    Ended::NotSent => self.slots.counters.rerouted.inc(),
                }
            }
            Err(CallError::Dial("lanes to the peer do not last".to_owned()))
        };
        let ended = tokio::time::timeout(deadline, exchange).await.unwrap_or(Err(CallError::Timeout));
        counting.outcome = ended.as_ref().map_or_else(CallError::outcome, |_| Outcome::Answered);
        ended
    }

    /// As [`Lanes::call`] if a lane stands; `None`, at once and with nothing sent, if not: one is being opened then,
    /// unless the protocol has no lanes or the peer no `addresses` for them.
    pub async fn call_if_open(
        &self,
        peer: PeerId,
        addresses: &[Multiaddr],
        protocol: Protocol,
        frame: &Frame,
        deadline: Duration,
    ) -> Option<Result<Frame, CallError>> {
        let class = Class::of(protocol).filter(|_| frame.check(protocol.request_caps()).is_ok())?;
        let Found::Lane(lane) = self.find(peer, addresses, class) else {
            if !addresses.is_empty() {
                self.slots.counters.fallbacks.inc();
            }
            return None;
        };
        let mut counting = Counting { counters: &self.slots.counters, protocol, outcome: Outcome::Cancelled };
        let ended = tokio::time::timeout(deadline, lane.call(protocol, frame.clone())).await;
        let ended = match ended.unwrap_or(Ended::Sent(Err(CallError::Timeout))) {
            Ended::Sent(ended) => ended,
            Ended::NotSent => {
                counting.outcome = Outcome::Closed;
                self.slots.counters.rerouted.inc();
                return None;
            }
        };
        counting.outcome = ended.as_ref().map_or_else(CallError::outcome, |_| Outcome::Answered);
        Some(ended)
    }

    /// True if a lane for `protocol` stands.
    #[must_use]
    pub fn is_open(&self, peer: PeerId, protocol: Protocol) -> bool {
        let Some(class) = Class::of(protocol) else { return false };
        self.slots.slots().get(&(peer, class)).is_some_and(|slot| slot.lanes.iter().any(Handle::is_usable))
    }

    /// What they did.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        self.slots.counters.clone()
    }

    /// Closes every lane as soon as nothing is under way on it; calls of peers that come later are declined.
    pub fn close(&self) {
        self.slots.slots().values().flat_map(|slot| &slot.lanes).for_each(Handle::close);
    }

    /// A lane, once one stands.
    async fn lane(&self, peer: PeerId, addresses: &[Multiaddr], class: Class) -> Result<Handle, CallError> {
        loop {
            let changed = self.slots.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.find(peer, addresses, class) {
                Found::Lane(lane) => return Ok(lane),
                Found::Failed(error) => return Err(error),
                Found::Opening => changed.await,
            }
        }
    }

    fn find(&self, peer: PeerId, addresses: &[Multiaddr], class: Class) -> Found {
        let mut slots = self.slots.slots();
        if slots.len() >= SWEEP_SLOTS && !slots.contains_key(&(peer, class)) {
            slots.retain(|_, slot| slot.is_opening || !slot.lanes.is_empty());
        }
        let slot = slots.entry((peer, class)).or_default();
        slot.forget(|lane| !lane.is_usable());
        if let Some(lane) = slot.lanes.last() {
            return Found::Lane(lane.clone());
        }
        if slot.is_opening {
            return Found::Opening;
        }
        if let Some(failed) = slot.failed.as_ref().filter(|failed| failed.until > Instant::now()) {
            return Found::Failed(failed.error.clone());
        }
        if addresses.is_empty() {
            return Found::Failed(CallError::Dial("the peer has no address for lanes".to_owned()));
        }
        match self.opens.try_send(Open { peer, addresses: addresses.to_vec(), class }) {
            Ok(()) => {
                slot.is_opening = true;
                Found::Opening
            }
            Err(_) => Found::Failed(CallError::Busy),
        }
    }
}

impl Slots {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { slots: Mutex::default(), changed: Notify::new(), counters }
    }

    /// A lane stands; `is_own` if this end opened it.
    pub(super) fn add(&self, peer: PeerId, class: Class, lane: Handle, is_own: bool) {
        let mut slots = self.slots();
        let slot = slots.entry((peer, class)).or_default();
        slot.forget(|lane| !lane.is_usable());
        if !is_own {
            self.counters.accepted.inc();
        } else {
            self.counters.opened.inc();
            slot.is_opening = false;
            if std::mem::take(&mut slot.has_broken) {
                self.counters.reconnects.inc();
            }
        }
        slot.failed = None;
        if slot.lanes.len() < LANES_KEPT_MAX {
            slot.lanes.push(lane);
        }
        drop(slots);
        self.changed.notify_waiters();
    }

    /// A lane could not be opened: for a while nobody tries.
    pub(super) fn failed(&self, peer: PeerId, class: Class, error: CallError) {
        self.counters.failed.inc();
        let mut slots = self.slots();
        let slot = slots.entry((peer, class)).or_default();
        slot.is_opening = false;
        slot.pause(error);
        drop(slots);
        self.changed.notify_waiters();
    }

    /// A lane is over.
    pub(super) fn ended(&self, peer: PeerId, class: Class, lane: &Handle) {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(&(peer, class)) else { return };
        slot.forget(|other| other.is(lane));
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<(PeerId, Class), Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn forget(&mut self, which: impl Fn(&Handle) -> bool) {
        self.has_broken |= self.lanes.iter().any(|lane| which(lane) && lane.has_broken());
        self.lanes.retain(|lane| !which(lane));
    }

    fn pause(&mut self, error: CallError) {
        let (min, max) = (Duration::from_millis(LANE_RETRY_MS), Duration::from_millis(LANE_RETRY_MS_MAX));
        let pause = self.failed.as_ref().map_or(min, |failed| (failed.pause * 2).min(max));
        self.failed = Some(Failed { error, until: Instant::now() + pause, pause });
    }
}

/// Counts a call when it is over; until it says otherwise, it was cancelled.
struct Counting<'a> {
    counters: &'a Counters,
    protocol: Protocol,
    outcome: Outcome,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.counters.exchanges.count(Direction::Outbound, self.protocol, self.outcome);
    }
}
