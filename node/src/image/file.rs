//! The image of a node that does not vote, kept for its next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rafka_broker::metadata::{Image, decode_image, encode_image};
use rafka_log::StorageError;
use rafka_log::atomic_file::{self, AtomicFileError};
use rafka_log::disk::Disk;
use rafka_model::limits::{IMAGE_SAVE_MS, SNAPSHOT_BYTES_MAX};
use tokio_util::sync::CancellationToken;

use super::ImageStore;

/// The file `<data>/metadata/image`. It is a cache: whatever it says, the watch feed brings what is new.
#[derive(Clone, Debug)]
pub struct ImageFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pub(super) pause: Duration,
}

impl ImageFile {
    /// The image file of the data directory `data`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, data: &Path) -> Self {
        Self { disk, path: data.join("metadata").join("image"), pause: Duration::from_millis(IMAGE_SAVE_MS) }
    }

    /// Reads the image; an empty one if there is no file. A damaged file is moved aside, with a warning, and counts as
    /// none: the cluster has the original. Blocking.
    ///
    /// # Errors
    /// [`StorageError`] of the disk.
    pub fn load(&self) -> Result<Image, StorageError> {
        let damage = match atomic_file::read(&*self.disk, &self.path, SNAPSHOT_BYTES_MAX) {
            Ok(None) => return Ok(Image::default()),
            Ok(Some(bytes)) => match decode_image(&bytes) {
                Ok(image) => return Ok(image),
                Err(error) => error.to_string(),
            },
            Err(AtomicFileError::Storage(error)) => return Err(error),
            Err(error @ AtomicFileError::Corrupt { .. }) => error.to_string(),
        };
        let aside = self.path.with_extension("damaged");
        tracing::warn!(file = %self.path.display(), aside = %aside.display(), damage, "saved metadata image is damaged, moved aside");
        let moved = self.disk.rename(&self.path, &aside);
        moved.map_err(|error| StorageError::new("move aside", &self.path, &error))?;
        Ok(Image::default())
    }

    /// Writes the image. Blocking.
    ///
    /// # Errors
    /// [`StorageError`]; the file is as it was.
    pub fn save(&self, image: &Image) -> Result<(), StorageError> {
        let refused = |reason: String| StorageError::new("encode", &self.path, &std::io::Error::other(reason));
        let bytes = encode_image(image).map_err(|error| refused(error.to_string()))?;
        if let Some(dir) = self.path.parent() {
            self.disk.create_dir_all(dir).map_err(|error| StorageError::new("create", dir, &error))?;
        }
        atomic_file::write(&*self.disk, &self.path, &bytes)
    }

    /// Saves the images of `store` as they come, at most one every [`IMAGE_SAVE_MS`], and the last one when `stop` is
    /// cancelled. A failure is logged and tried again with the next image.
    pub async fn keep(self, store: Arc<ImageStore>, stop: CancellationToken) {
        let mut images = store.subscribe();
        let mut saved = images.borrow_and_update().index;
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                changed = images.changed() => changed.is_err(),
            };
            let image = images.borrow_and_update().clone();
            if image.index != saved {
                saved = image.index;
                let file = self.clone();
                let done = tokio::task::spawn_blocking(move || file.save(&image)).await;
                match done {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "metadata image not saved"),
                    Err(error) => tracing::error!(%error, "saving the metadata image panicked"),
                }
            }
            if stopping {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }
}
