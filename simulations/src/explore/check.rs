//! The invariants of the cluster protocol, after each action. Numbers are the specification's.

use rafka_model::Offset;

use super::control::{MIN_INSYNC, NODES, Version};
use super::node::Node;
use super::search::Broken;
use super::world::{Universe, World};

fn broken<T>(invariant: u8, text: String) -> Result<T, Broken> {
    Err(Broken { invariant, text })
}

/// Checks `world`, and lets consumers read what they can.
pub(super) fn check(universe: &Universe, world: &mut World) -> Result<(), Broken> {
    let (_, latest) = universe.latest(world);
    acknowledged(&latest, world)?;
    members(&latest, world)?;
    logs_match(world)?;
    one_leader(world)?;
    consume(world)
}

/// A node that runs in the registration that counts.
fn runs<'a>(latest: &Version, node: &'a Node) -> Option<&'a Node> {
    let process = node.process.as_ref()?;
    (process.me.broker_epoch == latest.epoch(node.id)).then_some(node)
}

fn lacks(node: &Node, acked: u32) -> Option<u8> {
    (0..32).filter(|value| acked & (1 << value) != 0).find(|value| !node.log.holds(*value))
}

/// 1 and 2: every acknowledged record is in the leader, and in every running member of the in-sync and eligible sets.
fn acknowledged(latest: &Version, world: &World) -> Result<(), Broken> {
    let state = latest.partition();
    for id in state.isr.iter().chain(&state.elr) {
        let Some(node) = runs(latest, world.node(*id)) else { continue };
        if let Some(value) = lacks(node, world.ledger.acked) {
            let leads = state.leader == Some(*id);
            let (invariant, who) =
                if leads { (1, "the leader") } else { (2, "a member of the in-sync or eligible set") };
            return broken(invariant, format!("record {value} is acknowledged, but not in node {id}, {who}"));
        }
    }
    Ok(())
}

/// 3: whom the controller may elect, the leader counts.
fn members(latest: &Version, world: &World) -> Result<(), Broken> {
    let state = latest.partition();
    let Some(id) = state.leader.filter(|_| state.isr.len() >= MIN_INSYNC as usize) else { return Ok(()) };
    let Some(leader) = runs(latest, world.node(id)).and_then(Node::leader) else { return Ok(()) };
    if leader.epoch() != state.leader_epoch {
        return Ok(());
    }
    let counted = leader.maximal_isr();
    for member in state.isr.iter().chain(&state.elr) {
        if !counted.contains(member) {
            return broken(3, format!("node {id} counts {counted:?}, but {member} is in sync or eligible"));
        }
    }
    Ok(())
}

/// 4: logs are equal as far as both are known to be committed.
fn logs_match(world: &World) -> Result<(), Broken> {
    for (place, one) in world.nodes.iter().enumerate() {
        for other in &world.nodes[place + 1..] {
            let (one, other) = (&one.node, &other.node);
            let (Some(here), Some(there)) = (one.high_watermark(), other.high_watermark()) else { continue };
            let to = here.min(there);
            let differ = one.log.before(to).iter().zip(other.log.before(to)).position(|(one, other)| one != other);
            if let Some(offset) = differ {
                let (one, other) = (one.id, other.id);
                return broken(4, format!("nodes {one} and {other} differ at {offset}, below both high watermarks"));
            }
        }
    }
    Ok(())
}

/// 7: an epoch has one leader. (What the controller says is checked where it says it.)
fn one_leader(world: &World) -> Result<(), Broken> {
    let epochs = world.nodes.each_ref().map(|known| known.node.leader().map(|leader| leader.epoch()));
    for (place, epoch) in epochs.iter().enumerate().filter(|(_, epoch)| epoch.is_some()) {
        if let Some(other) = epochs[..place].iter().position(|other| other == epoch) {
            return broken(7, format!("nodes {} and {} lead in epoch {epoch:?}", NODES[other], NODES[place]));
        }
    }
    Ok(())
}

/// 5 and 6: what consumers read stays, and the high watermark that they see does not fall.
fn consume(world: &mut World) -> Result<(), Broken> {
    for known in &world.nodes {
        let node = &known.node;
        let (Some(process), Some(leader)) = (&node.process, node.leader()) else { continue };
        let Ok(high_watermark) = leader.may_read(process.now) else { continue };
        if high_watermark > node.log.position().end {
            return broken(6, format!("node {} serves up to {high_watermark}, behind its log's end", node.id));
        }
        let ledger = &mut world.ledger;
        let epoch = leader.epoch().0;
        if epoch >= ledger.read_epoch && high_watermark < Offset(ledger.consumed.len() as i64) {
            let read = ledger.consumed.len();
            return broken(6, format!("node {} serves up to {high_watermark}; consumers are at {read}", node.id));
        }
        let served = node.log.before(high_watermark).iter().map(|record| record.value);
        for (offset, value) in served.enumerate() {
            match ledger.consumed.get(offset) {
                Some(read) if *read != value => {
                    let text = format!("node {} serves record {value} at {offset}, where {read} was read", node.id);
                    return broken(5, text);
                }
                Some(_) => {}
                None => ledger.consumed.push(value),
            }
        }
        ledger.read_epoch = ledger.read_epoch.max(epoch);
    }
    Ok(())
}
