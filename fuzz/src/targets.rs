//! One function for each decoder of bytes that come from a peer, a disk or a user.
//!
//! Each takes any bytes and must neither panic nor allocate by what they claim. It returns whether the bytes were taken,
//! so that a test can tell that the committed seeds are real encodings. What was taken is used as its caller would use
//! it, and where there is an encoder, it must encode again.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::kad::RecordKey;
use libp2p::kad::store::RecordStore;
use rafka_broker::group::request::{ConsumerHeartbeat, Heartbeat, OffsetsAsked};
use rafka_broker::group::{self, Coordinator, GroupRequest};
use rafka_broker::metadata::{Image, decode_entry, decode_image, encode_entry, encode_image};
use rafka_dht::{Signer, ValidatingStore, Verifier, clock, store};
use rafka_kafka::header::RequestHeader;
use rafka_kafka::testing::{Part, codec};
use rafka_kafka::{ApiKey, wire};
use rafka_log::disk::{Disk, MemoryDisk};
use rafka_log::{LogConfig, PartitionLog, Shutdown};
use rafka_model::limits::{BATCH_DECOMPRESSED_BYTES_MAX, MIB, READ_BYTES_MAX};
use rafka_model::{BatchHeader, LeaderEpoch, Monotonic, Offset, RecordBatch, Timestamp, cbor};
use rafka_node::config;
use rafka_protocols::address::{AdvertisedAddress, BootstrapAddress, ListenAddress};
use rafka_protocols::certificate::Certificate;
use rafka_protocols::lane::wire::{Head, Reader, Step, Writer};
use rafka_protocols::lane::{Class, Machine, Outcome};
use rafka_protocols::{
    Answer, DecodeError, Frame, Protocol, admin as admin_messages, fetch as fetch_messages, frame as frames,
    gossip as hints, group as group_messages, hello as hello_messages, produce as produce_messages,
    register as register_messages, resolve as resolve_messages, watch as watch_messages,
};
use serde::{Deserialize, Serialize};

/// Decodes bytes; true if they were taken.
pub type Target = fn(&[u8]) -> bool;

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("address", address),
    ("admin", admin),
    ("batch", batch),
    ("cbor", cbor),
    ("certificate", certificate),
    ("config", config),
    ("dht_record", dht_record),
    ("fetch", fetch),
    ("frame", frame),
    ("gossip", gossip),
    ("group", group),
    ("group_log", group_log),
    ("hello", hello),
    ("kafka_request", kafka_request),
    ("kafka_response", kafka_response),
    ("lane", lane),
    ("log_recovery", log_recovery),
    ("metadata", metadata),
    ("produce", produce),
    ("register", register),
    ("resolve", resolve),
    ("watch", watch),
];

/// Bytes of which a decompression bomb may not make more.
const INFLATED_BYTES_MAX: usize = BATCH_DECOMPRESSED_BYTES_MAX;

/// Record batches, back to back: headers, checksums, records, all codecs.
pub fn batch(data: &[u8]) -> bool {
    let _ = BatchHeader::parse(data);
    // Past the checksum, which a mutation nearly always breaks.
    let _ = mended(data).map(|batch| read_records(&batch));
    let mut taken = !data.is_empty();
    for batch in RecordBatch::split(Bytes::copy_from_slice(data)) {
        taken &= batch.is_ok_and(|batch| {
            let _ = batch.header().check_produced();
            let stamped = batch.clone().stamp(Offset(7), LeaderEpoch(3));
            assert_eq!(stamped.header().crc, batch.header().crc, "stamping is outside of the checksum");
            read_records(&batch)
        });
    }
    taken
}

/// The first batch of `data` with the length and the checksum that it should have.
fn mended(data: &[u8]) -> Option<RecordBatch> {
    let mut bytes = data.to_vec();
    let length = i32::try_from(bytes.len().checked_sub(12)?).ok()?;
    bytes.get_mut(8..12)?.copy_from_slice(&length.to_be_bytes());
    *bytes.get_mut(16)? = 2;
    let header = BatchHeader::parse(&bytes).ok()?;
    if let Err(rafka_model::BatchError::Crc { found, .. }) = header.check_crc(&bytes) {
        bytes[17..21].copy_from_slice(&found.to_be_bytes());
    }
    RecordBatch::parse(bytes.into()).ok()
}

fn read_records(batch: &RecordBatch) -> bool {
    let Ok(records) = batch.records() else { return false };
    let (mut bytes, mut taken) = (0, true);
    for record in records {
        match record {
            Ok(record) => bytes += record.value.map_or(0, |value| value.len()),
            Err(_) => taken = false,
        }
    }
    assert!(bytes <= INFLATED_BYTES_MAX);
    taken
}

