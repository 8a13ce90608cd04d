//! End-to-end tests of the node: real `rafka-node` processes, seen through the SDK, ops HTTP, exit codes and files, and
//! through the eyes of peers that mean no good.
//!
//! `RAFKA_BIN_DIR` names the folder of the `rafka-node` to test; without it cargo builds one.

mod crash;
mod data;
mod disk;
mod gateway;
mod groups;
mod hostile;
mod join;
mod kafka;
mod lanes;
mod peer;
mod start;
mod support;
