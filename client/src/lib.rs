//! Rust SDK: producer, consumer and admin of the mesh
