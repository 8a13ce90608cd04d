//! Contexts: named clusters, and which of them is meant when nobody says.
//!
//! One YAML file in the user's configuration directory, replaced as a whole, under a lock.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
use rafka_model::config::nearest;
use serde::{Deserialize, Serialize};

use crate::errors::{CliError, Exit, Result};

/// How to reach a cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Mesh addresses of some nodes.
    pub(crate) bootstrap: Vec<String>,
    /// File with the join token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The only cluster to talk to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster_id: Option<String>,
}

/// The content of the file.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The selected one.
    #[serde(default)]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    path: PathBuf,
}

impl Store {
    /// That of this user.
    ///
    /// # Errors
    /// The user has no home.
    pub(crate) fn of_user() -> Result<Self> {
        Ok(Self { path: project()?.config_dir().join("contexts.yaml") })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; a file that does not exist holds nothing.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub(crate) fn load(&self) -> Result<Contexts> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(CliError::file("read", &self.path, &error)),
        };
        if text.trim().is_empty() {
            return Ok(Contexts::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| {
            CliError::new(Exit::BadConfig, format!("{} holds no contexts", self.path.display()))
                .because(error)
                .hint("mend the file, or remove it and create the contexts again")
        })
    }

    /// Changes it; nobody else does so meanwhile, and a reader sees all of the change or nothing.
    ///
    /// # Errors
    /// As [`Self::load`], and when it cannot be written.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Contexts) -> Result<T>) -> Result<T> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|error| CliError::file("create", directory, &error))?;
        let lock_path = self.path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(|error| CliError::file("create", &lock_path, &error))?;
        lock.lock().map_err(|error| CliError::file("lock", &lock_path, &error))?;
        let mut contexts = self.load()?;
        let result = change(&mut contexts)?;
        let text = serde_saphyr::to_string(&contexts)
            .map_err(|error| CliError::failed("cannot write the contexts").because(error))?;
        let part = self.path.with_extension("part");
        let replace = fs::write(&part, text).and_then(|()| fs::rename(&part, &self.path));
        replace.map_err(|error| CliError::file("write", &self.path, &error))?;
        Ok(result)
    }
}

impl Contexts {
    /// The context of this name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn get(&self, name: &str) -> Result<&Context> {
        self.contexts.get(name).ok_or_else(|| {
            let error = CliError::new(Exit::NotFound, format!("context {name:?} not found"));
            match nearest(name, self.contexts.keys().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean {near:?}?")),
                None => error.hint("see them all with `rafka context list`"),
            }
        })
    }

    /// The selected context with its name.
    pub(crate) fn current(&self) -> Option<(&str, &Context)> {
        let name = self.current.as_deref()?;
        Some((name, self.contexts.get(name)?))
    }
}

/// This user's directories.
///
/// # Errors
/// The user has no home.
pub(crate) fn project() -> Result<ProjectDirs> {
    ProjectDirs::from("", "", "rafka").ok_or_else(|| {
        CliError::failed("this user has no home directory").hint("set HOME, or XDG_CONFIG_HOME and XDG_STATE_HOME")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(address: &str) -> Context {
        Context { bootstrap: vec![address.to_owned()], ..Context::default() }
    }

    #[test]
    fn contexts_survive_the_file_and_missing_ones_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store { path: directory.path().join("deep/contexts.yaml") };
        assert_eq!(store.load().expect("empty"), Contexts::default());
        store
            .update(|contexts| {
                contexts.contexts.insert("staging".to_owned(), context("a:1"));
                contexts.current = Some("staging".to_owned());
                Ok(())
            })
            .expect("written");
        let contexts = store.load().expect("read");
        assert_eq!(contexts.current(), Some(("staging", &context("a:1"))));
        let error = contexts.get("stagin").expect_err("not there");
        assert_eq!((error.code(), error.to_lines().contains("did you mean \"staging\"?")), (3, true));
    }

    #[test]
    fn a_damaged_file_is_named_and_a_failed_change_leaves_it_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store { path: directory.path().join("contexts.yaml") };
        fs::write(&store.path, "current: [").expect("written");
        let error = store.load().expect_err("damaged");
        assert_eq!(error.code(), 78);
        assert!(error.to_lines().contains("contexts.yaml"), "{}", error.to_lines());
        fs::write(&store.path, "current: a\ncontexts:\n  a:\n    bootstrap: [\"b:1\"]\n").expect("written");
        let before = fs::read_to_string(&store.path).expect("read");
        let refused: Result = store.update(|contexts| {
            contexts.contexts.clear();
            Err(CliError::failed("no"))
        });
        assert!(refused.is_err());
        assert_eq!(fs::read_to_string(&store.path).expect("read"), before);
    }
}
