//! Claim: whatever happens to processes, links and messages, no process that lives is fenced on evidence, unless two links
//! of one node refuse at once; one that was killed is fenced within a second; a lease ends before the session; a disk is
//! judged by what it did itself. Each rule of [`Rule`] is needed: without it some seed fails.

use rafka_model::limits::DISK_WELL_MS;

use super::*;
use crate::samples::Random;

const ME: usize = 0;
const TICK_MS: u64 = 10;

#[derive(Clone, Copy, Debug)]
struct Process {
    /// Of the process that runs, or ran last; it is registered as it.
    epoch: u64,
    /// When a killed one begins again.
    restarts: Option<u64>,
    killed: u64,
    paused_until: u64,
    in_service: bool,
    /// It was killed while all went well, so it is to be fenced soon.
    expected: bool,
}

/// Something wrong with the link of two nodes.
#[derive(Clone, Copy, Debug)]
struct Fault {
    link: (usize, usize),
    from: u64,
    until: u64,
    /// It refuses, or is silent.
    refuses: bool,
}

struct Simulation {
    random: Random,
    now: u64,
    processes: Vec<Process>,
    faults: Vec<Fault>,
    /// Connections, by who looks and at whom.
    connected: Vec<Vec<bool>>,
    detector: Detector,
    mail: Vec<(u64, Input)>,
    quiet_until: u64,
    next_epoch: u64,
    fenced: usize,
}

impl Simulation {
    fn new(seed: u64, broken: Option<Rule>) -> Self {
        let mut random = Random(seed);
        let nodes = 2 + random.below(4) as usize;
        let process = |i: usize| Process {
            epoch: i as u64 + 1,
            restarts: None,
            killed: 0,
            paused_until: 0,
            in_service: true,
            expected: false,
        };
        let mut simulation = Self {
            random,
            now: 0,
            processes: (0..nodes).map(process).collect(),
            faults: Vec::new(),
            connected: vec![vec![true; nodes]; nodes],
            detector: Detector::with_rules(id(ME), Rules { broken }),
            mail: Vec::new(),
            quiet_until: 1_000,
            next_epoch: 100,
            fenced: 0,
        };
        simulation.tell_members();
        simulation
    }

    fn run(&mut self) -> Result<usize, String> {
        while self.now < 60_000 {
            self.now += TICK_MS;
            if self.now >= self.quiet_until {
                self.begin_an_episode();
            }
            self.processes();
            self.look();
            self.deliver()?;
            let late = |process: &&Process| process.expected && self.now > process.killed + 1_000;
            if let Some(process) = self.processes.iter().find(late) {
                return Err(format!("{process:?} is still in service at {}", self.now));
            }
        }
        Ok(self.fenced)
    }

    /// Something happens to one node, and then nothing until that is over.
    fn begin_an_episode(&mut self) {
        let nodes = self.processes.len();
        let node = 1 + self.random.below(nodes as u64 - 1) as usize;
        let now = self.now;
        if self.processes.iter().any(|process| process.restarts.is_some() || !process.in_service) {
            return;
        }
        let until = now + 300 + self.random.below(1_000);
        let (mut quiet, away) = (5_000, self.random.below(1_500));
        let member = (1..nodes).find(|other| *other != node);
        match (self.random.below(6), member) {
            (0, _) => self.kill(node, 1_500 + away, true),
            // Back before anybody knows.
            (1, _) => self.kill(node, 100 + away / 3, false),
            (2, _) => self.processes[node].paused_until = now + 1_000 + self.random.below(4_000),
            (3, _) => self.faults.push(Fault { link: (ME, node), from: now, until: now + 4_000, refuses: false }),
            // One link refuses, and when that is over the other does: heartbeats came between them, or much time.
            (4, Some(member)) => {
                let heard = self.random.one_in(2);
                let gap = if heard { 1_000 + self.random.below(600) } else { 2_600 };
                let then = until + gap;
                let links = [(member, node), (ME, node)];
                let turn = self.random.below(2) as usize;
                self.faults.push(Fault { link: links[turn], from: now, until, refuses: true });
                self.faults.push(Fault { link: links[1 - turn], from: then, until: then + 500, refuses: true });
                if !heard {
                    self.faults.push(Fault {
                        link: (ME, node),
                        from: now.max(until - 100),
                        until: then,
                        refuses: false,
                    });
                }
                quiet += then - now;
            }
            // A member out of service, to whom everything refuses, while the controller's link does.
            (5, Some(member)) => {
                self.processes[member].in_service = false;
                self.tell_members();
                let links = (0..nodes).filter(|other| *other != member).map(|other| (member, other));
                let fault = |link| Fault { link, from: now, until, refuses: true };
                self.faults.extend(links.map(fault).chain([fault((ME, node))]));
                // What it said meanwhile has arrived once it is back.
                self.processes[member].paused_until = until + 500;
            }
            _ => {}
        }
        self.quiet_until = now + quiet;
    }

