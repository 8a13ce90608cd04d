//! Merging the sources, and the configuration that comes out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rafka_model::config::nearest;

use super::error::{ConfigError, Problem};
use super::file;
use super::key::{Key, Preset};
use super::sections::{Config, SECTIONS, keys};
use super::sources::{Directories, Files, Origin, Sources};
use super::value::{Field, Value};

/// A configuration with the story of its values.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    settings: Settings,
}

/// One key with its value and where that was said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    /// `section.name`.
    pub key: String,
    /// The value in its plain form; `None` if there is none. Secrets are masked.
    pub value: Option<Value>,
    /// Where it was said.
    pub origin: Origin,
}

impl Loaded {
    /// Every key in the order of the documentation.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        self.settings.shown()
    }
}

/// A value found in a source.
pub(super) struct Found {
    pub(super) key: &'static Key,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// The winning value of every key that has one.
#[derive(Clone)]
pub(super) struct Settings(BTreeMap<String, (Value, Origin)>);

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Settings(…)") // there are secrets among the values
    }
}

impl Settings {
    fn presets(directories: &Directories) -> Self {
        let value = |key: &'static Key| match &key.preset {
            Preset::Found(_) => Some(Value::One(directories.data.display().to_string())),
            _ => key.preset_value(),
        };
        Self(keys().filter_map(|key| Some((key.path(), (value(key)?, Origin::Default)))).collect())
    }

    /// Every key in the order of the documentation; secrets are masked.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let shown = |key: &'static Key| {
            let path = key.path();
            let (value, origin) = match self.0.get(&path) {
                Some((value, origin)) => (Some(value.clone()), origin.clone()),
                None => (None, Origin::Default),
            };
            let value = if key.is_secret() { value.map(|_| Value::One("********".to_owned())) } else { value };
            Shown { key: path, value, origin }
        };
        keys().map(shown).collect()
    }

    fn set(&mut self, found: Found, problems: &mut Vec<Problem>) {
        let Found { key, value, origin } = found;
        match key.plain(value) {
            Ok(value) => drop(self.0.insert(key.path(), (value, origin))),
            Err(message) => problems.push(Problem::new(key.path(), Some(origin), message)),
        }
    }

    /// The typed value of the key at `path`; a problem and `None` if its text is refused.
    pub(super) fn field<T: Field>(&self, path: &str, problems: &mut Vec<Problem>) -> Option<T> {
        let setting = self.0.get(path);
        match T::from_value(setting.map(|(value, _)| value)) {
            Ok(field) => Some(field),
            Err(message) => {
                problems.push(Problem::new(path, setting.map(|(_, origin)| origin.clone()), message));
                None
            }
        }
    }

    fn origin(&self, path: &str) -> Option<Origin> {
        self.0.get(path).map(|(_, origin)| origin.clone())
    }
}

/// Builds the configuration from `sources`.
///
/// # Errors
/// [`ConfigError`] with every unknown key, bad value and contradiction. The process should end with
/// [`EXIT_BAD_CONFIG`](super::EXIT_BAD_CONFIG).
pub fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let mut settings = Settings::presets(&sources.directories);
    let mut found = Vec::new();
    let file = match read_file(sources) {
        Ok(Some((path, text))) => {
            match file::parse(&path, &text, &mut problems) {
                Ok(values) => found.extend(values),
                Err(problem) => problems.push(problem),
            }
            Some(path)
        }
        Ok(None) => None,
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    found.extend(from_environment(sources, &mut problems));
    found.extend(sources.set.iter().filter_map(|text| noted(from_set(text), &mut problems)));
    for flag in &sources.flags {
        let origin = Origin::Flag(flag.flag);
        let key = noted(find(&flag.key, &origin), &mut problems);
        found.extend(key.map(|key| Found { key, value: flag.value.clone(), origin }));
    }
    for value in found {
        settings.set(value, &mut problems);
    }
    read_join_token(&mut settings, sources.files, &mut problems);
    let config = Config::resolve(&settings, &mut problems);
    if let Some(config) = &config {
        check_relations(config, &settings, &mut problems);
    }
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, file, settings }),
        _ => Err(ConfigError { problems }),
    }
}

