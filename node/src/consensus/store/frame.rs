//! Entries as bytes of a segment, and back.
//!
//! ```text
//! segment  0 "RFKMETA1" │ 8 base u64 │ 16 group u32 │ 20 CRC-32C of 0..20 u32 │ 24 frames …
//! frame    0 magic │ 4 CRC-32C of 8..48 u32 │ 8 kind u8, zeros │ 12 payload length u32 │ 16 payload CRC-32C u32
//!          20 synced u32 │ 24 term u64 │ 32 leader u64 │ 40 position in the log u64 │ 48 payload
//! ```
//! Numbers are big-endian. *synced* is the byte of this segment up to which everything was durable when the frame was
//! written. It tells a torn tail, which no one was ever promised, from damage to what had been acknowledged: a bad
//! frame is damage if a later, good frame says that its place had been synced.

use bytes::Bytes;
use rafka_model::cbor;
use rafka_model::limits::{ENTRY_BYTES_MAX, METADATA_SEGMENT_BYTES};

use super::super::types::{LeaderId, LogId, Proposal, RaftEntry, RaftPayload};

pub(super) const SEGMENT_HEADER_BYTES: usize = 24;
pub(super) const FRAME_HEADER_BYTES: usize = 48;
/// A segment is closed before a frame that would begin beyond [`METADATA_SEGMENT_BYTES`].
pub(super) const SEGMENT_BYTES_MAX: u64 =
    METADATA_SEGMENT_BYTES + (ENTRY_BYTES_MAX + 2 * FRAME_HEADER_BYTES + SEGMENT_HEADER_BYTES) as u64;

const SEGMENT_MAGIC: [u8; 8] = *b"RFKMETA1";
/// 0xf5 occurs in no UTF-8 text, so that no name or value of a user can look like a frame.
const FRAME_MAGIC: [u8; 4] = [0xf5, b'R', b'M', 0xf5];

const _: () = assert!(SEGMENT_BYTES_MAX < u32::MAX as u64, "places in a segment are u32");

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// openraft's own, when a leader begins.
    Blank = 1,
    /// An entry of the metadata log.
    Normal = 2,
    /// A change of voters.
    Membership = 3,
    /// Not an entry: everything up to this log id is committed.
    Committed = 4,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) length: u32,
    pub(super) payload_crc: u32,
    pub(super) synced: u32,
    pub(super) id: LogId,
}

pub(super) fn segment_header(base: u64, group: u32) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
    bytes[8..16].copy_from_slice(&base.to_be_bytes());
    bytes[16..20].copy_from_slice(&group.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The payload of an entry; a membership is small, a proposal is the bytes that the controller made.
pub(super) fn payload(entry: &RaftEntry) -> Result<Bytes, cbor::CborError> {
    match &entry.payload {
        RaftPayload::Blank => Ok(Bytes::new()),
        RaftPayload::Normal(proposal) => Ok(proposal.0.clone()),
        RaftPayload::Membership(membership) => Ok(cbor::encode(membership, ENTRY_BYTES_MAX)?.into()),
    }
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &RaftEntry, payload: &[u8], synced: u32) {
    let kind = match &entry.payload {
        RaftPayload::Blank => Kind::Blank,
        RaftPayload::Normal(_) => Kind::Normal,
        RaftPayload::Membership(_) => Kind::Membership,
    };
    put(out, kind, entry.log_id, payload, synced);
}

pub(super) fn put_committed(out: &mut Vec<u8>, committed: LogId, synced: u32) {
    put(out, Kind::Committed, committed, &[], synced);
}

fn put(out: &mut Vec<u8>, kind: Kind, id: LogId, payload: &[u8], synced: u32) {
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&FRAME_MAGIC);
    header[8] = kind as u8;
    header[12..16].copy_from_slice(&(payload.len() as u32).to_be_bytes());
    header[16..20].copy_from_slice(&crc32c::crc32c(payload).to_be_bytes());
    header[20..24].copy_from_slice(&synced.to_be_bytes());
    header[24..32].copy_from_slice(&id.leader_id.term.to_be_bytes());
    header[32..40].copy_from_slice(&id.leader_id.node_id.to_be_bytes());
    header[40..48].copy_from_slice(&id.index.to_be_bytes());
    let crc = crc32c::crc32c(&header[8..]);
    header[4..8].copy_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
}

