//! The commands, one file for each kind.

pub(crate) mod explore;
pub(crate) mod hunt;
#[cfg(feature = "mesh")]
pub(crate) mod mesh;
