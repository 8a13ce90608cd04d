//! `rafka-node`: a node of the mesh.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    rafka_node::main_with(&rafka_node::args::RafkaNode::parse().node)
}
