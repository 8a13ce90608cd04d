//! A node of the mesh: composition root of Rafka

pub mod config;
pub mod consensus;
pub mod controller;
pub mod datadir;
pub mod image;