    fn kill(&mut self, node: usize, for_ms: u64, expected: bool) {
        let process = &mut self.processes[node];
        (process.restarts, process.killed, process.expected) = (Some(self.now + for_ms), self.now, expected);
        // Its heartbeats arrive before its connection ends.
        self.mail.retain(|(_, input)| !matches!(input, Input::Heard { node: from, .. } if *from == id(node)));
    }

    /// Processes begin again, and say that they live.
    fn processes(&mut self) {
        for i in 1..self.processes.len() {
            if self.processes[i].restarts.is_some_and(|at| at <= self.now) {
                self.next_epoch += 1;
                let process = &mut self.processes[i];
                (process.restarts, process.epoch, process.in_service) = (None, self.next_epoch, true);
                self.tell_members();
            }
            let process = self.processes[i];
            let back = !process.in_service && process.restarts.is_none() && process.paused_until < self.now;
            if back {
                self.processes[i].in_service = true;
                self.tell_members();
            }
            let speaks = process.restarts.is_none() && process.paused_until < self.now && self.fault(ME, i).is_none();
            if speaks && self.now % 500 == (i as u64 * 70) / 10 * 10 {
                let heard = Input::Heard { node: id(i), epoch: BrokerEpoch(process.epoch) };
                self.send(heard, 40);
            }
        }
    }

    fn tell_members(&mut self) {
        let all = self.processes.iter().enumerate().filter(|(_, process)| process.in_service);
        self.detector
            .members(all.map(|(i, process)| (id(i), BrokerEpoch(process.epoch))).collect(), self.processes.len());
    }

    fn send(&mut self, input: Input, ms: u64) {
        let at = self.now + self.random.below(ms);
        self.mail.push((at, input));
    }

    fn fault(&self, a: usize, b: usize) -> Option<Fault> {
        let on = |fault: &&Fault| fault.link == (a, b) || fault.link == (b, a);
        self.faults.iter().filter(on).find(|fault| (fault.from..fault.until).contains(&self.now)).copied()
    }

    /// What a dial of `to` would see.
    fn dial(&self, from: usize, to: usize) -> Option<Sign> {
        let process = self.processes[to];
        match self.fault(from, to) {
            Some(fault) if fault.refuses => Some(Sign::Refused),
            Some(_) => Some(Sign::Silent),
            None if process.restarts.is_some() => Some(Sign::Refused),
            None if process.paused_until > self.now => Some(Sign::Silent),
            None => None,
        }
    }

    /// Everybody looks after connections: sees them break, and dials again.
    fn look(&mut self) {
        for from in 0..self.processes.len() {
            let blind = self.processes[from].restarts.is_some();
            for to in (1..self.processes.len()).filter(|to| *to != from && !blind) {
                let seen = self.dial(from, to);
                let sign = match (self.connected[from][to], seen) {
                    (true, Some(Sign::Refused)) => Some(Sign::Reset),
                    (true, _) => None,
                    (false, _) if !self.now.is_multiple_of(200) => continue,
                    (false, seen) => seen,
                };
                self.connected[from][to] = seen.is_none() || self.connected[from][to] && sign.is_none();
                if let Some(sign) = sign {
                    let epoch = BrokerEpoch(self.processes[to].epoch);
                    let report = Input::Reported { by: id(from), node: id(to), epoch, sign };
                    self.send(report, if self.random.0.is_multiple_of(5) { 400 } else { 50 });
                }
            }
        }
    }

    fn deliver(&mut self) -> Result<(), String> {
        let now = self.now;
        let (due, later): (Vec<_>, Vec<_>) = self.mail.drain(..).partition(|(at, _)| *at <= now);
        self.mail = later;
        for (_, input) in due {
            let mut out = Vec::new();
            self.detector.step(Monotonic(now * 1_000_000), input, &mut out);
            for output in out {
                match output {
                    Output::Probe { node, epoch } => {
                        let sign = self.dial(ME, node.0 as usize - 1);
                        self.send(Input::Probed { node, epoch, sign }, 50);
                    }
                    Output::Fence { node, epoch } => self.fence(node.0 as usize - 1, epoch, input)?,
                }
            }
        }
        Ok(())
    }

