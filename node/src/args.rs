//! Flags of `rafka-node` and `rafka node start`. Every flag but `--config` and `--set` is a key of the configuration;
//! its help text is the key's documentation.

use std::path::PathBuf;

use rafka_protocols::Protocol;

use crate::config::{Flag, Sources, Value, keys};

/// `rafka-node`.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "rafka-node",
    about = "A node of a Rafka mesh. Without --bootstrap it founds a cluster of its own; with it, it joins one.",
    version = version(),
    long_version = long_version(),
    after_help = "Exit codes: 0 ended on request, 1 failed, 2 wrong usage, 78 bad configuration."
)]
pub struct RafkaNode {
    /// The flags.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// What can be said about a node on a command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NodeArgs {
    #[arg(long, value_name = "DIR", help = doc("--data-dir"))]
    data_dir: Option<String>,
    #[arg(long, value_name = "ADDR", help = doc("--listen"))]
    listen: Vec<String>,
    #[arg(long, value_name = "ADDR", help = doc("--advertise"))]
    advertise: Vec<String>,
    #[arg(long, value_name = "ADDR", help = doc("--lane-listen"))]
    lane_listen: Vec<String>,
    #[arg(long, value_name = "[NAME=]HOST:PORT", help = doc("--kafka-listen"))]
    kafka_listen: Vec<String>,
    #[arg(long, value_name = "[NAME=]HOST:PORT", help = doc("--kafka-advertise"))]
    kafka_advertise: Vec<String>,
    #[arg(long, value_name = "ADDR", help = doc("--bootstrap"))]
    bootstrap: Vec<String>,
    #[arg(long, help = doc("--init"))]
    init: bool,
    #[arg(long, value_name = "N", help = doc("--bootstrap-expect"))]
    bootstrap_expect: Option<String>,
    #[arg(long, value_name = "ID", help = doc("--cluster-id"))]
    cluster_id: Option<String>,
    #[arg(long, value_name = "FILE", help = doc("--join-token-file"))]
    join_token_file: Option<String>,
    #[arg(long, value_name = "DOORS", value_delimiter = ',', help = doc("--allow-anonymous"))]
    allow_anonymous: Vec<String>,
    #[arg(long, value_name = "HOST:PORT", help = doc("--ops-listen"))]
    ops_listen: Option<String>,
    #[arg(long, value_name = "ROLE", help = doc("--roles"))]
    roles: Option<String>,
    #[arg(long, value_name = "NAME", help = doc("--rack"))]
    rack: Option<String>,
    #[arg(long, value_name = "LEVEL", help = doc("--log-level"))]
    log_level: Option<String>,
    #[arg(long, value_name = "FORMAT", help = doc("--log-format"))]
    log_format: Option<String>,
    #[arg(long, value_name = "FILE", help = doc("--ready-file"))]
    ready_file: Option<String>,
    #[arg(long, help = doc("--insecure"))]
    insecure: bool,
    /// Configuration file (YAML). Without it: $RAFKA_CONFIG, ./rafka.yaml, ./config/config.yaml, the user's
    /// configuration directory, /etc/rafka/config.yaml; the first that exists.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set any key of the configuration. Repeatable; lists are separated by commas.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl NodeArgs {
    /// The sources of the configuration: these flags, and the environment and files of this process.
    #[must_use]
    pub fn sources(&self) -> Sources<'static> {
        Sources::of_process(self.flags(), self.set.clone(), self.config.clone())
    }

    /// The flags that were given, as keys.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let one = |value: &Option<String>| value.clone().map(Value::One);
        let many = |values: &Vec<String>| Some(Value::Many(values.clone())).filter(|_| !values.is_empty());
        let switch = |on: bool| on.then(|| Value::One("true".to_owned()));
        let given = [
            ("--data-dir", one(&self.data_dir)),
            ("--listen", many(&self.listen)),
            ("--advertise", many(&self.advertise)),
            ("--lane-listen", many(&self.lane_listen)),
            ("--kafka-listen", many(&self.kafka_listen)),
            ("--kafka-advertise", many(&self.kafka_advertise)),
            ("--bootstrap", many(&self.bootstrap)),
            ("--init", switch(self.init)),
            ("--bootstrap-expect", one(&self.bootstrap_expect)),
            ("--cluster-id", one(&self.cluster_id)),
            ("--join-token-file", one(&self.join_token_file)),
            ("--allow-anonymous", many(&self.allow_anonymous)),
            ("--ops-listen", one(&self.ops_listen)),
            ("--roles", one(&self.roles)),
            ("--rack", one(&self.rack)),
            ("--log-level", one(&self.log_level)),
            ("--log-format", one(&self.log_format)),
            ("--ready-file", one(&self.ready_file)),
            ("--insecure", switch(self.insecure)),
        ];
        let flag = |(flag, value): (&'static str, Option<Value>)| {
            let key = keys().find(|key| key.flag == flag)?.path();
            Some(Flag { flag, key, value: value? })
        };
        given.into_iter().filter_map(flag).collect()
    }
}

