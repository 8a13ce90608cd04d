//! Configuration of a node: typed sections, one table of keys, and where every value came from.
//!
//! Flags win over the environment, the environment over the file, the file over the defaults. One
//! row of a section's table (`sections.rs`) is the whole truth about a key: from it come the typed
//! field, the parser, the commented default file, the reference page and `config show`. A key that
//! nobody reads does not exist; an unknown one is an error with a suggestion, never ignored.

mod error;
mod file;
mod kafka;
mod key;
mod load;
mod reference;
mod sections;
mod security;
mod sources;
#[cfg(test)]
mod tests;
mod topic;
mod value;

pub use error::{ConfigError, EXIT_BAD_CONFIG, Problem};
pub use kafka::{KafkaAdvertise, KafkaListen, KafkaRouting, Routing};
pub use key::{Key, Kind, Preset, Unit};
pub use load::{Loaded, Shown, load};
pub use reference::{default_yaml, reference_markdown};
pub use sections::{Cache, Cluster, Config, Groups, Kafka, Log, Mesh, Node, Ops, SECTIONS, Section, Security, keys};
pub use security::{Door, check_doors};
pub use sources::{Directories, Files, Flag, HostFiles, Origin, Sources};
pub use topic::Topic;
pub use value::{Label, LogFormat, LogLevel, OpsListen, Secret, Value};
