//! Healing: nothing fails any more, time passes, and the partition must become whole (invariant 16).

use std::time::Duration;

use super::control::{Ask, NODES};
use super::search::Broken;
use super::world::{Universe, World};

/// Time between two heartbeats.
const BEAT: Duration = Duration::from_millis(700);

/// Heartbeats within which it must heal.
const BEATS_MAX: usize = 40;

/// Lets everything happen that should, in a fixed order, until the partition is whole.
pub(super) fn settle(universe: &mut Universe, world: &World) -> Result<(), Broken> {
    let mut world = world.clone();
    for _ in 0..BEATS_MAX {
        if why_not_whole(universe, &world).is_none() {
            return Ok(());
        }
        beat(universe, &mut world)?;
    }
    match why_not_whole(universe, &world) {
        None => Ok(()),
        Some(why) => Err(Broken { invariant: 16, text: format!("it does not heal: {why}") }),
    }
}

fn beat(universe: &mut Universe, world: &mut World) -> Result<(), Broken> {
    for at in 0..NODES.len() {
        if world.nodes[at].node.process.is_none() {
            universe.start(world, at, false)?;
        }
        if let Some(me) = world.nodes[at].node.process.as_ref().map(|process| process.me) {
            universe.decide(world, Ask::Heartbeat { node: me.node, epoch: me.broker_epoch }, false)?;
        }
    }
    for at in 0..NODES.len() {
        while universe.watch(world, at) {}
        universe.drive(world, at, |node, universe, effects| {
            node.hear_controller(effects);
            node.pass(BEAT, effects);
            if universe.flushes() {
                node.flush(effects);
            }
            node.give_up();
            node.fetch(effects);
        });
    }
    while !world.flying.is_empty() {
        let number = world.flying.remove(0);
        universe.deliver(world, number, false)?;
    }
    Ok(())
}

fn why_not_whole(universe: &Universe, world: &World) -> Option<String> {
    let (_, latest) = universe.latest(world);
    let state = latest.partition();
    let Some(leader) = state.leader else { return Some(format!("nobody leads, in sync are {:?}", state.isr)) };
    if state.isr.len() < NODES.len() {
        return Some(format!("in sync are {:?}", state.isr));
    }
    let node = world.node(leader);
    if node.leader().is_none_or(|machine| machine.high_watermark() < node.log.position().end) {
        return Some(format!("node {leader} does not commit"));
    }
    let differs = |id: &&rafka_model::NodeId| world.node(**id).log.records() != node.log.records();
    NODES.iter().find(differs).map(|id| format!("the log of node {id} is not that of node {leader}"))
}
