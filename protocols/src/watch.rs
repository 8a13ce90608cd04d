//! `/rafka/<cid>/watch/1`: the metadata feed. A member pulls the entries behind the last one that it has, or a
//! snapshot in pieces when they are gone, and with them the signed DHT records that it shall publish.

use bytes::Bytes;
use prost::Message;
use rafka_model::MetadataIndex;
use rafka_model::limits::{
    DHT_RECORD_BYTES_MAX, ENTRY_BYTES_MAX, LONG_POLL_MS_MAX, SNAPSHOT_BYTES_MAX, WATCH_ENTRIES_MAX,
};

use crate::Frame;
use crate::proto;
use crate::wire::{self, Answer, DecodeError, Pieces, bounded, failure_from_wire, header_only, no_body, piece_bytes};

/// What a member asks of the feed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Watch {
    /// Last entry that it has applied.
    pub from: MetadataIndex,
    /// Longest wait for news, ms.
    pub wait_ms: u32,
    /// Which entries it wants.
    pub view: View,
    /// Go on with this snapshot at this byte.
    pub resume: Option<(MetadataIndex, u64)>,
}

/// Which part of the metadata a member wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum View {
    /// All of it.
    #[default]
    Full,
}

/// What the feed had: at most [`WATCH_ENTRIES_MAX`] entries and as many records, within the cap of a frame's body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Feed {
    /// Last entry that the answering node has applied.
    pub index: MetadataIndex,
    /// News, if any.
    pub content: Content,
    /// Signed DHT records that the asker shall publish.
    pub records: Vec<Bytes>,
}

/// News of the metadata.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Entries (CBOR) in order, the first one behind [`Watch::from`]; none when the wait was in vain.
    Entries(Vec<Bytes>),
    /// A piece of an image (CBOR) that replaces what the asker has.
    Snapshot {
        /// Last entry in the image.
        index: MetadataIndex,
        /// Bytes of the whole image.
        bytes_total: u64,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        chunk: Bytes,
    },
}

/// Encodes a request.
#[must_use]
pub fn encode_request(request: &Watch) -> Frame {
    let View::Full = request.view;
    header_only(&proto::WatchRequest {
        from: request.from.0,
        wait_ms: request.wait_ms,
        view: 1,
        snapshot: request.resume.map(|(index, _)| index.0),
        snapshot_offset: request.resume.map_or(0, |(_, offset)| offset),
    })
}

/// Decodes a request. Waits over [`LONG_POLL_MS_MAX`] are cut to it: no exchange lasts longer.
///
/// # Errors
/// [`DecodeError`].
pub fn decode_request(frame: &Frame) -> Result<Watch, DecodeError> {
    no_body(frame)?;
    let wire: proto::WatchRequest = wire::decode(frame.header(), "fields of a watch", 16, &[])?;
    if wire.view != 1 {
        return Err(DecodeError::Missing("view"));
    }
    Ok(Watch {
        from: MetadataIndex(wire.from),
        wait_ms: wire.wait_ms.min(LONG_POLL_MS_MAX as u32),
        view: View::Full,
        resume: wire.snapshot.map(|index| (MetadataIndex(index), wire.snapshot_offset)),
    })
}

/// Encodes a reply; entries, chunk and records are shared, not copied.
#[must_use]
pub fn encode_reply(reply: &Answer<Feed>) -> Frame {
    let feed = match reply {
        Ok(feed) => feed,
        Err(failure) => return wire::encode_failure(failure),
    };
    let mut wire = proto::WatchReply {
        index: feed.index.0,
        record_bytes: feed.records.iter().map(piece_bytes).collect(),
        ..Default::default()
    };
    let mut pieces = match &feed.content {
        Content::Entries(entries) => {
            wire.entry_bytes = entries.iter().map(piece_bytes).collect();
            entries.clone()
        }
        Content::Snapshot { index, bytes_total, offset, chunk } => {
            wire.snapshot = Some(proto::Snapshot {
                index: index.0,
                bytes_total: *bytes_total,
                offset: *offset,
                chunk_bytes: piece_bytes(chunk),
            });
            vec![chunk.clone()]
        }
    };
    pieces.extend_from_slice(&feed.records);
    Frame::with_pieces(wire.encode_to_vec().into(), pieces)
}

/// Decodes a reply.
///
/// # Errors
/// [`DecodeError`]; also when lengths and body do not agree, or a chunk lies outside its snapshot.
pub fn decode_reply(frame: &Frame) -> Result<Answer<Feed>, DecodeError> {
    let wire: proto::WatchReply = wire::decode(frame.header(), "fields of a feed", 2 * WATCH_ENTRIES_MAX + 8, &[])?;
    if let Some(failure) = wire.failure {
        return Ok(Err(failure_from_wire(failure)?));
    }
    let entries = lengths("entries", wire.entry_bytes, ENTRY_BYTES_MAX)?;
    let records = lengths("records", wire.record_bytes, DHT_RECORD_BYTES_MAX)?;
    let chunk_bytes = wire.snapshot.as_ref().map(|snapshot| snapshot.chunk_bytes);
    let mut pieces = Pieces::new(frame, entries.iter().chain(&chunk_bytes).chain(&records).copied())?;
    let entries: Vec<Bytes> = entries.into_iter().map(|length| pieces.next(length)).collect();
    let content = match wire.snapshot {
        None => Content::Entries(entries),
        Some(_) if !entries.is_empty() => {
            return Err(DecodeError::Invalid { what: "feed", found: "entries beside a snapshot".to_owned() });
        }
        Some(snapshot) => {
            let end = snapshot.offset.saturating_add(snapshot.chunk_bytes.into());
            if end > snapshot.bytes_total || snapshot.bytes_total > SNAPSHOT_BYTES_MAX as u64 {
                let found = format!("chunk up to {end} of {} bytes", snapshot.bytes_total);
                return Err(DecodeError::Invalid { what: "snapshot", found });
            }
            Content::Snapshot {
                index: MetadataIndex(snapshot.index),
                bytes_total: snapshot.bytes_total,
                offset: snapshot.offset,
                chunk: pieces.next(snapshot.chunk_bytes),
            }
        }
    };
    let records = records.into_iter().map(|length| pieces.next(length)).collect();
    Ok(Ok(Feed { index: MetadataIndex(wire.index), content, records }))
}

fn lengths(what: &'static str, found: Vec<u32>, limit: usize) -> Result<Vec<u32>, DecodeError> {
    let found = bounded(what, found, WATCH_ENTRIES_MAX)?;
    match found.iter().find(|length| **length as usize > limit) {
        Some(length) => Err(DecodeError::TooLong { what, bytes: *length as usize, limit }),
        None => Ok(found),
    }
}
