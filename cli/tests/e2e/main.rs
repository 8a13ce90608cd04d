//! End to end: the real program, real nodes, real sockets. Every wait awaits an event.

#![allow(clippy::unwrap_used, reason = "tests")]

mod alone;
mod cluster;
mod dev;
mod groups;
mod home;
mod publish;
mod quickstart;
mod subscribe;
mod topics;