#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Shape {
    Number(u64),
    Text(String),
    Blob(serde_bytes::ByteBuf),
    List(Vec<(i64, Option<String>)>),
    Named { fixed: [u8; 16], maybe: Option<bool> },
}

/// The one CBOR codec, with a type of every shape.
pub fn cbor(data: &[u8]) -> bool {
    let limit = 64 * 1024;
    let walked = cbor::check(data, limit);
    let Ok(value) = cbor::decode::<Shape>(data, limit) else { return false };
    assert!(walked.is_ok(), "nothing is decoded that the walk refuses");
    let again = cbor::encode(&value, 4 * limit).expect("what was decoded can be encoded");
    assert_eq!(cbor::decode::<Shape>(&again, 4 * limit).expect("and decoded again"), value);
    true
}

thread_local! {
    /// Reading a frame needs a timer.
    static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"),
    );
}

/// A frame on a substream, under the caps of the first byte's protocol.
pub fn frame(data: &[u8]) -> bool {
    let Some((first, bytes)) = data.split_first() else { return false };
    let protocol = Protocol::ALL[usize::from(*first) % Protocol::ALL.len()];
    let read =
        |mut bytes: &[u8], caps| RUNTIME.with_borrow(|runtime| runtime.block_on(frames::read_frame(&mut bytes, caps)));
    let reply = read(bytes, protocol.reply_caps());
    let Ok(frame) = read(bytes, protocol.request_caps()) else { return reply.is_ok() };
    frame.check(protocol.request_caps()).expect("a frame that was read is within its caps");
    true
}

/// Messages of a lane, read as they come and given to the end that they were sent to: it serves what it may, and what
/// it says in return must be legal. The first byte cuts the rest into reads.
pub fn lane(data: &[u8]) -> bool {
    let Some((cut, mut bytes)) = data.split_first() else { return false };
    let (now, mut reader) = (Instant::now(), Reader::default());
    let mut end: Machine<u64, u64> = Machine::new(now, Some(Class::Produce));
    for id in 0..4 {
        let protocol = if id % 2 == 0 { Protocol::Produce } else { Protocol::Fetch };
        end.call(now, id, protocol, Frame::default(), id).expect("the lane is open");
    }
    loop {
        match reader.step() {
            Err(_) => return false,
            Ok(Step::More) if bytes.is_empty() => return !reader.is_inside(),
            Ok(Step::More) => {
                let room = reader.room();
                let (now, later) = bytes.split_at(bytes.len().min(room.len()).min(usize::from(*cut).max(1)));
                room[..now.len()].copy_from_slice(now);
                reader.filled(now.len());
                bytes = later;
            }
            Ok(Step::Skipped { .. }) => {}
            Ok(Step::Begins(head)) => {
                if end.check(&head).is_err() {
                    return false;
                }
                match head {
                    Head::Frame { is_reply: false, id, .. } if id % 8 == 7 => reader.skip(),
                    Head::Frame { .. } => {}
                    word => drop(end.word(now, &word)),
                }
            }
            Ok(Step::Message(message)) => {
                if let Outcome::Serve { id, .. } = end.frame(now, message) {
                    match id % 3 {
                        0 => end.respond(now, id, Frame::default()),
                        1 => end.decline(now, id),
                        _ => end.watch(id, id),
                    }
                }
            }
        }
        while let Some(said) = end.take(now) {
            let mut writer = Writer::default();
            writer.push(&said);
            assert_eq!(writer.next().len(), said.bytes());
            let head = writer.next().first_chunk().expect("a head");
            Head::decode(head).expect("what is said can be read");
        }
    }
}

/// `u16 BE header length | header | body`: a frame as its decoder gets it.
fn arrived(data: &[u8]) -> Frame {
    let (length, rest) = data.split_first_chunk::<2>().unwrap_or((&[0, 0], data));
    let (header, body) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    Frame::new(Bytes::copy_from_slice(header), Bytes::copy_from_slice(body))
}

type Decode<T> = fn(&Frame) -> Result<T, DecodeError>;
type Encode<T> = fn(&T) -> Frame;

