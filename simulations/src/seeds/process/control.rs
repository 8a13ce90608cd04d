//! A process and the controller: registration, heartbeats, questions, the feed of metadata.

use std::collections::BTreeMap;

use rafka_broker::ErrorCode;
use rafka_broker::controller::{Answer, Command, LogEnd, Question, Registration};
use rafka_broker::metadata::Role as Part;
use rafka_broker::replication::{Identity, Input};
use rafka_model::{BootId, DirectoryId, MetadataIndex, Monotonic, TopicPartition};

use super::{Cx, Phase, Process, Role};
use crate::seeds::event::{Address, Ask, Message, Told};
use crate::seeds::mutant::Driver;
use crate::seeds::trace::say;

impl Process {
    pub(super) fn register(&mut self, cx: &mut Cx<'_>) {
        self.phase = Phase::Registering;
        let registration = self.registration(cx);
        self.ask(cx, Command::Register(registration));
    }

    fn registration(&self, cx: &Cx<'_>) -> Registration {
        let wide = |number: u64| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            bytes
        };
        let directory = cx.machine.directory;
        Registration {
            peer_id: format!("d{directory}"),
            directory: DirectoryId(wide(directory)),
            boot: BootId(wide(cx.machine.boot)),
            incarnation: wide(self.incarnation),
            addresses: Vec::new(),
            lanes: Vec::new(),
            kafka: BTreeMap::new(),
            ops: None,
            rack: None,
            weight_milli: 1000,
            role: Part::Broker,
            version: String::new(),
            unclean: self.unclean,
            features_max: cx.shared.features_max,
        }
    }

    pub(super) fn leave(&mut self, cx: &mut Cx<'_>) {
        if let Some(Identity { node, broker_epoch }) = self.identity {
            self.phase = Phase::Leaving;
            self.ask(cx, Command::Leave { node, epoch: broker_epoch });
        }
    }

    /// Time for a heartbeat.
    pub(super) fn beat(&mut self, cx: &mut Cx<'_>) {
        self.beat_at = cx.now().plus(cx.shared.tempo.heartbeat);
        let (node, epoch) = match self.identity {
            Some(Identity { node, broker_epoch }) => (node, broker_epoch),
            None => return,
        };
        if self.phase == Phase::Serving {
            let ask = Ask::Heartbeat { node, epoch, applied: self.image.index };
            let (id, sent) = (cx.shared.number(), cx.now());
            cx.send(Address::Broker(self.controller), Message::Ask(id, Box::new(ask.clone())));
            // Not repeated: the next one says more.
            self.asks.retain(|_, asked| !matches!(asked.ask, Ask::Heartbeat { .. }) || asked.tries == 0);
            self.asks.insert(id, super::Asked { ask, sent, again_at: self.beat_at, tries: 0 });
        } else {
            self.pull(cx);
        }
    }

    pub(super) fn pull(&mut self, cx: &mut Cx<'_>) {
        let voters = cx.shared.voters.clone();
        if let Some(voter) = self.dice.pick(&voters) {
            cx.send(Address::Broker(voter), Message::Pull(self.image.index));
        }
    }

    pub(super) fn ask_again(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        let due: Vec<_> = self.asks.iter().filter(|(_, asked)| asked.again_at <= now).map(|(id, _)| *id).collect();
        for id in due {
            if let Some(asked) = self.asks.remove(&id) {
                let voters = cx.shared.voters.clone();
                self.controller = self.dice.pick(&voters).unwrap_or(self.controller);
                self.repeat(cx, asked.ask, asked.tries);
            }
        }
    }

    fn repeat(&mut self, cx: &mut Cx<'_>, ask: Ask, tries: u32) {
        // A leader repeats its own proposals, and heartbeats are overtaken by others.
        let limit = match &ask {
            Ask::Heartbeat { .. } => 0,
            Ask::Command(Command::AlterPartition(_)) => 2,
            Ask::Command(_) => u32::MAX,
        };
        if tries >= limit {
            return;
        }
        let (id, sent) = (cx.shared.number(), cx.now());
        let again_at = sent.plus(cx.shared.tempo.ask_timeout);
        cx.send(Address::Broker(self.controller), Message::Ask(id, Box::new(ask.clone())));
        self.asks.insert(id, super::Asked { ask, sent, again_at, tries: tries + 1 });
    }

    pub(super) fn on_told(&mut self, cx: &mut Cx<'_>, id: u64, told: Told) {
        let asked = self.asks.remove(&id);
        let sent = asked.as_ref().map(|asked| asked.sent);
        match (asked.map(|asked| (asked.ask, asked.tries)), told) {
            (asked, Told::NotController(hint)) => {
                let voters = cx.shared.voters.clone();
                self.controller = hint.or_else(|| self.dice.pick(&voters)).unwrap_or(self.controller);
                if let Some((ask, tries)) = asked {
                    match hint {
                        Some(_) => self.repeat(cx, ask, tries),
                        None => self.put_off(cx, id, ask, tries),
                    }
                }
            }
            (_, Told::Heartbeat(heartbeat)) => {
                if let Some(sent) = sent {
                    self.hear(cx, sent);
                }
                if heartbeat.index > self.image.index {
                    self.pull(cx);
                }
            }
            (
                Some((Ask::Heartbeat { .. }, _)),
                Told::Refused(ErrorCode::StaleBrokerEpoch | ErrorCode::UnsupportedVersion),
            ) if self.phase == Phase::Serving => {
                say!(cx.shared, "b{} is told that its registration is of no use, and registers again", cx.me);
                cx.count("registered again while alive");
                self.unclean = false;
                self.register(cx);
            }
            (Some((Ask::Command(command), tries)), Told::Answer(answer)) => self.answered(cx, command, tries, answer),
            _ => {}
        }
    }

    fn put_off(&mut self, cx: &mut Cx<'_>, id: u64, ask: Ask, tries: u32) {
        let sent = cx.now();
        self.asks.insert(id, super::Asked { ask, sent, again_at: sent.plus(cx.shared.tempo.backoff), tries });
    }

    /// The controller lives.
    fn hear(&mut self, cx: &mut Cx<'_>, sent: Monotonic) {
        self.lease = self.lease.max(sent);
        let led: Vec<_> = self.replicas.iter().filter(|(_, r)| r.leader().is_some()).map(|(at, _)| *at).collect();
        for at in led {
            self.step(cx, at, Input::ControllerHeard(sent));
        }
    }

    fn answered(&mut self, cx: &mut Cx<'_>, command: Command, tries: u32, answer: Answer) {
        match (command, answer) {
            (Command::Register(_), Answer::Registered(registered)) => {
                let identity = Identity { node: registered.node, broker_epoch: registered.epoch };
                say!(cx.shared, "b{} is node {} in epoch {}", cx.me, registered.node, registered.epoch);
                self.identity = Some(identity);
                cx.machine.identity = Some((registered.node, registered.epoch));
                self.phase = Phase::CatchingUp;
                let name = format!("d{}", cx.machine.directory);
                if !cx.shared.was_registered(identity, &name) {
                    let text = format!(
                        "{name} was told that it is node {} in {}, which never was",
                        registered.node, registered.epoch
                    );
                    cx.shared.truths.violate(15, text);
                }
                self.fetchers.clear();
                self.pull(cx);
                self.advance(cx);
            }
            (Command::Register(_), Answer::Refused(failure)) => {
                say!(cx.shared, "b{} is not registered: {}", cx.me, failure.message);
                // Perhaps with a newer program.
                let (id, registration) = (cx.shared.number(), self.registration(cx));
                self.put_off(cx, id, Ask::Command(Command::Register(registration)), tries);
            }
            (Command::AlterPartition(proposal), answer) => {
                let result = match answer {
                    Answer::Altered(epoch) => Ok(epoch),
                    Answer::Refused(failure) => Err(failure.code),
                    _ => return,
                };
                if let Err(code) = result {
                    cx.shared.count(match code {
                        ErrorCode::IneligibleReplica => "a new member was refused",
                        _ => "a proposal was refused",
                    });
                }
                let leads = |epoch| epoch == proposal.leader_epoch;
                if self.replicas.get(&proposal.at).and_then(|r| r.leader()).is_some_and(|l| leads(l.epoch())) {
                    let partition_epoch = proposal.partition_epoch;
                    self.step(cx, proposal.at, Input::AlterAnswered { partition_epoch, result });
                }
            }
            (Command::ReplicaFailed { partitions, .. }, answer) => {
                let refused = !matches!(answer, Answer::Done);
                if let Answer::Done = answer {
                    for at in partitions {
                        if let Some(failed) = self.failed.get_mut(&at) {
                            failed.told = true;
                        }
                    }
                } else if let Answer::Refused(failure) = answer {
                    say!(cx.shared, "b{}: report of failed replicas refused: {}", cx.me, failure.message);
                }
                // Another may have failed while the answer was on its way: then that is told first, too.
                if self.phase == Phase::Reporting && (refused || self.not_opened().next().is_none()) {
                    self.serve(cx);
                }
            }
            _ => {}
        }
    }

    /// The metadata log reaches `upto`; the entries came with the message.
    pub(super) fn on_feed(&mut self, cx: &mut Cx<'_>, upto: MetadataIndex) {
        let from = self.image.index.0 as usize;
        let upto = (upto.0 as usize).min(cx.shared.metadata.len());
        if from >= upto {
            return;
        }
        for i in from..upto {
            let entry = cx.shared.metadata[i].clone();
            if let Err(error) = self.image.apply(&entry) {
                cx.shared.truths.violate(13, format!("b{} cannot apply entry {}: {error}", cx.me, entry.index));
                return;
            }
        }
        say!(cx.shared, "b{} applies metadata up to {upto}", cx.me);
        self.advance(cx);
        if self.phase != Phase::Registering || self.identity.is_some() {
            self.reconcile(cx);
        }
    }

    /// Goes on when the image has the own registration.
    fn advance(&mut self, cx: &mut Cx<'_>) {
        let Some(identity) = self.identity else { return };
        if self.phase != Phase::CatchingUp || self.image.index.0 < identity.broker_epoch.0 {
            return;
        }
        self.phase = Phase::Reporting;
        self.reconcile(cx);
        // What was recovered here is known to the controller from now on: not before, or a crash in between would
        // make this boot look like one in which nothing was lost.
        if self.failed.is_empty() || cx.shared.breaks(Driver::FailuresAreToldBeforeService) {
            self.serve(cx);
        }
    }

    fn serve(&mut self, cx: &mut Cx<'_>) {
        cx.machine.known_boot = Some(cx.machine.boot);
        cx.machine.clean = false;
        self.unclean = false;
        self.opened = true;
        self.phase = Phase::Serving;
        self.beat(cx);
    }

    /// Tells the controller which replicas it cannot count on, until the metadata says so.
    pub(super) fn report_failures(&mut self, cx: &mut Cx<'_>) {
        let Some(identity) = self.identity.filter(|_| !self.failed.is_empty()) else { return };
        if !matches!(self.phase, Phase::Reporting | Phase::Serving) {
            return;
        }
        let asked = |asked: &super::Asked| matches!(asked.ask, Ask::Command(Command::ReplicaFailed { .. }));
        if self.asks.values().any(asked) {
            return;
        }
        let exists = |at: &TopicPartition| self.image.partition(*at).is_some();
        let news = self.failed.iter().filter(|(at, failed)| !failed.told && exists(at));
        let partitions: Vec<_> = news.map(|(at, _)| *at).collect();
        if partitions.is_empty() {
            if self.phase == Phase::Reporting {
                self.serve(cx);
            }
            return;
        }
        let me = identity.node;
        say!(cx.shared, "b{} reports {} failed replicas", cx.me, partitions.len());
        cx.count("a failed replica was reported");
        self.ask(cx, Command::ReplicaFailed { node: me, epoch: identity.broker_epoch, partitions });
    }

    /// The controller wants to know how far a log reaches, before it elects a leader uncleanly.
    pub(super) fn on_question(&mut self, cx: &mut Cx<'_>, question: Question) {
        let Question { at, node, broker_epoch, partition_epoch } = question;
        if self.identity != Some(Identity { node, broker_epoch }) || self.phase != Phase::Serving {
            return;
        }
        if let Some(replica) = self.replicas.get(&at) {
            let (last_epoch, end) = (replica.log.latest_epoch(), replica.log.log_end());
            cx.count("asked how far a log reaches");
            self.ask(cx, Command::LogEnd(LogEnd { at, node, broker_epoch, partition_epoch, last_epoch, end }));
        }
    }

    /// Leaders look at the clock.
    pub(super) fn tick_leaders(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now();
        let due =
            |role: &Role| matches!(role, Role::Leader(leader) if leader.next_deadline().is_some_and(|at| at <= now));
        let due: Vec<_> = self.replicas.iter().filter(|(_, r)| due(&r.role)).map(|(at, _)| *at).collect();
        for at in due {
            self.step(cx, at, Input::Time(now));
        }
    }
}