/// The entry of a frame whose checksums are right.
pub(super) fn entry(header: &Header, payload: Bytes) -> Result<RaftEntry, String> {
    let payload = match header.kind {
        Kind::Blank => RaftPayload::Blank,
        Kind::Normal => RaftPayload::Normal(Proposal(payload)),
        Kind::Membership => {
            RaftPayload::Membership(cbor::decode(&payload, ENTRY_BYTES_MAX).map_err(|error| error.to_string())?)
        }
        Kind::Committed => return Err("not an entry".to_owned()),
    };
    Ok(RaftEntry { log_id: header.id, payload })
}

/// What the bytes of a segment are worth.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Headers of the entries and where their payloads begin.
    pub(super) entries: Vec<(Header, u32)>,
    /// The last commit mark.
    pub(super) committed: Option<LogId>,
    /// Byte behind the last good frame.
    pub(super) end: u32,
    pub(super) tail: Tail,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// The file ends with its last frame.
    Whole,
    /// What follows was never synced: cut it.
    Torn(String),
    /// What follows had been acknowledged and is no longer readable.
    Damaged(String),
}

/// Reads a segment. Only what is checked is believed, and nothing is allocated by a claimed length.
pub(super) fn scan(bytes: &[u8], base: u64, group: u32) -> Scan {
    let mut scan = Scan { entries: Vec::new(), committed: None, end: 0, tail: Tail::Whole };
    match bytes.get(..SEGMENT_HEADER_BYTES) {
        Some(header) if header == segment_header(base, group) => scan.end = SEGMENT_HEADER_BYTES as u32,
        _ => {
            let reason = "its header is not what was written".to_owned();
            scan.tail = tail(bytes, 0, reason);
            return scan;
        }
    }
    let mut last: Option<LogId> = None;
    while (scan.end as usize) < bytes.len() {
        let (header, payload) = match frame_at(bytes, scan.end as usize).and_then(|frame| follows(frame, last, base)) {
            Ok(frame) => frame,
            Err(reason) => {
                scan.tail = tail(bytes, scan.end as usize, reason);
                break;
            }
        };
        if header.kind == Kind::Committed {
            scan.committed = Some(header.id);
        } else {
            last = Some(header.id);
            scan.entries.push((header, payload));
        }
        scan.end = payload + header.length;
    }
    scan
}

fn follows(frame: (Header, u32), last: Option<LogId>, base: u64) -> Result<(Header, u32), String> {
    let id = frame.0.id;
    let (next, leader) = last.map_or((base, None), |last| (last.index.saturating_add(1), Some(last.leader_id)));
    let fits = if frame.0.kind == Kind::Committed {
        id.index < next
    } else {
        id.index == next && leader.is_none_or(|leader| leader <= id.leader_id)
    };
    if fits { Ok(frame) } else { Err(format!("entry {id} does not follow {}", next.saturating_sub(1))) }
}

pub(super) fn frame_at(bytes: &[u8], at: usize) -> Result<(Header, u32), String> {
    let header = bytes.get(at..).and_then(|rest| rest.first_chunk::<FRAME_HEADER_BYTES>());
    let header = header.ok_or_else(|| "it ends inside a frame".to_owned())?;
    let u32_at = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    if header[..4] != FRAME_MAGIC {
        return Err("no frame begins here".to_owned());
    }
    if u32_at(4) != crc32c::crc32c(&header[8..]) {
        return Err("the checksum of a frame's header differs".to_owned());
    }
    let kind = match header[8] {
        1 => Kind::Blank,
        2 => Kind::Normal,
        3 => Kind::Membership,
        4 => Kind::Committed,
        other => return Err(format!("frame of unknown kind {other}")),
    };
    let id = LogId { leader_id: LeaderId { term: u64_at(24), node_id: u64_at(32) }, index: u64_at(40) };
    let frame = Header { kind, length: u32_at(12), payload_crc: u32_at(16), synced: u32_at(20), id };
    let from = at + FRAME_HEADER_BYTES;
    let payload = bytes.get(from..).and_then(|rest| rest.get(..frame.length as usize));
    let payload = payload.ok_or_else(|| "it ends inside a frame".to_owned())?;
    if crc32c::crc32c(payload) != frame.payload_crc {
        return Err("the checksum of an entry differs".to_owned());
    }
    Ok((frame, from as u32))
}

