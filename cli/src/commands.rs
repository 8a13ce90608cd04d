//! The tree of commands: a noun, a verb, one file each.

pub(crate) mod bench;
pub(crate) mod cheat;
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod debug;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod group;
pub(crate) mod man;
pub(crate) mod mesh;
pub(crate) mod node;
pub(crate) mod publish;
pub(crate) mod subscribe;
pub(crate) mod topic;

use clap::Subcommand;

use crate::errors::Result;
use crate::output::Out;

/// A noun, or one of the verbs that need none.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a cluster on this machine: real processes, temporary data.
    Dev(dev::DevArgs),
    /// Run a node, or look at one on this machine.
    Node(node::NodeCommand),
    /// Publish records.
    #[command(visible_aliases = ["pub", "produce"])]
    Publish(publish::PublishArgs),
    /// Read records.
    #[command(visible_aliases = ["sub", "consume"])]
    Subscribe(subscribe::SubscribeArgs),
    /// Make, change and look at topics.
    Topic(topic::TopicArgs),
    /// Look at consumer groups, and move them.
    Group(group::GroupArgs),
    /// Look at the cluster.
    Cluster(cluster::ClusterCommand),
    /// Look at the swarm, and at how partitions are found in it.
    Mesh(mesh::MeshArgs),
    /// Name clusters, and select one.
    Context(context::ContextArgs),
    /// Show and check the configuration of a node.
    Config(config::ConfigArgs),
    /// Measure a cluster.
    Bench(bench::BenchArgs),
    /// Look for what is wrong between here and the cluster.
    Doctor(doctor::DoctorArgs),
    /// Look inside.
    Debug(debug::DebugArgs),
    /// Print the script that teaches a shell to complete `rafka`.
    Completions(completions::CompletionsArgs),
    /// Write the manual pages to a directory.
    Man(man::ManArgs),
    /// Show examples.
    Cheat(cheat::CheatArgs),
}

impl Command {
    pub(crate) async fn run(self, out: Out) -> Result {
        match self {
            Self::Dev(args) => args.run(out).await,
            Self::Node(args) => args.run(out).await,
            Self::Publish(args) => args.run(out).await,
            Self::Subscribe(args) => args.run(out).await,
            Self::Topic(args) => args.run(out).await,
            Self::Group(args) => args.run(out).await,
            Self::Cluster(args) => args.run(out).await,
            Self::Mesh(args) => args.run(out).await,
            Self::Context(args) => args.run(out),
            Self::Config(args) => args.run(out),
            Self::Bench(args) => args.run(out).await,
            Self::Doctor(args) => args.run(out).await,
            Self::Debug(args) => args.run(out),
            Self::Completions(args) => args.run(out),
            Self::Man(args) => args.run(),
            Self::Cheat(args) => args.run(),
        }
    }
}
