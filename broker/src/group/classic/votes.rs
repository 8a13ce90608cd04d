//! Which assignment protocol a generation uses.

use std::collections::BTreeMap;

use super::{Group, GroupState, Member, Protocol};

impl Group {
    /// True if who speaks these can be in the group: everybody who is shares one of them.
    pub(super) fn speaks(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(|one| self.is_common(&one.name))
    }

    fn is_common(&self, protocol: &str) -> bool {
        self.speakers.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    pub(super) fn count_speaker(&mut self, member: &Member) {
        for protocol in &member.protocols {
            *self.speakers.entry(protocol.name.clone()).or_default() += 1;
        }
        self.bytes += member.bytes();
    }

    pub(super) fn discount_speaker(&mut self, member: &Member) {
        for protocol in &member.protocols {
            if let Some(count) = self.speakers.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.speakers.remove(&protocol.name);
                }
            }
        }
        self.bytes -= member.bytes();
    }

    /// The common protocol that most members like best; of equals the one that the leader likes better.
    pub(super) fn vote(&self) -> Option<String> {
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let best = member.protocols.iter().find(|one| self.is_common(&one.name));
            *votes.entry(&best?.name).or_default() += 1;
        }
        let most = votes.values().max()?;
        let winners = || votes.iter().filter(|(_, count)| *count == most).map(|(name, _)| *name);
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let liked =
            leader.and_then(|leader| leader.protocols.iter().find(|one| winners().any(|name| name == one.name)));
        liked.map(|one| one.name.as_str()).or_else(|| winners().next()).map(str::to_owned)
    }
}
