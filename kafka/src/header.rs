//! What is in front of a request and a response, and whole frames.

use bytes::Bytes;

use crate::ApiKey;
use crate::messages::{Call, Message, encode_all};
use crate::wire::{DecodeError, EncodeError, Reader, Str, Writer};

/// The header of a request: which API, which version, and the number under which it will be answered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestHeader {
    /// Number of the API, known or not.
    pub key: i16,
    /// Version of the request, known or not.
    pub version: i16,
    /// Chosen by the client, returned with the response.
    pub correlation_id: i32,
    /// How the client calls itself.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// Reads a header. Its own version follows from the API and the version of the request; an API without a table is
    /// taken to have the older one, for there is nothing to be read behind it anyway.
    ///
    /// # Errors
    /// The first field that is malformed.
    pub fn decode(from: &mut Reader) -> Result<Self, DecodeError> {
        let key = from.i16("RequestHeader.key")?;
        let version = from.i16("RequestHeader.version")?;
        let correlation_id = from.i32("RequestHeader.correlation_id")?;
        // Never compact, so that any broker can read the header of any ApiVersions request.
        let client_id = from.string_opt(false, "RequestHeader.client_id")?;
        if ApiKey::from_number(key).is_some_and(|key| request_header_version(key, version) == 2) {
            from.skip_tags("RequestHeader.tags")?;
        }
        Ok(Self { key, version, correlation_id, client_id })
    }

    /// Writes a header.
    ///
    /// # Errors
    /// If the client's name is longer than 32767 bytes.
    pub fn encode(&self, into: &mut Writer) -> Result<(), EncodeError> {
        into.i16(self.key);
        into.i16(self.version);
        into.i32(self.correlation_id);
        into.string_opt(false, self.client_id.as_ref(), "RequestHeader.client_id")?;
        if ApiKey::from_number(self.key).is_some_and(|key| request_header_version(key, self.version) == 2) {
            into.varint(0);
        }
        Ok(())
    }
}

/// The header of a response.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ResponseHeader {
    /// That of the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of a response to `key` in `version`.
    ///
    /// # Errors
    /// The first field that is malformed.
    pub fn decode(key: ApiKey, version: i16, from: &mut Reader) -> Result<Self, DecodeError> {
        let correlation_id = from.i32("ResponseHeader.correlation_id")?;
        if response_header_version(key, version) == 1 {
            from.skip_tags("ResponseHeader.tags")?;
        }
        Ok(Self { correlation_id })
    }

    /// Writes the header of a response to `key` in `version`.
    pub fn encode(self, key: ApiKey, version: i16, into: &mut Writer) {
        into.i32(self.correlation_id);
        if response_header_version(key, version) == 1 {
            into.varint(0);
        }
    }
}

/// Version of the request header: 2 with flexible requests, else 1. (0 was ControlledShutdown's alone.)
pub fn request_header_version(key: ApiKey, version: i16) -> i16 {
    if version >= key.flexible_from() { 2 } else { 1 }
}

/// Version of the response header: 1 with flexible responses, else 0; always 0 for ApiVersions, whose client does not
/// know yet what the broker speaks (KIP-511).
pub fn response_header_version(key: ApiKey, version: i16) -> i16 {
    (key != ApiKey::ApiVersions && version >= key.flexible_from()).into()
}

/// The frame of a request, as chunks.
///
/// # Errors
/// The first field that this version cannot carry.
pub fn request_frame<C: Call>(
    version: i16,
    correlation_id: i32,
    client_id: Option<Str>,
    body: &C,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut into = Writer::framed();
    RequestHeader { key: C::KEY.number(), version, correlation_id, client_id }.encode(&mut into)?;
    encode_all(C::KEY, version, body, &mut into)?;
    into.finish()
}

/// The frame of a response to `key` in `version`, as chunks for one vectored write.
///
/// # Errors
/// The first field that this version cannot carry.
pub fn response_frame<M: Message>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut into = Writer::framed();
    ResponseHeader { correlation_id }.encode(key, version, &mut into);
    encode_all(key, version, body, &mut into)?;
    into.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{api_versions, metadata};

    fn header(frame: &[u8]) -> Result<(RequestHeader, usize), DecodeError> {
        let mut from = Reader::new(Bytes::copy_from_slice(frame));
        RequestHeader::decode(&mut from).map(|header| (header, from.left()))
    }

    #[test]
    fn old_requests_have_a_client_id_and_flexible_ones_tags() {
        let old = [0, 3, 0, 8, 0, 0, 0, 7, 0, 1, b'c', 9];
        let expected = RequestHeader { key: 3, version: 8, correlation_id: 7, client_id: Some("c".into()) };
        assert_eq!(header(&old), Ok((expected.clone(), 1)));
        let flexible = [0, 3, 0, 9, 0, 0, 0, 7, 0, 1, b'c', 1, 5, 2, 0, 0, 9];
        assert_eq!(header(&flexible), Ok((RequestHeader { version: 9, ..expected }, 1)));
    }

    #[test]
    fn headers_of_unknown_apis_and_versions_are_read() {
        assert_eq!(header(&[0x7f, 0, 0, 1, 0, 0, 0, 2, 255, 255]).map(|(header, _)| header.key), Ok(0x7f00));
        // ApiVersions from the future has the flexible header.
        assert_eq!(header(&[0, 18, 0, 99, 0, 0, 0, 2, 255, 255, 0]).map(|(_, left)| left), Ok(0));
        // Produce 0 to 2 are advertised and must be answered.
        assert_eq!(header(&[0, 0, 0, 0, 0, 0, 0, 2, 255, 255]).map(|(header, _)| header.version), Ok(0));
    }

    #[test]
    fn api_versions_is_always_answered_with_the_oldest_header() {
        for version in ApiKey::ApiVersions.versions() {
            assert_eq!(response_header_version(ApiKey::ApiVersions, version), 0);
        }
        assert_eq!(response_header_version(ApiKey::Metadata, 8), 0);
        assert_eq!(response_header_version(ApiKey::Metadata, 9), 1);
    }

    #[test]
    fn a_frame_begins_with_the_bytes_that_follow() {
        let body = metadata::Request::default();
        let frame = request_frame(9, 5, Some("me".into()), &body).expect("fits").concat();
        assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
        let (read, left) = header(&frame[4..]).expect("reads");
        assert_eq!(read, RequestHeader { key: 3, version: 9, correlation_id: 5, client_id: Some("me".into()) });
        // Null topics, three flags, no tags.
        assert_eq!(left, 5);
        let answer = api_versions::Response::default();
        let frame = response_frame(ApiKey::ApiVersions, 0, 5, &answer).expect("fits").concat();
        assert_eq!(frame, [0, 0, 0, 10, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]);
    }
}
