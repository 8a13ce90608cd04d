//! Members of a group: who has joined, what each of them has and has read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cluster::SESSION_MS;
use super::groups::PARTITIONS;
use super::session::{LOOK_EVERY, Session, Trouble, check};

/// A group is at rest, and everything is read, within this time.
const SETTLED_WITHIN: Duration = Duration::from_secs(45);
/// Nothing more comes for so long: a record that comes twice would have come.
const QUIET: Duration = Duration::from_millis(300);

/// How a member takes part.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// `classic` or `consumer` (KIP-848).
    pub(super) protocol: &'static str,
    /// Of the classic protocol; of KIP-848 what the broker does by itself.
    pub(super) assignor: &'static str,
    /// Makes it a static member.
    pub(super) instance: Option<&'static str>,
    /// Silence after which a member of the classic protocol counts as dead.
    pub(super) session_ms: u32,
    /// Subscribes to all topics whose names begin with that of the team's.
    pub(super) pattern: bool,
}

impl How {
    /// The classic protocol.
    pub(super) const CLASSIC: Self =
        Self { protocol: "classic", assignor: "range", instance: None, session_ms: SESSION_MS, pattern: false };
    /// The protocol of KIP-848.
    pub(super) const CONSUMER: Self = Self { protocol: "consumer", ..Self::CLASSIC };
}

/// A group, its topic, and what was sent to it.
pub(super) struct Team {
    /// Name of the topic.
    pub(super) topic: String,
    /// Name of the group.
    pub(super) group: String,
    /// How many have joined: each knows another node.
    pub(super) joined: usize,
    sent: i64,
}

/// A consumer. One that lives in a process of its own can be killed.
pub(super) struct Member<'a> {
    name: String,
    bootstrap: String,
    own: Option<Session<'a>>,
    /// Topic, partition and offset of what it has read.
    pub(super) records: Vec<(String, u32, i64)>,
    /// The partitions it has.
    pub(super) assigned: Vec<u32>,
    /// How many were taken away from it, ever.
    pub(super) revoked: u64,
    /// How often it was told what it has.
    pub(super) rebalances: u64,
    /// The text that it commits with offsets.
    pub(super) metadata: String,
}

impl Team {
    /// A new topic and the name of a group, if the client can take part in one.
    pub(super) fn new(session: &mut Session<'_>, case: &str, how: How) -> Result<Self, Trouble> {
        if how.pattern {
            session.can("pattern")?;
        }
        if how.instance.is_some() {
            session.can("static")?;
        }
        session.can(how.assignor)?;
        session.can(how.protocol)?;
        Self::unchecked(session, &format!("{case}-{}", how.protocol))
    }

    /// A new topic and the name of a group.
    pub(super) fn unchecked(session: &mut Session<'_>, case: &str) -> Result<Self, Trouble> {
        let topic = session.new_topic(case);
        session.create(&topic, u32::try_from(PARTITIONS).unwrap_or(1), json!({}))?;
        // Several clients work at once: what was made may be seen a little later.
        session.eventually("partitions", &json!({ "topic": topic }), |answer| answer["count"] == PARTITIONS)?;
        Ok(Self { group: format!("group-of-{topic}"), topic, joined: 0, sent: 0 })
    }

    /// Each partition has so many records more.
    pub(super) fn sent(&mut self, records: usize) {
        self.sent += i64::try_from(records).unwrap_or(0);
    }

