//! Values: as text from any source, and as the types of the sections' fields.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use rafka_broker::group::config::MigrationPolicy;
use rafka_broker::metadata::Role;
use rafka_model::ClusterId;
use rafka_protocols::address::{AdvertisedAddress, BootstrapAddress, ListenAddress, listen_socket};

use super::kafka::{KafkaAdvertise, KafkaListen, KafkaRouting};
use super::security::Door;

/// A value as every source can give it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// A single text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

impl Value {
    /// The list that a text of one line stands for: separated by commas, perhaps in brackets.
    #[must_use]
    pub fn parse_list(text: &str) -> Self {
        let text = text.trim();
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let items = inner.split(',').map(|item| item.trim().trim_matches('"').trim_matches('\''));
        Self::Many(items.filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(text) => f.write_str(text),
            Self::Many(texts) => write!(f, "[{}]", texts.join(", ")),
        }
    }
}

/// A field's type, out of the plain value of its key. The error says what is wrong with the text.
pub(super) trait Field: Sized {
    fn from_value(value: Option<&Value>) -> Result<Self, String>;
}

/// A type that a single text stands for.
pub(super) trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
}

macro_rules! parsed {
    ($($type:ty),*) => {
        $(impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error: <$type as FromStr>::Err| error.to_string())
            }
        })*
    };
}

parsed!(i32, u16, u32, u64, usize, bool, String, ClusterId, AdvertisedAddress, BootstrapAddress, ListenAddress);
parsed!(Door, KafkaAdvertise, KafkaListen, KafkaRouting, LogFormat, LogLevel, OpsListen, Secret);

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
}

impl FromText for MigrationPolicy {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "bidirectional" => Ok(Self::Bidirectional),
            "upgrade" => Ok(Self::Upgrade),
            "downgrade" => Ok(Self::Downgrade),
            "disabled" => Ok(Self::Disabled),
            _ => Err(format!("no migration policy {text:?}")),
        }
    }
}

impl FromText for Role {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "broker" => Ok(Self::Broker),
            "gateway" => Ok(Self::Gateway),
            _ => Err(format!("no role {text:?}")),
        }
    }
}

impl<T: FromText> Field for T {
    fn from_value(value: Option<&Value>) -> Result<Self, String> {
        match value {
            Some(Value::One(text)) => T::from_text(text),
            Some(Value::Many(_)) => Err("a single value is needed".to_owned()),
            None => Err("a value is needed".to_owned()),
        }
    }
}

impl<T: FromText> Field for Option<T> {
    fn from_value(value: Option<&Value>) -> Result<Self, String> {
        value.map(|value| T::from_value(Some(value))).transpose()
    }
}

impl<T: FromText> Field for Vec<T> {
    fn from_value(value: Option<&Value>) -> Result<Self, String> {
        match value {
            Some(Value::Many(texts)) => texts.iter().map(|text| T::from_text(text)).collect(),
            Some(Value::One(text)) => Ok(vec![T::from_text(text)?]),
            None => Ok(Vec::new()),
        }
    }
}

/// A text that no log, error or debug output shows.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself; for proofs and hashes, never for output.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
    /// One short line.
    Compact,
}

impl LogFormat {
    /// The words of the configuration.
    pub const WORDS: &'static [&'static str] = &["auto", "pretty", "json", "compact"];
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            "compact" => Ok(Self::Compact),
            _ => Err(format!("no log format {text:?}")),
        }
    }
}

/// A log level, perhaps with exceptions by module: `info`, `info,rafka_node=debug`.
///
/// Checked here because the logging library takes a misspelt level for the name of a module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogLevel(String);

impl LogLevel {
    const WORDS: [&'static str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        for directive in text.split(',') {
            let (module, level) = match directive.split_once('=') {
                Some((module, level)) => (Some(module), level),
                None => (None, directive),
            };
            let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
            if module.is_some_and(|module| module.is_empty() || !module.chars().all(is_path)) {
                return Err(format!("{module:?} is not a module", module = module.unwrap_or_default()));
            }
            if !Self::WORDS.contains(&level) {
                let level: String = level.chars().take(40).collect();
                let suggestion = rafka_model::config::nearest(&level.to_lowercase(), Self::WORDS)
                    .map(|word| format!("; did you mean {word:?}?"))
                    .unwrap_or_default();
                return Err(format!("{level:?} is none of {}{suggestion}", Self::WORDS.join(", ")));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where ops HTTP listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OpsListen {
    /// Nowhere.
    Off,
    /// Here; port 0 takes any free one.
    At(SocketAddr),
}

impl FromStr for OpsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::Off),
            _ => listen_socket(text)
                .map(Self::At)
                .ok_or_else(|| format!("{text:?} is not IP:PORT, localhost:PORT or none")),
        }
    }
}

/// A failure domain or another short name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Label(String);

impl Label {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limit = rafka_model::limits::LABEL_BYTES_MAX;
        if text.len() > limit {
            return Err(format!("{} bytes, limit is {limit}", text.len()));
        }
        match text.chars().find(|c| c.is_control() || c.is_whitespace()) {
            Some(found) => Err(format!("contains {found:?}")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

parsed!(Label);