/// Tries the bytes as a request and as a reply; what is taken is encoded and must be taken again.
fn message<Q, A>(data: &[u8], request: (Decode<Q>, Encode<Q>), reply: (Decode<Answer<A>>, Encode<Answer<A>>)) -> bool {
    let frame = arrived(data);
    let request_taken = (request.0)(&frame).is_ok_and(|value| {
        assert!((request.0)(&(request.1)(&value)).is_ok(), "a request can be sent on");
        true
    });
    let reply_taken = (reply.0)(&frame).is_ok_and(|value| {
        assert!((reply.0)(&(reply.1)(&value)).is_ok(), "a reply can be sent on");
        true
    });
    request_taken || reply_taken
}

/// Messages of hello, which strangers send.
pub fn hello(data: &[u8]) -> bool {
    use hello_messages::{decode_reply, decode_request, encode_reply, encode_request};
    message(data, (decode_request, |()| encode_request()), (decode_reply, encode_reply))
}

/// Messages of register.
pub fn register(data: &[u8]) -> bool {
    use register_messages::{decode_reply, decode_request, encode_reply, encode_request};
    message(data, (decode_request, encode_request), (decode_reply, encode_reply))
}

/// Messages of watch.
pub fn watch(data: &[u8]) -> bool {
    use watch_messages::{decode_reply, decode_request, encode_reply, encode_request};
    message(data, (decode_request, encode_request), (decode_reply, encode_reply))
}

/// Messages of resolve; a reply is one to a request for two subjects.
pub fn resolve(data: &[u8]) -> bool {
    use resolve_messages::{decode_reply, decode_request, encode_reply, encode_request};
    message(data, (decode_request, |subjects| encode_request(subjects)), (|frame| decode_reply(frame, 2), encode_reply))
}

/// Messages of admin.
pub fn admin(data: &[u8]) -> bool {
    use admin_messages::{decode_reply, decode_request, encode_reply, encode_request};
    message(data, (decode_request, encode_request), (decode_reply, encode_reply))
}

/// Messages of groups.
pub fn group(data: &[u8]) -> bool {
    use group_messages::{decode_reply, decode_request, encode_reply, encode_request};
    message(data, (decode_request, encode_request), (decode_reply, encode_reply))
}

/// Messages of produce.
pub fn produce(data: &[u8]) -> bool {
    use produce_messages::{decode_reply, decode_request, encode_reply, encode_request};
    message(data, (decode_request, encode_request), (decode_reply, encode_reply))
}

/// Messages of fetch.
pub fn fetch(data: &[u8]) -> bool {
    use fetch_messages::{decode_reply, decode_request, encode_reply, encode_request};
    message(data, (decode_request, encode_request), (decode_reply, encode_reply))
}

/// Gossip; the first byte names the channel.
pub fn gossip(data: &[u8]) -> bool {
    let Some((first, message)) = data.split_first() else { return false };
    let channel = hints::Channel::ALL[usize::from(*first) % hints::Channel::ALL.len()];
    let Ok(hint) = hints::decode(channel, message) else { return false };
    assert_eq!(hints::channel(&hint), channel);
    assert!(hints::decode(channel, &hints::encode(&hint)).is_ok(), "a hint can be sent on");
    true
}

/// The cluster key of the seeds.
pub(crate) const CLUSTER_SEED: [u8; 32] = [7; 32];

/// The peer of the seeds.
pub(crate) fn peer() -> PeerId {
    const MULTIHASH: [u8; 38] = {
        let mut bytes = [9; 38];
        // identity multihash of a protobuf-encoded Ed25519 key
        (bytes[0], bytes[1]) = (0x00, 0x24);
        (bytes[2], bytes[3], bytes[4], bytes[5]) = (0x08, 0x01, 0x12, 0x20);
        bytes
    };
    PeerId::from_bytes(&MULTIHASH).expect("a well-formed peer id")
}

#[derive(Serialize)]
struct Certified<'a> {
    #[serde(with = "serde_bytes")]
    body: &'a [u8],
    #[serde(with = "serde_bytes")]
    signature: &'a [u8],
}

/// Node certificates, as shown and with a good signature over whatever they say.
pub fn certificate(data: &[u8]) -> bool {
    let signer = Signer::new(&CLUSTER_SEED);
    let verify = |bytes: &[u8]| Certificate::verify(bytes, &signer.public_key(), &peer(), 1);
    let signature = signer.sign_bytes(&[b"rafka certificate 1\0", data].concat());
    let signed = Certified { body: data, signature: &signature };
    let _ = cbor::encode(&signed, MIB).map(|bytes| verify(&bytes));
    verify(data).is_ok_and(|certificate| {
        let again = certificate.sign(|message| signer.sign_bytes(message)).expect("fits");
        verify(&again).expect("verifies again") == certificate
    })
}

