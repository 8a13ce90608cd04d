//! The Kafka door: what Kafka's clients say and hear, byte by byte.
//!
//! [`messages`] holds a request and a response type for each API, written by `build.rs` from the tables in `schema/`:
//! one file for each API, with Kafka's own field names. Decoding copies no text and no records (they are slices of the
//! frame), and allocates by what the frame holds, never by what it claims ([`wire::Reader`]). Encoding splices records
//! between chunks that go out in one vectored write ([`wire::Writer`]).
//!
//! [`ApiKey`] is the table of the APIs: what is advertised, what is decoded. [`SERVED`] are those that a [`Door`]
//! answers: it turns requests into questions to a [`desk::FrontDesk`], the node behind it, and its answers into
//! responses.

pub mod advertise;
mod api;
mod api_key;
mod budget;
mod changes;
mod configs;
mod connection;
pub mod desk;
mod door;
mod error;
#[cfg(test)]
mod fake;
mod groups;
pub mod header;
mod leaders;
pub mod listener;
pub mod messages;
pub mod metrics;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;

pub use api::SERVED;
pub use api_key::ApiKey;
pub use connection::{End, serve};
pub use door::{Client, Config, Door, METADATA_VERSION, METADATA_VERSION_MIN};
