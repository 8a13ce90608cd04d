//! Kafka's primitive types, as far as its group records use them: read with bounds, written as Kafka writes them.

use super::RecordError;

/// Reads what another coordinator, or damage, wrote. Allocates by what is there, never by what is claimed.
#[derive(Debug)]
pub(in crate::group) struct Reader<'a> {
    bytes: &'a [u8],
    /// Strings, bytes and arrays are compact, and tagged fields follow each struct.
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub(in crate::group) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, flexible: false }
    }

    pub(in crate::group) fn flexible(self, flexible: bool) -> Self {
        Self { flexible, ..self }
    }

    /// Bytes that are left.
    pub(in crate::group) fn rest(&self) -> usize {
        self.bytes.len()
    }

    pub(in crate::group) fn take(&mut self, bytes: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.bytes.split_at_checked(bytes).ok_or(RecordError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        self.take(N)?.try_into().map_err(|_| RecordError::Truncated)
    }

    pub(in crate::group) fn i8(&mut self) -> Result<i8, RecordError> {
        self.array_of().map(i8::from_be_bytes)
    }

    pub(in crate::group) fn i16(&mut self) -> Result<i16, RecordError> {
        self.array_of().map(i16::from_be_bytes)
    }

    pub(in crate::group) fn i32(&mut self) -> Result<i32, RecordError> {
        self.array_of().map(i32::from_be_bytes)
    }

    pub(in crate::group) fn i64(&mut self) -> Result<i64, RecordError> {
        self.array_of().map(i64::from_be_bytes)
    }

    pub(in crate::group) fn uuid(&mut self) -> Result<[u8; 16], RecordError> {
        self.array_of()
    }

    pub(in crate::group) fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array_of()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| RecordError::Length);
            }
        }
        Err(RecordError::Length)
    }

    /// A length of so many bytes each where it is not compact; `None` is null.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, RecordError> {
        let length = match (self.flexible, wide) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| RecordError::Length),
        }
    }

    pub(in crate::group) fn nullable_string(&mut self) -> Result<Option<&'a str>, RecordError> {
        let Some(length) = self.length(false)? else { return Ok(None) };
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| RecordError::Text)
    }

    pub(in crate::group) fn string(&mut self) -> Result<&'a str, RecordError> {
        self.nullable_string()?.ok_or(RecordError::Null)
    }

    pub(in crate::group) fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let Some(length) = self.length(true)? else { return Ok(None) };
        self.take(length).map(Some)
    }

    pub(in crate::group) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        self.nullable_bytes()?.ok_or(RecordError::Null)
    }

    /// Elements of an array that may be null. Each element takes at least a byte, so a false count ends soon.
    pub(in crate::group) fn nullable_array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Option<Vec<T>>, RecordError> {
        let Some(count) = self.length(true)? else { return Ok(None) };
        if count > self.rest() {
            return Err(RecordError::Truncated);
        }
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    pub(in crate::group) fn array<T>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<T, RecordError>,
    ) -> Result<Vec<T>, RecordError> {
        self.nullable_array(element)?.ok_or(RecordError::Null)
    }

    /// The tagged fields at the end of a struct, where the version has them; `field` gets the tag and its bytes.
    pub(in crate::group) fn tagged(
        &mut self,
        mut field: impl FnMut(u32, Reader<'a>) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let (tag, length) = (self.varint()?, self.varint()?);
            let bytes = self.take(length as usize)?;
            field(tag, Self { bytes, flexible: true })?;
        }
        Ok(())
    }

    /// Tagged fields of which none is known.
    pub(in crate::group) fn untagged(&mut self) -> Result<(), RecordError> {
        self.tagged(|_, _| Ok(()))
    }
}

/// Writes records. Lengths are those of our own values, which the limits keep small.
#[derive(Debug, Default)]
pub(in crate::group) struct Writer {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Writer {
    /// Begins with the version of a key or value.
    pub(in crate::group) fn new(version: i16, flexible: bool) -> Self {
        Self { bytes: version.to_be_bytes().to_vec(), flexible }
    }

    /// Begins with nothing: what goes into a tagged field.
    pub(in crate::group) fn fragment(flexible: bool) -> Self {
        Self { bytes: Vec::new(), flexible }
    }

    pub(in crate::group) fn finish(self) -> bytes::Bytes {
        self.bytes.into()
    }

    pub(in crate::group) fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    pub(in crate::group) fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    pub(in crate::group) fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    pub(in crate::group) fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    pub(in crate::group) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(in crate::group) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn length(&mut self, length: Option<usize>, wide: bool) {
        let length = length.map_or(-1, |length| i32::try_from(length).unwrap_or(i32::MAX));
        match (self.flexible, wide) {
            (true, _) => self.varint((length + 1).unsigned_abs()),
            (false, true) => self.i32(length),
            (false, false) => self.i16(i16::try_from(length).unwrap_or(i16::MAX)),
        }
    }

    pub(in crate::group) fn nullable_string(&mut self, text: Option<&str>) {
        self.length(text.map(str::len), false);
        self.raw(text.unwrap_or_default().as_bytes());
    }

    pub(in crate::group) fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    pub(in crate::group) fn bytes(&mut self, bytes: &[u8]) {
        self.length(Some(bytes.len()), true);
        self.raw(bytes);
    }

    pub(in crate::group) fn nullable_array<T>(
        &mut self,
        elements: Option<impl ExactSizeIterator<Item = T>>,
        mut element: impl FnMut(&mut Self, T),
    ) {
        self.length(elements.as_ref().map(ExactSizeIterator::len), true);
        elements.into_iter().flatten().for_each(|one| element(self, one));
    }

    pub(in crate::group) fn array<T>(
        &mut self,
        elements: impl ExactSizeIterator<Item = T>,
        element: impl FnMut(&mut Self, T),
    ) {
        self.nullable_array(Some(elements), element);
    }

    /// The tagged fields of a struct, ascending by tag, where the version has them.
    pub(in crate::group) fn tagged(&mut self, fields: &[(u32, &[u8])]) {
        if self.flexible {
            self.varint(fields.len() as u32);
            for (tag, bytes) in fields {
                self.varint(*tag);
                self.varint(bytes.len() as u32);
                self.raw(bytes);
            }
        }
    }
}