/// Tells a torn tail from damage: is there a good frame behind `at` that knew this place to be synced?
fn tail(bytes: &[u8], at: usize, reason: String) -> Tail {
    let mut from = at + 1;
    while let Some(found) = bytes.get(from..).and_then(|rest| rest.windows(4).position(|four| four == FRAME_MAGIC)) {
        from += found;
        if frame_at(bytes, from).is_ok_and(|(header, _)| header.synced as usize > at) {
            return Tail::Damaged(reason);
        }
        from += 1;
    }
    Tail::Torn(reason)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId { leader_id: LeaderId { term, node_id: 1 }, index }
    }

    fn normal(term: u64, index: u64, bytes: usize) -> RaftEntry {
        RaftEntry { log_id: id(term, index), payload: RaftPayload::Normal(Proposal(vec![7; bytes].into())) }
    }

    /// A segment of entries 5.. written in groups of the given sizes.
    fn segment(groups: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = segment_header(5, 0).to_vec();
        let (mut index, mut ends) = (5, Vec::new());
        for group in groups {
            let synced = bytes.len() as u32;
            for _ in 0..*group {
                let entry = normal(1, index, 40);
                put_entry(&mut bytes, &entry, &payload(&entry).expect("encodes"), synced);
                ends.push(bytes.len());
                index += 1;
            }
        }
        (bytes, ends)
    }

    #[test]
    fn a_segment_is_read_as_it_was_written() {
        let (mut bytes, _) = segment(&[2, 1]);
        put_committed(&mut bytes, id(1, 7), 0);
        let scan = scan(&bytes, 5, 0);
        assert_eq!(scan.tail, Tail::Whole);
        assert_eq!((scan.entries.len(), scan.committed, scan.end as usize), (3, Some(id(1, 7)), bytes.len()));
        let (header, at) = scan.entries[1];
        let payload = Bytes::copy_from_slice(&bytes[at as usize..][..header.length as usize]);
        assert_eq!(entry(&header, payload), Ok(normal(1, 6, 40)));
    }

    #[test]
    fn every_cut_is_a_torn_tail_and_keeps_whole_frames() {
        let (bytes, ends) = segment(&[2, 2]);
        for cut in 0..bytes.len() {
            let scan = scan(&bytes[..cut], 5, 0);
            assert!(!matches!(scan.tail, Tail::Damaged(_)), "cut at {cut}");
            assert_eq!(scan.entries.len(), ends.iter().filter(|end| **end <= cut).count(), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_below_what_later_frames_know_to_be_synced_and_a_torn_tail_above() {
        let (bytes, ends) = segment(&[2, 2]);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let tail = scan(&bytes, 5, 0).tail;
            let expected_damage = bit / 8 < ends[1];
            assert_eq!(matches!(tail, Tail::Damaged(_)), expected_damage, "bit {bit}: {tail:?}");
            assert_ne!(tail, Tail::Whole, "bit {bit}");
        }
    }

    #[test]
    fn entries_that_do_not_follow_are_not_taken() {
        for (term, index) in [(1, 8), (1, 6), (0, 7)] {
            let (mut bytes, _) = segment(&[2]);
            let entry = normal(term, index, 1);
            put_entry(&mut bytes, &entry, &[7], 0);
            assert_eq!(scan(&bytes, 5, 0).entries.len(), 2, "{term} {index}");
        }
        assert!(scan(&segment(&[1]).0, 6, 0).entries.is_empty(), "file of another base");
        assert!(scan(&segment(&[1]).0, 5, 1).entries.is_empty(), "file of another group");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), keep in 0..300usize) {
            let mut all = segment(&[2]).0;
            all.truncate(keep);
            all.extend(bytes);
            let _ = scan(&all, 5, 0);
        }
    }
}
