//! Writes Rust.
//!
//! One call of a helper for each field: the helpers (`src/wire`) hold the rules of the format, so that what is
//! generated stays small and reads like the table.

use std::fmt::Write;

use crate::field::{Place, compact, default, label, rust_type};
use crate::schema::{Api, Kind, Struct, Versions};

/// The enum of the APIs and its table.
pub(crate) fn api_key(apis: &[Api]) -> String {
    let (mut keys, mut rows, mut all) = (String::new(), String::new(), String::new());
    for api in apis {
        let Api { number, name, versions, advertised, flexible, .. } = api;
        put(&mut keys, &format!("    /// Versions {versions}.\n    {name} = {number},\n"));
        put(&mut all, &format!("    ApiKey::{name},\n"));
        let (versions, advertised) = (versions.range(), advertised.range());
        let row = format!(
            "        ApiKey::{name} => &Row {{ name: {name:?}, versions: {versions}, advertised: {advertised}, \
             flexible: {flexible} }},\n"
        );
        put(&mut rows, &row);
    }
    let derives = "#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]\n#[repr(i16)]";
    format!(
        "/// An API that has a table in `schema/`.\n{derives}\npub enum ApiKey {{\n{keys}}}\n\n\
         const ALL: &[ApiKey] = &[\n{all}];\n\n\
         const fn row(key: ApiKey) -> &'static Row {{\n    match key {{\n{rows}    }}\n}}\n"
    )
}

/// A module for each API.
pub(crate) fn messages(apis: &[Api]) -> String {
    let mut text = String::new();
    for api in apis {
        put(&mut text, &format!("/// {} ({}), versions {}.\n", api.name, api.number, api.versions));
        for (i, line) in api.about.iter().enumerate() {
            put(&mut text, &format!("{}/// {line}\n", if i == 0 { "///\n" } else { "" }));
        }
        put(&mut text, &format!("pub mod {} {{\n    use super::prelude::*;\n", api.module()));
        for one in &api.structs {
            definition(&mut text, api, one);
            defaults(&mut text, one);
            message(&mut text, api, one);
        }
        let call = format!(
            "    impl Call for Request {{\n        const KEY: ApiKey = ApiKey::{};\n        \
             type Response = Response;\n    }}\n}}\n\n",
            api.name
        );
        put(&mut text, &call);
    }
    text
}

/// Random values, and the table of all codecs.
pub(crate) fn testing(apis: &[Api]) -> String {
    let (mut text, mut rows) = (String::new(), String::new());
    for api in apis {
        let module = api.module();
        for one in &api.structs {
            let mut body = String::new();
            for field in &one.fields {
                let value = Place { api, one, field }.arbitrary(&module);
                put(&mut body, &format!("            {}: {value},\n", field.name));
            }
            let version = argument("version", &body);
            let chance = argument("chance", &body);
            let head = format!("fn arbitrary({version}: i16, {chance}: &mut Chance) -> Self");
            let name = format!("messages::{module}::{}", one.name);
            put(
                &mut text,
                &format!(
                    "impl Arbitrary for {name} {{\n    {head} {{\n        Self {{\n{body}        }}\n    }}\n}}\n\n"
                ),
            );
        }
        for part in ["Request", "Response"] {
            let row =
                format!("        (ApiKey::{}, Part::{part}) => Codec::of::<messages::{module}::{part}>(),\n", api.name);
            put(&mut rows, &row);
        }
    }
    let head = "/// The codec of a message.\npub fn codec(key: ApiKey, part: Part) -> Codec";
    put(&mut text, &format!("{head} {{\n    match (key, part) {{\n{rows}    }}\n}}\n"));
    text
}

fn definition(text: &mut String, api: &Api, one: &Struct) {
    let about = match one.name.as_str() {
        "Request" | "Response" => format!("{} {}", api.name, one.name.to_lowercase()),
        name => format!("`{name}`, in versions {}", one.versions),
    };
    let natural = one.fields.iter().all(|field| field.default.is_none());
    let derives = if natural { "Clone, Debug, Default, PartialEq" } else { "Clone, Debug, PartialEq" };
    put(text, &format!("    /// {about}.\n    #[derive({derives})]\n    pub struct {} {{\n", one.name));
    for field in &one.fields {
        let mut facts = format!("Versions {}", field.versions);
        if let Some(null) = field.null {
            put(&mut facts, &format!(", null in {null}"));
        }
        if let Some(default) = &field.default {
            put(&mut facts, &format!(", default {default}"));
        }
        if let Some(tag) = field.tag {
            put(&mut facts, &format!(", tag {tag}"));
        }
        if field.ignorable {
            facts.push_str(", ignorable");
        }
        put(text, &format!("        /// {facts}.\n        pub {}: {},\n", field.name, rust_type(field)));
    }
    text.push_str("    }\n");
}

