//! What the fuzz targets call. `xtask/tests/corpus` includes the same file and replays the seeds in the normal tests.

pub mod targets;
