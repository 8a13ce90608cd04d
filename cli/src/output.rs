//! Standard output: data and nothing else, as a table, as JSON (one object a line) or as YAML.

use std::io::{self, Write as _};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::errors::{CliError, Result};

/// `-o`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people.
    Table,
    /// One object a line for scripts.
    Json,
    /// YAML.
    Yaml,
    /// Only the values, a line each (subscribe).
    Raw,
}

/// How a command writes what it found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    format: Option<Format>,
}

/// One line of a list.
pub(crate) trait Row: Serialize {
    /// Column titles.
    const COLUMNS: &'static [&'static str];

    /// One cell for each column.
    fn cells(&self) -> Vec<String>;
}

impl Out {
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self { format }
    }

    /// What was asked for, if anything.
    pub(crate) fn asked(self) -> Option<Format> {
        self.format
    }

    /// The format of a command that knows no `raw` and writes tables unless told otherwise.
    pub(crate) fn structured(self) -> Result<Format> {
        match self.format.unwrap_or(Format::Table) {
            Format::Raw => {
                Err(CliError::usage("-o raw is for `rafka subscribe` only").hint("use -o table, json or yaml"))
            }
            format => Ok(format),
        }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Some(Format::Json)
    }

    /// Writes a list.
    pub(crate) fn rows<R: Row>(self, rows: &[R]) -> Result {
        emit(&self.render_rows(rows)?)
    }

    /// Writes one thing; `human` says it for people, with its line ends.
    pub(crate) fn one<T: Serialize>(self, value: &T, human: impl FnOnce() -> String) -> Result {
        emit(&match self.structured()? {
            Format::Json => json_line(value),
            Format::Yaml => yaml(value)?,
            _ => human(),
        })
    }

    fn render_rows<R: Row>(self, rows: &[R]) -> Result<String> {
        Ok(match self.structured()? {
            Format::Json => rows.iter().map(json_line).collect(),
            Format::Yaml => yaml(&rows)?,
            _ => table(R::COLUMNS, rows.iter().map(Row::cells)),
        })
    }
}

/// Aligned columns, two spaces apart, with titles.
pub(crate) fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// `name: value` lines, aligned.
pub(crate) fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<_> = fields.into_iter().collect();
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 1;
    fields.iter().map(|(name, value)| format!("{:<width$} {value}\n", format!("{name}:"))).collect()
}

pub(crate) fn json_line<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types are JSON") + "\n"
}

fn yaml<T: Serialize>(value: &T) -> Result<String> {
    let mut text = serde_saphyr::to_string(value).map_err(|e| CliError::failed("cannot write YAML").because(e))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Writes to standard output.
pub(crate) fn emit(text: &str) -> Result {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| CliError::stdout(&error))
}

/// Says something beside the data, on standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// `3 records`, `1 record`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// The first four and the last three letters of a peer id.
pub(crate) fn short_peer(peer: &str) -> String {
    match (peer.get(..4), peer.len().checked_sub(3).and_then(|at| peer.get(at..))) {
        (Some(head), Some(tail)) if peer.len() > 8 => format!("{head}…{tail}"),
        _ => peer.to_owned(),
    }
}

/// Comma-separated, or a dash for nothing.
pub(crate) fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(",") }
}

/// The thing, or a dash.
pub(crate) fn or_dash<T: ToString>(thing: Option<T>) -> String {
    thing.map_or_else(|| "-".to_owned(), |thing| thing.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Topic {
        topic: &'static str,
        partitions: u32,
        status: Option<&'static str>,
    }

    impl Row for Topic {
        const COLUMNS: &'static [&'static str] = &["TOPIC", "PARTITIONS", "STATUS"];

        fn cells(&self) -> Vec<String> {
            vec![self.topic.to_owned(), self.partitions.to_string(), or_dash(self.status)]
        }
    }

    const TOPICS: &[Topic] = &[
        Topic { topic: "orders", partitions: 3, status: Some("created") },
        Topic { topic: "a", partitions: 12, status: None },
    ];

    fn render(format: Format) -> String {
        Out::new(Some(format)).render_rows(TOPICS).expect("renders")
    }

    #[test]
    fn tables_are_aligned_and_have_no_trailing_spaces() {
        assert_eq!(
            render(Format::Table),
            "TOPIC   PARTITIONS  STATUS\norders  3           created\na       12          -\n"
        );
        assert_eq!(Out::new(None).render_rows::<Topic>(&[]).expect("renders"), "TOPIC  PARTITIONS  STATUS\n");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let expected = "{\"topic\":\"orders\",\"partitions\":3,\"status\":\"created\"}\n{\"topic\":\"a\",\"partitions\":12,\"status\":null}\n";
        assert_eq!(render(Format::Json), expected);
    }

    #[test]
    fn yaml_is_a_list() {
        let back: Vec<std::collections::BTreeMap<String, serde_json::Value>> =
            serde_saphyr::from_str(&render(Format::Yaml)).expect("is YAML");
        assert_eq!((back.len(), &back[0]["topic"]), (2, &"orders".into()));
    }

    #[test]
    fn raw_is_refused_where_there_are_no_values() {
        assert_eq!(Out::new(Some(Format::Raw)).structured().expect_err("refused").code(), 2);
    }

    #[test]
    fn peers_are_shortened_and_things_counted() {
        assert_eq!(short_peer("12D3KooWabcdefqPw"), "12D3…qPw");
        assert_eq!(short_peer("short"), "short");
        assert_eq!((count(1, "record"), count(0, "node")), ("1 record".to_owned(), "0 nodes".to_owned()));
        assert_eq!(fields([("a", "1".to_owned()), ("long", "2".to_owned())]), "a:    1\nlong: 2\n");
    }
}
