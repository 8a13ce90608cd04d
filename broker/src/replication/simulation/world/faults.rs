//! What goes wrong, and what is made good.

use rafka_model::{Durability, NodeId, Offset};

use super::{Message, Outcome, World};
use crate::replication::samples::AT;
use crate::replication::{Epochs, Follower};

impl World {
    /// A message arrives, late as it may be; sometimes it is lost, sometimes it will come again.
    pub(super) fn deliver(&mut self) {
        if self.net.is_empty() {
            return;
        }
        // Mostly the oldest.
        let at = if self.random.one_in(3) { self.random.below(self.net.len() as u64) as usize } else { 0 };
        let message = self.net.remove(at);
        if self.random.one_in(25) {
            return;
        }
        if self.random.one_in(8) {
            self.net.push(message.clone());
        }
        match self.random.below(24) {
            0 => self.late.push(message),
            1..4 => {
                self.late.push(message.clone());
                self.arrives(message);
            }
            _ => self.arrives(message),
        }
    }

    /// What is on its way from `id` will take long.
    pub(super) fn hold_up(&mut self, id: NodeId) {
        let from = |message: &Message| match message {
            Message::Fetch { fetch, .. } => fetch.replica == id,
            Message::Fetched { from, .. } => *from == id,
            Message::Alter(proposal) => proposal.leader == id,
            Message::Altered { .. } => false,
        };
        let (held, net): (Vec<_>, Vec<_>) = std::mem::take(&mut self.net).into_iter().partition(from);
        self.net = net;
        self.late.extend(held);
        let many = self.late.len().saturating_sub(16);
        self.late.drain(..many);
    }

