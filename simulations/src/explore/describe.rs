//! A way through the states, in words.

use rafka_model::NodeId;

use super::control::NODES;
use super::log::{Log, Record};
use super::node::{Message, Node, Role, Said};
use super::search::System;
use super::world::{Action, Universe, World};

/// Says each of `actions`, and the state after it.
pub(super) fn steps(universe: &mut Universe, actions: &[Action]) -> Vec<String> {
    let mut world = universe.initial();
    let mut lines = vec![format!("{:<78} {}", "the beginning", state(universe, &world))];
    for action in actions {
        let words = words(universe, *action);
        let outcome = universe.apply(&mut world, action);
        let after = if outcome.is_ok() { state(universe, &world) } else { String::new() };
        lines.push(format!("{words:<78} {after}"));
    }
    lines
}

fn words(universe: &Universe, action: Action) -> String {
    let node = |at: usize| NODES[at];
    match action {
        Action::Produce(at) => format!("a record for node {}", node(at)),
        Action::Flush(at) => format!("node {} flushes", node(at)),
        Action::Exchange(at) => format!("node {} fetches", node(at)),
        Action::Fetch(at) => format!("node {} sends a fetch", node(at)),
        Action::Deliver(number) => message(universe.message(number)),
        Action::Copy(number) => format!("{}, and will again", message(universe.message(number))),
        Action::Lose(number) => format!("lost: {}", message(universe.message(number))),
        Action::Watch(at) => format!("node {} sees the next metadata", node(at)),
        Action::Heartbeat(at) => format!("node {} is heard and comes into service", node(at)),
        Action::Start(at) => format!("node {} starts and registers", node(at)),
        Action::Kill(at) => format!("the process of node {} is killed", node(at)),
        Action::Cut(at, kept) => format!("node {} loses power; {kept} unflushed records are kept", node(at)),
        Action::Fence(at) => format!("node {} is fenced", node(at)),
        Action::Lag(at) => format!("node {} finds followers that lag", node(at)),
        Action::GiveUp(at) => format!("node {} gives its fetch up", node(at)),
        Action::Resend(at) => format!("node {} waits no longer for the controller", node(at)),
    }
}

fn message(message: &Message) -> String {
    match message {
        Message::Fetch { to, from, request, asked } => {
            let (node, offset, epoch) = (from.node, asked.offset, asked.leader_epoch);
            format!("{to} gets fetch {request} of {node}: from {offset} on, in epoch {epoch}")
        }
        Message::Fetched { to, from, request, said, .. } => {
            let said = match said {
                Said::Records { high_watermark, records } => format!("{}, hw {high_watermark}", log(records)),
                Said::Diverging { epoch, end } => format!("diverging, epoch {epoch} ends at {end}"),
                Said::Behind { log_start } => format!("behind, the log starts at {log_start}"),
                Said::Refused(code) => format!("refused: {code:?}"),
            };
            format!("{} gets the answer of {from} to fetch {request}: {said}", to.node)
        }
        Message::Alter { from, alter } => {
            let isr: Vec<NodeId> = alter.isr.iter().map(|(id, _)| *id).collect();
            format!("the controller gets of {from}: in sync {isr:?}, on partition epoch {}", alter.partition_epoch)
        }
        Message::Altered { to, result, .. } => match result {
            Ok(epoch) => format!("{to} hears that its proposal is partition epoch {epoch}"),
            Err(code) => format!("{to} hears that its proposal is refused: {code:?}"),
        },
    }
}

fn log(records: &[Record]) -> String {
    let words = records.iter().map(|record| format!("{}@{}", record.value, record.epoch));
    format!("[{}]", words.collect::<Vec<_>>().join(" "))
}

fn unflushed(log: &Log) -> String {
    if log.is_flushed() { String::new() } else { format!(" {} unflushed", log.unflushed()) }
}

fn state(universe: &Universe, world: &World) -> String {
    let (_, latest) = universe.latest(world);
    let state = latest.partition();
    let leader = state.leader.map_or("none".to_owned(), |id| id.to_string());
    let (epoch, isr, elr) = (state.leader_epoch, &state.isr, &state.elr);
    let nodes = world.nodes.each_ref().map(|known| self::node(&known.node, universe.flushes()));
    let acked: Vec<u32> = (0..32).filter(|value| world.ledger.acked & (1 << value) != 0).collect();
    format!("leader {leader} epoch {epoch} isr {isr:?} elr {elr:?} | {} | acked {acked:?}", nodes.join(" | "))
}

fn node(node: &Node, flushes: bool) -> String {
    let role = match &node.process {
        None => "down".to_owned(),
        Some(process) => match &process.role {
            Role::Leader(leader) => format!("leads {} hw {}", leader.epoch(), leader.high_watermark()),
            Role::Follower(follower) => format!("follows {} hw {}", follower.epoch(), follower.high_watermark()),
        },
    };
    let unflushed = if flushes { unflushed(&node.log) } else { String::new() };
    format!("{} {role} {}{unflushed}", node.id, log(node.log.records()))
}
