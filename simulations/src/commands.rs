//! The commands, one file for each kind.

#[cfg(feature = "mesh")]
pub(crate) mod mesh;
