//! Doors: what can be reached from other machines, and what must be said aloud before it may be.

use std::str::FromStr;

use super::error::{ConfigError, Problem};
use super::sections::Config;
use super::value::OpsListen;

/// A door that may be opened without authentication (`--allow-anonymous`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// The Kafka door.
    Kafka,
    /// Ops HTTP.
    Ops,
}

impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kafka" => Ok(Self::Kafka),
            "ops" => Ok(Self::Ops),
            "mesh" => Err("the mesh is opened by a join token (--join-token-file), or by --insecure".to_owned()),
            _ => Err(format!("no door {:?}; there are: kafka, ops", text.chars().take(40).collect::<String>())),
        }
    }
}

/// Refuses doors that other machines can reach without authentication, unless the configuration says that it is meant.
/// Loopback is open.
///
/// # Errors
/// [`ConfigError`] with one problem for each such door.
pub fn check_doors(config: &Config) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    if config.security.insecure {
        return Ok(());
    }
    if let Some(open) =
        config.mesh.listen.iter().chain(&config.mesh.lanes_listen).find(|address| !address.is_loopback())
        && config.cluster.join_token.is_none()
    {
        problems.push(
            Problem::new("mesh.listen", None, format!("{open} can be reached from other machines, but there is no join token"))
                .hint("give every node the same --join-token-file FILE, listen on 127.0.0.1, or let anybody in with --insecure"),
        );
    }
    if let Some((_, open)) = config.kafka.listeners().iter().find(|(_, socket)| !socket.ip().is_loopback())
        && !config.security.allow_anonymous.contains(&Door::Kafka)
    {
        let message = format!("{open} can be reached from other machines without authentication");
        problems.push(
            Problem::new("kafka.listen", None, message)
                .hint("say that it is meant with --allow-anonymous kafka, or listen on 127.0.0.1"),
        );
    }
    if let OpsListen::At(socket) = config.ops.listen
        && !socket.ip().is_loopback()
        && !config.security.allow_anonymous.contains(&Door::Ops)
    {
        problems.push(
            Problem::new(
                "ops.listen",
                None,
                format!("{socket} can be reached from other machines without authentication"),
            )
            .hint("say that it is meant with --allow-anonymous ops, or listen on 127.0.0.1"),
        );
    }
    ConfigError::unless_empty(problems)
}
