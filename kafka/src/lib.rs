//! The Kafka door: what Kafka's clients say and hear, byte by byte.
//!
//! [`messages`] holds a request and a response type for each API, written by `build.rs` from the tables in `schema/`:
//! one file for each API, with Kafka's own field names. Decoding copies no text and no records (they are slices of the
//! frame), and allocates by what the frame holds, never by what it claims ([`wire::Reader`]). Encoding splices records
//! between chunks that go out in one vectored write ([`wire::Writer`]).
//!
//! [`ApiKey`] is the table of the APIs: what is advertised, what is decoded.

mod api_key;
pub mod header;
pub mod messages;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;

pub use api_key::ApiKey;