fn defaults(text: &mut String, one: &Struct) {
    if one.fields.iter().all(|field| field.default.is_none()) {
        return;
    }
    put(text, &format!("    impl Default for {} {{\n        fn default() -> Self {{\n            Self {{\n", one.name));
    for field in &one.fields {
        put(text, &format!("                {}: {},\n", field.name, default(field)));
    }
    text.push_str("            }\n        }\n    }\n");
}

fn message(text: &mut String, api: &Api, one: &Struct) {
    let (decode, encode) = (decode(api, one), encode(api, one));
    put(text, &format!("    impl Message for {} {{\n", one.name));
    put(text, &format!("        fn bytes_min({}: i16) -> usize {{\n", argument("version", &bytes_min(api, one))));
    put(text, &bytes_min(api, one));
    let signature = |body: &str| format!("{}: i16, from: &mut Reader", argument("version", body));
    put(
        text,
        &format!("        }}\n        fn decode({}) -> Result<Self, DecodeError> {{\n{decode}", signature(&decode)),
    );
    let (version, into) = (argument("version", &encode), argument("into", &encode));
    let head = format!("fn encode(&self, {version}: i16, {into}: &mut Writer) -> Result<(), EncodeError>");
    put(text, &format!("        }}\n        {head} {{\n{encode}            Ok(())\n        }}\n"));
    if has_codes(api, one) {
        let head = "fn error_codes(&self, tell: &mut dyn FnMut(i16))";
        put(text, &format!("        {head} {{\n{}        }}\n", error_codes(api, one)));
    }
    text.push_str("    }\n");
}

/// Is there an error code in it, or in a struct within it?
fn has_codes(api: &Api, one: &Struct) -> bool {
    one.fields.iter().any(|field| match &field.kind {
        Kind::Struct(name) => field.array && api.find(name).is_some_and(|inner| has_codes(api, inner)),
        _ => field.name == "error_code",
    })
}

fn error_codes(api: &Api, one: &Struct) -> String {
    let mut text = String::new();
    for field in &one.fields {
        let name = &field.name;
        match &field.kind {
            Kind::Struct(inner) if field.array && api.find(inner).is_some_and(|inner| has_codes(api, inner)) => {
                let flatten = if field.null.is_some() { ".flatten()" } else { "" };
                let each = format!("self.{name}.iter(){flatten}.for_each(|one| one.error_codes(tell))");
                put(&mut text, &format!("            {each};\n"));
            }
            _ if name == "error_code" => text.push_str("            tell(self.error_code);\n"),
            _ => {}
        }
    }
    text
}

