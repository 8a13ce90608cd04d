//! The configuration file: YAML of two levels, read with the line of every key.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::Problem;
use super::key::Key;
use super::load::{Found, find, unknown_section};
use super::sections::{SECTIONS, Section};
use super::sources::Origin;
use super::value::Value;

/// Reads the text of the file at `path`. Unknown keys become problems; a key without a value counts as not set.
///
/// # Errors
/// A problem with the line where the text stops to be YAML of the expected shape.
pub(super) fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Result<Vec<Found>, Problem> {
    let mut reader = Reader { path, found: Vec::new(), problems };
    let parsed = serde_saphyr::with_deserializer_from_str(text, |yaml| Document(&mut reader).deserialize(yaml));
    match parsed {
        Ok(()) => Ok(reader.found),
        // A file of comments alone is an empty configuration.
        Err(_) if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) => {
            Ok(Vec::new())
        }
        Err(error) => {
            let error = error.without_snippet();
            let line = error.location().map_or(0, |location| location.line());
            let origin = Origin::File { path: path.to_owned(), line };
            Err(Problem::new("", Some(origin), error.to_string()).hint("`rafka config default` prints a whole file"))
        }
    }
}

struct Reader<'a> {
    path: &'a Path,
    found: Vec<Found>,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn origin(&self, line: u64) -> Origin {
        Origin::File { path: self.path.to_owned(), line }
    }
}

/// The top level: sections.
struct Document<'r, 'a>(&'r mut Reader<'a>);

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sections, such as \"mesh:\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Spanned<String>>()? {
            match SECTIONS.iter().find(|section| section.name == name.value) {
                Some(section) => map.next_value_seed(InSection { section, reader: self.0 })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                    let origin = self.0.origin(name.referenced.line());
                    self.0.problems.push(unknown_section(&name.value, origin));
                }
            }
        }
        Ok(())
    }
}

/// The keys of one section, or nothing.
struct InSection<'r, 'a> {
    section: &'static Section,
    reader: &'r mut Reader<'a>,
}

impl<'de> DeserializeSeed<'de> for InSection<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for InSection<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keys of section {:?}, such as \"{}: …\"", self.section.name, self.section.keys[0].name)
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Spanned<String>>()? {
            let origin = self.reader.origin(name.referenced.line());
            match find(&format!("{}.{}", self.section.name, name.value), &origin) {
                Ok(key) => {
                    if let Some(value) = map.next_value_seed(OfKey(key))? {
                        self.reader.found.push(Found { key, value, origin });
                    }
                }
                Err(problem) => {
                    map.next_value::<IgnoredAny>()?;
                    self.reader.problems.push(problem);
                }
            }
        }
        Ok(())
    }
}

/// The value of a key, exactly as it is written: `007` stays `007`, and an id of digits is no number.
struct OfKey(&'static Key);

impl<'de> DeserializeSeed<'de> for OfKey {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        if self.0.is_list() {
            return deserializer.deserialize_any(Texts);
        }
        Ok(Option::<String>::deserialize(deserializer)?.map(Value::One))
    }
}

/// A list of texts, one text, or nothing.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Value::Many(vec![text.to_owned()])))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = seq.next_element::<String>()? {
            texts.push(text);
        }
        Ok(Some(Value::Many(texts)))
    }
}
