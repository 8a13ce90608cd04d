//! Project automation: what keeps the house in order, and what the scripts need.
//!
//! [`house`] checks layers, sources, limits and licences; [`generate`] writes the files that come from code; [`fuzz`]
//! builds and runs the fuzz targets on the stable toolchain; [`data`] makes big inputs and compares what came back;
//! [`compat`] runs real Kafka clients against real nodes.

pub mod compat;
pub mod data;
pub mod fuzz;
pub mod generate;
pub mod house;
mod policy;
mod spdx;

use std::path::{Path, PathBuf};

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root").to_owned()
}
