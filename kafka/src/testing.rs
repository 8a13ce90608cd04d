//! Random messages and a table of all codecs: for tests, fuzz targets and benchmarks.

use bytes::Bytes;

use crate::ApiKey;
use crate::messages::{self, Message, decode_all, encode_all};
use crate::wire::{DecodeError, EncodeError, Reader, Str, Uuid, Writer};

/// Elements of a random array, and bytes of random text, at most.
const SMALL: u64 = 4;

/// Chance that a seed repeats (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

/// A direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// From client to broker.
    Request,
    /// From broker to client.
    Response,
}

/// A message whose values are random where a version has them, and default elsewhere.
pub trait Arbitrary: Sized {
    /// Makes one.
    fn arbitrary(version: i16, chance: &mut Chance) -> Self;
}

/// What can be done with a message without naming its type.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// Encodes a random message, which must decode to itself.
    pub sample: fn(ApiKey, i16, &mut Chance) -> Result<Vec<Bytes>, EncodeError>,
    /// Decodes, and encodes again.
    pub recode: fn(ApiKey, i16, Bytes) -> Result<Recoded, DecodeError>,
}

/// What was decoded, encoded again.
pub type Recoded = Result<Vec<Bytes>, EncodeError>;

impl Codec {
    fn of<M: Message + Arbitrary + PartialEq + std::fmt::Debug>() -> Self {
        Self { sample: sample::<M>, recode: recode::<M> }
    }
}

fn sample<M: Message + Arbitrary + PartialEq + std::fmt::Debug>(
    key: ApiKey,
    version: i16,
    chance: &mut Chance,
) -> Result<Vec<Bytes>, EncodeError> {
    let message = M::arbitrary(version, chance);
    let mut into = Writer::new();
    encode_all(key, version, &message, &mut into)?;
    let chunks = into.finish()?;
    let again: Result<M, _> = decode_all(key, version, &mut Reader::new(chunks.concat().into()));
    assert_eq!(again.as_ref(), Ok(&message), "{key} {version}");
    Ok(chunks)
}

fn recode<M: Message>(key: ApiKey, version: i16, bytes: Bytes) -> Result<Recoded, DecodeError> {
    let message: M = decode_all(key, version, &mut Reader::new(bytes))?;
    let mut into = Writer::new();
    Ok(encode_all(key, version, &message, &mut into).and_then(|()| into.finish()))
}

impl Chance {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// True half of the time.
    pub fn half(&mut self) -> bool {
        self.below(2) == 0
    }

    fn bool(&mut self) -> bool {
        self.half()
    }

    fn i8(&mut self) -> i8 {
        self.i64() as i8
    }

    fn i16(&mut self) -> i16 {
        self.i64() as i16
    }

    fn u16(&mut self) -> u16 {
        self.i64() as u16
    }

    fn i32(&mut self) -> i32 {
        self.i64() as i32
    }

    /// Often one that is special.
    fn i64(&mut self) -> i64 {
        match self.below(4) {
            0 => 0,
            1 => -1,
            2 => self.below(1000) as i64,
            _ => self.bits() as i64,
        }
    }

    /// Never NaN, which differs from itself.
    fn f64(&mut self) -> f64 {
        self.i32().into()
    }

    fn uuid(&mut self) -> Uuid {
        if self.below(4) == 0 {
            return Uuid::ZERO;
        }
        Uuid((u128::from(self.bits()) << 64 | u128::from(self.bits())).to_be_bytes())
    }

    fn string(&mut self) -> Str {
        if self.below(64) == 0 {
            // Long enough for a length of two bytes.
            return "long".repeat(40).into();
        }
        (0..self.below(SMALL)).map(|_| ['a', 'ß', '東', '\0'][self.below(4) as usize]).collect::<String>().into()
    }

    /// Now and then enough to be shared instead of copied.
    fn bytes(&mut self) -> Bytes {
        let length = if self.below(16) == 0 { 1000 + self.below(1000) } else { self.below(SMALL) };
        (0..length).map(|i| i as u8).collect()
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(SMALL)).map(|_| one(self)).collect()
    }
}

include!(concat!(env!("OUT_DIR"), "/testing.rs"));
