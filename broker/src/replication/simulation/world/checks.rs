//! What must hold, by the numbers of the cluster protocol's invariants.

use rafka_model::NodeId;

use super::{Broker, MIN_INSYNC, Outcome, World};

impl World {
    pub(super) fn consume(&mut self, id: NodeId) -> Outcome {
        let now = self.now;
        let broker = &self.brokers[&id];
        let Some(leader) = broker.leader.as_ref().filter(|_| broker.is_up) else { return Ok(()) };
        let Ok(mark) = leader.may_read(now) else { return Ok(()) };
        let epoch = leader.epoch();
        if epoch < self.since {
            return Ok(());
        }
        if epoch >= self.told.0 {
            if mark < self.told.1 {
                return Err(format!("6: the last offset went from {} back to {mark} in epoch {epoch}", self.told.1));
            }
            self.told = (epoch, mark);
        }
        for (offset, value) in (0..mark.0).zip(&broker.values) {
            let known = *self.consumed.entry(offset).or_insert(*value);
            if known != *value {
                return Err(format!("5: offset {offset} was {known}, and is {value}"));
            }
        }
        Ok(())
    }

    pub(super) fn check(&mut self) -> Outcome {
        for (id, leader) in self.brokers.iter().filter_map(|(id, broker)| Some((id, broker.leader.as_ref()?))) {
            let mark = leader.high_watermark();
            let before = self.marks.insert(leader.epoch(), mark).unwrap_or_default();
            if mark < before {
                return Err(format!("6: the high watermark of {id} in epoch {} fell from {before}", leader.epoch()));
            }
        }
        let state = &self.controller.last().state;
        let promised = || self.acked.iter().chain(&self.consumed);
        let lacks = |broker: &Broker| promised().find(|(at, value)| broker.values.get(**at as usize) != Some(value));
        for (id, broker) in self.brokers.iter().filter(|(_, broker)| broker.is_up) {
            let leads = broker.leader.as_ref().filter(|leader| leader.epoch() == state.leader_epoch);
            if let Some(leader) = leads {
                let known = |id: &NodeId| leader.maximal_isr().contains(id);
                let enough = leader.isr().len() >= MIN_INSYNC as usize;
                if let Some(member) = state.isr.iter().chain(&state.elr).find(|id| enough && !known(id)) {
                    return Err(format!("3: {member} may be elected, {id} does not count it"));
                }
                if let Some((at, value)) = lacks(broker) {
                    return Err(format!("1: {id} leads without {value} at {at}, which is committed"));
                }
            }
            if (state.isr.contains(id) || state.elr.contains(id))
                && let Some((at, value)) = lacks(broker)
            {
                return Err(format!("2: {id} may be elected without {value} at {at}, which is committed"));
            }
        }
        Ok(())
    }
}
