//! Writes what is needed for one field.

use crate::schema::{Api, Field, Kind, Struct, Versions};

/// A field and what surrounds it.
pub(crate) struct Place<'a> {
    pub(crate) api: &'a Api,
    pub(crate) one: &'a Struct,
    pub(crate) field: &'a Field,
}

impl Place<'_> {
    fn label(&self) -> String {
        label(self.api, self.one, &self.field.name)
    }

    /// Where fields are compact: `true`, `false` or the variable.
    fn flexible(&self) -> &'static str {
        match self.field.tag {
            Some(_) => "true",
            None => compact(self.api, self.field.versions),
        }
    }

    /// The expression that reads the field's value.
    pub(crate) fn read(&self) -> String {
        let (name, compact) = (format!("{:?}", self.label()), self.flexible());
        let (call, arguments) = match (&self.field.kind, self.field.array) {
            (Kind::Struct(_), true) => ("structs", format!("version, {compact}, {name}")),
            (Kind::Struct(inner), false) if self.field.null.is_none() => {
                return format!("{inner}::decode(version, from)?");
            }
            (Kind::Struct(_), false) => return format!("from.struct_opt(version, {name})?"),
            (Kind::I32, true) => ("i32s", format!("{compact}, {name}")),
            (Kind::I8, true) => ("i8s", format!("{compact}, {name}")),
            (Kind::Text, true) => ("strings", format!("{compact}, {name}")),
            (Kind::Text, false) => ("string", format!("{compact}, {name}")),
            (Kind::Bytes, false) => ("bytes", format!("{compact}, {name}")),
            (Kind::Chunks, false) => ("chunks", format!("{compact}, {name}")),
            (kind, _) => (number(kind), name),
        };
        let Some(null) = self.field.null else { return format!("from.{call}({arguments})?") };
        match null.condition(self.field.versions) {
            None => format!("from.{call}_opt({arguments})?"),
            Some(when) => {
                format!("if {when} {{ from.{call}_opt({arguments})? }} else {{ Some(from.{call}({arguments})?) }}")
            }
        }
    }

    /// The expression that writes the field's value.
    pub(crate) fn write(&self) -> String {
        let (name, compact) = (format!("{:?}", self.label()), self.flexible());
        let value = format!("self.{}", self.field.name);
        let (call, before, after) = match (&self.field.kind, self.field.array) {
            (Kind::Struct(_), true) => ("structs", format!("version, {compact}"), true),
            (Kind::Struct(_), false) if self.field.null.is_none() => return format!("{value}.encode(version, into)?"),
            (Kind::Struct(_), false) => return format!("into.struct_opt(version, {value}.as_ref())?"),
            (Kind::I32, true) => ("i32s", compact.to_owned(), true),
            (Kind::I8, true) => ("i8s", compact.to_owned(), true),
            (Kind::Text, true) => ("strings", compact.to_owned(), true),
            (Kind::Text, false) => ("string", compact.to_owned(), true),
            (Kind::Bytes, false) => ("bytes", compact.to_owned(), true),
            (Kind::Chunks, false) => ("chunks", compact.to_owned(), true),
            (Kind::Uuid, _) => ("uuid", String::new(), false),
            (kind, _) => (number(kind), String::new(), false),
        };
        if !after {
            return format!("into.{call}({value})");
        }
        let Some(null) = self.field.null else { return format!("into.{call}({before}, &{value}, {name})?") };
        let value = format!("{value}.{}()", if self.field.array { "as_deref" } else { "as_ref" });
        let nullable = format!("into.{call}_opt({before}, {value}, {name})?");
        match null.condition(self.field.versions) {
            None => nullable,
            Some(when) => {
                let given = format!("into.{call}({before}, given({value}, {name})?, {name})?");
                format!("if {when} {{ {nullable} }} else {{ {given} }}")
            }
        }
    }

    /// The condition that the field differs from its default.
    pub(crate) fn differs(&self) -> String {
        let value = format!("self.{}", self.field.name);
        match (&self.field.kind, self.field.array) {
            _ if self.field.null.is_some() => format!("{value}.is_some()"),
            (Kind::Text | Kind::Bytes | Kind::Chunks, _) | (_, true) => format!("!{value}.is_empty()"),
            (Kind::Bool, _) if self.field.default.is_some() => format!("!{value}"),
            (Kind::Bool, _) => value,
            _ => format!("{value} != {}", default(self.field)),
        }
    }

    /// What follows where a version does not have the field.
    pub(crate) fn absent(&self, before: &str) -> String {
        if self.field.ignorable {
            return "\n".to_owned();
        }
        let error = format!("return Err(EncodeError::absent({:?}, version));", self.label());
        format!("{before}{} {{\n                {error}\n            }}\n", self.differs())
    }

    pub(crate) fn arbitrary(&self, module: &str) -> String {
        let one = match (&self.field.kind, self.field.array) {
            (Kind::Struct(name), true) => {
                format!("chance.many(|chance| messages::{module}::{name}::arbitrary(version, chance))")
            }
            (Kind::Struct(name), false) => format!("messages::{module}::{name}::arbitrary(version, chance)"),
            (Kind::Text, true) => "chance.many(Chance::string)".to_owned(),
            (Kind::Text, false) => "chance.string()".to_owned(),
            (Kind::Bytes, _) => "chance.bytes()".to_owned(),
            (Kind::Chunks, _) => "chance.bytes().into()".to_owned(),
            (kind, true) => format!("chance.many(Chance::{})", number(kind)),
            (kind, false) => format!("chance.{}()", number(kind)),
        };
        let value = match self.field.null.map(|null| null.outside(self.field.versions)) {
            None => one,
            Some(None) => format!("if chance.half() {{ Some({one}) }} else {{ None }}"),
            Some(Some(when)) => format!("if {when} || chance.half() {{ Some({one}) }} else {{ None }}"),
        };
        match self.field.versions.condition(self.one.versions) {
            None => value,
            Some(when) => format!("if {when} {{ {value} }} else {{ {} }}", default_in(self.field, module)),
        }
    }
}

