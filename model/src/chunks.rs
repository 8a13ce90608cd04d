//! Bytes that lie in several places and belong end to end.

use bytes::Bytes;

/// Shared bytes, end to end, never joined unless somebody asks. Cheap to clone as long as the chunks are few.
#[derive(Clone, Debug, Default)]
pub struct Chunks(Vec<Bytes>);

impl Chunks {
    /// No bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds `chunk` at the end.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.0.push(chunk);
        }
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// True without bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The chunks, in order; none is empty.
    #[must_use]
    pub fn as_slice(&self) -> &[Bytes] {
        &self.0
    }

    /// All bytes in one place: copied only if there are several chunks.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        match self.0.len() {
            0 => Bytes::new(),
            1 => self.0.swap_remove(0),
            _ => self.0.concat().into(),
        }
    }
}

impl Extend<Bytes> for Chunks {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, chunks: I) {
        chunks.into_iter().for_each(|chunk| self.push(chunk));
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        let mut chunks = Self::new();
        chunks.push(bytes);
        chunks
    }
}

impl IntoIterator for Chunks {
    type Item = Bytes;
    type IntoIter = std::vec::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Equal bytes are equal, wherever they are cut.
impl PartialEq for Chunks {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |chunks: &Self| chunks.0.iter().flatten().copied().collect::<Vec<u8>>();
        self.len() == other.len() && (self.0 == other.0 || bytes(self) == bytes(other))
    }
}

impl Eq for Chunks {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_does_not_see_the_cuts() {
        let mut cut = Chunks::from(Bytes::from_static(b"ab"));
        cut.extend([Bytes::new(), Bytes::from_static(b"c")]);
        let whole = Chunks::from(Bytes::from_static(b"abc"));
        assert_eq!((cut.len(), cut.as_slice().len()), (3, 2));
        assert_eq!(cut, whole);
        assert_ne!(cut, Chunks::new());
        assert_eq!(cut.into_bytes(), whole.into_bytes());
    }
}
