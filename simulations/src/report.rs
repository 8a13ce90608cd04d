//! What a swarm simulation found, as data and as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::stats::Summary;

/// One swarm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SwarmReport {
    /// Nodes.
    pub nodes: usize,
    /// Topics.
    pub topics: usize,
    /// Partitions of each.
    pub partitions: u32,
    /// `memory` or `tcp`.
    pub transport: String,
    /// All nodes joined at the same moment.
    pub at_once: bool,
    /// Fixes every choice that the simulation makes; not what the scheduler makes of them.
    pub seed: u64,
    /// Joining.
    pub join: Join,
    /// The directory.
    pub publish: Publish,
    /// Lookups of random topics from random nodes.
    pub lookups: Lookups,
    /// Every topic from every node, cold, without a fallback.
    pub resolve: Resolve,
    /// Hints.
    pub gossip: Gossip,
    /// Nodes that leave and come back.
    pub churn: Option<Churn>,
    /// What it cost.
    pub cost: Cost,
    /// Bars that were missed, in words.
    pub missed: Vec<String>,
}

/// How nodes became members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// From a node's start to its registration, ms: hello, search, swarm, registration.
    pub registered_ms: Summary,
    /// From a node's start until it holds, and is held by, its neighbours: connected, authenticated, in the routing table, ms.
    pub known_ms: Summary,
    /// From the start of the first node until that is true of the last, ms.
    pub all_ms: f64,
    /// Neighbours that count: all others in a small swarm, else those that hold its records.
    pub neighbours: usize,
    /// Entries of a node's routing table afterwards.
    pub routing_table: Summary,
    /// Connected peers of a node afterwards.
    pub connected: Summary,
}

/// How the directory was filled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Publish {
    /// Records in the directory.
    pub records: usize,
    /// From the creation of the topics until every holder had every record, ms.
    pub ms: f64,
}

/// Lookups in the DHT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lookups {
    /// Made.
    pub made: usize,
    /// Found the record.
    pub found: usize,
    /// Length of the chain of referrals to whoever had it; 0 at a holder.
    pub hops: Summary,
    /// Lookups by hops.
    pub by_hops: Vec<usize>,
    /// Peers asked.
    pub asked: Summary,
    /// Time, ms.
    pub ms: Summary,
}

/// Routes by the resolver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resolve {
    /// Asked for.
    pub routes: usize,
    /// Right: to the leader that the registry names, at the address where it listens.
    pub right: usize,
    /// Of those, not at the first attempt: an old record was found first, as a client finds out by being redirected.
    pub redirected: usize,
    /// Still somewhere else after as many attempts as a client makes.
    pub wrong: usize,
    /// Nowhere.
    pub failed: usize,
    /// Questions that would have gone to an authority, and failed because there was none.
    pub fallbacks: u64,
    /// The farthest record that a route needed.
    pub hops: Summary,
    /// Time, ms.
    pub ms: Summary,
    /// The first failures, in words.
    pub failures: Vec<String>,
}

/// How hints spread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gossip {
    /// Hints published, one after the other.
    pub hints: usize,
    /// Deliveries that there should have been.
    pub expected: usize,
    /// Deliveries.
    pub delivered: usize,
    /// From the end of the join until a hint reached everybody, ms.
    pub first_complete_ms: f64,
    /// From the publication to a node, ms.
    pub ms: Summary,
    /// From the publication to the last node, ms.
    pub last_ms: Summary,
}

/// A swarm whose nodes come and go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Churn {
    /// Length, s.
    pub seconds: f64,
    /// Crashes, each followed by a return with the same identity at another address.
    pub crashes: usize,
    /// Nodes down at once.
    pub down: usize,
    /// Lookups meanwhile.
    pub lookups: Lookups,
    /// From the last return until neighbours and records were in place again, ms.
    pub healed_ms: f64,
    /// Every topic from every node afterwards.
    pub resolve: Resolve,
}

/// What the whole process spent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Processor seconds of the join.
    pub join_cpu_s: f64,
    /// Processor time of a lookup, ms, all nodes together, and whatever else they did meanwhile.
    pub lookup_cpu_ms: f64,
    /// Processor seconds of each phase after the join.
    pub phases_cpu_s: BTreeMap<String, f64>,
    /// Processor seconds, all in all.
    pub cpu_s: f64,
    /// Resident memory of a node after the join, KiB: what the process grew by, divided.
    pub join_rss_kib: f64,
    /// The same after everything.
    pub rss_kib: f64,
    /// Wall time, s.
    pub wall_s: f64,
}

impl SwarmReport {
    /// Hops that a lookup may take: log₂ of the nodes.
    #[must_use]
    pub fn hops_limit(&self) -> f64 {
        (self.nodes as f64).log2()
    }

    /// The most hops of any lookup or route while nobody came or went.
    #[must_use]
    pub fn hops_max(&self) -> f64 {
        self.lookups.hops.max.max(self.resolve.hops.max)
    }
}

/// Bars that only several swarms together can miss: at most one more hop for each doubling.
#[must_use]
pub fn growth_missed(reports: &[SwarmReport]) -> Vec<String> {
    let mut sorted: Vec<_> = reports.iter().collect();
    sorted.sort_by_key(|report| report.nodes);
    let grew_too_much = |pair: &[&SwarmReport]| {
        let (small, large) = (pair[0], pair[1]);
        let allowed = (large.nodes as f64 / small.nodes as f64).log2().ceil().max(1.0);
        let more = large.hops_max() - small.hops_max();
        let words = format!("{} nodes take {more} hops more than {}", large.nodes, small.nodes);
        (more > allowed).then_some(words)
    };
    sorted.windows(2).filter_map(grew_too_much).collect()
}