#[derive(Serialize)]
struct Envelope<'a> {
    k: u32,
    #[serde(with = "serde_bytes")]
    b: &'a [u8],
    #[serde(with = "serde_bytes")]
    s: &'a [u8],
}

/// Puts to the record store: `u8 key length | key | record`, and the record as the body of a well-signed one.
pub fn dht_record(data: &[u8]) -> bool {
    let Some((length, rest)) = data.split_first() else { return false };
    let (key, value) = rest.split_at(usize::from(*length).min(rest.len()));
    let key = RecordKey::from(key.to_vec());
    let signer = Signer::new(&CLUSTER_SEED);
    let verifier = Verifier::new(signer.cluster_id(), &signer.public_key()).expect("the key of the cluster id");
    let mut records = ValidatingStore::new(peer(), verifier.clone(), clock::system(), store::Limits::default());

    let signature = signer.sign_bytes(&[&b"rafka dht record 1\0"[..], &[0; 4], value].concat());
    let envelope = Envelope { k: 0, b: value, s: &signature };
    if let Ok(signed) = cbor::encode(&envelope, MIB)
        && records.offer(&key, &signed).is_ok()
    {
        let kept = records.get(&key).expect("what was taken is there");
        assert!(verifier.verify(&kept.value).is_ok());
    }
    records.offer(&key, value).is_ok()
}

/// Metadata from the log, the feed and snapshots; an entry is applied to an empty image.
pub fn metadata(data: &[u8]) -> bool {
    let image = decode_image(data);
    if let Ok(image) = &image {
        let _ = image.check_invariants();
        let again = encode_image(image).expect("what was decoded can be encoded");
        assert_eq!(&decode_image(&again).expect("and decoded again"), image);
    }
    let entry = decode_entry(data);
    if let Ok(entry) = &entry {
        let mut image = Image::default();
        if image.apply(entry).is_ok() {
            let _ = image.check_invariants();
        }
        let again = encode_entry(entry).expect("what was decoded can be encoded");
        assert_eq!(&decode_entry(&again).expect("and decoded again"), entry);
    }
    image.is_ok() || entry.is_ok()
}

/// Opens a log over any bytes in its one segment, after each way to stop, and reads what is left. Where the length is
/// divisible by three, the last bytes are the files beside the segment as well.
pub fn log_recovery(data: &[u8]) -> bool {
    let dir = Path::new("logs/topic-0");
    let mut taken = true;
    for shutdown in [Shutdown::MemoryKept, Shutdown::PowerLost, Shutdown::Salvage] {
        let disk = MemoryDisk::new();
        disk.create_dir_all(dir).expect("a directory in memory");
        disk.put(&dir.join("00000000000000000000.log"), data);
        if data.len() > 64 && data.len().is_multiple_of(3) {
            let (_, tail) = data.split_at(data.len() - 64);
            disk.put(&dir.join("00000000000000000000.index"), tail);
            disk.put(&dir.join("leader-epoch-checkpoint"), tail);
            disk.put(&dir.join("recovery-point"), tail);
        }
        let opened = PartitionLog::open(Arc::new(disk), dir, &LogConfig::default(), Timestamp(1), shutdown);
        let Ok((log, recovery)) = opened else {
            taken = false;
            continue;
        };
        taken &= recovery.cut_bytes == 0 && recovery.damaged.is_empty() && log.log_end() > Offset(0);
        let (reader, mut at) = (log.reader(), log.log_start());
        while at < log.log_end() {
            let Ok(bytes) = reader.read(at, log.log_end(), READ_BYTES_MAX, true) else { break };
            let last = RecordBatch::split(bytes).filter_map(Result::ok).last();
            let Some(next) = last.map(|batch| batch.header().next_offset()).filter(|next| *next > at) else { break };
            at = next;
        }
        let _ = reader.offset_for_timestamp(Timestamp(0), log.log_end());
    }
    taken
}

/// Stands for the length of a value that is absent.
pub(crate) const NO_VALUE: u16 = u16::MAX;

