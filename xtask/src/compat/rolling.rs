//! Groups of all clients at once, while the nodes are restarted one by one.

use std::collections::BTreeMap;

use serde_json::json;

use super::cases::Outcome;
use super::cluster::Cluster;
use super::groups::{PARTITIONS, SOME};
use super::members::{How, Member, Team};
use super::records::{produce, records};
use super::session::{Session, Trouble, check};

/// As on the command line and on the page.
pub(super) const NAME: &str = "group-restart";
/// In words, for the page.
pub(super) const PROVES: &str = "groups of all clients, two members each, go on while every node in turn is killed (SIGKILL) and \
                                 started again under producers: nothing lost, what was committed before does not come again";

/// One client's part.
pub(super) struct Part<'a> {
    /// Name of the client.
    pub(super) client: &'static str,
    /// Its process.
    pub(super) session: Session<'a>,
    running: Option<(Team, Member<'static>, Member<'static>)>,
    /// What came of it, so far.
    pub(super) outcome: Outcome,
}

impl<'a> Part<'a> {
    /// A client that nothing has been asked of yet.
    pub(super) fn new(client: &'static str, session: Session<'a>) -> Self {
        Self { client, session, running: None, outcome: Ok(()) }
    }

    /// Does the next thing, unless one has failed before.
    fn next(&mut self, step: impl FnOnce(&mut Self) -> Outcome) {
        if self.outcome.is_ok() {
            self.outcome = step(self);
        }
    }

    fn start(&mut self) -> Outcome {
        let session = &mut self.session;
        let mut team = Team::new(session, "rolling", How::CLASSIC)?;
        let mut first = team.join(session, "a", How::CLASSIC)?;
        let mut second = team.join(session, "b", How::CLASSIC)?;
        team.settle(session, &mut [&mut first, &mut second])?;
        session.ask("produce", produce("none", "all", false, &team.topic, &records(SOME, PARTITIONS)))?;
        team.sent(SOME / PARTITIONS);
        team.receive(session, &mut [&mut first, &mut second])?;
        first.commit(session, &team.topic)?;
        second.commit(session, &team.topic)?;
        self.running = Some((team, first, second));
        Ok(())
    }

    fn send(&mut self) -> Outcome {
        let Some((team, ..)) = &self.running else { return Ok(()) };
        let bootstrap = self.session.cluster.bootstrap();
        let fields = produce("none", "all", true, &team.topic, &records(SOME, PARTITIONS));
        self.session.begin(&bootstrap, "produce", fields)
    }

    fn sent(&mut self) -> Outcome {
        let Some((team, ..)) = &self.running else { return Ok(()) };
        if let Err(Trouble::Failed(_)) = self.session.answer() {
            // Some give up when there is no node at all. What has arrived twice then is twice in the log.
            let fields = produce("none", "all", true, &team.topic, &records(SOME, PARTITIONS));
            self.session.eventually("produce", &fields, |_| true)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Outcome {
        let Some((team, first, second)) = &mut self.running else { return Ok(()) };
        let session = &mut self.session;
        let (mut ends, committed) = (BTreeMap::new(), i64::try_from(SOME / PARTITIONS).unwrap_or(0));
        let rounds = i64::try_from(session.cluster.len()).unwrap_or(0) + 1;
        for partition in 0..u32::try_from(PARTITIONS).unwrap_or(0) {
            let asked = json!({ "topic": team.topic, "partition": partition });
            // Some do not ask again by themselves when the epoch of a leader is not the one they know.
            session.eventually("offsets", &asked, |_| true)?;
            let found = session.ask("offsets", asked)?;
            let end = found["latest"].as_i64().unwrap_or(0);
            check(end >= committed * rounds, || format!("partition {partition} ends at {end}: records are lost"))?;
            ends.insert(partition, end);
        }
        team.settle(session, &mut [first, second])?;
        team.receive_up_to(session, &mut [first, second], &ends)?;
        let before = [&*first, &*second].into_iter().flat_map(|member| &member.records);
        let again = before.filter(|record| record.2 < committed).count();
        check(again == SOME, || format!("{again} of the {SOME} committed records came, some of them again"))?;
        first.commit(session, &team.topic)?;
        second.commit(session, &team.topic)?;
        second.leave(session)?;
        first.leave(session)
    }
}

/// Restarts the nodes under the groups of all `parts`.
///
/// # Errors
/// In words, if a node does not come back.
pub(super) fn run(parts: &mut [Part<'_>], cluster: &Cluster) -> Result<(), String> {
    together(parts, Part::start);
    for node in 0..cluster.len() {
        together(parts, Part::send);
        cluster.restart(node)?;
        together(parts, Part::sent);
    }
    together(parts, Part::finish);
    Ok(())
}

fn together<'a>(parts: &mut [Part<'a>], step: fn(&mut Part<'a>) -> Outcome) {
    std::thread::scope(|scope| {
        for part in parts {
            scope.spawn(move || part.next(step));
        }
    });
}
