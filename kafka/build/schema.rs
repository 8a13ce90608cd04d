//! What a table says.

use std::fmt;

/// One API: its request and its response.
pub(crate) struct Api {
    pub(crate) number: i16,
    pub(crate) name: String,
    /// Comments at the top of the table.
    pub(crate) about: Vec<String>,
    /// Versions that are decoded and encoded.
    pub(crate) versions: Versions,
    /// Versions that a broker advertises.
    pub(crate) advertised: Versions,
    /// First version with compact lengths and tagged fields (KIP-482).
    pub(crate) flexible: i16,
    /// `Request` and its structs, then `Response` and its structs, each struct before those within it.
    pub(crate) structs: Vec<Struct>,
    /// Line of the header.
    pub(crate) line: usize,
}

pub(crate) struct Struct {
    pub(crate) name: String,
    /// Versions in which it can occur.
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
    pub(crate) line: usize,
}

pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) array: bool,
    /// Versions in which it can be null.
    pub(crate) null: Option<Versions>,
    /// A default other than zero, empty or null.
    pub(crate) default: Option<String>,
    pub(crate) versions: Versions,
    pub(crate) tag: Option<u32>,
    /// Dropped in a version that does not have it; otherwise a value there is an error.
    pub(crate) ignorable: bool,
    pub(crate) line: usize,
}

#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Kind {
    Bool,
    I8,
    I16,
    U16,
    I32,
    I64,
    F64,
    Uuid,
    Text,
    Bytes,
    /// Bytes that need not lie in one place.
    Chunks,
    Struct(String),
}

/// First and last version, both included.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct Versions {
    pub(crate) first: i16,
    pub(crate) last: i16,
}

impl Api {
    /// The API's name as a module: `ListOffsets` is `list_offsets`.
    pub(crate) fn module(&self) -> String {
        let mut name = String::new();
        for c in self.name.chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(c.to_lowercase());
        }
        name
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|one| one.name == name)
    }

    /// Bytes that `one` takes at least in `version`.
    pub(crate) fn bytes_min(&self, one: &Struct, version: i16) -> usize {
        let flexible = version >= self.flexible;
        let present = one.fields.iter().filter(|field| field.tag.is_none() && field.versions.has(version));
        let fields = present.map(|field| match &field.kind {
            _ if field.array => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Bool | Kind::I8 => 1,
            Kind::I16 | Kind::U16 => 2,
            Kind::I32 => 4,
            Kind::I64 | Kind::F64 => 8,
            Kind::Uuid => 16,
            Kind::Text => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Kind::Bytes | Kind::Chunks => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Kind::Struct(_) if field.null.is_some() => 1,
            Kind::Struct(name) => self.find(name).map_or(0, |inner| self.bytes_min(inner, version)),
        });
        fields.sum::<usize>() + usize::from(flexible)
    }
}

impl Kind {
    /// The kind of a word in a table; a struct if it begins like one.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "bool" => Self::Bool,
            "i8" => Self::I8,
            "i16" => Self::I16,
            "u16" => Self::U16,
            "i32" => Self::I32,
            "i64" => Self::I64,
            "f64" => Self::F64,
            "uuid" => Self::Uuid,
            "string" => Self::Text,
            "bytes" => Self::Bytes,
            "chunks" => Self::Chunks,
            name if name.starts_with(|c: char| c.is_ascii_uppercase()) => Self::Struct(name.to_owned()),
            _ => return None,
        })
    }
}

impl Versions {
    pub(crate) fn has(self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }

    pub(crate) fn within(self, other: Self) -> bool {
        other.has(self.first) && other.has(self.last)
    }

    pub(crate) fn range(self) -> String {
        format!("{}..={}", self.first, self.last)
    }

    pub(crate) fn pattern(self) -> String {
        if self.first == self.last { self.first.to_string() } else { self.range() }
    }

    /// The condition on `version` that holds in these of the versions `all`; none if it always does.
    pub(crate) fn condition(self, all: Self) -> Option<String> {
        match (self.first > all.first, self.last < all.last) {
            (false, false) => None,
            _ if self.first == self.last => Some(format!("version == {}", self.first)),
            (true, false) => Some(format!("version >= {}", self.first)),
            (false, true) => Some(format!("version <= {}", self.last)),
            (true, true) => Some(format!("({}..={}).contains(&version)", self.first, self.last)),
        }
    }

    /// The condition that holds in the others.
    pub(crate) fn outside(self, all: Self) -> Option<String> {
        match (self.first > all.first, self.last < all.last) {
            (false, false) => None,
            (true, false) => Some(format!("version < {}", self.first)),
            (false, true) => Some(format!("version > {}", self.last)),
            (true, true) => Some(format!("!({}..={}).contains(&version)", self.first, self.last)),
        }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}
