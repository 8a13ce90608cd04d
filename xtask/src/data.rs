//! Big inputs: lines whose order within each key can be checked, and the check.
//!
//! A line is `KEY<tab>{"key":…,"n":…,…}`; `n` counts within the key, so that all lines of a file differ.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

const BUFFER_BYTES: usize = 1 << 20;
const MIB: u64 = 1 << 20;
const WORDS: &[&str] = &[
    "order",
    "payment",
    "shipped",
    "cancelled",
    "refund",
    "warehouse",
    "north",
    "south",
    "express",
    "standard",
    "pending",
    "größe",
    "naïve",
    "東京",
    "invoice",
    "\\\"quoted\\\"",
    "basket",
    "returned",
    "gift",
    "priority",
];

/// Writes `mb` MiB of lines with `keys` distinct keys to `out`; returns the number of lines.
///
/// # Errors
/// In words.
pub fn generate(out: &Path, mb: u64, keys: u32, seed: u64) -> Result<u64, String> {
    let broken = |error: io::Error| format!("{}: {error}", out.display());
    if keys == 0 {
        return Err("at least one key is needed".to_owned());
    }
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, File::create(out).map_err(broken)?);
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut counts = vec![0_u64; keys as usize];
    let (mut line, mut bytes, mut lines) = (Vec::with_capacity(4096), 0, 0);
    while bytes < mb * MIB {
        let key = (chance.next() % u64::from(keys)) as usize;
        line.clear();
        write!(line, "k{key}\t{{\"key\":\"k{key}\",\"n\":{},\"id\":{},\"text\":\"", counts[key], chance.next())
            .map_err(broken)?;
        for i in 0..chance.next() % 128 {
            if i > 0 {
                line.push(b' ');
            }
            line.extend_from_slice(WORDS[(chance.next() % WORDS.len() as u64) as usize].as_bytes());
        }
        line.extend_from_slice(b"\"}\n");
        file.write_all(&line).map_err(broken)?;
        counts[key] += 1;
        bytes += line.len() as u64;
        lines += 1;
    }
    file.flush().map_err(broken)?;
    Ok(lines)
}

/// A small generator of random numbers (xorshift); the same seed gives the same numbers.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Lines published.
    pub sent: u64,
    /// Lines read back.
    pub received: u64,
    /// Published, but not read back.
    pub missing: u64,
    /// Read back, but never published.
    pub unexpected: u64,
    /// Read back again.
    pub duplicates: u64,
    /// Read back for the first time behind a later line of their key.
    pub out_of_order: u64,
}

impl Found {
    /// Whether that is what it should be.
    ///
    /// # Errors
    /// In words, if it is not.
    pub fn verdict(self, allow_duplicates: bool) -> Result<(), String> {
        let wrong = self.missing + self.unexpected + self.out_of_order;
        match wrong > 0 || self.duplicates > 0 && !allow_duplicates {
            true => Err("what was read back is not what was published".to_owned()),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, received, missing, unexpected, duplicates, out_of_order } = self;
        let found = serde_json::json!({ "sent": sent, "received": received, "missing": missing,
            "unexpected": unexpected, "duplicates": duplicates, "out_of_order": out_of_order });
        found.fmt(f)
    }
}

/// Lines of one key, as hashes, in the order of publication. Nine bytes a line are held.
#[derive(Default)]
struct Lines {
    hashes: Vec<u64>,
    seen: Vec<bool>,
    next: usize,
}

enum Place {
    InOrder,
    Late,
    Again,
    Unknown,
}

impl Lines {
    fn place(&mut self, hash: u64) -> Place {
        // Nearly always the next one; a repeated one lies a little before, after a loss the next lies a little ahead.
        let (before, ahead) = self.hashes.split_at(self.next);
        let at = match ahead.first() == Some(&hash) {
            true => Some(self.next),
            false => before
                .iter()
                .rposition(|known| *known == hash)
                .or_else(|| ahead.iter().position(|known| *known == hash).map(|i| self.next + i)),
        };
        let Some(at) = at else { return Place::Unknown };
        if std::mem::replace(&mut self.seen[at], true) {
            return Place::Again;
        }
        if at < self.next {
            return Place::Late;
        }
        self.next = at + 1;
        Place::InOrder
    }
}

/// Compares what was published with what was read back, in any order between keys.
///
/// # Errors
/// If a file cannot be read.
pub fn compare(sent: &Path, received: &Path) -> Result<Found, String> {
    let mut keys = BTreeMap::<Vec<u8>, Lines>::new();
    let mut found = Found::default();
    each_line(sent, |key, hash| {
        found.sent += 1;
        let lines = match keys.get_mut(key) {
            Some(lines) => lines,
            None => keys.entry(key.to_owned()).or_default(),
        };
        lines.hashes.push(hash);
        lines.seen.push(false);
    })?;
    each_line(received, |key, hash| {
        found.received += 1;
        match keys.get_mut(key).map_or(Place::Unknown, |lines| lines.place(hash)) {
            Place::InOrder => {}
            Place::Late => found.out_of_order += 1,
            Place::Again => found.duplicates += 1,
            Place::Unknown => found.unexpected += 1,
        }
    })?;
    found.missing = keys.values().flat_map(|lines| &lines.seen).filter(|seen| !**seen).count() as u64;
    Ok(found)
}

fn each_line(path: &Path, mut take: impl FnMut(&[u8], u64)) -> Result<(), String> {
    let broken = |error: io::Error| format!("{}: {error}", path.display());
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(broken)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(broken)? == 0 {
            return Ok(());
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let key = line.split(|byte| *byte == b'\t').next().unwrap_or(line);
        let mut hash = [0; 8];
        hash.copy_from_slice(&blake3::hash(line).as_bytes()[..8]);
        take(key, u64::from_le_bytes(hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(sent: &str, received: &str) -> Found {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        compare(&file("sent", sent), &file("received", received)).expect("compared")
    }

    #[test]
    fn keys_may_come_in_any_order_but_their_lines_may_not() {
        let found = compared("a\t1\nb\t1\na\t2\n", "b\t1\na\t1\na\t2\n");
        assert_eq!(found, Found { sent: 3, received: 3, ..Found::default() });
        assert_eq!(found.verdict(false), Ok(()));
        let swapped = compared("a\t1\na\t2\n", "a\t2\na\t1\n");
        assert_eq!(swapped.out_of_order, 1);
        assert!(swapped.verdict(true).is_err());
    }

    #[test]
    fn losses_additions_and_repetitions_are_counted() {
        let found = compared("a\t1\na\t2\na\t3\n", "a\t1\na\t1\na\t3\nx\t1\n");
        let expected = Found { sent: 3, received: 4, missing: 1, unexpected: 1, duplicates: 1, out_of_order: 0 };
        assert_eq!(found, expected);
        let repeated = compared("a\t1\na\t2\n", "a\t1\na\t2\na\t1\na\t2\n");
        assert_eq!((repeated.duplicates, repeated.verdict(true)), (2, Ok(())));
        assert!(repeated.verdict(false).is_err());
    }

    #[test]
    fn the_same_seed_makes_the_same_file_and_it_equals_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let lines = generate(&one, 1, 10, 7).expect("generated");
        generate(&two, 1, 10, 7).expect("generated");
        assert!(std::fs::read(&one).expect("one") == std::fs::read(&two).expect("two"));
        assert_eq!(compare(&one, &two), Ok(Found { sent: lines, received: lines, ..Found::default() }));
    }
}
