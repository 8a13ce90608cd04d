//! The metadata of consumers, as far as the coordinator reads it: `ConsumerProtocolSubscription`.

use std::collections::BTreeSet;

use bytes::Bytes;
use rafka_model::limits::GROUP_TOPICS_MAX;

use super::records::RecordError;
use super::records::wire::Reader;

/// Adds the topics of a subscription to `topics`. All versions begin with them.
///
/// # Errors
/// [`RecordError`] if it is no subscription.
pub(super) fn topics(metadata: &Bytes, topics: &mut BTreeSet<String>) -> Result<(), RecordError> {
    let mut reader = Reader::new(metadata);
    if reader.i16()? < 0 {
        return Err(RecordError::Length);
    }
    let named = reader.array(|reader| reader.string().map(str::to_owned))?;
    if topics.len() + named.len() > GROUP_TOPICS_MAX {
        return Err(RecordError::Length);
    }
    topics.extend(named);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_from_any_version_and_damage_is_an_error() {
        let bytes = [&[0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c'], &[0xff; 20][..]].concat();
        let mut found = BTreeSet::new();
        topics(&Bytes::from(bytes.clone()), &mut found).expect("legal");
        assert_eq!(found, BTreeSet::from(["a".to_owned(), "bc".to_owned()]));
        for end in 0..13 {
            assert!(topics(&Bytes::copy_from_slice(&bytes[..end]), &mut BTreeSet::new()).is_err(), "{end}");
        }
        assert!(topics(&Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), &mut BTreeSet::new()).is_err());
    }
}
