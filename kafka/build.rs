//! Writes the messages of the Kafka protocol from the tables in `schema/`.
//!
//! A mistake in a table fails the build with file and line.

#[path = "build/check.rs"]
mod check;
#[path = "build/emit.rs"]
mod emit;
#[path = "build/field.rs"]
mod field;
#[path = "build/parse.rs"]
mod parse;
#[path = "build/schema.rs"]
mod schema;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=build");
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut apis = Vec::new();
    for path in tables(Path::new("schema"))? {
        let shown = path.display();
        let text = fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
        let at = |(line, error): (usize, String)| format!("kafka/{shown}:{line}: {error}");
        let api = parse::api(&text).map_err(at)?;
        check::api(&api).map_err(at)?;
        if path.file_stem().is_none_or(|stem| stem != api.module().as_str()) {
            return Err(format!("kafka/{shown}: the table of {} belongs into {}.schema", api.name, api.module()));
        }
        apis.push(api);
    }
    apis.sort_by_key(|api| api.number);
    if let Some(pair) = apis.windows(2).find(|pair| pair[0].number == pair[1].number) {
        return Err(format!("{} and {} have the same number", pair[0].name, pair[1].name));
    }
    write("api_key.rs", &emit::api_key(&apis))?;
    write("messages.rs", &emit::messages(&apis))?;
    write("testing.rs", &emit::testing(&apis))
}

fn tables(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let broken = |error: std::io::Error| format!("kafka/{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(broken)? {
        let path = entry.map_err(broken)?.path();
        if path.extension().is_some_and(|extension| extension == "schema") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn write(name: &str, text: &str) -> Result<(), String> {
    let folder = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&folder).join(name), text).map_err(|error| format!("{name}: {error}"))
}
