//! Calls between real swarms over in-process connections (Noise and Yamux included).

mod bad_frames;
mod calls;
mod failures;
mod harness;
mod load;
