//! Configuration, as an operator meets it on the command line.

use core::time::Duration;
use std::{
    path::Path,
    process::{Command, Output},
};

use crate::node::{run, setup};

/// The program, without what this process's environment says of it.
fn columba(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_columba"));
    command.current_dir(dir).args(args);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COLUMBA_")) {
        command.env_remove(name);
    }
    command
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_operator_sees_where_every_value_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("columba.toml");
    let text =
        "listen = \"127.0.0.1:1\"\ncores = 3\npin_cores = false\n[registration]\ninvites = [\"a secret code\"]\n";
    std::fs::write(&file, text).unwrap();
    let check = ["config", "check", "--config", "columba.toml"];
    let output = columba(dir.path(), &check)
        .args(["--listen", "127.0.0.1:3", "--set", "connections.total_max=7"])
        .envs([("COLUMBA_LISTEN", "127.0.0.1:2"), ("COLUMBA_CORES", "4")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", err(&output));
    let shown = out(&output);
    for expected in [
        "listen = \"127.0.0.1:3\" # flag --listen\n",
        "cores = 4 # environment COLUMBA_CORES\n",
        "pin_cores = false # columba.toml\n",
        "total_max = 7 # flag --set\n",
        "data_dir = \"./data\" # default\n",
    ] {
        assert!(shown.contains(expected), "{expected} is not in\n{shown}");
    }
    assert!(!shown.contains("a secret code"), "a secret is shown");
    assert!(!dir.path().join("data").exists(), "a check changes nothing");
}

#[test]
fn a_mistake_in_the_configuration_is_named_and_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("wrong.toml"), "listn = \"127.0.0.1:1\"\n").unwrap();
    std::fs::write(dir.path().join("kind.toml"), "cores = \"many\"\n").unwrap();
    std::fs::write(dir.path().join("broken.toml"), "cores = = 1\n").unwrap();
    for (args, env, expected) in [
        (&["--config", "wrong.toml"][..], None, &["listn", "listen", "wrong.toml"][..]),
        (&["--config", "kind.toml"], None, &["cores", "kind.toml"]),
        (&["--config", "broken.toml"], None, &["broken.toml"]),
        (&["--config", "missing.toml"], None, &["missing.toml"]),
        (&["--set", "conections.total_max=1"], None, &["conections.total_max", "connections.total_max"]),
        (&["--set", "cores"], None, &["KEY=VALUE"]),
        (&["--cores", "none"], None, &["cores"]),
        (&["--listen", "localhost"], None, &["listen"]),
        (&[], Some(("COLUMBA_COERS", "1")), &["COLUMBA_COERS", "cores"]),
        (&["--set", "registration.mode=invite"], None, &["registration.invites"]),
        (&["--set", "registration.mode=jwt"], None, &["registration.jwt_key"]),
    ] {
        for first in [&["config", "check"][..], &["serve"]] {
            let output = columba(dir.path(), first).args(args).envs(env).output().unwrap();
            assert!(!output.status.success(), "{first:?} {args:?} {env:?}");
            let said = err(&output);
            for expected in expected {
                assert!(said.contains(expected), "{first:?} {args:?} {env:?}: {expected} is not in {said}");
            }
        }
    }
    assert!(!dir.path().join("data").exists(), "nothing was started");
}

#[test]
fn the_example_is_a_configuration_of_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let example = columba(dir.path(), &["config", "example"]).output().unwrap();
    assert!(example.status.success());
    std::fs::write(dir.path().join("example.toml"), &example.stdout).unwrap();
    let with = columba(dir.path(), &["config", "check", "--config", "example.toml"]).output().unwrap();
    assert!(with.status.success(), "{}", err(&with));
    let without = columba(dir.path(), &["config", "check"]).output().unwrap();
    let values = |output: &Output| -> Vec<String> {
        out(output).lines().map(|line| line.split(" # ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(values(&with), values(&without));
    let version = columba(dir.path(), &["version"]).output().unwrap();
    assert_eq!(out(&version), concat!("columba ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn two_nodes_never_share_a_directory_or_a_port_and_cores_never_change() {
    run(Duration::from_secs(120), async {
        let mut node = setup().fixed_port().start().await;
        let data = node.data_dir().to_str().unwrap().to_owned();
        let second =
            columba(Path::new("/"), &["serve", "--data-dir", &data, "--listen", "127.0.0.1:0"]).output().unwrap();
        assert_eq!(second.status.code(), Some(1));
        assert!(err(&second).contains("process "), "{}", err(&second));

        let other = tempfile::tempdir().unwrap();
        let other = other.path().join("data");
        let listen = node.address().to_string();
        let second =
            columba(Path::new("/"), &["serve", "--listen", &listen, "--data-dir"]).arg(&other).output().unwrap();
        assert_eq!(second.status.code(), Some(1));
        assert!(err(&second).contains(&listen), "{}", err(&second));

        node.kill();
        let changed =
            columba(Path::new("/"), &["serve", "--data-dir", &data, "--cores", "2", "--listen", "127.0.0.1:0"]);
        let changed = { changed }.output().unwrap();
        assert_eq!(changed.status.code(), Some(1));
        assert!(err(&changed).contains("cores = 1, which cannot change"), "{}", err(&changed));
        node.start().await;
        assert_eq!(node.page("/readyz").await.0, 200);
    });
}
