//! The watch client: pulls the metadata feed of a voter into this node's image, entry by entry, without gaps.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rafka_broker::metadata::decode_image;
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::SignedRecord;
use rafka_model::MetadataIndex;
use rafka_model::limits::{CONTROL_DEADLINE_MS, LONG_POLL_MS_MAX, SNAPSHOT_BYTES_MAX};
use rafka_protocols::Protocol;
use rafka_protocols::watch::{self, Content, Feed, View, Watch};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, warn};

use super::{Cluster, Reachable};
use crate::mesh::PeerId;

/// How long a watch waits for news. Short enough that a dead connection is noticed soon.
const WAIT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What the feed needs beside the cluster.
pub struct WatchClient {
    /// Shared state; its image is written here and nowhere else.
    pub cluster: Arc<Cluster>,
    /// Whom to ask while the image names no controller.
    pub first: Vec<Reachable>,
    /// Rung when a hint says that there is news, or that this node registered.
    pub hurry: Arc<Notify>,
    /// Records that the controller wants published by this node.
    pub records: mpsc::Sender<Vec<SignedRecord>>,
    /// Verifies them.
    pub verifier: rafka_dht::Verifier,
}

impl WatchClient {
    /// Pulls for ever.
    pub async fn run(self) {
        let mut pause = RETRY_MIN;
        loop {
            let from = self.cluster.images.index();
            let Some(source) = self.source() else {
                self.rest(&mut pause).await;
                continue;
            };
            match self.pull(&source, from).await {
                Ok(()) => pause = RETRY_MIN,
                Err(failure) => {
                    debug!(node = %source.id, %failure, "the metadata feed broke off");
                    self.rest(&mut pause).await;
                }
            }
        }
    }

    /// Waits before the next attempt, unless a hint comes.
    async fn rest(&self, pause: &mut Duration) {
        let _ = tokio::time::timeout(*pause, self.hurry.notified()).await;
        *pause = (*pause * 2).min(RETRY_MAX);
    }

    fn source(&self) -> Option<Reachable> {
        let local: PeerId = self.cluster.mesh.local();
        let controller = self.cluster.controller_node(&self.cluster.images.current());
        controller.into_iter().chain(self.first.iter().cloned()).find(|node| node.peer != local)
    }

    async fn pull(&self, source: &Reachable, from: MetadataIndex) -> Result<(), Failure> {
        let request = Watch { from, wait_ms: WAIT.as_millis() as u32, view: View::Full, resume: None };
        let feed = self.exchange(source, &request).await?;
        let records = feed.records.clone();
        match feed.content {
            Content::Entries(entries) => {
                for entry in entries {
                    self.cluster.images.apply_encoded(entry).map_err(damaged)?;
                }
            }
            Content::Snapshot { index, bytes_total, offset, chunk } => {
                let image = self.snapshot(source, from, index, bytes_total, offset, chunk).await?;
                self.cluster.images.install(image);
            }
        }
        let verified = records.into_iter().filter_map(|bytes| match self.verifier.verify(&bytes) {
            Ok(record) => Some(record),
            Err(invalid) => {
                warn!(%invalid, "the controller sent a record that is not valid");
                None
            }
        });
        let verified: Vec<_> = verified.collect();
        if !verified.is_empty() {
            let _ = self.records.send(verified).await;
        }
        Ok(())
    }

    async fn snapshot(
        &self,
        source: &Reachable,
        from: MetadataIndex,
        index: MetadataIndex,
        bytes_total: u64,
        offset: u64,
        first: bytes::Bytes,
    ) -> Result<rafka_broker::metadata::Image, Failure> {
        if offset != 0 || bytes_total > SNAPSHOT_BYTES_MAX as u64 {
            return Err(damaged("a snapshot that does not begin at its beginning"));
        }
        let mut bytes = BytesMut::from(&first[..]);
        while (bytes.len() as u64) < bytes_total {
            let resume = Some((index, bytes.len() as u64));
            let feed = self.exchange(source, &Watch { from, wait_ms: 0, view: View::Full, resume }).await?;
            match feed.content {
                Content::Snapshot { index: same, offset, chunk, .. }
                    if same == index && offset == bytes.len() as u64 && !chunk.is_empty() =>
                {
                    bytes.extend_from_slice(&chunk);
                }
                // The snapshot was replaced meanwhile: begin anew.
                _ => return Err(Failure::new(ErrorCode::Busy, "the snapshot changed while it was read")),
            }
        }
        decode_image(&bytes).map_err(damaged)
    }

    async fn exchange(&self, source: &Reachable, request: &Watch) -> Result<Feed, Failure> {
        let deadline = Duration::from_millis(u64::from(request.wait_ms).min(LONG_POLL_MS_MAX) + CONTROL_DEADLINE_MS);
        let frame = watch::encode_request(request);
        let call = self.cluster.mesh.call(source.peer, source.addresses.clone(), Protocol::Watch, frame, deadline);
        let answer = call.await.map_err(|e| Failure::new(ErrorCode::ControllerUnavailable, e.to_string()))?;
        self.cluster.heard_controller();
        watch::decode_reply(&answer).map_err(damaged)?
    }
}

fn damaged(error: impl std::fmt::Display) -> Failure {
    Failure::new(ErrorCode::Unknown, format!("the metadata feed cannot be used: {error}"))
}
