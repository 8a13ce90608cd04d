//! What must hold of a table before code is written from it.

use std::collections::BTreeSet;

use crate::parse::Mistake;
use crate::schema::{Api, Field, Kind, Struct, Versions};

/// Checks a table; the first mistake, with its line.
pub(crate) fn api(api: &Api) -> Result<(), Mistake> {
    let Versions { first, last } = api.versions;
    if first < 0 || first > last || !api.versions.within(api.advertised) {
        return Err((api.line, "versions are not a range, or are not advertised".to_owned()));
    }
    for name in ["Request", "Response"] {
        api.find(name).ok_or((api.line, format!("no {name}")))?;
    }
    api.structs.iter().try_for_each(|one| structure(api, one))
}

fn structure(api: &Api, one: &Struct) -> Result<(), Mistake> {
    let mut names = BTreeSet::new();
    let mut tags = 0;
    for field in &one.fields {
        let wrong = |words: &str| Err((field.line, format!("{}: {words}", field.name)));
        if !names.insert(&field.name) {
            return wrong("is there twice");
        }
        if !field.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            return wrong("names are snake_case");
        }
        if !field.versions.within(one.versions) || field.versions.first > field.versions.last {
            return wrong("its versions are not among those of its struct");
        }
        if field.null.is_some_and(|null| !null.within(field.versions)) {
            return wrong("null in versions that do not have it");
        }
        if field.ignorable && field.versions == api.versions {
            return wrong("ignorable, but every version has it");
        }
        if let Some(tag) = field.tag {
            if tag != tags || field.versions.first < api.flexible {
                return wrong("tags count from 0, in flexible versions");
            }
            tags += 1;
        }
        type_of(api, field)?;
        default(field)?;
    }
    if ["Request", "Response"].contains(&one.name.as_str()) {
        return Ok(());
    }
    // A count is checked against the bytes that remain, which says something because no element takes none.
    let empty = (one.versions.first..=one.versions.last).find(|version| api.bytes_min(one, *version) == 0);
    match empty {
        Some(version) => Err((one.line, format!("{} takes no bytes in version {version}", one.name))),
        None => Ok(()),
    }
}

fn type_of(api: &Api, field: &Field) -> Result<(), Mistake> {
    let wrong = |words: &str| Err((field.line, format!("{}: {words}", field.name)));
    match &field.kind {
        Kind::Struct(name) => match api.find(name) {
            None => wrong("its struct is not defined"),
            Some(inner) if !field.versions.within(inner.versions) => wrong("its struct is not for all its versions"),
            Some(_) if field.null.is_some_and(|null| !field.array && null != field.versions) => {
                wrong("a struct is nullable always or never")
            }
            Some(_) => Ok(()),
        },
        kind if field.array && !matches!(kind, Kind::I8 | Kind::I32 | Kind::Text) => {
            wrong("no array of this type is known")
        }
        kind if field.array || matches!(kind, Kind::Text | Kind::Bytes | Kind::Chunks) => Ok(()),
        _ if field.null.is_some() => wrong("this type cannot be null"),
        _ => Ok(()),
    }
}

fn default(field: &Field) -> Result<(), Mistake> {
    let Some(default) = &field.default else { return Ok(()) };
    let known = match field.kind {
        _ if field.array || field.null.is_some() => false,
        Kind::Bool => default == "true",
        Kind::I8 => default.parse::<i8>().is_ok(),
        Kind::I16 => default.parse::<i16>().is_ok(),
        Kind::I32 => default.parse::<i32>().is_ok(),
        Kind::I64 => default.parse::<i64>().is_ok(),
        _ => false,
    };
    let wrong = || (field.line, format!("{}: {default} cannot be its default", field.name));
    known.then_some(()).ok_or_else(wrong)
}