    fn fence(&mut self, node: usize, epoch: BrokerEpoch, why: Input) -> Result<(), String> {
        let process = &mut self.processes[node];
        if process.epoch == epoch.0 && process.restarts.is_none() {
            let recent: Vec<_> = self.faults.iter().filter(|fault| fault.until + 3_000 > self.now).collect();
            return Err(format!("{process:?} lives and was fenced at {}: {why:?}, {recent:?}", self.now));
        }
        if process.epoch == epoch.0 {
            (process.in_service, process.expected) = (false, false);
            self.fenced += 1;
        }
        self.tell_members();
        Ok(())
    }
}

fn id(i: usize) -> NodeId {
    NodeId(i as u64 + 1)
}

/// Heartbeats travel for any time, and so do answers.
fn leases(seed: u64, broken: Option<Rule>) -> Result<(), String> {
    let (mut random, session) = (Random(seed), Duration::from_secs(6));
    let at = |ms: u64| Monotonic(ms * 1_000_000);
    let mut lease = Lease::with_rules(session, at(0), Rules { broken });
    // At the controller: when the session ends, and when heartbeats and answers arrive.
    let (mut ends, mut best) = (0, 0);
    let (mut heartbeats, mut answers) = (Vec::<(u64, u64)>::new(), Vec::<(u64, u64)>::new());
    for now in (0..120_000).step_by(50) {
        // For ten seconds of twenty nothing gets through.
        if now % 500 == 0 && now % 20_000 < 10_000 && !random.one_in(4) {
            heartbeats.push((now + random.below(1_500), now));
        }
        for (_, sent) in heartbeats.extract_if(.., |(arrives, _)| *arrives <= now) {
            ends = now + 6_000;
            answers.push((now + random.below(4_000), sent));
        }
        for (_, sent) in answers.extract_if(.., |(arrives, _)| *arrives <= now) {
            lease.answered(at(sent), at(now));
            best = best.max(sent + 6_000);
        }
        if lease.holds(at(now)) && now >= ends {
            return Err(format!("at {now} the lease holds, the session ended at {ends}"));
        }
        if !lease.holds(at(now)) && now < best {
            return Err(format!("at {now} the lease is over, it was granted until {best}"));
        }
    }
    Ok(())
}

/// One sync after the other; the process sleeps now and then.
fn disks(seed: u64, broken: Option<Rule>) -> Result<(), String> {
    let mut random = Random(seed);
    let at = |ms: u64| Monotonic(ms * 1_000_000);
    let mut disk = DiskWatch::with_rules(Rules { broken });
    let (mut now, mut slow_until, mut failed) = (1_000, 0, false);
    for sync in 0..60 {
        disk.began(sync, at(now));
        let took = if random.one_in(12) { 5_000 + random.below(3_000) } else { random.below(900) };
        now += took;
        if took < 900 && random.one_in(4) {
            let gap = 2_000 + random.below(20_000);
            now += gap;
            disk.slept(Duration::from_millis(gap), at(now));
        }
        let fails = random.one_in(40);
        disk.ended(sync, at(now), fails);
        failed |= fails;
        if took >= 5_000 {
            slow_until = now + DISK_WELL_MS;
        }
        now += random.below(20_000);
        let expected = match (failed, now < slow_until) {
            (true, _) => DiskHealth::Failed,
            (_, true) => DiskHealth::Slow,
            _ => DiskHealth::Well,
        };
        let health = disk.health(at(now));
        if health != expected {
            return Err(format!("{health:?} at {now}, {expected:?} is right"));
        }
    }
    Ok(())
}

/// Runs one seed, with all rules or without one.
///
/// # Errors
/// What went wrong, in words.
pub fn simulate(seed: u64, broken: Option<Rule>) -> Result<(), String> {
    trial(seed, broken).map(drop)
}

/// How many there were: fenced.
fn trial(seed: u64, broken: Option<Rule>) -> Result<usize, String> {
    leases(seed, broken)?;
    disks(seed, broken)?;
    Simulation::new(seed, broken).run()
}

#[test]
fn the_dead_are_fenced_soon_and_the_living_are_not() {
    let mut fenced = 0;
    for seed in 0..150 {
        fenced += trial(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    assert!(fenced > 150, "only {fenced} were fenced: the simulation does too little");
}

#[test]
fn every_rule_is_needed() {
    for rule in Rule::ALL {
        assert!(
            (0..100).any(|seed| simulate(seed, Some(*rule)).is_err()),
            "{rule:?} can be dropped without anyone noticing"
        );
    }
}
