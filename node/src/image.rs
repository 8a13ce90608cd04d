//! The metadata image of this node: what it knows of the cluster.
//!
//! A voter's image is written by consensus alone, everyone else's by the watch client. Readers take [`ImageStore::current`]
//! (one reference count, never blocked by a writer) or wait on [`ImageStore::subscribe`]. After a restart the image may
//! be *older* than what this node had seen before: until it has caught up (`RaftLog::recovered` on a voter, the first
//! answered watch elsewhere) what it lacks must not be taken for deleted.

mod file;
mod recent;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rafka_broker::metadata::{ApplyError, Entry, Image, decode_entry, encode_entry};
use rafka_model::MetadataIndex;
use rafka_model::cbor::CborError;
use tokio::sync::watch;

pub use file::ImageFile;
use recent::Recent;

/// Why an entry was not applied. The image is as it was.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ImageError {
    /// It does not follow the image.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It is no entry, or too large a one.
    #[error("not an entry of the metadata log: {0}")]
    Codec(#[from] CborError),
}

/// The current image, its latest entries, and who waits for the next.
pub struct ImageStore {
    published: watch::Sender<Arc<Image>>,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Writer {
    /// The image before the current one, and the entry that it lacks: reused for the next image once no reader holds
    /// it, so that applying costs as much as the entry and not as much as the image.
    spare: Option<(Arc<Image>, Arc<Entry>)>,
    recent: Recent,
}

impl Default for ImageStore {
    fn default() -> Self {
        Self::new(Image::default())
    }
}

impl ImageStore {
    /// A store that begins with `image`. A voter begins with an empty one and lets consensus restore it.
    #[must_use]
    pub fn new(image: Image) -> Self {
        let writer = Writer { recent: Recent::after(image.index), ..Writer::default() };
        Self { published: watch::Sender::new(Arc::new(image)), writer: Mutex::new(writer) }
    }

    /// The image as of now.
    #[must_use]
    pub fn current(&self) -> Arc<Image> {
        self.published.borrow().clone()
    }

    /// Index of the image as of now.
    #[must_use]
    pub fn index(&self) -> MetadataIndex {
        self.published.borrow().index
    }

    /// Every image from now on; a slow reader skips to the latest.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Image>> {
        self.published.subscribe()
    }

    /// Waits for an image of at least `index`. Cancel safe.
    pub async fn wait_for(&self, index: MetadataIndex) -> Arc<Image> {
        let mut images = self.subscribe();
        let found = images.wait_for(|image| image.index >= index).await.map(|image| image.clone());
        found.expect("the sender lives in self")
    }

    /// Applies the next entry and publishes the image; returns its index.
    ///
    /// # Errors
    /// [`ImageError`]; nothing changed.
    pub fn apply(&self, entry: Entry) -> Result<MetadataIndex, ImageError> {
        let bytes = encode_entry(&entry)?;
        self.apply_both(entry, bytes.into())
    }

    /// As [`Self::apply`], from the bytes that the metadata log and the watch feed carry.
    ///
    /// # Errors
    /// [`ImageError`]; nothing changed.
    pub fn apply_encoded(&self, entry: Bytes) -> Result<MetadataIndex, ImageError> {
        self.apply_both(decode_entry(&entry)?, entry)
    }

    pub(crate) fn apply_both(&self, entry: Entry, bytes: Bytes) -> Result<MetadataIndex, ImageError> {
        let entry = Arc::new(entry);
        let mut writer = self.writer.lock();
        let mut next = writer.reuse().unwrap_or_else(|| self.current());
        Arc::make_mut(&mut next).apply(&entry)?;
        let index = next.index;
        let before = self.published.send_replace(next);
        writer.spare = Some((before, entry));
        writer.recent.push(index, bytes);
        Ok(index)
    }

    /// Replaces the image by a snapshot, which may skip entries.
    pub fn install(&self, image: Image) {
        let mut writer = self.writer.lock();
        *writer = Writer { recent: Recent::after(image.index), ..Writer::default() };
        self.published.send_replace(Arc::new(image));
    }

    /// The entries behind `index` as bytes, oldest first; empty if there is none yet. `None` if the oldest of them is no
    /// longer here: then the reader needs the image.
    #[must_use]
    pub fn entries_since(&self, index: MetadataIndex) -> Option<Vec<Bytes>> {
        self.writer.lock().recent.since(index)
    }
}

impl Writer {
    /// The image before the current one, brought up to date, if no one else holds it.
    fn reuse(&mut self) -> Option<Arc<Image>> {
        let (mut image, missed) = self.spare.take()?;
        Arc::get_mut(&mut image)?.apply(&missed).ok()?;
        Some(image)
    }
}
