//! What needs no cluster, and what is said when there is none.

use crate::home::Home;

#[test]
fn nobody_there_is_exit_code_six_with_a_hint() {
    let home = Home::new();
    let refused = home.run("topic list --bootstrap 127.0.0.1:1 --connect-timeout 500ms");
    let refused = refused.fails(6, "error: ");
    assert!(refused.err.contains("cause: ") && refused.err.contains("hint: "), "{refused:?}");
    let object = home.run("topic list --bootstrap 127.0.0.1:1 --connect-timeout 500ms -o json").fails(6, "").err;
    let object: serde_json::Value = serde_json::from_str(&object).expect("one object");
    assert_eq!(object["exit"], 6);
    home.run("topic list --bootstrap nonsense:port").fails(2, "nonsense:port");
    home.run("topic list --context nope").fails(3, "context \"nope\" not found");
    home.run("dev stop").fails(3, "`rafka dev` starts one");
    let doctor = home.run("doctor --bootstrap 127.0.0.1:1 --connect-timeout 500ms");
    assert!(doctor.code == 6 && doctor.out.contains("FAILED"), "{doctor:?}");
}

#[test]
fn wrong_usage_is_exit_code_two_also_as_json() {
    let home = Home::new();
    home.run("topic lst").fails(2, "list");
    let object = home.run("topic lst -o json").fails(2, "").err;
    let object: serde_json::Value = serde_json::from_str(&object).expect("one object");
    assert!(object["error"].as_str().expect("words").contains("lst"), "{object}");
    home.run("topic list -o raw").fails(2, "-o raw");
    home.run("subscribe a b").fails(2, "unexpected");
    assert!(home.run("--version").ok().starts_with("rafka "));
    assert!(home.run("topic create --help").ok().contains("--if-not-exists"));
}

#[test]
fn contexts_are_made_selected_and_deleted() {
    let home = Home::new();
    home.run("context current").fails(3, "no context is selected");
    let token = home.file("token", "secret");
    assert_eq!(home.run("context create a --bootstrap 10.0.0.1:7300").ok(), "Context \"a\" created and selected\n");
    home.run(&format!("context create b --bootstrap dns:rafka.example --bootstrap 10.0.0.2:1 --token-file {token}"))
        .ok();
    home.run("context create a --bootstrap 10.0.0.3:7300").fails(4, "--replace");
    home.run("context create c --bootstrap nonsense:port").fails(2, "nonsense");
    home.run("context use b").ok();
    let list = home.run("context list -o json").json();
    assert_eq!(list.iter().map(|line| line["current"] == true).collect::<Vec<_>>(), [false, true]);
    assert_eq!(list[1]["bootstrap"].as_array().map(Vec::len), Some(2));
    home.run("context use bb").fails(3, "did you mean \"b\"?");
    home.run("context delete b").ok();
    home.run("context current").fails(3, "no context");
    assert_eq!(home.run("context list -o json").json().len(), 1);
}

#[test]
fn the_configuration_is_shown_and_checked() {
    let home = Home::new();
    let default = home.run("config default").ok();
    assert!(default.contains("mesh:") && default.contains("data_dir"));
    home.run("config lint").fails(3, "no configuration file found");
    home.file("rafka.yaml", &default);
    assert_eq!(home.run("config lint").ok(), "./rafka.yaml: ok\n");
    let wrong = home.file("wrong.yaml", "mesh:\n  listne: [\"127.0.0.1:1\"]\n");
    let refused = home.run(&format!("config lint {wrong}")).fails(78, "did you mean mesh.listen?");
    assert!(refused.err.contains("wrong.yaml:2"), "{refused:?}");
    let mut command =
        home.command(&["config", "show", "--origin", "-o", "json", "--rack", "r1", "--set", "log.flush_ms=7"]);
    let shown = command.env("RAFKA_CACHE__BYTES_MAX", "1MiB").output().expect("runs").stdout;
    let shown = String::from_utf8(shown).expect("text");
    let line = |key: &str| -> serde_json::Value {
        let found = shown.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        found.into_iter().find(|line| line["key"] == key).expect("shown")
    };
    assert_eq!((&line("node.rack")["value"], &line("node.rack")["origin"]), (&"r1".into(), &"--rack".into()));
    assert_eq!(line("log.flush_ms")["origin"], "--set");
    assert_eq!(line("cache.bytes_max")["origin"], "$RAFKA_CACHE__BYTES_MAX");
    assert!(line("mesh.listen")["origin"].as_str().expect("words").contains("rafka.yaml:"));
    assert!(line("node.data_dir")["origin"] == "default");
    home.run("node start --set mesh.listne=x").fails(78, "did you mean mesh.listen?");
}

#[test]
fn completions_manual_and_cheat_sheets_are_written() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(home.run(&format!("completions {shell}")).ok().contains("COMPLETE"), "{shell}");
        assert!(home.run(&format!("completions {shell} --static")).ok().contains("add-partitions"), "{shell}");
    }
    let pages = home.path().join("man");
    home.run(&format!("man {}", pages.display())).ok();
    let page = std::fs::read_to_string(pages.join("rafka-topic-create.1")).expect("written");
    assert!(page.contains("dry\\-run"));
    assert!(pages.join("rafka.1").exists() && pages.join("rafka-dev.1").exists());
    assert!(home.run("cheat").ok().contains("rafka dev --nodes 3"));
    assert!(home.run("cheat publish").ok().starts_with("Publishing\n"));
}
