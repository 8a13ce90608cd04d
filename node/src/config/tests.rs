use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rafka_model::limits::{
    FLUSH_DIRTY_BYTES_MAX, FLUSH_DIRTY_MS_MAX, FLUSHES_PER_SECOND_MAX, HEARTBEAT_MS, SESSION_MS,
};

use super::*;

/// A file system in memory.
#[derive(Default)]
struct Texts(BTreeMap<PathBuf, String>);

impl Files for Texts {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Sources that a test fills in.
#[derive(Default)]
struct Given {
    files: Texts,
    environment: Vec<(String, String)>,
    set: Vec<String>,
    flags: Vec<Flag>,
    named: Option<PathBuf>,
}

impl Given {
    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.0.insert(path.into(), text.to_owned());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn set(mut self, text: &str) -> Self {
        self.set.push(text.to_owned());
        self
    }

    fn flag(mut self, flag: &'static str, key: &str, value: &str) -> Self {
        self.flags.push(Flag { flag, key: key.to_owned(), value: Value::One(value.to_owned()) });
        self
    }

    fn load(self) -> Result<Loaded, ConfigError> {
        load(&Sources {
            flags: self.flags,
            set: self.set,
            file: self.named,
            environment: self.environment,
            directories: Directories { data: "/data".into(), search: vec!["first.yaml".into(), "second.yaml".into()] },
            files: &self.files,
        })
    }

    fn loaded(self) -> Loaded {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(self) -> String {
        self.load().map(|loaded| loaded.config).expect_err("refused").to_string()
    }
}

fn origin(loaded: &Loaded, key: &str) -> String {
    loaded.shown().into_iter().find(|shown| shown.key == key).expect("a key").origin.to_string()
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = || Given::default().file("first.yaml", "node:\n  rack: from-file\n  log_level: warn\n");
    let level = |loaded: &Loaded| loaded.config.node.log_level.to_string();

    let nothing = Given::default().loaded();
    assert_eq!((level(&nothing), origin(&nothing, "node.log_level")), ("info".to_owned(), "default".to_owned()));
    assert_eq!(nothing.config.node.data_dir, Path::new("/data"));
    let from_file = file().loaded();
    assert_eq!(
        (level(&from_file), origin(&from_file, "node.log_level")),
        ("warn".to_owned(), "first.yaml:3".to_owned())
    );
    let from_env = file().env("RAFKA_NODE__LOG_LEVEL", "debug").loaded();
    assert_eq!(level(&from_env), "debug");
    assert_eq!(origin(&from_env, "node.log_level"), "$RAFKA_NODE__LOG_LEVEL");
    let from_set = file().env("RAFKA_NODE__LOG_LEVEL", "debug").set("node.log_level=error").loaded();
    assert_eq!((level(&from_set), origin(&from_set, "node.log_level")), ("error".to_owned(), "--set".to_owned()));
    let from_flag = file().set("node.log_level=error").flag("--log-level", "node.log_level", "trace").loaded();
    assert_eq!(
        (level(&from_flag), origin(&from_flag, "node.log_level")),
        ("trace".to_owned(), "--log-level".to_owned())
    );
    assert_eq!(from_flag.config.node.rack.expect("set").as_str(), "from-file", "other keys keep their source");
}

#[test]
fn only_the_first_file_is_read_and_a_named_one_must_exist() {
    let both = Given::default().file("first.yaml", "node: {rack: one}").file("second.yaml", "node: {weight_milli: 5}");
    let loaded = both.loaded();
    assert_eq!(loaded.file.as_deref(), Some(Path::new("first.yaml")));
    assert_eq!(loaded.config.node.weight_milli, 1000);
    let named = || Given::default().file("first.yaml", "node: {rack: one}").file("mine.yaml", "node: {rack: two}");
    let by_variable = named().env("RAFKA_CONFIG", "mine.yaml").loaded();
    assert_eq!(by_variable.config.node.rack.expect("set").as_str(), "two");
    let missing = Given { named: Some("gone.yaml".into()), ..named() };
    assert!(missing.refused().starts_with("--config: cannot read gone.yaml"));
}

#[test]
fn an_unknown_key_is_an_error_with_its_line_and_the_nearest_one() {
    let text = "# comment\nmesh:\n  lsten: 127.0.0.1:1\n  listen: [127.0.0.1:2]\nnode:\n  ready_flie: x\nlanes:\n  listen: 7400\n";
    let error = Given::default().file("first.yaml", text).refused();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "first.yaml:3: mesh.lsten: unknown key");
    assert_eq!(lines[1], "  hint: did you mean mesh.listen?");
    assert_eq!(lines[2], "first.yaml:6: node.ready_flie: unknown key");
    assert_eq!(lines[3], "  hint: did you mean node.ready_file?");
    assert_eq!(lines[4], "first.yaml:7: lanes: unknown section");
    assert!(lines[5].starts_with("  hint: sections are: node, mesh"), "{error}");
    assert_eq!(lines.len(), 6, "all problems at once, none twice");

