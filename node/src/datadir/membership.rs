//! `node.json`: which directory this is, and which node of which cluster it belongs to.

use std::io::{self, Read};
use std::path::Path;

use rafka_model::{ClusterId, DirectoryId, NodeId};
use serde::{Deserialize, Serialize};

use super::DataDirError;

const FILE_BYTES_MAX: u64 = 16 * 1024;
const FORMAT: u32 = 1;

/// The node's place in a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Membership {
    /// The cluster; final once it is kept.
    pub cluster_id: ClusterId,
    /// The node's id in it; `None` until the registration was committed.
    pub node_id: Option<NodeId>,
}

/// The file's content. Ids are texts so that people can read them; `check` finds damage.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(super) struct NodeFile {
    format: u32,
    directory_id: String,
    cluster_id: Option<String>,
    node_id: Option<u64>,
    #[serde(default)]
    nominee: Option<String>,
    check: String,
}

impl NodeFile {
    pub(super) fn new(directory: DirectoryId) -> Self {
        let file = Self {
            format: FORMAT,
            directory_id: directory.to_string(),
            cluster_id: None,
            node_id: None,
            nominee: None,
            check: String::new(),
        };
        file.checked()
    }

    pub(super) fn directory_id(&self) -> DirectoryId {
        self.directory_id.parse().expect("checked when it was read")
    }

    pub(super) fn membership(&self) -> Option<Membership> {
        let cluster_id = self.cluster_id.as_ref()?.parse().expect("checked when it was read");
        Some(Membership { cluster_id, node_id: self.node_id.map(NodeId) })
    }

    pub(super) fn nominee(&self) -> Option<String> {
        self.nominee.clone()
    }

    pub(super) fn with_nominee(&self, nominee: &str) -> Self {
        Self { nominee: Some(nominee.to_owned()), ..self.clone() }.checked()
    }

    /// The file with `membership` in it; refuses to change the cluster or the node's id.
    pub(super) fn with(&self, membership: Membership) -> Result<Self, String> {
        if let Some(now) = self.membership() {
            if now.cluster_id != membership.cluster_id {
                return Err(format!("belongs to cluster {}, not {}", now.cluster_id, membership.cluster_id));
            }
            if let (Some(was), Some(is)) = (now.node_id, membership.node_id)
                && was != is
            {
                return Err(format!("belongs to node {was}, not {is}"));
            }
        }
        let file = Self {
            cluster_id: Some(membership.cluster_id.to_string()),
            node_id: membership.node_id.map(|id| id.0).or(self.node_id),
            ..self.clone()
        };
        Ok(file.checked())
    }

    fn checked(self) -> Self {
        Self { check: self.digest(), ..self }
    }

    fn digest(&self) -> String {
        let Self { format, directory_id, cluster_id, node_id, nominee, check: _ } = self;
        let content = format!("{format}|{directory_id}|{cluster_id:?}|{node_id:?}|{nominee:?}");
        blake3::hash(content.as_bytes()).to_hex()[..16].to_owned()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain fields encode");
        bytes.push(b'\n');
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|error| format!("damaged: {error}"))?;
        if file.format != FORMAT {
            return Err(format!("format {}, this version reads {FORMAT}", file.format));
        }
        if file.check != file.digest() {
            return Err("damaged: its checksum does not match".to_owned());
        }
        // The digest covers these, so only a file that we wrote wrongly could fail here.
        file.directory_id.parse::<DirectoryId>().map_err(|error| error.to_string())?;
        if let Some(cluster) = &file.cluster_id {
            cluster.parse::<ClusterId>().map_err(|error| error.to_string())?;
        }
        Ok(file)
    }
}

/// The file at `path`, or `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<NodeFile>, DataDirError> {
    let failed = |error| DataDirError::Io { action: "read", path: path.to_owned(), error };
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    NodeFile::decode(&bytes).map(Some).map_err(|reason| DataDirError::Corrupted { path: path.to_owned(), reason })
}