impl Default for Config {
    fn default() -> Self {
        let directories = Directories { data: "/var/lib/rafka".into(), search: Vec::new() };
        Self::resolve(&Settings::presets(&directories), &mut Vec::new()).expect("the defaults of the table are legal")
    }
}

fn noted<T>(result: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

/// The key at `path` (`section.name`), or a problem with the nearest one.
pub(super) fn find(path: &str, origin: &Origin) -> Result<&'static Key, Problem> {
    if let Some(key) = keys().find(|key| key.path() == path) {
        return Ok(key);
    }
    let (section, name) = path.split_once('.').unwrap_or(("", path));
    let Some(section) = SECTIONS.iter().find(|known| known.name == section) else {
        return Err(unknown_section(section, origin.clone()));
    };
    let elsewhere = keys().find(|key| key.name == name).map(Key::path);
    let near =
        || nearest(name, section.keys.iter().map(|key| &*key.name)).map(|name| format!("{}.{name}", section.name));
    let path: String = path.chars().take(120).collect();
    let problem = Problem::new(path, Some(origin.clone()), "unknown key");
    Err(match elsewhere.or_else(near) {
        Some(suggestion) => problem.hint(format!("did you mean {suggestion}?")),
        None => problem.hint(format!("see `rafka config default` for the keys of section {}", section.name)),
    })
}

/// The problem of a section that does not exist.
pub(super) fn unknown_section(name: &str, origin: Origin) -> Problem {
    let names = || SECTIONS.iter().map(|section| section.name);
    let name: String = name.chars().take(120).collect();
    let problem = Problem::new(name.clone(), Some(origin), "unknown section");
    match nearest(&name, names()) {
        Some(suggestion) => problem.hint(format!("did you mean {suggestion}?")),
        None => problem.hint(format!("sections are: {}", names().collect::<Vec<_>>().join(", "))),
    }
}

