//! The request-response protocols: names on the wire, and what their frames may weigh.

use libp2p::StreamProtocol;
use rafka_model::ClusterId;
use rafka_model::limits::{
    CONTROL_HEADER_BYTES_MAX, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES_MAX, GROUP_REPLY_BYTES_MAX,
    GROUP_REQUEST_BYTES_MAX, HELLO_HEADER_BYTES_MAX, REQUEST_HEADER_BYTES_MAX,
};

use crate::frame::Caps;

/// A request-response protocol of the mesh.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Protocol {
    /// Which cluster, and who is in it; the only one without a cluster id.
    Hello,
    /// Admission, certificates, heartbeats.
    Register,
    /// The metadata feed.
    Watch,
    /// Signed records from a member's image.
    Resolve,
    /// Metadata requests.
    Admin,
    /// Append batches.
    Produce,
    /// Read batches and offsets.
    Fetch,
    /// Consumer groups.
    Group,
}

/// How many protocols there are.
pub(crate) const PROTOCOLS: usize = Protocol::ALL.len();

impl Protocol {
    /// Every protocol, in the order of their declaration.
    pub const ALL: [Self; 8] =
        [Self::Hello, Self::Register, Self::Watch, Self::Resolve, Self::Admin, Self::Produce, Self::Fetch, Self::Group];

    /// The word in the protocol's name, and its label in metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Register => "register",
            Self::Watch => "watch",
            Self::Resolve => "resolve",
            Self::Admin => "admin",
            Self::Produce => "produce",
            Self::Fetch => "fetch",
            Self::Group => "group",
        }
    }

    /// Name on the wire: `/rafka/<first 8 digits of the cluster id>/<word>/1`, but `/rafka/hello/1`.
    #[must_use]
    pub fn name(self, cluster: &ClusterId) -> StreamProtocol {
        if self == Self::Hello {
            return Self::hello_name();
        }
        StreamProtocol::try_from_owned(format!("/rafka/{}/{}/1", cluster.short(), self.word()))
            .expect("the name begins with a slash")
    }

    /// Name of [`Protocol::Hello`], known without a cluster.
    #[must_use]
    pub fn hello_name() -> StreamProtocol {
        StreamProtocol::new("/rafka/hello/1")
    }

    /// What a request may weigh.
    #[must_use]
    pub fn request_caps(self) -> Caps {
        match self {
            Self::Hello => Caps { header: HELLO_HEADER_BYTES_MAX, body: 0 },
            Self::Register | Self::Watch | Self::Resolve | Self::Admin => {
                Caps { header: CONTROL_HEADER_BYTES_MAX, body: 0 }
            }
            Self::Produce => Caps { header: REQUEST_HEADER_BYTES_MAX, body: FRAME_BODY_BYTES_MAX },
            Self::Fetch => Caps { header: REQUEST_HEADER_BYTES_MAX, body: 0 },
            Self::Group => Caps { header: HELLO_HEADER_BYTES_MAX, body: GROUP_REQUEST_BYTES_MAX },
        }
    }

    /// What a reply may weigh.
    #[must_use]
    pub fn reply_caps(self) -> Caps {
        match self {
            Self::Hello => Caps { header: HELLO_HEADER_BYTES_MAX, body: 0 },
            Self::Register | Self::Resolve => Caps { header: CONTROL_HEADER_BYTES_MAX, body: 0 },
            Self::Produce => Caps { header: FRAME_HEADER_BYTES_MAX, body: 0 },
            Self::Watch | Self::Admin | Self::Fetch => {
                Caps { header: FRAME_HEADER_BYTES_MAX, body: FRAME_BODY_BYTES_MAX }
            }
            Self::Group => Caps { header: HELLO_HEADER_BYTES_MAX, body: GROUP_REPLY_BYTES_MAX },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_but_hellos_carries_the_cluster() {
        let cluster = ClusterId([0xab; 32]);
        assert_eq!(Protocol::Hello.name(&cluster).as_ref(), "/rafka/hello/1");
        assert_eq!(Protocol::Produce.name(&cluster).as_ref(), "/rafka/abababab/produce/1");
        for (i, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(protocol as usize, i, "the position is used as an index");
        }
    }
}