/// `name`, or `_` if the body does not use it.
fn argument(name: &'static str, body: &str) -> &'static str {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let used = |(at, _): (usize, &str)| !body[..at].ends_with(part) && !body[at + name.len()..].starts_with(part);
    if body.match_indices(name).any(used) { name } else { "_" }
}

fn bytes_min(api: &Api, one: &Struct) -> String {
    let mut steps: Vec<(Versions, usize)> = Vec::new();
    for version in one.versions.first..=one.versions.last {
        let bytes = api.bytes_min(one, version);
        match steps.last_mut() {
            Some((versions, before)) if *before == bytes => versions.last = version,
            _ => steps.push((Versions { first: version, last: version }, bytes)),
        }
    }
    let Some(((_, last), steps)) = steps.split_last() else { return String::new() };
    if steps.is_empty() {
        return format!("            {last}\n");
    }
    let arm = |(versions, bytes): &(Versions, usize)| format!("                {} => {bytes},\n", versions.pattern());
    let arms: String = steps.iter().map(arm).collect();
    format!("            match version {{\n{arms}                _ => {last},\n            }}\n")
}

fn decode(api: &Api, one: &Struct) -> String {
    let mut fields = String::new();
    for field in &one.fields {
        let place = Place { api, one, field };
        let value = match (field.tag, field.versions.condition(one.versions)) {
            (Some(_), _) => default(field),
            (None, None) => place.read(),
            (None, Some(when)) => format!("if {when} {{ {} }} else {{ {} }}", place.read(), default(field)),
        };
        put(&mut fields, &format!("                {}: {value},\n", field.name));
    }
    let skip = format!("from.skip_tags({:?})?", label(api, one, "tags"));
    let tagged = one.fields.iter().any(|field| field.tag.is_some());
    let tags = match compact(api, one.versions) {
        "false" => String::new(),
        "true" if tagged => known_tags(api, one),
        "true" => format!("            {skip};\n"),
        _ if tagged => format!("            if flexible {{\n{}            }}\n", known_tags(api, one)),
        _ => format!("            if flexible {{\n                {skip};\n            }}\n"),
    };
    let all = format!("{fields}{tags}");
    let flexible = flexible_line(api, one, &all);
    if tags.is_empty() {
        return format!("{flexible}            Ok(Self {{\n{fields}            }})\n");
    }
    let binding = if tagged { "let mut it" } else { "let it" };
    format!("{flexible}            {binding} = Self {{\n{fields}            }};\n{tags}            Ok(it)\n")
}

fn known_tags(api: &Api, one: &Struct) -> String {
    let name = label(api, one, "tags");
    let mut arms = String::new();
    for field in &one.fields {
        let Some(tag) = field.tag else { continue };
        let guard = field.versions.condition(Versions { first: api.flexible.max(one.versions.first), ..one.versions });
        let guard = guard.map(|when| format!(" if {when}")).unwrap_or_default();
        let (read, label) = (Place { api, one, field }.read(), label(api, one, &field.name));
        let arm = format!(
            "                    {tag}{guard} => {{\n                        it.{} = {read};\n                        \
             from.end_tag(tag, {label:?})?;\n                    }}\n",
            field.name
        );
        put(&mut arms, &arm);
    }
    format!(
        "            for _ in 0..from.tag_count({name:?})? {{\n                let tag = from.tag({name:?})?;\n                \
         match tag.number {{\n{arms}                    _ => from.skip_tag(tag),\n                }}\n            }}\n"
    )
}

fn encode(api: &Api, one: &Struct) -> String {
    let mut text = String::new();
    let untagged = one.fields.iter().filter(|field| field.tag.is_none());
    for field in untagged {
        let place = Place { api, one, field };
        let write = place.write();
        match field.versions.condition(one.versions) {
            None => put(&mut text, &format!("            {write};\n")),
            Some(when) => {
                put(&mut text, &format!("            if {when} {{\n                {write};\n            }}"));
                put(&mut text, &place.absent(" else if "));
            }
        }
    }
    for field in one.fields.iter().filter(|field| field.tag.is_some()) {
        if let Some(when) = field.versions.outside(one.versions).filter(|_| !field.ignorable) {
            put(&mut text, &Place { api, one, field }.absent(&format!("            if {when} && ")));
        }
    }
    let tags = match compact(api, one.versions) {
        "false" => String::new(),
        "true" => write_tags(api, one),
        _ => format!("            if flexible {{\n{}            }}\n", write_tags(api, one)),
    };
    let text = format!("{text}{tags}");
    format!("{}{text}", flexible_line(api, one, &text))
}

fn write_tags(api: &Api, one: &Struct) -> String {
    let all = Versions { first: api.flexible.max(one.versions.first), ..one.versions };
    let (mut given, mut writes) = (Vec::new(), String::new());
    for field in &one.fields {
        let Some(tag) = field.tag else { continue };
        let place = Place { api, one, field };
        let when = field.versions.condition(all).map(|when| format!("{when} && ")).unwrap_or_default();
        let has = format!("has_{}", field.name);
        put(&mut writes, &format!("            let {has} = {when}{};\n", place.differs()));
        given.push((has, tag, place.write(), label(api, one, &field.name)));
    }
    if given.is_empty() {
        return "            into.varint(0);\n".to_owned();
    }
    let count: Vec<String> = given.iter().map(|(has, ..)| format!("u32::from({has})")).collect();
    put(&mut writes, &format!("            into.varint({});\n", count.join(" + ")));
    for (has, tag, write, label) in given {
        let body = format!("let start = into.begin_tag({tag}); {write}; into.end_tag(start, {label:?})?;");
        put(&mut writes, &format!("            if {has} {{\n                {body}\n            }}\n"));
    }
    writes
}

fn flexible_line(api: &Api, one: &Struct, body: &str) -> String {
    let used = compact(api, one.versions) == "flexible" && argument("flexible", body) == "flexible";
    if used { format!("            let flexible = version >= {};\n", api.flexible) } else { String::new() }
}

fn put(text: &mut String, more: &str) {
    text.write_str(more).expect("a string takes everything");
}
