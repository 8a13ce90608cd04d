//! Settings of a coordinator, by Kafka's names and with Kafka's defaults.

/// Settings of a coordinator. Times are milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// A group that was empty waits this long for more members (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: u64,
    /// Smallest session timeout of a classic member (`group.min.session.timeout.ms`).
    pub min_session_timeout_ms: i32,
    /// Largest session timeout of a classic member (`group.max.session.timeout.ms`).
    pub max_session_timeout_ms: i32,
    /// Members of one classic group (`group.max.size`).
    pub max_size: usize,
    /// Life of an offset after its group is empty (`offsets.retention.minutes`).
    pub offsets_retention_ms: u64,
    /// How often expired offsets are looked for (`offsets.retention.check.interval.ms`).
    pub offsets_retention_check_interval_ms: u64,
    /// Bytes of the words that go with a committed offset (`offset.metadata.max.bytes`).
    pub offset_metadata_max_bytes: usize,
    /// Members of one KIP-848 group (`group.consumer.max.size`).
    pub consumer_max_size: usize,
    /// Silence after which a KIP-848 member counts as dead (`group.consumer.session.timeout.ms`).
    pub consumer_session_timeout_ms: u64,
    /// How often a KIP-848 member is to show itself (`group.consumer.heartbeat.interval.ms`).
    pub consumer_heartbeat_interval_ms: i32,
    /// Least time between two targets of a KIP-848 group (`group.consumer.assignment.interval.ms`).
    pub consumer_assignment_interval_ms: u64,
    /// Whether groups change their kind while they have members (`group.consumer.migration.policy`).
    pub consumer_migration_policy: MigrationPolicy,
}

/// Whether groups change their kind while they have members.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MigrationPolicy {
    /// They do not.
    Disabled,
    /// A classic group of consumers becomes one of KIP-848 when such a member joins.
    Upgrade,
    /// A KIP-848 group becomes a classic one when only classic members are left.
    Downgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    /// Classic groups may become KIP-848 groups.
    #[must_use]
    pub fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// KIP-848 groups may become classic groups.
    #[must_use]
    pub fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_rebalance_delay_ms: 3_000,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: usize::MAX,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            offsets_retention_check_interval_ms: 600_000,
            offset_metadata_max_bytes: 4096,
            consumer_max_size: usize::MAX,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_assignment_interval_ms: 1_000,
            consumer_migration_policy: MigrationPolicy::Bidirectional,
        }
    }
}