/// The configuration file: the one that was named, or the first of the search list that exists.
fn read_file(sources: &Sources<'_>) -> Result<Option<(PathBuf, String)>, Problem> {
    let variable = sources.environment.iter().find(|(name, value)| name == "RAFKA_CONFIG" && !value.is_empty());
    let named = match (&sources.file, variable) {
        (Some(path), _) => Some((path.clone(), Origin::Flag("--config"))),
        (None, Some((name, path))) => Some((path.into(), Origin::Variable(name.clone()))),
        (None, None) => None,
    };
    if let Some((path, origin)) = named {
        let text = sources.files.read(&path).map_err(|error| unreadable(&path, &error, Some(origin)))?;
        return Ok(Some((path, text)));
    }
    for path in &sources.directories.search {
        match sources.files.read(path) {
            Ok(text) => return Ok(Some((path.clone(), text))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(unreadable(path, &error, None)),
        }
    }
    Ok(None)
}

fn unreadable(path: &Path, error: &io::Error, origin: Option<Origin>) -> Problem {
    Problem::new("", origin, format!("cannot read {}: {error}", path.display()))
        .hint("name another file, or make this one readable text")
}

/// `RAFKA_<SECTION>__<KEY>`, and the same with `_FILE` for a value that a file holds. Empty means not set.
fn from_environment(sources: &Sources<'_>, problems: &mut Vec<Problem>) -> Vec<Found> {
    let mut all = Vec::new();
    for (variable, value) in &sources.environment {
        let Some((section, name)) = variable.strip_prefix("RAFKA_").and_then(|rest| rest.split_once("__")) else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        let path = format!("{section}.{name}").to_lowercase();
        let origin = Origin::Variable(variable.clone());
        let base = path.strip_suffix("_file").and_then(|base| find(base, &origin).ok());
        let found = match (find(&path, &origin), base) {
            (Ok(key), _) => Ok(Found { key, value: Value::One(value.clone()), origin }),
            (Err(_), Some(key)) => sources
                .files
                .read(Path::new(value))
                .map(|text| Found {
                    key,
                    value: Value::One(text.trim_end_matches(['\n', '\r']).to_owned()),
                    origin: Origin::VariableFile { variable: variable.clone(), path: value.into() },
                })
                .map_err(|error| unreadable(Path::new(value), &error, Some(Origin::Variable(variable.clone())))),
            (Err(problem), None) => Err(problem),
        };
        all.extend(noted(found, problems));
    }
    all
}

fn from_set(text: &str) -> Result<Found, Problem> {
    let origin = Origin::Flag("--set");
    let Some((path, value)) = text.split_once('=') else {
        let message = format!("{:?} has no value", text.chars().take(80).collect::<String>());
        return Err(Problem::new("", Some(origin), message).hint("write --set section.key=value"));
    };
    Ok(Found { key: find(path.trim(), &origin)?, value: Value::One(value.to_owned()), origin })
}

/// Replaces `join_token` by the content of `join_token_file`, if that was said at least as loudly.
fn read_join_token(settings: &mut Settings, files: &dyn Files, problems: &mut Vec<Problem>) {
    const TOKEN: &str = "cluster.join_token";
    const FILE: &str = "cluster.join_token_file";
    let Some((Value::One(path), origin)) = settings.0.get(FILE).cloned() else { return };
    match settings.origin(TOKEN) {
        Some(direct) if direct.rank() > origin.rank() => return,
        Some(direct) if direct.rank() == origin.rank() => {
            problems.push(
                Problem::new(FILE, Some(origin), format!("{TOKEN} is set too ({direct})")).hint("set one of them"),
            );
            return;
        }
        _ => {}
    }
    match files.read(Path::new(&path)) {
        Ok(text) if text.trim().is_empty() => {
            problems.push(Problem::new(FILE, Some(origin), format!("{path} holds no token")));
        }
        Ok(text) => drop(settings.0.insert(TOKEN.to_owned(), (Value::One(text.trim().to_owned()), origin))),
        Err(error) => problems.push(Problem::new(FILE, Some(origin), format!("cannot read {path}: {error}"))),
    }
}

fn check_relations(config: &Config, settings: &Settings, problems: &mut Vec<Problem>) {
    let cluster = &config.cluster;
    let mut refuse = |key: &str, message: String, hint: &str| {
        problems.push(Problem::new(key, settings.origin(key), message).hint(hint));
    };
    if cluster.session_ms < cluster.heartbeat_ms.saturating_mul(4) {
        let message =
            format!("{} is less than four times cluster.heartbeat_ms ({})", cluster.session_ms, cluster.heartbeat_ms);
        refuse(
            "cluster.session_ms",
            message,
            "a session must survive lost heartbeats; raise it or lower the heartbeat",
        );
    }
    let groups = &config.groups;
    if groups.min_session_timeout_ms > groups.max_session_timeout_ms {
        let message = format!(
            "{} is more than groups.max_session_timeout_ms ({})",
            groups.min_session_timeout_ms, groups.max_session_timeout_ms
        );
        refuse("groups.min_session_timeout_ms", message, "no member could join a group; lower it or raise the other");
    }
    if u64::try_from(groups.consumer_heartbeat_interval_ms).is_ok_and(|ms| ms >= groups.consumer_session_timeout_ms) {
        let message = format!(
            "{} is not less than groups.consumer_session_timeout_ms ({})",
            groups.consumer_heartbeat_interval_ms, groups.consumer_session_timeout_ms
        );
        refuse("groups.consumer_heartbeat_interval_ms", message, "members would be taken for dead; lower it");
    }
    if cluster.init && cluster.bootstrap_expect.is_some() {
        let message = "cluster.init is set too".to_owned();
        refuse("cluster.bootstrap_expect", message, "use --init on one node, or --bootstrap-expect on all of them");
    }
    if cluster.bootstrap_expect.is_some_and(|expected| expected > 1) && config.mesh.bootstrap.is_empty() {
        let message = "there are no bootstrap addresses at which the others could be found".to_owned();
        refuse("cluster.bootstrap_expect", message, "add --bootstrap for the other nodes; they need not be up yet");
    }
    if let Some((key, message, hint)) = config.kafka.contradiction(config.node.roles) {
        refuse(key, message, hint);
    }
    if config.kafka.requests_bytes_max < config.kafka.request_bytes_max {
        let message = format!("{} is less than kafka.request_bytes_max", config.kafka.requests_bytes_max);
        refuse("kafka.requests_bytes_max", message, "one largest request must fit");
    }
    if config.mesh.listen.is_empty() {
        refuse(
            "mesh.listen",
            "no address to listen on".to_owned(),
            "use 127.0.0.1:0 for any free port of this machine",
        );
    }
}
