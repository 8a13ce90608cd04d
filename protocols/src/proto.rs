//! Generated from `proto/*.proto`; private, so that wire types never leave this crate.
#![allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/rafka.v1.rs"));
