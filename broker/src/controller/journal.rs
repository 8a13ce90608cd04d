//! The overlay, and the entries that lead to it.

use rafka_model::limits::{ENTRY_BYTES_MAX, ENTRY_DELTAS_MAX};
use rafka_model::{MetadataIndex, cbor};

use crate::metadata::{Delta, Entry, Image, Node};
use crate::{ErrorCode, Failure};

use super::rules::{Rule, Rules};
use super::standing::Standing;

/// Bytes of an entry beside its deltas.
const ENVELOPE_BYTES: usize = 64;

/// Decided deltas, cut into entries, and the image that they lead to.
#[derive(Debug)]
pub(super) struct Journal {
    /// Its index is that of the last entry, the open one once that has a delta.
    overlay: Image,
    standing: Standing,
    /// Deltas written so far.
    written: u64,
    sealed: Vec<Entry>,
    open: Vec<Delta>,
    open_bytes: usize,
}

impl Journal {
    pub(super) fn new(image: Image) -> Self {
        let standing = Standing::new(&image);
        Self { overlay: image, standing, written: 0, sealed: Vec::new(), open: Vec::new(), open_bytes: 0 }
    }

    pub(super) fn image(&self) -> &Image {
        &self.overlay
    }

    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Grows with every delta.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Writes deltas that belong into one entry.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidRequest`] if no entry can hold them; nothing was written.
    pub(super) fn write_together(&mut self, deltas: Vec<Delta>) -> Result<(), Failure> {
        let too_large = |what: String| {
            let limits =
                format!("an entry of the metadata log holds {ENTRY_DELTAS_MAX} changes and {ENTRY_BYTES_MAX} bytes");
            Failure::new(ErrorCode::InvalidRequest, format!("{what} at once; {limits}"))
        };
        let mut bytes = 0;
        for delta in &deltas {
            bytes += cbor::encode(delta, ENTRY_BYTES_MAX).map_err(|error| too_large(error.to_string()))?.len();
        }
        if deltas.len() > ENTRY_DELTAS_MAX || bytes > ENTRY_BYTES_MAX - ENVELOPE_BYTES {
            return Err(too_large(format!("{} changes of {bytes} bytes", deltas.len())));
        }
        let full = self.open.len() + deltas.len() > ENTRY_DELTAS_MAX
            || self.open_bytes + bytes > ENTRY_BYTES_MAX - ENVELOPE_BYTES;
        if full {
            self.seal();
        }
        self.open_bytes += bytes;
        deltas.into_iter().for_each(|delta| self.push(delta));
        Ok(())
    }

    /// Writes one delta of a bounded kind, into the open entry or a new one.
    pub(super) fn write(&mut self, delta: Delta) {
        self.write_together(vec![delta]).expect("a node, a partition or a flag fits into an entry");
    }

    /// Writes a registration, whose numbers are the index of its entry: the first of a new one, so that no two share it.
    pub(super) fn register(&mut self, rules: Rules, node: impl FnOnce(MetadataIndex) -> Node) {
        if rules.hold(Rule::OneRegistrationPerEntry) {
            self.seal();
        }
        let index = self.overlay.index.0 + u64::from(self.open.is_empty());
        self.write(Delta::NodeRegistered(node(MetadataIndex(index))));
    }

    /// The entries written so far; the next delta begins another.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.seal();
        std::mem::take(&mut self.sealed)
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            let deltas = std::mem::take(&mut self.open);
            self.sealed.push(Entry { index: self.overlay.index, deltas });
            self.open_bytes = 0;
        }
    }

    fn push(&mut self, delta: Delta) {
        if self.open.is_empty() {
            self.overlay.index.0 += 1;
        }
        self.standing.note(&self.overlay, &delta);
        self.overlay.apply_delta(self.overlay.index, &delta).expect("what the controller decides can be applied");
        self.open.push(delta);
        self.written += 1;
    }
}
