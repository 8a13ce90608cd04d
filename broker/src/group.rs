//! Group coordination: membership, assignment and committed offsets of consumer groups.
//!
//! The leader of partition `hash(group id) % n` of the internal topic [`OFFSETS_TOPIC`] coordinates the group: it
//! drives a [`Coordinator`], which decides without I/O.

mod classic;
pub mod config;
mod consumer;
pub mod coordinator;
mod entry;
mod offsets;
pub mod records;
pub mod request;
mod rules;
#[cfg(test)]
mod simulation;
mod subscription;
#[cfg(test)]
mod testing;
mod timers;
mod topics;
mod work;

pub use config::{Config, MigrationPolicy};
pub use coordinator::{Context, Coordinator, GroupRecord, Output, Stats, Token};
pub use records::RecordError;
pub use request::{GroupReply, GroupRequest};

/// The internal topic that holds committed offsets and group metadata, compacted, in Kafka's record formats.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Kafka's name of a group's partition of [`OFFSETS_TOPIC`]: Java's `String.hashCode` without its sign, modulo `partitions`.
#[must_use]
pub fn partition_of(group: &str, partitions: u32) -> u32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // The least of all numbers has no absolute value; Kafka takes zero instead.
    hash.checked_abs().unwrap_or(0).unsigned_abs() % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lies_where_kafka_has_it() {
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("ab", 50), (97 * 31 + 98) % 50);
        assert_eq!(partition_of("billing", 50), 109_829_509 % 50, "its hash is negative");
        assert_eq!(partition_of("polygenelubricants", 50), 0, "its hash is the least number");
    }
}