    /// What of `id` is late arrives now that it does the most harm: when it is in sync, or in service, again.
    pub(super) fn catches_up(&mut self, id: NodeId) {
        let about = |message: &Message| match message {
            Message::Fetch { fetch, .. } => fetch.replica == id,
            Message::Fetched { to, .. } => *to == id,
            Message::Alter(proposal) => proposal.isr.iter().any(|(member, _)| *member == id),
            Message::Altered { .. } => false,
        };
        if self.random.one_in(2) {
            let (now, late): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late).into_iter().partition(about);
            self.late = late;
            self.net.splice(..0, now);
        }
    }

    /// Something arrives that is very late; perhaps it has arrived before.
    pub(super) fn deliver_again(&mut self) {
        if !self.late.is_empty() {
            let at = self.random.below(self.late.len() as u64) as usize;
            let message = self.late.swap_remove(at);
            self.arrives(message);
        }
    }

    pub(super) fn fence(&mut self, id: NodeId) {
        if self.controller.serves(id) {
            self.note(|| format!("{id} is fenced"));
            self.hold_up(id);
            self.controller.fence(id);
        }
    }

    /// A process that is down starts, and one that is fenced beats.
    pub(super) fn serve_again(&mut self, id: NodeId) {
        if self.brokers[&id].is_up {
            if !self.controller.serves(id) {
                self.controller.unfence(id);
                self.catches_up(id);
            }
            return;
        }
        let unclean = self.brokers[&id].unclean && self.config.durability == Durability::Replicated;
        let broker_epoch = self.controller.register(id, unclean);
        let (seen, rules) = (self.controller.log.len() - 1, self.rules);
        let state = self.controller.last().state.clone();
        let broker = self.broker(id);
        (broker.me.broker_epoch, broker.is_up, broker.seen) = (broker_epoch, true, seen);
        let mark = broker.checkpoint.min(broker.log.log_end());
        broker.follower = Follower::with_rules(broker.me, AT, &state, mark, rules);
        broker.fetchers.clear();
        self.note(|| format!("{id} starts, registered at {broker_epoch}"));
    }

    /// Nobody may lead, and an operator would rather lose records: what was acknowledged until now is forgotten.
    pub(super) fn elect_uncleanly(&mut self) {
        let state = &self.controller.last().state;
        let serves = |id: &&NodeId| self.controller.serves(**id);
        let Some(id) = state.replicas.iter().find(serves).filter(|_| state.leader.is_none()).copied() else { return };
        self.controller.elect_uncleanly(id);
        self.note(|| format!("{id} is elected uncleanly"));
        self.acked.clear();
        self.consumed.clear();
        self.since = self.controller.last().state.leader_epoch;
        self.told = (self.since, Offset::ZERO);
        self.marks.clear();
        for broker in self.brokers.values_mut() {
            broker.waiting.clear();
            broker.unclean = false;
        }
    }

    /// The process ends; perhaps because its machine lost power: what is not flushed goes too.
    pub(super) fn crash(&mut self, id: NodeId) {
        let power = self.random.one_in(2);
        self.crash_with(id, power);
    }

    /// As said: true if the power was lost, too.
    fn crash_with(&mut self, id: NodeId, power: bool) -> bool {
        let in_sync = self.controller.last().state.isr.clone();
        for (other, broker) in &mut self.brokers {
            broker.unclean &= !in_sync.contains(other);
        }
        // The memory of several machines at once is not what `replicated` promises to survive.
        let spared = self.config.durability == Durability::Replicated
            && self.brokers.values().any(|broker| broker.unclean || (!broker.is_up && broker.me.node != id));
        let power = power && !spared;
        let broker = self.broker(id);
        if !broker.is_up {
            return false;
        }
        broker.is_up = false;
        self.hold_up(id);
        let broker = self.broker(id);
        broker.leader = None;
        broker.waiting.clear();
        if power {
            broker.unclean = true;
            broker.truncate(broker.flushed);
        }
        self.note(|| format!("{id} dies{}", if power { " with its machine" } else { "" }));
        if power {
            // Before anybody elects it for what it no longer has.
            self.controller.fence(id);
        }
        power
    }

    /// A follower loses its power, comes back and is taken in again, while the third replica lags: only then arrives what
    /// it had asked for in its former life.
    pub(super) fn relapse(&mut self) -> Outcome {
        let state = self.controller.last().state.clone();
        let Some(leader) = state.leader.filter(|leader| self.brokers[leader].leader.is_some()) else { return Ok(()) };
        let mut others: Vec<_> = state.isr.iter().copied().filter(|id| *id != leader).collect();
        if others.len() < 2 {
            return Ok(());
        }
        let follower = others.swap_remove(self.random.below(2) as usize);
        for _ in 0..3 {
            self.produce(leader)?;
        }
        let mut fetches = Vec::new();
        for _ in 0..8 {
            self.fetch(follower);
            let of = |message: &&Message| matches!(message, Message::Fetch { fetch, .. } if fetch.replica == follower);
            fetches.extend(self.net.iter().filter(of).cloned());
            self.exchange(follower);
        }
        let last = fetches.pop();
        if !self.crash_with(follower, true) {
            return self.check();
        }
        self.serve_again(follower);
        self.serve_again(follower);
        for _ in 0..4 {
            [leader, follower].into_iter().for_each(|id| (0..20).for_each(|_| self.learn(id)));
            self.fetch(follower);
            self.exchange(follower);
            if self.controller.last().state.isr.contains(&follower) {
                break;
            }
        }
        (0..20).for_each(|_| self.learn(leader));
        last.into_iter().for_each(|message| self.arrives(message));
        for _ in 0..4 {
            self.fetch(others[0]);
            self.exchange(others[0]);
            self.check()?;
        }
        Ok(())
    }

    /// What is under way between a follower and its leader arrives, and what they propose.
    fn exchange(&mut self, id: NodeId) {
        let about = |message: &Message| match message {
            Message::Fetch { fetch, .. } => fetch.replica == id,
            Message::Fetched { to, .. } => *to == id,
            Message::Alter(_) => true,
            Message::Altered { .. } => false,
        };
        for _ in 0..2 {
            let (now, later) = std::mem::take(&mut self.net).into_iter().partition(about);
            self.net = later;
            let now: Vec<Message> = now;
            now.into_iter().for_each(|message| self.arrives(message));
        }
    }
}
