//! Reads a table.
//!
//! ```text
//! # Comments; those above the header become the module's documentation.
//! api 1 Fetch versions 4-18 flexible 12          [advertised 0-18]
//!
//! request
//!     replica_id: i32 = -1 v4-14                 name: type [= default] [versions]
//!     topics: [FetchTopic]                       an array of structs, whose fields follow one step deeper …
//!         topic: string? v4-12 null v7+ ignorable   nullable, from version 7; dropped where there is no such field
//!         high_watermark: i64 tag 1 v18+         tagged
//!
//! response
//!     topics: [FetchTopic]                       … or were defined above
//! ```
//!
//! Versions that are not given are those of the struct. What is nullable is null by default.

use crate::schema::{Api, Field, Kind, Struct, Versions};

/// Line and words.
pub(crate) type Mistake = (usize, String);

/// Spaces of one step.
const STEP: usize = 4;

/// Reads the table of one API.
pub(crate) fn api(text: &str) -> Result<Api, Mistake> {
    let mut api: Option<Api> = None;
    let mut about = Vec::new();
    // Structs around the next field, by their index.
    let mut open: Vec<usize> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line)) {
        let wrong = |words: &str| (number, words.to_owned());
        if let Some(comment) = line.strip_prefix('#') {
            about.push(comment.trim().to_owned());
            continue;
        }
        let code = line.split(" #").next().unwrap_or(line).trim_end();
        if code.is_empty() {
            continue;
        }
        let Some(api) = &mut api else {
            api = Some(header(number, code, std::mem::take(&mut about))?);
            continue;
        };
        if ["request", "response"].contains(&code) {
            let name = if code == "request" { "Request" } else { "Response" };
            open = vec![define(api, name, api.versions, number)?];
            continue;
        }
        let spaces = code.len() - code.trim_start().len();
        if spaces == 0 || spaces % STEP != 0 {
            return Err(wrong("neither \"request\" nor \"response\" nor a field"));
        }
        let depth = spaces / STEP;
        if depth == open.len() + 1 {
            let inner = opened(api, &open, number)?;
            open.push(inner);
        }
        if depth > open.len() {
            return Err(wrong("too deep"));
        }
        open.truncate(depth);
        let around = open[depth - 1];
        let field = field(number, code.trim_start(), api.structs[around].versions)?;
        api.structs[around].fields.push(field);
    }
    api.ok_or((1, "no API".to_owned()))
}

/// Defines the struct of the last field, because fields follow that are deeper.
fn opened(api: &mut Api, open: &[usize], line: usize) -> Result<usize, Mistake> {
    let last = open.last().and_then(|around| api.structs[*around].fields.last());
    match last.map(|field| (&field.kind, field.versions)) {
        Some((Kind::Struct(name), versions)) => {
            let name = name.clone();
            define(api, &name, versions, line)
        }
        _ => Err((line, "deeper than a field that is no struct".to_owned())),
    }
}

fn define(api: &mut Api, name: &str, versions: Versions, line: usize) -> Result<usize, Mistake> {
    if api.find(name).is_some() {
        return Err((line, format!("{name} is defined twice")));
    }
    api.structs.push(Struct { name: name.to_owned(), versions, fields: Vec::new(), line });
    Ok(api.structs.len() - 1)
}

fn header(line: usize, code: &str, about: Vec<String>) -> Result<Api, Mistake> {
    let wrong = |words: String| (line, words);
    let mut words = code.split_whitespace();
    if words.next() != Some("api") {
        return Err(wrong("a table begins with \"api\"".to_owned()));
    }
    let number = words.next().and_then(|word| word.parse().ok()).ok_or(wrong("no API number".to_owned()))?;
    let name = words.next().ok_or(wrong("no API name".to_owned()))?.to_owned();
    let (mut all, mut advertised, mut flexible) = (None, None, None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(wrong(format!("{word}: no value")))?;
        let range = || versions(value, None).ok_or(wrong(format!("{value:?} is no range")));
        match word {
            "versions" => all = Some(range()?),
            "advertised" => advertised = Some(range()?),
            "flexible" => flexible = value.parse().ok(),
            _ => return Err(wrong(format!("{word:?} is unknown"))),
        }
    }
    let versions = all.ok_or(wrong("no versions".to_owned()))?;
    let flexible = flexible.ok_or(wrong("no first flexible version".to_owned()))?;
    let advertised = advertised.unwrap_or(versions);
    Ok(Api { number, name, about, versions, advertised, flexible, structs: Vec::new(), line })
}

fn field(line: usize, code: &str, around: Versions) -> Result<Field, Mistake> {
    let wrong = |words: String| (line, words);
    let (name, rest) = code.split_once(": ").ok_or(wrong("a field is \"name: type\"".to_owned()))?;
    let mut words = rest.split_whitespace();
    let written = words.next().ok_or(wrong("no type".to_owned()))?;
    let bare = written.strip_suffix('?').unwrap_or(written);
    let element = bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']'));
    let kind = Kind::parse(element.unwrap_or(bare)).ok_or(wrong(format!("{written:?} is no type")))?;
    let (mut default, mut range, mut null, mut tag, mut ignorable) = (None, around, None, None, false);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(wrong(format!("{word}: no value")));
        let read = |word: &str| {
            let range = word.strip_prefix('v').and_then(|range| versions(range, Some(around.last)));
            range.ok_or(wrong(format!("{word:?} is unknown")))
        };
        match word {
            "=" => default = Some(value()?.to_owned()),
            "tag" => tag = Some(value()?.parse().map_err(|_| wrong("a tag is a number".to_owned()))?),
            "null" => null = Some(read(value()?)?),
            "ignorable" => ignorable = true,
            _ => range = read(word)?,
        }
    }
    let null = match written.ends_with('?') {
        true => Some(null.unwrap_or(range)),
        false if null.is_some() => return Err(wrong("null, but its type has no \"?\"".to_owned())),
        false => None,
    };
    let name = name.to_owned();
    Ok(Field { name, kind, array: element.is_some(), null, default, versions: range, tag, ignorable, line })
}

/// `A-B`, `A`, or `A+` where there is a last version.
fn versions(text: &str, last: Option<i16>) -> Option<Versions> {
    if let Some(first) = text.strip_suffix('+') {
        return Some(Versions { first: first.parse().ok()?, last: last? });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(Versions { first: first.parse().ok()?, last: last.parse().ok()? })
}