    /// A member in the process of `session`.
    pub(super) fn join(&mut self, session: &mut Session<'_>, name: &str, how: How) -> Result<Member<'static>, Trouble> {
        self.enter(session, name, how, None)
    }

    /// A member in a process of its own.
    pub(super) fn join_aside<'a>(
        &mut self,
        session: &mut Session<'a>,
        name: &str,
        how: How,
    ) -> Result<Member<'a>, Trouble> {
        let own = Some(session.aside());
        self.enter(session, name, how, own)
    }

    fn enter<'a>(
        &mut self,
        session: &mut Session<'_>,
        name: &str,
        how: How,
        own: Option<Session<'a>>,
    ) -> Result<Member<'a>, Trouble> {
        let addresses = session.cluster.addresses();
        let mut member = Member {
            name: name.to_owned(),
            bootstrap: addresses[self.joined % addresses.len()].clone(),
            own,
            records: Vec::new(),
            assigned: Vec::new(),
            revoked: 0,
            rebalances: 0,
            metadata: format!("committed by {name}"),
        };
        self.joined += 1;
        let fields = json!({
            "group": self.group, "topic": self.topic, "protocol": how.protocol, "assignor": how.assignor,
            "instance": how.instance, "pattern": how.pattern, "session_ms": how.session_ms,
        });
        member.ask(session, "join", fields)?;
        Ok(member)
    }

    /// Waits until the partitions are spread evenly over `members`.
    pub(super) fn settle(&self, session: &mut Session<'_>, members: &mut [&mut Member<'_>]) -> Result<(), Trouble> {
        let (until, share) = (Instant::now() + SETTLED_WITHIN, PARTITIONS / members.len());
        loop {
            for member in members.iter_mut() {
                member.look(session)?;
            }
            let all: Vec<u32> = members.iter().flat_map(|member| member.assigned.iter().copied()).collect();
            let distinct: BTreeSet<u32> = all.iter().copied().collect();
            let even = members.iter().all(|member| member.assigned.len() >= share);
            if even && all.len() == PARTITIONS && distinct.len() == PARTITIONS {
                return Ok(());
            }
            check(Instant::now() < until, || {
                let each = members.iter().map(|member| format!("{} has {:?}", member.name, member.assigned));
                format!("no rest: {}", each.collect::<Vec<_>>().join(", "))
            })?;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until `members` have read all that was sent, each record once.
    pub(super) fn receive(&self, session: &mut Session<'_>, members: &mut [&mut Member<'_>]) -> Result<(), Trouble> {
        let ends = (0..).zip([self.sent; PARTITIONS]).collect();
        self.receive_up_to(session, members, &ends)?;
        let quiet = Instant::now() + QUIET;
        while Instant::now() < quiet {
            std::thread::sleep(LOOK_EVERY);
        }
        let mut times: BTreeMap<(u32, i64), usize> = BTreeMap::new();
        for member in members.iter_mut() {
            member.look(session)?;
            for (_, partition, offset) in &member.records {
                *times.entry((*partition, *offset)).or_default() += 1;
            }
        }
        let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).map(|(record, _)| *record).collect();
        check(twice.is_empty(), || format!("{} records came twice: {:?}", twice.len(), &twice[..twice.len().min(5)]))
    }

    /// Waits until `members` have read every record before `ends`, however often.
    pub(super) fn receive_up_to(
        &self,
        session: &mut Session<'_>,
        members: &mut [&mut Member<'_>],
        ends: &BTreeMap<u32, i64>,
    ) -> Result<(), Trouble> {
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            let mut left: BTreeSet<(u32, i64)> =
                ends.iter().flat_map(|(partition, end)| (0..*end).map(|offset| (*partition, offset))).collect();
            for member in members.iter_mut() {
                member.look(session)?;
                for (_, partition, offset) in &member.records {
                    left.remove(&(*partition, *offset));
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            check(Instant::now() < until, || {
                format!("{} records have not come: {:?} ...", left.len(), left.iter().take(5).collect::<Vec<_>>())
            })?;
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl<'a> Member<'a> {
    /// Has it do `op`.
    pub(super) fn ask(&mut self, session: &mut Session<'_>, op: &str, mut fields: Value) -> Result<Value, Trouble> {
        fields["member"] = json!(self.name);
        match &mut self.own {
            Some(own) => own.ask_at(&self.bootstrap, op, fields),
            None => session.ask_at(&self.bootstrap, op, fields),
        }
    }

    /// Takes note of what it has and has read since.
    pub(super) fn look(&mut self, session: &mut Session<'_>) -> Result<(), Trouble> {
        if self.bootstrap.is_empty() {
            return Ok(());
        }
        let seen = self.ask(session, "seen", json!({}))?;
        for record in seen["records"].as_array().into_iter().flatten() {
            let number = |at: usize| record[at].as_i64().unwrap_or(-1);
            let topic = record[0].as_str().unwrap_or_default().to_owned();
            self.records.push((topic, u32::try_from(number(1)).unwrap_or(u32::MAX), number(2)));
        }
        let assigned = seen["assigned"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        self.assigned = assigned.filter_map(|partition| u32::try_from(partition).ok()).collect();
        self.assigned.sort_unstable();
        self.revoked = seen["revoked"].as_u64().unwrap_or(0);
        self.rebalances = seen["rebalances"].as_u64().unwrap_or(0);
        Ok(())
    }

    /// Looks until it is `enough`.
    pub(super) fn until(
        &mut self,
        session: &mut Session<'_>,
        what: &str,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<(), Trouble> {
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            self.look(session)?;
            if enough(self) {
                return Ok(());
            }
            check(Instant::now() < until, || format!("{what}: not yet; it has read {} records", self.records.len()))?;
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What it has read of a topic.
    pub(super) fn of_topic(&self, topic: &str) -> impl Iterator<Item = &(String, u32, i64)> {
        self.records.iter().filter(move |record| record.0 == topic)
    }

    /// Commits what it has read.
    pub(super) fn commit(&mut self, session: &mut Session<'_>, topic: &str) -> Result<(), Trouble> {
        let metadata = self.metadata.clone();
        self.ask(session, "commit", json!({ "topic": topic, "metadata": metadata })).map(|_| ())
    }

    /// Leaves the group, and ends.
    pub(super) fn leave(&mut self, session: &mut Session<'_>) -> Result<(), Trouble> {
        self.ask(session, "leave", json!({})).map(|_| ())
    }

    /// What it has read, after its end.
    pub(super) fn gone(&self) -> Member<'static> {
        Member {
            name: self.name.clone(),
            bootstrap: String::new(),
            own: None,
            records: self.records.clone(),
            assigned: Vec::new(),
            revoked: self.revoked,
            rebalances: self.rebalances,
            metadata: self.metadata.clone(),
        }
    }

    /// Kills its process.
    pub(super) fn kill(self) -> Member<'static> {
        let gone = self.gone();
        drop(self.own);
        gone
    }
}
