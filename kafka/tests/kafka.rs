//! Byte for byte against Apache Kafka's own code, where Java and the jar of its client are there.
//!
//! `mvn dependency:get -Dartifact=org.apache.kafka:kafka-clients:4.3.0` fetches it; `KAFKA_CLIENTS_JAR` names another.

use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use rafka_kafka::ApiKey;
use rafka_kafka::testing::{Chance, Part, codec};

/// Random messages of each API, version and direction.
const SAMPLES: u64 = 20;
/// What Maven calls the version whose ranges we serve.
const JAR: &str = ".m2/repository/org/apache/kafka/kafka-clients/4.3.0/kafka-clients-4.3.0.jar";

struct Sample {
    key: ApiKey,
    part: Part,
    version: i16,
    bytes: Vec<u8>,
}

#[test]
fn random_messages_are_the_same_bytes_to_kafka_itself() {
    let Some(mut java) = java() else { return };
    let samples = samples();
    let mut input = java.stdin.take().expect("piped");
    let mut output = java.stdout.take().expect("piped");
    thread::scope(|scope| {
        let writing =
            scope.spawn(|| samples.iter().try_for_each(|sample| send(&mut input, sample)).map(|()| drop(input)));
        for sample in &samples {
            let Sample { key, part, version, bytes } = sample;
            let (versions, again) = receive(&mut output).expect("Java answers");
            assert_eq!(versions, key.versions(), "{key}");
            assert_eq!(again.as_deref(), Ok(&bytes[..]), "{key} {version} {part:?}");
        }
        writing.join().expect("no panic").expect("Java listens");
    });
    assert!(java.wait().expect("ends").success());
}

fn java() -> Option<Child> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let jar = std::env::var_os("KAFKA_CLIENTS_JAR").map_or_else(|| home.join(JAR), PathBuf::from);
    if !jar.is_file() {
        println!("SKIPPED: no {}", jar.display());
        return None;
    }
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/java/Recode.java");
    let mut command = Command::new("java");
    command.arg("-cp").arg(jar).arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            println!("SKIPPED: java cannot be run: {error}");
            None
        }
    }
}

fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for key in ApiKey::ALL.iter().copied() {
        for part in [Part::Request, Part::Response] {
            for version in key.versions() {
                for seed in 0..SAMPLES {
                    let mut chance = Chance::new(seed << 32 | u64::from(key.number() as u16) << 16 | version as u64);
                    let bytes = (codec(key, part).sample)(key, version, &mut chance).expect("encodes").concat();
                    samples.push(Sample { key, part, version, bytes });
                }
            }
        }
    }
    samples
}

fn send(java: &mut impl Write, sample: &Sample) -> io::Result<()> {
    let mut frame = Vec::new();
    for number in [sample.key.number(), i16::from(sample.part == Part::Response), sample.version] {
        frame.extend_from_slice(&number.to_be_bytes());
    }
    frame.extend_from_slice(&(sample.bytes.len() as i32).to_be_bytes());
    frame.extend_from_slice(&sample.bytes);
    java.write_all(&frame)
}

/// Kafka's stable versions of the API, and the bytes or the error in words.
type Answer = (RangeInclusive<i16>, Result<Vec<u8>, String>);

fn receive(java: &mut impl Read) -> io::Result<Answer> {
    let mut head = [0; 8];
    java.read_exact(&mut head)?;
    let [a, b, c, d, length @ ..] = head;
    let length = i32::from_be_bytes(length);
    let mut bytes = vec![0; length.unsigned_abs() as usize];
    java.read_exact(&mut bytes)?;
    let versions = i16::from_be_bytes([a, b])..=i16::from_be_bytes([c, d]);
    let again = if length < 0 { Err(String::from_utf8_lossy(&bytes).into_owned()) } else { Ok(bytes) };
    Ok((versions, again))
}
