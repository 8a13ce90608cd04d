//! Writing without copying records.

use bytes::{BufMut, Bytes, BytesMut};
use rafka_model::Chunks;

use super::{EncodeError, Str, Unfit, Uuid};
use crate::messages::Message;

/// Bytes of records that are worth a chunk of their own; fewer are copied.
const SPLICE_BYTES_MIN: usize = 1024;
/// Bytes of a small response.
const CAPACITY: usize = 512;
/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// Collects a message as chunks: what is written field by field, and records between it, shared.
#[derive(Debug)]
pub struct Writer {
    /// All that was copied.
    copied: BytesMut,
    /// Shared bytes, and where among the copied ones they go; in order.
    shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
    framed: bool,
}

/// Where a tagged field began.
#[derive(Clone, Copy, Debug)]
pub struct TagStart {
    copied: usize,
    shared: usize,
    shared_bytes: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Begins a message alone.
    pub fn new() -> Self {
        Self { copied: BytesMut::with_capacity(CAPACITY), shared: Vec::new(), shared_bytes: 0, framed: false }
    }

    /// Begins a frame, which has its length in front.
    pub fn framed() -> Self {
        let mut writer = Self { framed: true, ..Self::new() };
        writer.copied.put_bytes(0, LENGTH_BYTES);
        writer
    }

    /// Bytes written so far, a frame's length with them.
    pub fn written(&self) -> usize {
        self.copied.len() + self.shared_bytes
    }