/// The figures as a table: a row for each figure, a column for each swarm.
#[must_use]
pub fn table(reports: &[SwarmReport]) -> String {
    type Figure = (&'static str, fn(&SwarmReport) -> String);
    let rows: &[Figure] = &[
        ("nodes", |r| r.nodes.to_string()),
        ("register, ms, p50/p99/max", |r| three(&r.join.registered_ms, 0)),
        ("known to neighbours, ms, p50/p99/max", |r| three(&r.join.known_ms, 0)),
        ("all joined, ms", |r| format!("{:.0}", r.join.all_ms)),
        ("routing table, p50/max", |r| format!("{:.0} / {:.0}", r.join.routing_table.p50, r.join.routing_table.max)),
        ("records, all held after ms", |r| format!("{}, {:.0}", r.publish.records, r.publish.ms)),
        ("lookups found", |r| share(r.lookups.found, r.lookups.made)),
        ("lookup hops, p50/p99/max", |r| three(&r.lookups.hops, 0)),
        ("hops allowed, log2 n", |r| format!("{:.1}", r.hops_limit())),
        ("lookup, ms, p50/p99/max", |r| three(&r.lookups.ms, 1)),
        ("routes right, no fallback", |r| share(r.resolve.right, r.resolve.routes)),
        ("route hops, p50/p99/max", |r| three(&r.resolve.hops, 0)),
        ("route, ms, p50/p99/max", |r| three(&r.resolve.ms, 1)),
        ("hints delivered", |r| share(r.gossip.delivered, r.gossip.expected)),
        ("hint, ms, p50/p99/max", |r| three(&r.gossip.ms, 1)),
        ("hint to the last node, ms, p50/p99/max", |r| three(&r.gossip.last_ms, 1)),
        ("churn: crashes (down at once)", |r| churn(r, |c| format!("{} ({})", c.crashes, c.down))),
        ("churn: lookups found", |r| churn(r, |c| share(c.lookups.found, c.lookups.made))),
        ("churn: lookup hops, p50/p99/max", |r| churn(r, |c| three(&c.lookups.hops, 0))),
        ("churn: lookup, ms, p50/p99/max", |r| churn(r, |c| three(&c.lookups.ms, 1))),
        ("healed, ms", |r| churn(r, |c| format!("{:.0}", c.healed_ms))),
        ("routes right after healing (redirected)", |r| {
            churn(r, |c| format!("{} ({})", share(c.resolve.right, c.resolve.routes), c.resolve.redirected))
        }),
        ("CPU of the join, s", |r| format!("{:.1}", r.cost.join_cpu_s)),
        ("CPU of a lookup, ms", |r| format!("{:.1}", r.cost.lookup_cpu_ms)),
        ("RSS of a node, KiB, joined/at the end", |r| format!("{:.0} / {:.0}", r.cost.join_rss_kib, r.cost.rss_kib)),
        ("CPU/wall of the run, s", |r| format!("{:.0} / {:.0}", r.cost.cpu_s, r.cost.wall_s)),
    ];
    let name_width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let columns: Vec<Vec<String>> =
        reports.iter().map(|report| rows.iter().map(|(_, figure)| figure(report)).collect()).collect();
    let mut text = String::new();
    for (row, (name, _)) in rows.iter().enumerate() {
        let _ = write!(text, "| {name:name_width$} |");
        for column in &columns {
            let width = column.iter().map(String::len).max().unwrap_or(0);
            let _ = write!(text, " {:>width$} |", column[row]);
        }
        text.push('\n');
        if row == 0 {
            let _ = write!(text, "|{:-<w$}|", "", w = name_width + 2);
            for column in &columns {
                let width = column.iter().map(String::len).max().unwrap_or(0);
                let _ = write!(text, "{:->w$}|", ":", w = width + 2);
            }
            text.push('\n');
        }
    }
    text
}

fn three(summary: &Summary, digits: usize) -> String {
    format!("{:.digits$} / {:.digits$} / {:.digits$}", summary.p50, summary.p99, summary.max)
}

fn share(part: usize, whole: usize) -> String {
    format!("{part} of {whole}")
}

fn churn(report: &SwarmReport, figure: impl Fn(&Churn) -> String) -> String {
    report.churn.as_ref().map_or_else(|| "-".to_owned(), figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swarm(nodes: usize, hops: f64) -> SwarmReport {
        let lookups = Lookups { hops: Summary::of([hops]), ..Lookups::default() };
        SwarmReport { nodes, lookups, ..SwarmReport::default() }
    }

    #[test]
    fn one_more_hop_for_each_doubling_is_allowed_and_two_are_not() {
        assert!(growth_missed(&[swarm(50, 2.0), swarm(25, 1.0), swarm(200, 4.0)]).is_empty());
        let missed = growth_missed(&[swarm(25, 1.0), swarm(50, 3.0)]);
        assert_eq!(missed, ["50 nodes take 2 hops more than 25"]);
    }

    #[test]
    fn the_table_has_a_column_for_each_swarm() {
        let text = table(&[swarm(25, 1.0), swarm(50, 2.0)]);
        let widths: Vec<_> = text.lines().map(|line| (line.len(), line.matches('|').count())).collect();
        assert!(widths.iter().all(|width| *width == widths[0] && width.1 == 4), "{text}");
    }
}
