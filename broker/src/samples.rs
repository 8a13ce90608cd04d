//! Chance, and a node, for simulations and unit tests.

use std::collections::BTreeMap;

use rafka_model::{BootId, BrokerEpoch, DirectoryId, NodeId};

use crate::metadata::{Node, Role};

pub(crate) fn node(id: u64) -> Node {
    Node {
        id: NodeId(id),
        peer_id: format!("peer-{id}"),
        directory: DirectoryId([id as u8; 16]),
        epoch: BrokerEpoch(id),
        boot: BootId([1; 16]),
        incarnation: [id as u8; 16],
        addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", 7300 + id)],
        lanes: Vec::new(),
        kafka: BTreeMap::from([("external".to_owned(), "127.0.0.1:9092".to_owned())]),
        ops: None,
        rack: None,
        weight_milli: 1000,
        role: Role::Broker,
        version: "0.1.0".to_owned(),
        fenced: true,
        draining: false,
        features_max: 1,
    }
}

/// splitmix64: enough for choices, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}
