//! The log against a plain vector, through crashes, damage and failing disks.

mod bounds;
mod crash;
mod damage;
mod faults;
mod support;
