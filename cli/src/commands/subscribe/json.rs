//! A record as one JSON object: `{"topic","partition","offset","timestamp","key","value","headers"}`.
//!
//! Written by hand, field by field, because a gigabyte of records goes through here. Bytes that are not UTF-8 become
//! `{"base64": "…"}`; `headers` is there only if the record has any.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rafka_client::ConsumedRecord;

/// Appends `record` and a line end to `buffer`.
pub(super) fn write(record: &ConsumedRecord, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(b"{\"topic\":\"");
    // The letters of a topic's name need no escape.
    buffer.extend_from_slice(record.topic.as_str().as_bytes());
    buffer.extend_from_slice(b"\",\"partition\":");
    number(i64::from(record.partition.0), buffer);
    buffer.extend_from_slice(b",\"offset\":");
    number(record.offset.0, buffer);
    buffer.extend_from_slice(b",\"timestamp\":");
    number(record.timestamp.0, buffer);
    buffer.extend_from_slice(b",\"key\":");
    bytes(record.key.as_deref(), buffer);
    buffer.extend_from_slice(b",\"value\":");
    bytes(record.value.as_deref(), buffer);
    if !record.headers.is_empty() {
        buffer.extend_from_slice(b",\"headers\":[");
        for (i, header) in record.headers.iter().enumerate() {
            buffer.extend_from_slice(if i == 0 { b"{\"key\":" } else { b",{\"key\":" });
            text(&header.key, buffer);
            buffer.extend_from_slice(b",\"value\":");
            bytes(header.value.as_deref(), buffer);
            buffer.push(b'}');
        }
        buffer.push(b']');
    }
    buffer.extend_from_slice(b"}\n");
}

fn number(number: i64, buffer: &mut Vec<u8>) {
    serde_json::to_writer(buffer, &number).expect("a number is JSON, and memory takes it");
}

fn text(text: &str, buffer: &mut Vec<u8>) {
    serde_json::to_writer(buffer, text).expect("a text is JSON, and memory takes it");
}

fn bytes(bytes: Option<&[u8]>, buffer: &mut Vec<u8>) {
    let Some(bytes) = bytes else {
        buffer.extend_from_slice(b"null");
        return;
    };
    match std::str::from_utf8(bytes) {
        Ok(utf8) => text(utf8, buffer),
        Err(_) => {
            buffer.extend_from_slice(b"{\"base64\":\"");
            buffer.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            buffer.extend_from_slice(b"\"}");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::sink::sample;
    use super::*;

    fn line(record: &ConsumedRecord) -> String {
        let mut buffer = Vec::new();
        write(record, &mut buffer);
        String::from_utf8(buffer).expect("text")
    }

    #[test]
    fn the_shape_is_that_of_the_contract() {
        let plain = ConsumedRecord { headers: Vec::new(), ..sample() };
        let expected = "{\"topic\":\"orders\",\"partition\":1,\"offset\":7,\"timestamp\":1795229425000,\"key\":\"a\",\"value\":\"{\\\"id\\\":1}\"}\n";
        assert_eq!(line(&plain), expected);
        let headers = "\"headers\":[{\"key\":\"trace\",\"value\":\"x\"},{\"key\":\"none\",\"value\":null}]}\n";
        assert!(line(&sample()).ends_with(headers), "{}", line(&sample()));
    }

    #[test]
    fn bytes_that_are_no_text_are_base64_and_nulls_are_null() {
        let record = ConsumedRecord { key: None, value: Some(Bytes::from_static(b"\xff\x00")), ..sample() };
        let object: serde_json::Value = serde_json::from_str(&line(&record)).expect("JSON");
        assert_eq!((&object["key"], &object["value"]["base64"]), (&serde_json::Value::Null, &"/wA=".into()));
    }
}