    let error = Given::default().env("RAFKA_MESH__BOOTSTARP", "a:1").refused();
    assert_eq!(error, "$RAFKA_MESH__BOOTSTARP: mesh.bootstarp: unknown key\n  hint: did you mean mesh.bootstrap?");
    let error = Given::default().set("mesh.data_dir=/x").refused();
    assert!(error.contains("did you mean node.data_dir?"), "the right name in the wrong section: {error}");
    assert!(Given::default().set("node.rack").refused().contains("write --set section.key=value"));
}

#[test]
fn a_bad_value_is_an_error_with_its_place_and_what_is_legal() {
    let text = "node:\n  weight_milli: heavy\n  log_format: josn\n  log_level: inof\nmesh:\n  bootstrap:\n    - 10.0.0.1:7300\n    - nonsense\n";
    let error = Given::default().file("first.yaml", text).refused();
    assert!(
        error.contains("first.yaml:2: node.weight_milli: expected an integer from 1 to 1000000, got \"heavy\""),
        "{error}"
    );
    assert!(error.contains("first.yaml:3: node.log_format: expected one of auto, pretty, json, compact"), "{error}");
    assert!(error.contains("did you mean \"json\"?"), "{error}");
    assert!(error.contains("first.yaml:4: node.log_level: \"inof\" is none of"), "{error}");
    assert!(error.contains("first.yaml:6: mesh.bootstrap: \"nonsense\" has no port"), "{error}");
    for (set, expected) in [
        ("cluster.session_ms=1s", "four times cluster.heartbeat_ms"),
        ("cluster.id=abc", "expected 64 hex digits"),
        ("security.allow_anonymous=lanes", "no door \"lanes\""),
        ("ops.listen=everywhere", "is not IP:PORT"),
        ("topic.cleanup_policy=compress", "expected one of delete, compact"),
        ("topic.min_cleanable_dirty_ratio=1.5", "expected a number from 0 to 1"),
        ("node.rack=a b", "contains ' '"),
        ("mesh.listen=", "no address to listen on"),
        ("cluster.bootstrap_expect=3", "add --bootstrap"),
    ] {
        let error = Given::default().set(set).refused();
        assert!(error.contains(expected), "{set}: {error}");
    }
}

#[test]
fn text_that_is_no_configuration_is_an_error_with_its_line() {
    for (text, line) in [
        ("node:\n  rack: [a, b]\n", 2),
        ("node:\n\t rack: a\n", 2),
        ("- a\n", 1),
        ("node: 5\n", 1),
        ("node:\n  rack: a\n  rack: b\n", 3),
    ] {
        let error = Given::default().file("first.yaml", text).refused();
        assert!(error.starts_with(&format!("first.yaml:{line}: ")), "{text:?}: {error}");
        assert_eq!(error.lines().count(), 2, "what is wrong, and a hint: {error}");
    }
    for empty in ["", "\n# nothing\n", "node:\n", "node:\n  rack:\n", "mesh:\n  bootstrap: ~\n"] {
        assert_eq!(Given::default().file("first.yaml", empty).loaded().config, Given::default().loaded().config);
    }
}

#[test]
fn values_of_the_file_are_taken_as_they_are_written() {
    let id = "1".repeat(64);
    let text = format!("node:\n  rack: 007\ncluster:\n  id: {id}\n  session_ms: 30s\ncache:\n  bytes_max: \"1 GiB\"\n");
    let config = Given::default().file("first.yaml", &text).loaded().config;
    assert_eq!(config.node.rack.expect("set").as_str(), "007");
    assert_eq!(config.cluster.id.expect("set").to_string(), id);
    assert_eq!((config.cluster.session_ms, config.cache.bytes_max), (30_000, 1 << 30));
}

#[test]
fn lists_come_from_every_source() {
    let two = ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/2"];
    let bootstrap = |given: Given| -> Vec<String> {
        given.loaded().config.mesh.bootstrap.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        bootstrap(Given::default().file("first.yaml", "mesh:\n  bootstrap: [10.0.0.1:1, \"10.0.0.2:2\"]\n")),
        two
    );
    assert_eq!(bootstrap(Given::default().file("first.yaml", "mesh:\n  bootstrap: 10.0.0.1:1\n")), two[..1]);
    assert_eq!(bootstrap(Given::default().env("RAFKA_MESH__BOOTSTRAP", "10.0.0.1:1, 10.0.0.2:2")), two);
    assert_eq!(bootstrap(Given::default().set("mesh.bootstrap=[10.0.0.1:1,10.0.0.2:2]")), two);
    assert!(bootstrap(Given::default().env("RAFKA_MESH__BOOTSTRAP", "")).is_empty(), "an empty variable is not set");
}

#[test]
fn a_secret_comes_from_a_file_and_is_never_shown() {
    let file = || Given::default().file("/run/token", "s3cret\n");
    let token = |loaded: &Loaded| loaded.config.cluster.join_token.as_ref().map(|secret| secret.expose().to_owned());
    for given in [
        file().env("RAFKA_CLUSTER__JOIN_TOKEN_FILE", "/run/token"),
        file().flag("--join-token-file", "cluster.join_token_file", "/run/token"),
        file().env("RAFKA_CLUSTER__JOIN_TOKEN", "other").flag(
            "--join-token-file",
            "cluster.join_token_file",
            "/run/token",
        ),
        Given::default().env("RAFKA_CLUSTER__JOIN_TOKEN", "s3cret"),
    ] {
        let loaded = given.loaded();
        assert_eq!(token(&loaded).as_deref(), Some("s3cret"));
        assert!(!format!("{loaded:?} {:?}", loaded.shown()).contains("s3cret"), "the secret shows");
    }
    let rack = Given::default().file("/run/rack", "r1\n").env("RAFKA_NODE__RACK_FILE", "/run/rack").loaded();
    assert_eq!(rack.config.node.rack.as_ref().expect("set").as_str(), "r1");
    assert_eq!(origin(&rack, "node.rack"), "/run/rack ($RAFKA_NODE__RACK_FILE)");
    let error = Given::default().env("RAFKA_NODE__RACK_FILE", "/run/rack").refused();
    assert!(error.starts_with("$RAFKA_NODE__RACK_FILE: cannot read /run/rack"), "{error}");
    let both = file().env("RAFKA_CLUSTER__JOIN_TOKEN", "a").env("RAFKA_CLUSTER__JOIN_TOKEN_FILE", "/run/token");
    assert!(both.refused().contains("set one of them"));
    assert!(Given::default().set("cluster.join_token_file=/gone").refused().contains("cannot read /gone"));
}

#[test]
fn topic_defaults_have_kafkas_names_and_leave_what_is_given_alone() {
    let topic = Given::default().set("topic.num_partitions=6").set("topic.retention_ms=1h").loaded().config.topic;
    assert_eq!(topic.num_partitions, 6);
    let configs = BTreeMap::from([("retention.ms".to_owned(), "3600000".to_owned())]);
    assert_eq!(topic.configs, configs);
    let given = BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())]);
    assert_eq!(topic.over(given.clone()), given);
    assert_eq!(topic.over(BTreeMap::new()), configs);
}

