//! `rafka topic add-partitions`

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::Changed;
use crate::connect::ClusterArgs;
use crate::errors::Result;
use crate::output::Out;

/// Grow a topic. Keys move to other partitions by that; records stay where they are.
#[derive(Args, Debug)]
pub(super) struct AddPartitionsArgs {
    /// The topic.
    #[arg(add = ArgValueCompleter::new(crate::complete::topics))]
    topic: String,
    /// Partitions afterwards, the old ones with them.
    #[arg(short, long, value_name = "TOTAL", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// Check only, change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl AddPartitionsArgs {
    pub(super) async fn run(self, cluster: &ClusterArgs, out: Out) -> Result {
        let admin = cluster.connect().await?.admin();
        let topic = admin.add_partitions(&self.topic, self.partitions, self.dry_run).await?;
        out.rows(&[Changed::new(&topic, if self.dry_run { "would be grown" } else { "grown" })])
    }
}
