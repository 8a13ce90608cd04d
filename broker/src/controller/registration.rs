//! What a node says of itself.

use std::collections::BTreeMap;

use rafka_model::limits::{ADDRESS_BYTES_MAX, LABEL_BYTES_MAX, NODE_ADDRESSES_MAX};
use rafka_model::{BootId, BrokerEpoch, DirectoryId, NodeId};

use crate::metadata::{Node, Role};
use crate::{ErrorCode, Failure};

/// What a node says of itself when it registers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    /// libp2p peer id, as text; the door has checked that the sender owns it.
    pub peer_id: String,
    /// Its data directory.
    pub directory: DirectoryId,
    /// Boot of its machine.
    pub boot: BootId,
    /// Random for each start of the process.
    pub incarnation: [u8; 16],
    /// Mesh addresses, multiaddrs as text, without `/p2p`.
    pub addresses: Vec<String>,
    /// Addresses of its lanes, multiaddrs as text, without `/p2p`; none if it has no lanes.
    pub lanes: Vec<String>,
    /// Kafka endpoints by listener name: `host:port`.
    pub kafka: BTreeMap<String, String>,
    /// Address of its ops HTTP.
    pub ops: Option<String>,
    /// Failure domain.
    pub rack: Option<String>,
    /// Weight in placement, 1000 is normal; 0 takes nothing new.
    pub weight_milli: u32,
    /// Part it plays.
    pub role: Role,
    /// Program version.
    pub version: String,
    /// Largest feature level that the program knows.
    pub features_max: u32,
    /// The machine went down without a clean-shutdown marker: what was not flushed is lost. Not so when only the process
    /// died.
    pub unclean: bool,
}

impl Registration {
    /// Checks what a peer claims against the limits.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] names the field.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let labels = [Some(&self.peer_id), self.rack.as_ref(), Some(&self.version)];
        let long = |text: &String| text.len() > ADDRESS_BYTES_MAX;
        let wrong = if self.peer_id.is_empty() {
            "no peer id".to_owned()
        } else if labels.into_iter().flatten().any(|label| label.len() > LABEL_BYTES_MAX) {
            format!("a peer id, rack or version of more than {LABEL_BYTES_MAX} bytes")
        } else if self.addresses.len().max(self.lanes.len()) > NODE_ADDRESSES_MAX
            || self.kafka.len() > NODE_ADDRESSES_MAX
        {
            format!("more than {NODE_ADDRESSES_MAX} mesh or lane addresses or Kafka listeners")
        } else if self.addresses.iter().chain(&self.lanes).chain(&self.ops).any(long)
            || self.kafka.iter().any(|(name, address)| name.len() > LABEL_BYTES_MAX || long(address))
        {
            format!("an address of more than {ADDRESS_BYTES_MAX} bytes")
        } else {
            return Ok(());
        };
        Err(Failure::new(ErrorCode::InvalidRequest, format!("registration has {wrong}")))
    }

    /// The node of this registration, out of service.
    pub(super) fn node(&self, id: NodeId, epoch: BrokerEpoch, draining: bool) -> Node {
        let Self {
            peer_id,
            directory,
            boot,
            incarnation,
            addresses,
            lanes,
            kafka,
            ops,
            rack,
            weight_milli,
            role,
            version,
            features_max,
            unclean: _,
        } = self.clone();
        let fenced = true;
        Node {
            id,
            peer_id,
            directory,
            epoch,
            boot,
            incarnation,
            addresses,
            lanes,
            kafka,
            ops,
            rack,
            weight_milli,
            role,
            version,
            fenced,
            draining,
            features_max,
        }
    }
}
