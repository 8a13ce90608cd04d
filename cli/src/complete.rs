//! What the shell offers while a line is being typed: live names of topics and groups, within a budget, silent on failure.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use rafka_client::{Admin, Client};

use crate::connect::ClusterArgs;
use crate::context::Store;

/// Nobody waits longer for a suggestion.
const BUDGET: Duration = Duration::from_millis(200);

/// Names of contexts.
pub(crate) fn contexts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let contexts = Store::of_user().and_then(|store| store.load()).unwrap_or_default();
    candidates(typed, contexts.contexts.into_keys())
}

/// Names of the cluster's topics.
pub(crate) fn topics(typed: &OsStr) -> Vec<CompletionCandidate> {
    live(typed, async |admin| {
        let topics = admin.topics().await.ok()?;
        Some(topics.into_iter().map(|topic| topic.name.to_string()).collect())
    })
}

/// Names of the cluster's consumer groups.
pub(crate) fn groups(typed: &OsStr) -> Vec<CompletionCandidate> {
    live(typed, async |admin| {
        let listing = admin.list_groups().await.ok()?;
        Some(listing.groups.into_iter().map(|listed| listed.group).collect())
    })
}

/// What a cluster answers in time, of what begins like the word.
fn live(typed: &OsStr, ask: impl AsyncFnOnce(Admin) -> Option<Vec<String>>) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() else {
        return Vec::new();
    };
    let asked = async {
        let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let config = cluster_of(&words).target().ok()?.client_config(BUDGET).ok()?;
        ask(Client::connect(config).await.ok()?.admin()).await
    };
    let names = runtime.block_on(async { tokio::time::timeout(BUDGET, asked).await.ok().flatten() });
    runtime.shutdown_background();
    candidates(typed, names.unwrap_or_default())
}

/// The cluster that the unfinished line names.
fn cluster_of(words: &[String]) -> ClusterArgs {
    let mut args = ClusterArgs::default();
    for (i, word) in words.iter().enumerate() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), words.get(i + 1).cloned()),
        };
        match flag {
            "--bootstrap" => args.bootstrap.extend(value),
            "--context" => args.context = value,
            "--token-file" => args.token_file = value.map(Into::into),
            _ => {}
        }
    }
    args
}

fn candidates(typed: &OsStr, names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unfinished_line_says_which_cluster() {
        let words = ["rafka", "--", "rafka", "sub", "--bootstrap", "a:1", "--bootstrap=b:2", "--context=c", "or"];
        let args = cluster_of(&words.map(str::to_owned));
        assert_eq!((args.bootstrap, args.context), (vec!["a:1".to_owned(), "b:2".to_owned()], Some("c".to_owned())));
    }

    #[test]
    fn only_what_begins_like_the_word_is_offered() {
        let offered = candidates(OsStr::new("or"), ["orders".to_owned(), "payments".to_owned()]);
        assert_eq!(offered.iter().map(CompletionCandidate::get_value).collect::<Vec<_>>(), ["orders"]);
    }
}