/// The name of a field in errors.
pub(crate) fn label(api: &Api, one: &Struct, field: &str) -> String {
    match one.name.as_str() {
        "Request" | "Response" => format!("{}{}.{field}", api.name, one.name),
        name => format!("{name}.{field}"),
    }
}

/// Whether lengths are compact in these versions: `true`, `false` or the variable.
pub(crate) fn compact(api: &Api, versions: Versions) -> &'static str {
    match versions {
        Versions { first, .. } if first >= api.flexible => "true",
        Versions { last, .. } if last < api.flexible => "false",
        _ => "flexible",
    }
}

/// The method that reads or writes a type of fixed size.
fn number(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::I8 => "i8",
        Kind::I16 => "i16",
        Kind::U16 => "u16",
        Kind::I32 => "i32",
        Kind::I64 => "i64",
        Kind::F64 => "f64",
        Kind::Uuid => "uuid",
        Kind::Text | Kind::Bytes | Kind::Chunks | Kind::Struct(_) => unreachable!("has no fixed size"),
    }
}

pub(crate) fn rust_type(field: &Field) -> String {
    let one = match &field.kind {
        Kind::Uuid => "Uuid",
        Kind::Text => "Str",
        Kind::Bytes => "Bytes",
        Kind::Chunks => "Chunks",
        Kind::Struct(name) => name,
        kind => number(kind),
    };
    let all = if field.array { format!("Vec<{one}>") } else { one.to_owned() };
    if field.null.is_some() { format!("Option<{all}>") } else { all }
}

pub(crate) fn default(field: &Field) -> String {
    match (&field.kind, &field.default) {
        (_, Some(default)) => default.clone(),
        _ if field.null.is_some() => "None".to_owned(),
        _ if field.array => "Vec::new()".to_owned(),
        (Kind::Bool, _) => "false".to_owned(),
        (Kind::F64, _) => "0.0".to_owned(),
        (Kind::Uuid, _) => "Uuid::ZERO".to_owned(),
        (Kind::Text, _) => "Str::default()".to_owned(),
        (Kind::Bytes, _) => "Bytes::new()".to_owned(),
        (Kind::Chunks, _) => "Chunks::new()".to_owned(),
        (Kind::Struct(name), _) => format!("{name}::default()"),
        _ => "0".to_owned(),
    }
}

/// The default, seen from outside of its module.
fn default_in(field: &Field, module: &str) -> String {
    match &field.kind {
        Kind::Struct(_) if field.null.is_none() && !field.array => format!("messages::{module}::{}", default(field)),
        _ => default(field),
    }
}
