//! The administrator: asks the controller for changes until it has an answer.

use std::collections::BTreeSet;

use rafka_broker::ErrorCode;
use rafka_broker::controller::{Answer, Command};
use rafka_broker::request::AdminReply;
use rafka_model::ProducerId;

use super::dice::Dice;
use super::event::{Address, Ask, Event, Message, Told};
use super::tempo::MS;
use super::trace::say;
use super::world::Shared;

#[derive(Debug)]
pub(super) struct Admin {
    open: Vec<Open>,
    controller: usize,
    dice: Dice,
    planned: bool,
    /// First ids of the blocks of producer ids that it was given.
    blocks: BTreeSet<ProducerId>,
}

#[derive(Debug)]
struct Open {
    id: u64,
    command: Command,
    again_at: u64,
    /// Repeated until it succeeds, not only until it is answered.
    insists: bool,
    tries: u32,
}

impl Admin {
    pub(super) fn new(seed: u64) -> Self {
        Self { open: Vec::new(), controller: 0, dice: Dice::of(&[seed, 8]), planned: false, blocks: BTreeSet::new() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Forgets what was asked and may fail.
    pub(super) fn give_up(&mut self) {
        self.open.retain(|open| open.insists);
    }

    pub(super) fn ask(&mut self, shared: &mut Shared, command: Command, insists: bool) {
        say!(shared, "admin asks: {command:?}");
        let id = shared.number();
        self.open.push(Open { id, command, again_at: 0, insists, tries: 0 });
        self.pump(shared);
    }

    pub(super) fn pump(&mut self, shared: &mut Shared) {
        self.planned = false;
        let now = shared.now;
        for open in &mut self.open {
            if open.again_at > now {
                continue;
            }
            if open.tries > 0 {
                let voters = &shared.voters;
                self.controller = self.dice.pick(voters).unwrap_or(self.controller);
            }
            open.tries += 1;
            open.id = shared.number();
            open.again_at = now + 400 * MS;
            let message = Message::Ask(open.id, Box::new(Ask::Command(open.command.clone())));
            shared.net.send(&mut shared.queue, now, Address::Admin, Address::Broker(self.controller), message);
        }
        if !self.open.is_empty() && !self.planned {
            self.planned = true;
            shared.queue.plan(now + 100 * MS, Event::Admin);
        }
    }

    pub(super) fn told(&mut self, shared: &mut Shared, id: u64, told: Told) {
        let Some(i) = self.open.iter().position(|open| open.id == id) else { return };
        match told {
            Told::NotController(hint) => {
                let open = &mut self.open[i];
                open.again_at = shared.now + if hint.is_some() { 0 } else { 50 * MS };
                if let Some(hint) = hint {
                    self.controller = hint;
                    open.tries = 0;
                }
            }
            Told::Answer(answer) => {
                if let Answer::Admin(AdminReply::ProducerIds(block)) = &answer
                    && !self.blocks.insert(block.first)
                {
                    shared.truths.violate(15, format!("the producer ids from {} were given out twice", block.first));
                }
                let refused = refusal(&answer);
                say!(shared, "admin is told: {}", refused.map_or("done", ErrorCode::name));
                if let Some(code) = refused {
                    shared.count("an admin request was refused");
                    if self.open[i].insists && code != ErrorCode::TopicAlreadyExists {
                        self.open[i].again_at = shared.now + 200 * MS;
                        return;
                    }
                }
                self.open.remove(i);
            }
            Told::Heartbeat(_) | Told::Refused(_) => {}
        }
    }
}

/// Why nothing was changed.
fn refusal(answer: &Answer) -> Option<ErrorCode> {
    match answer {
        Answer::Refused(failure) => Some(failure.code),
        Answer::Admin(AdminReply::Topics(replies)) => {
            replies.iter().find_map(|reply| reply.result.as_ref().err().map(|failure| failure.code))
        }
        Answer::Reassigned(outcomes) | Answer::Elected(outcomes) => {
            outcomes.iter().find_map(|(_, outcome)| outcome.as_ref().err().map(|failure| failure.code))
        }
        _ => None,
    }
}
