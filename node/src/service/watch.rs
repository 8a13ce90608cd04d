//! Watch: the metadata feed, from this node's image. Any node can feed; only the controller adds records to publish.

use std::time::Duration;

use bytes::Bytes;
use rafka_broker::metadata::encode_image;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::MetadataIndex;
use rafka_model::limits::{FRAME_BODY_BYTES_MAX, WATCH_ENTRIES_MAX};
use rafka_protocols::Frame;
use rafka_protocols::watch::{self, Content, Feed, Watch};

use super::{Served, Service, malformed, outcome};
use crate::mesh::PeerId;

/// Bytes of entries or of a snapshot in one answer.
const FEED_BYTES_MAX: usize = FRAME_BODY_BYTES_MAX / 4;

pub(super) async fn serve(service: &Service, peer: PeerId, frame: &Frame) -> Served {
    let answer = match watch::decode_request(frame).map_err(malformed) {
        Ok(request) => answer(service, peer, request).await,
        Err(failure) => Err(failure),
    };
    (watch::encode_reply(&answer), outcome(&answer))
}

async fn answer(service: &Service, peer: PeerId, request: Watch) -> Result<Feed, Failure> {
    let images = &service.cluster.images;
    let mut news = images.subscribe();
    if request.resume.is_none() {
        let wait = Duration::from_millis(request.wait_ms.into());
        let newer = news.wait_for(|image| image.index > request.from);
        // No news is an answer too.
        let _ = tokio::time::timeout(wait, newer).await.map(|found| found.map(drop));
    }
    let image = images.current();
    let content = match images.entries_since(request.from) {
        Some(entries) if request.resume.is_none() => Content::Entries(fitting(entries)),
        _ => snapshot(&image, request.resume)?,
    };
    // Records come with the last piece, so that they arrive with the image that explains them.
    let reached = match &content {
        Content::Entries(entries) => MetadataIndex(request.from.0 + entries.len() as u64),
        Content::Snapshot { index, bytes_total, offset, chunk } if offset + chunk.len() as u64 >= *bytes_total => {
            *index
        }
        Content::Snapshot { .. } => request.from,
    };
    let node = image.node_by_peer(&peer.to_string()).map(|node| node.id);
    let records = match (&service.cluster.controller, node) {
        (Some(controller), Some(node)) if reached > request.from || request.wait_ms == 0 => {
            controller.records_for(node, request.from)
        }
        _ => Vec::new(),
    };
    Ok(Feed { index: image.index, content, records: records.into_iter().take(WATCH_ENTRIES_MAX).collect() })
}

fn fitting(entries: Vec<Bytes>) -> Vec<Bytes> {
    let mut left = FEED_BYTES_MAX;
    let fits = |entry: &Bytes| match left.checked_sub(entry.len()) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    entries.into_iter().take(WATCH_ENTRIES_MAX).take_while(fits).collect()
}

fn snapshot(image: &rafka_broker::metadata::Image, resume: Option<(MetadataIndex, u64)>) -> Result<Content, Failure> {
    let (wanted, offset) = resume.unwrap_or((image.index, 0));
    if wanted != image.index {
        return Err(Failure::new(ErrorCode::Busy, "the snapshot was replaced by a newer one; begin again"));
    }
    let bytes = Bytes::from(encode_image(image).map_err(|e| Failure::new(ErrorCode::Unknown, e.to_string()))?);
    let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let end = begin.saturating_add(FEED_BYTES_MAX).min(bytes.len());
    Ok(Content::Snapshot {
        index: image.index,
        bytes_total: bytes.len() as u64,
        offset: begin as u64,
        chunk: bytes.slice(begin..end),
    })
}
