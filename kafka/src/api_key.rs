//! The table of the APIs.

use std::fmt;
use std::ops::RangeInclusive;

include!(concat!(env!("OUT_DIR"), "/api_key.rs"));

struct Row {
    name: &'static str,
    versions: RangeInclusive<i16>,
    advertised: RangeInclusive<i16>,
    flexible: i16,
}

impl ApiKey {
    /// Every API, by number.
    pub const ALL: &'static [Self] = ALL;

    /// Its number on the wire.
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The API of a number, if there is a table for it.
    pub fn from_number(number: i16) -> Option<Self> {
        let at = ALL.binary_search_by_key(&number, |key| key.number()).ok()?;
        Some(ALL[at])
    }

    /// Kafka's name for it: `ListOffsets`.
    pub const fn name(self) -> &'static str {
        row(self).name
    }

    /// Versions that can be decoded and encoded.
    pub fn versions(self) -> RangeInclusive<i16> {
        row(self).versions.clone()
    }

    /// Versions that a broker advertises: for Produce they begin lower than [`ApiKey::versions`].
    ///
    /// Source: KIP-896, KAFKA-18659.
    pub fn advertised(self) -> RangeInclusive<i16> {
        row(self).advertised.clone()
    }

    /// First version with compact lengths and tagged fields (KIP-482).
    pub const fn flexible_from(self) -> i16 {
        row(self).flexible
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_their_apis() {
        for key in ApiKey::ALL {
            assert_eq!(ApiKey::from_number(key.number()), Some(*key));
        }
        assert_eq!(ApiKey::from_number(-1), None);
        assert_eq!(ApiKey::from_number(i16::MAX), None);
    }

    #[test]
    fn only_produce_advertises_more_than_is_decoded() {
        assert_eq!(ApiKey::Produce.advertised(), 0..=13);
        assert_eq!(ApiKey::Produce.versions(), 3..=13);
        for key in ApiKey::ALL.iter().filter(|key| **key != ApiKey::Produce) {
            assert_eq!(key.advertised(), key.versions(), "{key}");
        }
    }
}