/// The documentation of the key that `flag` sets, as help text.
fn doc(flag: &str) -> String {
    let key = keys().find(|key| key.flag == flag).expect("every flag is in the table of keys");
    let mut text = key.doc.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned();
    if key.is_list() {
        text.push_str(" Repeatable.");
    }
    match &key.preset {
        crate::config::Preset::Is(default) if default != "false" => text.push_str(&format!(" [default: {default}]")),
        crate::config::Preset::Found(how) => text.push_str(&format!(" [default: {how}]")),
        _ => {}
    }
    text
}

/// Version and, where it is known, the commit: `0.1.0 (3fce3b5)`.
#[must_use]
pub fn version() -> &'static str {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    match env!("RAFKA_COMMIT") {
        "" => VERSION,
        commit => {
            static WITH_COMMIT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
            WITH_COMMIT.get_or_init(|| format!("{VERSION} ({commit})"))
        }
    }
}

/// Version, commit, and the protocols that this build speaks.
#[must_use]
pub fn long_version() -> String {
    let protocols = Protocol::ALL.map(|protocol| format!("{}/1", protocol.word())).join(" ");
    format!("{}\nprotocols: {protocols} kad/1\nrecords: batch v2", version())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn every_flag_of_the_table_is_a_flag_of_the_program_and_sets_its_key() {
        RafkaNode::command().debug_assert();
        for key in keys().filter(|key| !key.flag.is_empty()) {
            let is_switch = key.kind == crate::config::Kind::Boolean;
            let line = ["rafka-node", key.flag, "x"];
            let parsed = RafkaNode::try_parse_from(&line[..if is_switch { 2 } else { 3 }]).expect("a known flag");
            let flags = parsed.node.flags();
            assert_eq!((flags.len(), &flags[0].key, flags[0].flag), (1, &key.path(), key.flag));
        }
        let command = RafkaNode::command();
        let known = |flag: &str| {
            ["config", "set"].contains(&flag) || keys().any(|key| key.flag[..].trim_start_matches('-') == flag)
        };
        assert!(command.get_arguments().filter_map(|argument| argument.get_long()).all(known));
    }

    #[test]
    fn flags_repeat_and_what_is_not_built_yet_is_refused() {
        let line = ["rafka-node", "--bootstrap", "a:1", "--bootstrap", "b:2", "--set", "node.rack=r", "--init"];
        let node = RafkaNode::try_parse_from(line).expect("parses").node;
        let bootstrap = node.flags().into_iter().find(|flag| flag.key == "mesh.bootstrap").expect("given");
        assert_eq!(bootstrap.value, Value::Many(vec!["a:1".to_owned(), "b:2".to_owned()]));
        assert_eq!(node.set, ["node.rack=r"]);
        assert!(RafkaNode::try_parse_from(["rafka-node", "--grpc-listen", "127.0.0.1:50051"]).is_err());
    }

    #[test]
    fn the_version_names_the_protocols() {
        assert!(version().starts_with(env!("CARGO_PKG_VERSION")));
        assert!(long_version().contains("produce/1"));
    }
}