/// Records of the offsets topic, as the next coordinator finds them on a disk: `u16 BE key length | key | u16 BE value
/// length | value` each. What it made of them is asked for, ages, and is written on; what it writes, one after it reads.
pub fn group_log(data: &[u8]) -> bool {
    let mut machine = Coordinator::new(group::Config::default());
    let (mut taken, mut rest) = (!data.is_empty(), data);
    while let Some((key, after)) = prefixed(rest) {
        let (value, after) = match after.split_first_chunk() {
            Some((length, after)) if u16::from_be_bytes(*length) == NO_VALUE => (None, after),
            _ => match prefixed(after) {
                Some((value, after)) => (Some(value), after),
                None => return false,
            },
        };
        taken &= machine.replay(key, value).is_ok();
        rest = after;
    }
    let image = Image::default();
    let (mut time, mut unique) = (Timestamp(1_700_000_000_000), 0);
    let mut context = group::Context { now: Monotonic(1), time, image: &image, unique };
    let mut written = machine.loaded(&context).records;
    for listed in machine.list() {
        for request in asked_of(&listed.group) {
            unique += 1;
            context = group::Context { unique, ..context };
            written.extend(machine.handle(&context, 0, request).records);
        }
    }
    // Sessions and rebalances end, offsets expire.
    for _ in 0..64 {
        let Some(now) = machine.next_timeout() else { break };
        time = Timestamp(time.0 + i64::try_from(now.since(context.now).as_millis()).expect("an age"));
        context = group::Context { now: now.max(context.now), time, ..context };
        written.extend(machine.tick(&context).records);
    }
    let _ = (machine.stats(), machine.committed().count());
    let mut next = Coordinator::new(group::Config::default());
    for record in written {
        next.replay(&record.key, record.value.as_deref()).expect("what a coordinator writes, the next one reads");
    }
    taken && rest.is_empty()
}

/// What the first two bytes tell the length of, and what follows.
fn prefixed(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn asked_of(name: &str) -> [GroupRequest; 4] {
    let group = name.to_owned();
    let member_id = "m".to_owned();
    [
        GroupRequest::Describe { group: group.clone() },
        GroupRequest::Offsets(OffsetsAsked { group: group.clone(), ..OffsetsAsked::default() }),
        GroupRequest::Heartbeat(Heartbeat {
            group: group.clone(),
            member_id: member_id.clone(),
            ..Heartbeat::default()
        }),
        GroupRequest::ConsumerHeartbeat(ConsumerHeartbeat {
            group,
            member_id,
            rebalance_timeout_ms: 60_000,
            subscribed_topics: Some(vec!["orders".to_owned()]),
            owned: Some(Vec::new()),
            ..ConsumerHeartbeat::default()
        }),
    ]
}

/// The one file that this process would find.
struct OneFile<'a>(&'a str);

impl config::Files for OneFile<'_> {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path == Path::new("rafka.yaml") {
            true => Ok(self.0.to_owned()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// A configuration file.
pub fn config(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let loaded = config::load(&config::Sources {
        flags: Vec::new(),
        set: Vec::new(),
        file: Some("rafka.yaml".into()),
        environment: Vec::new(),
        directories: config::Directories { data: "/var/lib/rafka".into(), search: Vec::new() },
        files: &OneFile(text),
    });
    match loaded {
        Ok(loaded) => {
            let _ = (loaded.shown(), config::check_doors(&loaded.config));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// Addresses as people and peers write them.
pub fn address(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let bootstrap = text.parse::<BootstrapAddress>();
    if let Ok(address) = &bootstrap {
        let _ = address.dialable(&[[127, 0, 0, 1].into()]);
    }
    let listen = text.parse::<ListenAddress>();
    let advertised = text.parse::<AdvertisedAddress>();
    bootstrap.is_ok() || listen.is_ok() || advertised.is_ok()
}

/// `API's place among all | version's place in its range | message`: a request of a Kafka client. The same bytes are
/// also taken for a frame, which begins with a header.
pub fn kafka_request(data: &[u8]) -> bool {
    let _ = RequestHeader::decode(&mut wire::Reader::new(Bytes::copy_from_slice(data)));
    kafka_message(Part::Request, data)
}

/// The same for a response: relays and tests read them.
pub fn kafka_response(data: &[u8]) -> bool {
    kafka_message(Part::Response, data)
}

fn kafka_message(part: Part, data: &[u8]) -> bool {
    let Some(([key, version], message)) = data.split_first_chunk::<2>() else { return false };
    let key = ApiKey::ALL[usize::from(*key) % ApiKey::ALL.len()];
    let versions = key.versions();
    let version = versions.start() + i16::from(*version) % (versions.end() - versions.start() + 1);
    let recode = codec(key, part).recode;
    let Ok(again) = recode(key, version, Bytes::copy_from_slice(message)) else { return false };
    let again = again.expect("what was decoded can be encoded").concat();
    let third = recode(key, version, again.clone().into()).expect("and decoded again").expect("and encoded").concat();
    assert_eq!(again, third);
    true
}
