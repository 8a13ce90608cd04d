//! What a member of a classic group was given, where its protocol is that of consumers: `ConsumerProtocolAssignment`.

use rafka_model::PartitionId;

/// Topics by name and their partitions. `None` for what is no such assignment: other kinds of members have their own.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<(String, Vec<PartitionId>)>> {
    let reader = &mut bytes;
    let _version = take::<2>(reader).map(i16::from_be_bytes).filter(|version| *version >= 0)?;
    let mut topics = Vec::new();
    // What is claimed allocates nothing: each item takes bytes that must be there.
    for _ in 0..count(reader)? {
        let length = u16::from_be_bytes(take(reader)?);
        let (name, rest) = reader.split_at_checked(length.into())?;
        *reader = rest;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let mut partitions = Vec::new();
        for _ in 0..count(reader)? {
            partitions.push(PartitionId(u32::try_from(i32::from_be_bytes(take(reader)?)).ok()?));
        }
        topics.push((name, partitions));
    }
    Some(topics)
}

fn count(reader: &mut &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(take(reader)?)).ok()
}

fn take<const N: usize>(reader: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = reader.split_first_chunk()?;
    *reader = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_of_consumers_is_read_and_anything_else_is_none() {
        let bytes = [&[0, 1, 0, 0, 0, 1, 0, 2][..], b"bc", &[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0]].concat();
        let expected = vec![("bc".to_owned(), vec![PartitionId(0), PartitionId(5)])];
        assert_eq!(decode(&bytes), Some(expected), "user data follows and is left");
        for end in 0..bytes.len() - 4 {
            assert_eq!(decode(&bytes[..end]), None, "{end}");
        }
        assert_eq!(decode(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(decode(&[0xff; 30]), None);
    }
}
