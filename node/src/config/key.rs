//! What a key is: its name, its legal values, its default, its words.

use std::borrow::Cow;

use super::value::Value;
use rafka_model::limits::{CONFIG_LIST_MAX, CONFIG_VALUE_BYTES_MAX};

/// One key of the configuration.
#[derive(Clone, Debug)]
pub struct Key {
    /// Section that it belongs to.
    pub section: &'static str,
    /// Name within the section.
    pub name: Cow<'static, str>,
    /// Legal values.
    pub kind: Kind,
    /// Value when nothing is set.
    pub preset: Preset,
    /// The flag of `rafka-node` that sets it; empty if only `--set` does.
    pub flag: &'static str,
    /// What it does, for the default file and the reference page; lines as written.
    pub doc: Cow<'static, str>,
}

/// What a value of a key may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An integer from `min` to `max`, both included.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value; `i64::MAX` is no limit.
        max: i64,
        /// What is counted.
        unit: Unit,
    },
    /// `true` or `false`.
    Boolean,
    /// A number from 0 to 1, both included.
    Ratio,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A text with a form of its own, described by this.
    Text(&'static str),
    /// A text that is never shown.
    Secret,
    /// A path of the file system.
    Path,
    /// Any number of texts, each described by this.
    List(&'static str),
}

/// What an integer counts. Sizes and times may carry a suffix (`64MiB`, `30s`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes; suffixes `KiB`, `MiB`, `GiB`.
    Bytes,
    /// Milliseconds; suffixes `ms`, `s`, `m`, `h`, `d`.
    Milliseconds,
}

/// The value of a key that is not set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Preset {
    /// No value.
    None,
    /// This one.
    Is(Cow<'static, str>),
    /// Found at the start; the words say how.
    Found(&'static str),
}

impl Key {
    /// `section.name`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("RAFKA_{}__{}", self.section, self.name).to_uppercase()
    }

    /// True if several values may be given.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List(_))
    }

    /// True if the value must not be shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
    }

    /// The default as a value; `None` if there is none, or it is found at the start.
    #[must_use]
    pub fn preset_value(&self) -> Option<Value> {
        match &self.preset {
            Preset::Is(text) if self.is_list() => Some(Value::parse_list(text)),
            Preset::Is(text) => Some(Value::One(text.to_string())),
            Preset::None if self.is_list() => Some(Value::Many(Vec::new())),
            Preset::None | Preset::Found(_) => None,
        }
    }

    /// Checks `value` against the kind and brings it to its plain form: suffixes are multiplied out, a single text
    /// becomes a list of one where a list is wanted.
    ///
    /// # Errors
    /// What would be legal, in words.
    pub(super) fn plain(&self, value: Value) -> Result<Value, String> {
        let value = match (value, self.is_list()) {
            (Value::One(text), true) => Value::parse_list(&text),
            (Value::Many(texts), false) => {
                return Err(format!("expected {}, got a list of {}", self.kind, texts.len()));
            }
            (value, _) => value,
        };
        match value {
            Value::Many(texts) if texts.len() > CONFIG_LIST_MAX => {
                Err(format!("{} values, limit is {CONFIG_LIST_MAX}", texts.len()))
            }
            Value::Many(texts) => Ok(Value::Many(texts)),
            Value::One(text) if text.len() > CONFIG_VALUE_BYTES_MAX => {
                Err(format!("value has {} bytes, limit is {CONFIG_VALUE_BYTES_MAX}", text.len()))
            }
            Value::One(text) => self.plain_text(&text).map(Value::One),
        }
    }

    fn plain_text(&self, text: &str) -> Result<String, String> {
        let expected = || format!("expected {}, got {:?}", self.kind, text.chars().take(80).collect::<String>());
        match self.kind {
            Kind::Integer { min, max, unit } => {
                let number = unit.parse(text).filter(|number| (min..=max).contains(number));
                number.map(|number| number.to_string()).ok_or_else(expected)
            }
            Kind::Boolean => match text {
                "true" | "false" => Ok(text.to_owned()),
                _ => Err(expected()),
            },
            Kind::Ratio => match text.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(text.to_owned()),
                _ => Err(expected()),
            },
            Kind::Choice(words) if words.contains(&text) => Ok(text.to_owned()),
            Kind::Choice(words) => Err(match rafka_model::config::nearest(text, words.iter().copied()) {
                Some(word) => format!("{}; did you mean {word:?}?", expected()),
                None => expected(),
            }),
            Kind::Secret | Kind::Text(_) | Kind::Path if text.trim().is_empty() => {
                Err(format!("expected {}, got nothing", self.kind))
            }
            _ => Ok(text.to_owned()),
        }
    }
}

impl Unit {
    /// `text` in base units: bytes, milliseconds, or just the number.
    fn parse(self, text: &str) -> Option<i64> {
        let digits = text.strip_prefix('-').unwrap_or(text).bytes().take_while(u8::is_ascii_digit).count();
        let (number, suffix) = text.split_at(text.len() - text.trim_start_matches('-').len() + digits);
        let factor: i64 = match (self, suffix.trim_start()) {
            (_, "") | (Self::Bytes, "B") | (Self::Milliseconds, "ms") => 1,
            (Self::Bytes, "KiB") => 1 << 10,
            (Self::Bytes, "MiB") => 1 << 20,
            (Self::Bytes, "GiB") => 1 << 30,
            (Self::Milliseconds, "s") => 1000,
            (Self::Milliseconds, "m") => 60_000,
            (Self::Milliseconds, "h") => 3_600_000,
            (Self::Milliseconds, "d") => 86_400_000,
            _ => return None,
        };
        number.parse::<i64>().ok()?.checked_mul(factor)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer { min, max, unit } => {
                f.write_str(match unit {
                    Unit::Count => "an integer",
                    Unit::Bytes => "bytes (such as 65536 or 64MiB)",
                    Unit::Milliseconds => "milliseconds (such as 500 or 30s)",
                })?;
                match max {
                    &i64::MAX => write!(f, " of at least {min}"),
                    max => write!(f, " from {min} to {max}"),
                }
            }
            Self::Boolean => f.write_str("true or false"),
            Self::Ratio => f.write_str("a number from 0 to 1"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Text(what) => f.write_str(what),
            Self::Secret => f.write_str("a secret text"),
            Self::Path => f.write_str("a path"),
            Self::List(what) => write!(f, "a list of {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_may_carry_a_suffix() {
        assert_eq!(Unit::Bytes.parse("64MiB"), Some(64 << 20));
        assert_eq!(Unit::Bytes.parse("1 GiB"), Some(1 << 30));
        assert_eq!(Unit::Milliseconds.parse("30s"), Some(30_000));
        assert_eq!(Unit::Milliseconds.parse("-1"), Some(-1));
        for wrong in ["", "-", "--1", "s", "1MiB", "1.5s", "9223372036854775807s"] {
            assert_eq!(Unit::Milliseconds.parse(wrong), None, "{wrong}");
        }
        assert_eq!(Unit::Count.parse("5s"), None);
    }
}
