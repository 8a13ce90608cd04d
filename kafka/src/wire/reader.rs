//! Reading within bounds.

use bytes::Bytes;
use rafka_model::Chunks;
use rafka_model::limits::{KAFKA_DECODED_BYTES_MAX, KAFKA_DECODED_BYTES_MIN, KAFKA_DECODED_FACTOR};

use super::{DecodeError, Malformed, Str, Uuid};
use crate::messages::Message;

/// A frame, or what is left of it.
///
/// What decoding allocates is bounded twice. An array is reserved only if its elements, at their smallest, fit into
/// the bytes that are left. That alone would let a count of one-byte elements claim many times the frame, once for each
/// level of nesting; so every reservation is also paid from a budget: [`KAFKA_DECODED_FACTOR`] times the frame's bytes
/// (and a little for small frames), at most [`KAFKA_DECODED_BYTES_MAX`]. Text and records are slices and cost nothing.
/// Nesting is the schema's, at most a few structs deep; input cannot make it deeper.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    /// Memory that arrays may still take.
    budget: usize,
    budget_max: usize,
}

/// A tagged field that was begun.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// Its number.
    pub number: u32,
    size: usize,
    end: usize,
}

impl Reader {
    /// Begins to read `bytes`: a frame without its length.
    pub fn new(bytes: Bytes) -> Self {
        let budget = bytes.len().saturating_mul(KAFKA_DECODED_FACTOR).saturating_add(KAFKA_DECODED_BYTES_MIN);
        let budget = budget.min(KAFKA_DECODED_BYTES_MAX);
        Self { bytes, at: 0, budget, budget_max: budget }
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Malformed::Trailing`].
    pub fn finish(&self, field: &'static str) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError { field, reason: Malformed::Trailing(left) }),
        }
    }

    #[cold]
    fn short<T>(&self, field: &'static str, needed: u64) -> Result<T, DecodeError> {
        Err(DecodeError { field, reason: Malformed::Short { needed, left: self.left() } })
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        match self.bytes[self.at..].first_chunk::<N>() {
            Some(chunk) => {
                let chunk = *chunk;
                self.at += N;
                Ok(chunk)
            }
            None => self.short(field, N as u64),
        }
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.array::<1>(field)? != [0])
    }

    pub(crate) fn i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        self.array(field).map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    pub(crate) fn f64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        self.array(field).map(f64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        self.array(field).map(Uuid)
    }

    fn varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array(field)?;
            let bits = u32::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError { field, reason: Malformed::Varint })
    }

    /// A length or count; none is null.
    fn length(&mut self, compact: bool, wide: bool, field: &'static str) -> Result<Option<usize>, DecodeError> {
        if compact {
            return Ok(self.varint(field)?.checked_sub(1).map(|length| length as usize));
        }
        let length = if wide { self.i32(field)? } else { i32::from(self.i16(field)?) };
        match length {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => Ok(Some(length)),
                Err(_) => Err(DecodeError { field, reason: Malformed::Length(length) }),
            },
        }
    }

    fn slice(&mut self, length: Option<usize>, field: &'static str) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = length else { return Ok(None) };
        if length > self.left() {
            return self.short(field, length as u64);
        }
        let slice = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(Some(slice))
    }

    pub(crate) fn string_opt(&mut self, compact: bool, field: &'static str) -> Result<Option<Str>, DecodeError> {
        let length = self.length(compact, false, field)?;
        // Compact or not, Kafka takes no longer text.
        if let Some(length) = length.filter(|length| *length > i16::MAX as usize) {
            return Err(DecodeError { field, reason: Malformed::Text(length) });
        }
        let Some(bytes) = self.slice(length, field)? else { return Ok(None) };
        Str::try_from(bytes).map(Some).map_err(|_| DecodeError { field, reason: Malformed::Utf8 })
    }

    pub(crate) fn string(&mut self, compact: bool, field: &'static str) -> Result<Str, DecodeError> {
        self.string_opt(compact, field)?.ok_or_else(|| null(field))
    }

    pub(crate) fn bytes_opt(&mut self, compact: bool, field: &'static str) -> Result<Option<Bytes>, DecodeError> {
        let length = self.length(compact, true, field)?;
        self.slice(length, field)
    }

    pub(crate) fn bytes(&mut self, compact: bool, field: &'static str) -> Result<Bytes, DecodeError> {
        self.bytes_opt(compact, field)?.ok_or_else(|| null(field))
    }

    pub(crate) fn chunks_opt(&mut self, compact: bool, field: &'static str) -> Result<Option<Chunks>, DecodeError> {
        Ok(self.bytes_opt(compact, field)?.map(Chunks::from))
    }

    /// Reserves an array of `T`, each of which takes at least `bytes_min` of the frame.
    fn reserve<T>(
        &mut self,
        compact: bool,
        bytes_min: usize,
        field: &'static str,
    ) -> Result<Option<(usize, Vec<T>)>, DecodeError> {
        let Some(count) = self.length(compact, true, field)? else { return Ok(None) };
        let needed = count as u64 * bytes_min.max(1) as u64;
        if needed > self.left() as u64 {
            return self.short(field, needed);
        }
        match self.budget.checked_sub(count.saturating_mul(size_of::<T>())) {
            Some(budget) => self.budget = budget,
            None => return Err(DecodeError { field, reason: Malformed::Memory(self.budget_max) }),
        }
        Ok(Some((count, Vec::with_capacity(count))))
    }

    fn all<T>(
        &mut self,
        compact: bool,
        bytes_min: usize,
        field: &'static str,
        mut one: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some((count, mut all)) = self.reserve(compact, bytes_min, field)? else { return Ok(None) };
        for _ in 0..count {
            all.push(one(self)?);
        }
        Ok(Some(all))
    }

    pub(crate) fn structs_opt<T: Message>(
        &mut self,
        version: i16,
        compact: bool,
        field: &'static str,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        self.all(compact, T::bytes_min(version), field, |from| T::decode(version, from))
    }

    pub(crate) fn structs<T: Message>(
        &mut self,
        version: i16,
        compact: bool,
        field: &'static str,
    ) -> Result<Vec<T>, DecodeError> {
        self.structs_opt(version, compact, field)?.ok_or_else(|| null(field))
    }

    /// A single struct that may be null: a byte says so.
    pub(crate) fn struct_opt<T: Message>(
        &mut self,
        version: i16,
        field: &'static str,
    ) -> Result<Option<T>, DecodeError> {
        match self.i8(field)? {
            -1 => Ok(None),
            1 => T::decode(version, self).map(Some),
            other => Err(DecodeError { field, reason: Malformed::Length(other.into()) }),
        }
    }

    pub(crate) fn i32s_opt(&mut self, compact: bool, field: &'static str) -> Result<Option<Vec<i32>>, DecodeError> {
        self.all(compact, size_of::<i32>(), field, |from| from.i32(field))
    }

    pub(crate) fn i32s(&mut self, compact: bool, field: &'static str) -> Result<Vec<i32>, DecodeError> {
        self.i32s_opt(compact, field)?.ok_or_else(|| null(field))
    }

    pub(crate) fn i8s(&mut self, compact: bool, field: &'static str) -> Result<Vec<i8>, DecodeError> {
        self.all(compact, size_of::<i8>(), field, |from| from.i8(field))?.ok_or_else(|| null(field))
    }

    pub(crate) fn strings_opt(&mut self, compact: bool, field: &'static str) -> Result<Option<Vec<Str>>, DecodeError> {
        let bytes_min = if compact { 1 } else { 2 };
        self.all(compact, bytes_min, field, |from| from.string(compact, field))
    }

    pub(crate) fn strings(&mut self, compact: bool, field: &'static str) -> Result<Vec<Str>, DecodeError> {
        self.strings_opt(compact, field)?.ok_or_else(|| null(field))
    }

    pub(crate) fn tag_count(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.varint(field)
    }

    /// Begins a tagged field. Like Kafka, takes them in any order.
    pub(crate) fn tag(&mut self, field: &'static str) -> Result<Tag, DecodeError> {
        let number = self.varint(field)?;
        let size = self.varint(field)? as usize;
        if size > self.left() {
            return self.short(field, size as u64);
        }
        Ok(Tag { number, size, end: self.at + size })
    }

    pub(crate) fn end_tag(&mut self, tag: Tag, field: &'static str) -> Result<(), DecodeError> {
        if self.at == tag.end {
            return Ok(());
        }
        let taken = self.at + tag.size - tag.end;
        Err(DecodeError { field, reason: Malformed::TagSize { said: tag.size, taken } })
    }

    pub(crate) fn skip_tag(&mut self, tag: Tag) {
        self.at = tag.end;
    }

    /// Skips all tagged fields. Each takes two bytes or more, so that a claimed count costs what the frame holds.
    pub(crate) fn skip_tags(&mut self, field: &'static str) -> Result<(), DecodeError> {
        for _ in 0..self.tag_count(field)? {
            let tag = self.tag(field)?;
            self.skip_tag(tag);
        }
        Ok(())
    }
}

#[cold]
fn null(field: &'static str) -> DecodeError {
    DecodeError { field, reason: Malformed::Null }
}

#[cfg(test)]
mod tests;