#[test]
fn doors_beyond_loopback_must_be_meant() {
    let doors = |sets: &[&str]| {
        let given = sets.iter().fold(Given::default(), |given, set| given.set(set));
        check_doors(&given.loaded().config).map_err(|error| error.to_string())
    };
    assert_eq!(doors(&[]), Ok(()));
    let error = doors(&["mesh.listen=0.0.0.0:7300", "ops.listen=0.0.0.0:9644"]).expect_err("open");
    assert!(error.contains("no join token") && error.contains("--allow-anonymous ops"), "{error}");
    assert_eq!(doors(&["mesh.listen=0.0.0.0:7300", "cluster.join_token=x"]), Ok(()));
    assert_eq!(doors(&["ops.listen=0.0.0.0:9644", "security.allow_anonymous=ops"]), Ok(()));
    assert_eq!(doors(&["mesh.listen=[::]:7300", "ops.listen=:9644", "security.insecure=true"]), Ok(()));
    let error = doors(&["kafka.listen=out=:9092,in=127.0.0.1:9093"]).expect_err("open");
    assert!(error.contains("0.0.0.0:9092") && error.contains("--allow-anonymous kafka"), "{error}");
    assert_eq!(doors(&["kafka.listen=:9092", "security.allow_anonymous=kafka,ops"]), Ok(()));
    assert_eq!(doors(&["kafka.listen=none", "ops.listen=none", "mesh.listen=localhost:0"]), Ok(()));
}

