//! What `build.rs` reads, refuses and writes.

#[path = "../build/check.rs"]
mod check;
#[path = "../build/emit.rs"]
mod emit;
#[path = "../build/field.rs"]
mod field;
#[path = "../build/parse.rs"]
mod parse;
#[path = "../build/schema.rs"]
mod schema;

use schema::Api;

const TABLE: &str = "\
# Tells the time.
api 7 AskTime versions 1-3 flexible 2

request
    zone: string? v2+ ignorable
    exact: bool v1-2

response
    answers: [Answer]
        at_ms: i64 = -1
        name: string? null v3
    next: Answer tag 0 v3
";

fn read(table: &str) -> Result<Api, (usize, String)> {
    let api = parse::api(table)?;
    check::api(&api).map(|()| api)
}

/// The mistake in the table with `from` replaced by `to`.
fn mistake(from: &str, to: &str) -> (usize, String) {
    assert!(TABLE.contains(from), "{from:?}");
    read(&TABLE.replacen(from, to, 1)).err().expect("refused")
}

#[test]
fn a_table_becomes_code_that_follows_the_versions() {
    let api = read(TABLE).unwrap_or_else(|(line, error)| panic!("{line}: {error}"));
    let text = emit::messages(&[api]);
    for line in [
        "/// Tells the time.",
        "pub mod ask_time {",
        "zone: if version >= 2 { from.string_opt(true, \"AskTimeRequest.zone\")? } else { None },",
        "exact: if version <= 2 { from.bool(\"AskTimeRequest.exact\")? } else { false },",
        "return Err(EncodeError::absent(\"AskTimeRequest.exact\", version));",
        "answers: from.structs(version, flexible, \"AskTimeResponse.answers\")?,",
        "at_ms: -1,",
        "it.next = Answer::decode(version, from)?;",
        "let has_next = version == 3 && self.next != Answer::default();",
        "const KEY: ApiKey = ApiKey::AskTime;",
    ] {
        assert!(text.contains(line), "{line}\n\n{text}");
    }
    assert!(!text.contains("absent(\"AskTimeRequest.zone\""), "what is ignorable is dropped");
}

#[test]
fn a_table_becomes_a_row_and_random_values() {
    let api = read(TABLE).unwrap_or_else(|(line, error)| panic!("{line}: {error}"));
    let row = "ApiKey::AskTime => &Row { name: \"AskTime\", versions: 1..=3, advertised: 1..=3, flexible: 2 },";
    assert!(emit::api_key(std::slice::from_ref(&api)).contains(row));
    assert!(emit::testing(&[api]).contains("impl Arbitrary for messages::ask_time::Answer"));
}

#[test]
fn mistakes_are_found_with_their_lines() {
    assert_eq!(mistake("versions 1-3", "versions 3-1").0, 2);
    assert_eq!(mistake("flexible 2", "flexible").0, 2);
    assert_eq!(mistake("string? v2+", "text? v2+").0, 5);
    assert_eq!(mistake("bool v1-2", "bool v1-4").0, 6);
    assert_eq!(mistake("    exact", "        exact").0, 6);
    assert_eq!(mistake("exact", "zone").0, 6);
    assert_eq!(mistake("request", "Request").0, 4);
    assert_eq!(mistake("[Answer]", "[Reply]").0, 12);
    assert_eq!(mistake("= -1", "= soon").0, 10);
    assert_eq!(mistake("null v3", "null v0+").0, 11);
    assert_eq!(mistake("tag 0", "tag 1").0, 12);
    assert_eq!(mistake("v3\n", "v4\n").0, 11);
    assert_eq!(mistake("i64 = -1", "i64?").0, 10);
    assert_eq!(mistake("v2+ ignorable", "v1+ ignorable").0, 5);
    assert_eq!(mistake("at_ms", "atMs").0, 10);
}