    /// The chunks, for one vectored write.
    ///
    /// # Errors
    /// [`Unfit::Long`] for a frame of 2 GiB or more.
    pub fn finish(mut self) -> Result<Vec<Bytes>, EncodeError> {
        if self.framed {
            let bytes = self.written() - LENGTH_BYTES;
            let length =
                i32::try_from(bytes).map_err(|_| EncodeError { field: "frame", reason: Unfit::Long(bytes) })?;
            self.copied[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        }
        let copied = self.copied.freeze();
        let mut chunks = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut from = 0;
        for (at, shared) in self.shared {
            if at > from {
                chunks.push(copied.slice(from..at));
            }
            chunks.push(shared);
            from = at;
        }
        if copied.len() > from {
            chunks.push(copied.slice(from..));
        }
        Ok(chunks)
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.copied.put_u8(value.into());
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.copied.put_i8(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.copied.put_i16(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.copied.put_u16(value);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.copied.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.copied.put_i64(value);
    }

    pub(crate) fn f64(&mut self, value: f64) {
        self.copied.put_f64(value);
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.copied.put_slice(&value.0);
    }

    pub(crate) fn varint(&mut self, value: u32) {
        let (bytes, length) = varint(value);
        self.copied.put_slice(&bytes[..length]);
    }

    /// A length or count; none is null.
    fn length(
        &mut self,
        compact: bool,
        wide: bool,
        length: Option<usize>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        let long = |length| EncodeError { field, reason: Unfit::Long(length) };
        match length {
            None if compact => self.varint(0),
            None if wide => self.i32(-1),
            None => self.i16(-1),
            // Kafka counts in `int` everywhere.
            Some(length) if compact && length < i32::MAX as usize => self.varint(length as u32 + 1),
            Some(length) if compact => return Err(long(length)),
            Some(length) if wide => self.i32(length.try_into().map_err(|_| long(length))?),
            Some(length) => self.i16(length.try_into().map_err(|_| long(length))?),
        }
        Ok(())
    }

    pub(crate) fn string_opt(
        &mut self,
        compact: bool,
        value: Option<&Str>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        let text = value.map(Str::as_bytes);
        // Compact or not, Kafka's readers take no string of more than 32767 bytes.
        if let Some(text) = text.filter(|text| text.len() > i16::MAX as usize) {
            return Err(EncodeError { field, reason: Unfit::Long(text.len()) });
        }
        self.length(compact, false, text.map(Bytes::len), field)?;
        self.copied.put_slice(text.map_or(&[], |text| text));
        Ok(())
    }

    pub(crate) fn string(&mut self, compact: bool, value: &Str, field: &'static str) -> Result<(), EncodeError> {
        self.string_opt(compact, Some(value), field)
    }

    pub(crate) fn bytes(&mut self, compact: bool, value: &Bytes, field: &'static str) -> Result<(), EncodeError> {
        self.bytes_opt(compact, Some(value), field)
    }

    pub(crate) fn bytes_opt(
        &mut self,
        compact: bool,
        value: Option<&Bytes>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.length(compact, true, value.map(Bytes::len), field)?;
        value.into_iter().for_each(|value| self.chunk(value));
        Ok(())
    }

    pub(crate) fn chunks_opt(
        &mut self,
        compact: bool,
        value: Option<&Chunks>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.length(compact, true, value.map(Chunks::len), field)?;
        value.into_iter().flat_map(Chunks::as_slice).for_each(|chunk| self.chunk(chunk));
        Ok(())
    }

    fn chunk(&mut self, bytes: &Bytes) {
        if bytes.len() < SPLICE_BYTES_MIN {
            return self.copied.put_slice(bytes);
        }
        self.shared.push((self.copied.len(), bytes.clone()));
        self.shared_bytes += bytes.len();
    }

    fn all<T>(
        &mut self,
        compact: bool,
        values: Option<&[T]>,
        field: &'static str,
        mut one: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(compact, true, values.map(<[T]>::len), field)?;
        values.into_iter().flatten().try_for_each(|value| one(self, value))
    }

    pub(crate) fn structs_opt<T: Message>(
        &mut self,
        version: i16,
        compact: bool,
        values: Option<&[T]>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.all(compact, values, field, |into, value| value.encode(version, into))
    }

    pub(crate) fn structs<T: Message>(
        &mut self,
        version: i16,
        compact: bool,
        values: &[T],
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.structs_opt(version, compact, Some(values), field)
    }

    /// A single struct that may be null: a byte says so.
    pub(crate) fn struct_opt<T: Message>(&mut self, version: i16, value: Option<&T>) -> Result<(), EncodeError> {
        self.i8(if value.is_some() { 1 } else { -1 });
        value.map_or(Ok(()), |value| value.encode(version, self))
    }

    pub(crate) fn i32s_opt(
        &mut self,
        compact: bool,
        values: Option<&[i32]>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.all(compact, values, field, |into, value| {
            into.i32(*value);
            Ok(())
        })
    }

    pub(crate) fn i32s(&mut self, compact: bool, values: &[i32], field: &'static str) -> Result<(), EncodeError> {
        self.i32s_opt(compact, Some(values), field)
    }

    pub(crate) fn i8s(&mut self, compact: bool, values: &[i8], field: &'static str) -> Result<(), EncodeError> {
        self.all(compact, Some(values), field, |into, value| {
            into.i8(*value);
            Ok(())
        })
    }

    pub(crate) fn strings_opt(
        &mut self,
        compact: bool,
        values: Option<&[Str]>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.all(compact, values, field, |into, value| into.string(compact, value, field))
    }

    pub(crate) fn strings(&mut self, compact: bool, values: &[Str], field: &'static str) -> Result<(), EncodeError> {
        self.strings_opt(compact, Some(values), field)
    }

    pub(crate) fn begin_tag(&mut self, number: u32) -> TagStart {
        self.varint(number);
        TagStart { copied: self.copied.len(), shared: self.shared.len(), shared_bytes: self.shared_bytes }
    }

    /// Puts the size of a tagged field, which is known now, before it. Tagged fields are small and few.
    pub(crate) fn end_tag(&mut self, start: TagStart, field: &'static str) -> Result<(), EncodeError> {
        let end = self.copied.len();
        let bytes = end - start.copied + self.shared_bytes - start.shared_bytes;
        let size = u32::try_from(bytes).map_err(|_| EncodeError { field, reason: Unfit::Long(bytes) })?;
        let (prefix, length) = varint(size);
        self.copied.put_bytes(0, length);
        self.copied.copy_within(start.copied..end, start.copied + length);
        self.copied[start.copied..start.copied + length].copy_from_slice(&prefix[..length]);
        for (at, _) in &mut self.shared[start.shared..] {
            *at += length;
        }
        Ok(())
    }
}

/// The value of a field that is not null in this version.
pub(crate) fn given<'a, T: ?Sized>(value: Option<&'a T>, field: &'static str) -> Result<&'a T, EncodeError> {
    value.ok_or(EncodeError { field, reason: Unfit::Null })
}

fn varint(mut value: u32) -> ([u8; 5], usize) {
    let (mut bytes, mut length) = ([0; 5], 0);
    loop {
        bytes[length] = (value & 0x7f) as u8;
        length += 1;
        value >>= 7;
        if value == 0 {
            return (bytes, length);
        }
        bytes[length - 1] |= 0x80;
    }
}

#[cfg(test)]
mod tests;
