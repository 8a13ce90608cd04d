//! The counters that the protocols keep of their frames.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use rafka_protocols::Protocol;
use rafka_protocols::rpc::{Counters, Direction, Outcome};

/// Name, help, and where the figure comes from.
type Bytes = (&'static str, &'static str, fn(&Counters, Protocol) -> u64);

#[derive(Debug)]
pub(super) struct Exchanges(pub(super) Arc<Counters>);

impl Collector for Exchanges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Exchanges with peers by how they ended";
        let mut requests = encoder.encode_descriptor("rafka_mesh_requests", help, None, MetricType::Counter)?;
        for direction in Direction::ALL {
            for protocol in Protocol::ALL {
                for outcome in Outcome::ALL {
                    let count = self.0.requests(direction, protocol, outcome);
                    // Most combinations never happen; a series appears with its first event.
                    if count > 0 {
                        let labels = [
                            ("direction", direction.word()),
                            ("protocol", protocol.word()),
                            ("outcome", outcome.word()),
                        ];
                        ConstCounter::new(count).encode(requests.encode_family(&labels)?)?;
                    }
                }
            }
        }
        let bytes: [Bytes; 2] = [
            ("rafka_mesh_received_bytes", "Bytes of frames that came from peers", Counters::received_bytes),
            ("rafka_mesh_sent_bytes", "Bytes of frames that went to peers", Counters::sent_bytes),
        ];
        for (name, help, of) in bytes {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for protocol in Protocol::ALL {
                let labels = [("protocol", protocol.word())];
                ConstCounter::new(of(&self.0, protocol)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