#[test]
fn the_default_file_parses_to_the_defaults() {
    let yaml = default_yaml();
    let from_file = Given::default().file("first.yaml", &yaml).loaded();
    let defaults = Given::default().loaded().config;
    assert_eq!(Config { shown: defaults.shown.clone(), ..from_file.config.clone() }, defaults);
    let origins: BTreeSet<bool> = from_file
        .shown()
        .iter()
        .filter(|shown| shown.value.is_some())
        .map(|shown| shown.origin == Origin::Default)
        .collect();
    assert!(origins.contains(&false), "its values are in force, not commented out");
    for key in keys() {
        assert!(yaml.contains(&format!("{}:", key.name)), "{} is missing", key.path());
    }
}

#[test]
fn every_key_is_documented_and_its_default_legal() {
    let page = reference_markdown();
    let mut seen = BTreeSet::new();
    for key in keys() {
        assert!(seen.insert(key.path()), "{} twice", key.path());
        assert!(key.doc.trim().len() > 10 && key.doc.trim().ends_with('.'), "{} lacks words", key.path());
        assert!(page.contains(&format!("| `{}` |", key.path())));
        let plain = key.preset_value().map(|value| key.plain(value.clone()).map(|plain| plain == value));
        assert!(matches!(plain, None | Some(Ok(true))), "{}: {plain:?}", key.path());
        let plain_name = key.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(plain_name && !key.name.contains("__"), "{} has no environment variable", key.path());
    }
    let config = Config::default();
    assert_eq!((config.cluster.heartbeat_ms, config.cluster.session_ms), (HEARTBEAT_MS, SESSION_MS));
    assert_eq!((config.log.flush_ms, config.log.flush_bytes), (FLUSH_DIRTY_MS_MAX, FLUSH_DIRTY_BYTES_MAX));
    assert_eq!(config.log.flushes_per_second, FLUSHES_PER_SECOND_MAX);
    assert!(config.topic.configs.is_empty());
}

#[test]
fn damaged_and_unreadable_files_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rafka.yaml");
    let read = |given: Option<&Path>, search: &Path| {
        let directories = Directories { data: "/data".into(), search: vec![search.to_owned()] };
        let (flags, set, environment) = (Vec::new(), Vec::new(), Vec::new());
        let file = given.map(Path::to_owned);
        load(&Sources { flags, set, file, environment, directories, files: &HostFiles })
            .map_err(|error| error.to_string())
    };
    assert!(read(None, &path).expect("a file of the list may be missing").file.is_none());
    for (content, expected) in [
        (vec![0xff, 0xfe, 0x00], "valid UTF-8"),
        (b"node:\n  rack: \"r1\nmesh".to_vec(), "hint:"),
        (vec![b'#'; rafka_model::limits::CONFIG_FILE_BYTES_MAX + 1], "over 1048576 bytes"),
    ] {
        std::fs::write(&path, content).expect("writes");
        let error = read(None, &path).expect_err("refused");
        assert!(error.contains("rafka.yaml") && error.contains(expected), "{error}");
    }
    let error = read(Some(directory.path()), &path).expect_err("refused");
    assert!(error.starts_with("--config: cannot read"), "{error}");
}

#[test]
fn the_hosts_directories_follow_systemd() {
    let environment = [("STATE_DIRECTORY".to_owned(), "/var/lib/private/rafka:/other".to_owned())];
    assert_eq!(Directories::of_host(&environment).data, Path::new("/var/lib/private/rafka"));
    assert_eq!(Directories::of_host(&[]).search.first().expect("a list"), Path::new("./rafka.yaml"));
}

proptest::proptest! {
    #[test]
    fn no_file_and_no_variable_panics(text in "\\PC{0,80}|(node|mesh|x):\n( (rack|listen|y): [\\PC]{0,20}\n){0,3}", value in "\\PC{0,40}") {
        let keys = ["NODE__RACK", "MESH__LISTEN", "CLUSTER__ID", "CACHE__BYTES_MAX", "OPS__LISTEN", "LOG__FLUSH_MS", "NODE__LOG_LEVEL"];
        for key in keys {
            let _ = Given::default().env(&format!("RAFKA_{key}"), &value).load();
        }
        let _ = Given::default().file("first.yaml", &text).load();
    }
}

#[test]
fn sessions_of_groups_can_be_kept() {
    let error = Given::default().set("groups.min_session_timeout_ms=2000000").load().expect_err("refused");
    assert!(error.to_string().contains("groups.max_session_timeout_ms (1800000)"), "{error}");
    let error = Given::default().set("groups.consumer_heartbeat_interval_ms=45s").load().expect_err("refused");
    assert!(error.to_string().contains("groups.consumer_session_timeout_ms (45000)"), "{error}");
    let loaded = Given::default().set("groups.consumer_migration_policy=upgrade").load().expect("good");
    assert_eq!(loaded.config.groups.consumer_migration_policy, rafka_broker::group::MigrationPolicy::Upgrade);
}
