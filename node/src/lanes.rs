//! The lane swarm of a node: beside the control swarm, with the same identity, on a port of its own.
//!
//! What peers say there goes the way of all requests (`crate::service`); what this node says goes through
//! [`Cluster::exchange`](crate::cluster::Cluster::exchange).

use rafka_model::ClusterId;
use rafka_model::limits::NODE_ADDRESSES_MAX;
pub use rafka_protocols::lane::Lanes;
use rafka_protocols::lane::{self, Setup, Started, with_port};

use crate::config;
use crate::mesh::{self, Multiaddr, Shared, StartError, tcp_port};

/// Ports between the mesh and its lanes, unless configured otherwise.
const PORTS_APART: u16 = 100;

/// Starts the swarm and waits until it listens.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub(crate) async fn start(
    config: &config::Mesh,
    cluster: ClusterId,
    local: mesh::PeerId,
    shared: Shared,
) -> Result<Started, StartError> {
    let Shared { key, gate, serve, counters } = shared;
    let listen = listen(config);
    let setup = Setup {
        local,
        connections: mesh::connections(&key, &listen)?,
        cluster,
        listen,
        // Nobody chose the port: another will do, for peers are told which it is.
        any_port: config.lanes_listen.is_empty(),
        gate,
        serve: Some(serve),
        exchanges: counters,
    };
    lane::start(setup).await.map_err(|error| StartError::Listen { address: error.address, reason: error.reason })
}

/// Where to listen: what is configured, else where the mesh does, some ports higher.
fn listen(config: &config::Mesh) -> Vec<Multiaddr> {
    if !config.lanes_listen.is_empty() {
        return config.lanes_listen.iter().map(|address| address.multiaddr().clone()).collect();
    }
    let higher = |address: &Multiaddr| match tcp_port(address) {
        Some(port) if port > 0 => with_port(address, port.checked_add(PORTS_APART).unwrap_or(0)),
        _ => address.clone(),
    };
    config.listen.iter().map(|address| higher(address.multiaddr())).collect()
}

/// What others are told to dial: what is configured, else what `listens` at addresses of its own, else the hosts that
/// they are told for the mesh, with the port of the lanes.
pub(crate) fn advertised(config: &config::Mesh, mesh: &[String], listens: &[Multiaddr]) -> Vec<String> {
    if !config.lanes_advertise.is_empty() {
        return config.lanes_advertise.iter().map(|address| address.multiaddr().to_string()).collect();
    }
    let own = || listens.iter().map(ToString::to_string);
    let Some(port) = listens.iter().find_map(tcp_port) else { return own().take(NODE_ADDRESSES_MAX).collect() };
    if !config.lanes_listen.is_empty() && config.advertise.is_empty() {
        return own().take(NODE_ADDRESSES_MAX).collect();
    }
    let hosts = mesh.iter().filter_map(|text| text.parse::<Multiaddr>().ok());
    let mut told: Vec<String> = hosts.map(|address| with_port(&address, port).to_string()).collect();
    told.dedup();
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(settings: &[&str]) -> config::Mesh {
        let mut config = config::Config::default().mesh;
        for setting in settings {
            let (key, value) = setting.split_once('=').expect("key=value");
            match key {
                "listen" => config.listen = vec![value.parse().expect("legal")],
                "advertise" => config.advertise = vec![value.parse().expect("legal")],
                "lanes_listen" => config.lanes_listen = vec![value.parse().expect("legal")],
                _ => config.lanes_advertise = vec![value.parse().expect("legal")],
            }
        }
        config
    }

    #[test]
    fn lanes_listen_some_ports_above_the_mesh_unless_told_otherwise() {
        let listens = |settings: &[&str]| listen(&mesh(settings)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(listens(&[]), ["/ip4/127.0.0.1/tcp/7400"]);
        assert_eq!(listens(&["listen=127.0.0.1:0"]), ["/ip4/127.0.0.1/tcp/0"]);
        assert_eq!(listens(&["listen=127.0.0.1:65500"]), ["/ip4/127.0.0.1/tcp/0"]);
        assert_eq!(listens(&["lanes_listen=10.0.0.1:9"]), ["/ip4/10.0.0.1/tcp/9"]);
    }

    #[test]
    fn peers_are_told_the_host_of_the_mesh_and_the_port_of_the_lanes() {
        let (mesh_told, bound) = (["/dns4/a/tcp/7300".to_owned()], ["/ip4/10.0.0.1/tcp/7401".parse().expect("legal")]);
        let told = |settings: &[&str]| advertised(&mesh(settings), &mesh_told, &bound);
        assert_eq!(told(&[]), ["/dns4/a/tcp/7401"]);
        assert_eq!(told(&["lanes_listen=10.0.0.1:7401"]), ["/ip4/10.0.0.1/tcp/7401"]);
        assert_eq!(told(&["lanes_listen=10.0.0.1:7401", "advertise=a:7300"]), ["/dns4/a/tcp/7401"]);
        assert_eq!(told(&["lanes_advertise=b:9"]), ["/dns/b/tcp/9"]);
    }
}
