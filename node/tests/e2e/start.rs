//! What a node refuses to start on: each with an error, a hint and an exit code, and without touching what is there.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Home, Mounted, Node, create, read_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_serves_one_process() {
    let mut first = Node::start(&[]).await;
    first.home.is_refused(&[], 1, &["is in use by process", &first.pid().to_string(), "--data-dir"]);
    assert!(first.is_running() && first.status().await["in_service"] == true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_data_directory_does_not_run_beside_the_first() {
    let fast = ["--set", "cluster.session_ms=1000", "--set", "cluster.heartbeat_ms=100"];
    let founder = Node::start(&fast).await;
    let joining = [&fast[..], &["--bootstrap", founder.mesh()]].concat();
    let home = Node::start(&joining).await.stop();
    let copy = Home::new();
    let copied = Command::new("cp").arg("-r").arg(home.data()).arg(copy.path()).status();
    assert!(copied.expect("cp runs").success());
    let mut first = home.start(&joining).await;
    copy.is_refused(&joining, 1, &["the cluster refuses this node", "copied data directory"]);
    assert!(first.is_running() && first.status().await["in_service"] == true);
}

#[test]
fn a_busy_port_is_named() {
    let busy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = busy.local_addr().expect("bound").to_string();
    let port = address.rsplit(':').next().expect("a port");
    Home::new().is_refused(&["--listen", &address], 1, &["cannot listen on", port, "port 0"]);
    Home::new().is_refused(&["--ops-listen", &address], 1, &["ops HTTP cannot listen on", &address]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let home = Home::new();
    let data = home.data();
    if rustix::process::geteuid().is_root() {
        // Permissions do not stop root; a read-only file system does.
        let Some(_mounted) = Mounted::new(&data, "ro") else { return };
        home.is_refused(&[], 1, &["cannot be written", "data", "read-only"]);
    } else {
        std::fs::create_dir(&data).expect("made");
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o555)).expect("set");
        home.is_refused(&[], 1, &["cannot be written", "permissions"]);
    }
}

#[test]
fn a_directory_that_is_not_rafkas_is_left_alone() {
    let home = Home::new();
    std::fs::create_dir(home.data()).expect("made");
    std::fs::write(home.data().join("thesis.tex"), "years of work").expect("written");
    let before = home.contents();
    home.is_refused(&[], 1, &["thesis.tex", "not Rafka's", "--data-dir"]);
    assert_eq!(home.contents(), before);
    let file = Home::new();
    std::fs::write(file.data(), "a file").expect("written");
    file.is_refused(&[], 1, &["is not a directory", "--data-dir"]);
}

/// The first file under `folder` whose name `ends` so.
fn find(folder: &Path, is_it: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    entries.iter().find_map(|path| match path.is_dir() {
        true => find(path, is_it),
        false => path.file_name().and_then(|name| name.to_str()).filter(|name| is_it(name)).map(|_| path.clone()),
    })
}

/// A founder that has a topic and was stopped.
async fn founder() -> Home {
    let node = Node::start(&[]).await;
    let client = node.client().await;
    for topic in ["one", "two"] {
        create(&client, topic, 1, &[]).await;
    }
    drop(client);
    node.stop()
}

/// A node that finds `damage` done to one of its files says so and changes nothing; with the file as it was, it serves.
async fn damaged(home: Home, file: PathBuf, damage: impl FnOnce(&mut Vec<u8>), words: &[&str]) -> Home {
    let good = std::fs::read(&file).expect("read");
    let mut bad = good.clone();
    damage(&mut bad);
    std::fs::write(&file, &bad).expect("written");
    let before = home.contents();
    home.is_refused(&[], 1, words);
    let mut after = home.contents();
    // Consumed at the start, so that a crash from here on does not look like a clean end.
    after.extend(before.iter().filter(|(path, _)| path.ends_with("clean")).map(|(p, b)| (p.clone(), b.clone())));
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "the same files");
    assert!(after == before, "with the same content");
    std::fs::write(&file, good).expect("written");
    let node = home.start(&[]).await;
    let client = node.client().await;
    assert_eq!(read_all(&client, &create(&client, "three", 1, &[]).await).await, []);
    assert!(client.admin().topics().await.expect("answered").len() >= 3, "nothing was lost");
    client.admin().delete_topics(vec!["three".to_owned()], false).await.expect("deleted");
    drop(client);
    node.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_named_and_left_as_they_are() {
    let home = founder().await;
    let data = home.data();
    let key = data.join("identity.key");
    let home = damaged(home, key, |bytes| *bytes = b"garbage".to_vec(), &["identity.key", "backup"]).await;
    let node = data.join("node.json");
    let at = |bytes: &[u8]| bytes.windows(10).position(|at| at == b"cluster_id").expect("named") + 16;
    let flip = |bytes: &mut Vec<u8>| {
        let digit = at(bytes);
        bytes[digit] ^= 1;
    };
    let home = damaged(home, node, flip, &["node.json", "checksum", "backup"]).await;
    let cluster_key = data.join("metadata/cluster-key");
    let home = damaged(home, cluster_key, |bytes| bytes[20] ^= 1, &["cluster-key", "backup"]).await;
    let log = find(&data.join("metadata"), &|name| name.ends_with(".log") || name.ends_with(".seg"));
    let log = log.expect("a segment of the metadata log");
    let segment = log.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
    let middle = |bytes: &mut Vec<u8>| bytes[200] ^= 1;
    damaged(home, log, middle, &["metadata log", &segment]).await;
}

#[test]
fn a_wrong_configuration_ends_with_78_and_says_where() {
    let home = Home::new();
    let wrong = home.file("wrong.yaml", "mesh:\n  listne: [\"127.0.0.1:1\"]\n");
    let torn = home.file("torn.yaml", "mesh:\n  listen: [\"127.0.0.1");
    let typed = home.file("typed.yaml", "log:\n  flush_ms: soon\n");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--set", "mesh.lisen=127.0.0.1:1"], &["did you mean mesh.listen?"]),
        (&["--config", &wrong], &["wrong.yaml:2", "did you mean mesh.listen?"]),
        (&["--config", &torn], &["torn.yaml:2"]),
        (&["--config", &typed], &["typed.yaml:2", "log.flush_ms"]),
        (&["--config", "/no/such.yaml"], &["/no/such.yaml"]),
    ];
    for (flags, words) in cases {
        let (code, said) = home.refused(flags);
        assert!(code == 78 && said.starts_with("error: "), "{code}: {said}");
        assert!(words.iter().all(|words| said.contains(words)), "{words:?} not in: {said}");
    }
    assert!(!home.data().exists(), "nothing was made");
    let (code, said) = home.refused(&["--no-such-flag"]);
    assert!(code == 2 && said.contains("--no-such-flag"), "{code}: {said}");
    let (code, said) = home.refused(&["--listen", "0.0.0.0:0"]);
    assert!(code == 78 && said.contains("join"), "beyond loopback a token is needed: {code}: {said}");
}
