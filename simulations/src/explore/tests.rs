use super::*;
use rafka_broker::{controller, replication};

fn none(_: &Progress) {}
