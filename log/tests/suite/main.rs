//! The log against a plain vector, through crashes, damage and failing disks.

mod bounds;
mod compaction;
mod compaction_rules;
mod compaction_world;
mod crash;
mod damage;
mod faults;
mod support;
