//! A node of the mesh: composition root of Rafka

pub mod args;
pub mod bootstrap;
pub mod config;
pub mod consensus;
pub mod controller;
pub mod datadir;
pub mod image;
pub mod logging;
pub mod mesh;
pub mod metrics;
pub mod ops;
