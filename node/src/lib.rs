//! A node of the mesh: the composition root of Rafka.
//!
//! `broker` decides, this crate does: it owns the threads, sockets, files and signals. Read [`server`] first: it is the
//! life of the process, top to bottom.

pub mod args;
pub mod bootstrap;
pub mod cluster;
pub mod config;
pub mod consensus;
pub mod controller;
pub mod datadir;
pub mod groups;
pub mod image;
pub mod kafka;
pub mod lanes;
pub mod logging;
mod memory;
pub mod mesh;
pub mod metrics;
pub mod ops;
pub mod partitions;
mod process;
pub mod server;
mod service;
mod tasks;

pub use process::{main_until, main_with};
