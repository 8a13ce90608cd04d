//! Metadata for tests of this crate.

use std::collections::BTreeMap;

use rafka_broker::controller::{Command, Config, Controller, Registration};
use rafka_broker::metadata::{Delta, Entry, Image, Role};
use rafka_model::{BootId, DirectoryId, MetadataIndex, Monotonic, NodeId};

/// What the `n`-th node says of itself.
pub(crate) fn registration(n: u8) -> Registration {
    Registration {
        peer_id: format!("peer-{n}"),
        directory: DirectoryId([n; 16]),
        boot: BootId([1; 16]),
        incarnation: [n; 16],
        addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", 7300 + u16::from(n))],
        lanes: Vec::new(),
        kafka: BTreeMap::new(),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: "0.1.0".to_owned(),
        features_max: 1,
        unclean: false,
    }
}

/// Entry 1: the cluster is founded, and node 1 is registered.
pub(crate) fn founding() -> Entry {
    let mut controller = Controller::new(Image::default(), Config::default(), Monotonic::default());
    let founder = registration(1);
    let command = Command::Found { public_key: [7; 32], join_token_hash: None, feature_level: 1, founder };
    controller.evaluate(command, Monotonic::default());
    controller.take_entries().remove(0)
}

/// Entry `index` of a log that begins with [`founding`] and goes on by fencing and unfencing node 1.
pub(crate) fn entry(index: u64) -> Entry {
    let id = NodeId(1);
    match index {
        1 => founding(),
        _ if index.is_multiple_of(2) => Entry { index: MetadataIndex(index), deltas: vec![Delta::NodeUnfenced { id }] },
        _ => Entry { index: MetadataIndex(index), deltas: vec![Delta::NodeFenced { id }] },
    }
}
