//! Committed entries become the image. The state lives in memory: at a start it is the snapshot and the entries behind.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use rafka_broker::metadata::{Image, decode_image, encode_image};

use super::snapshots::SnapshotFile;
use super::types::{LogId, Membership, Outcome, RaftPayload, Snapshot, SnapshotMeta, TypeConfig};
use crate::image::{ImageError, ImageStore};

pub(super) struct Machine {
    images: Arc<ImageStore>,
    file: SnapshotFile,
    /// What the snapshot file holds, as far as this process wrote or read it.
    saved: Option<SnapshotMeta>,
    applied: Option<LogId>,
    membership: Membership,
}

/// A view of the state as of some entry, to be written while later entries are applied.
pub(super) struct SnapshotBuilder {
    file: SnapshotFile,
    meta: SnapshotMeta,
    image: Arc<Image>,
}

impl Machine {
    pub(super) fn new(images: Arc<ImageStore>, file: SnapshotFile) -> Self {
        Self { images, file, saved: None, applied: None, membership: Membership::default() }
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    /// Refusal is an outcome like any other: every voter refuses alike. Only what cannot be understood stops the voter.
    fn apply_entry(&self, entry: Bytes) -> io::Result<Outcome> {
        match self.images.apply_encoded(entry) {
            Ok(index) => Ok(Outcome::Applied(index)),
            Err(ImageError::Apply(error)) => Ok(Outcome::Refused(error.to_string())),
            Err(error @ ImageError::Codec(_)) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let outcome = match entry.payload {
                RaftPayload::Blank => Outcome::Nothing,
                RaftPayload::Normal(proposal) => self.apply_entry(proposal.0)?,
                RaftPayload::Membership(voters) => {
                    self.membership = Membership::new(Some(entry.log_id), voters);
                    Outcome::Nothing
                }
            };
            self.applied = Some(entry.log_id);
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { file: self.file.clone(), meta: self.meta(), image: self.images.current() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> io::Result<()> {
        let (file, meta_to_save) = (self.file.clone(), meta.clone());
        let save = self.saved.as_ref() != Some(meta);
        let image = blocking(move || {
            let image = decode_image(&snapshot).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if save {
                file.save(&meta_to_save, &snapshot)?;
            }
            Ok(image)
        });
        let image = image.await?;
        // An image that a watch feed brought may be further; it is made of the same entries.
        if image.index > self.images.index() {
            self.images.install(image);
        }
        self.saved = Some(meta.clone());
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let file = self.file.clone();
        let snapshot = blocking(move || file.load().map_err(io::Error::other)).await?;
        self.saved = snapshot.as_ref().map(|snapshot| snapshot.meta.clone());
        Ok(snapshot)
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (file, meta, image) = (self.file.clone(), self.meta.clone(), self.image.clone());
        blocking(move || {
            let snapshot = Bytes::from(encode_image(&image).map_err(io::Error::other)?);
            drop(image);
            file.save(&meta, &snapshot)?;
            Ok(Snapshot { meta, snapshot })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
