//! What a configuration may say, where from, and what it is told when it is wrong.

use super::*;

fn file(text: &str) -> Result<Settings> {
    let mut settings = Settings::default();
    settings.merge_toml(text, Path::new("columba.toml"))?;
    Ok(settings)
}

#[test]
fn defaults_are_valid_and_the_example_says_the_same() {
    let config = Settings::default().build().unwrap();
    assert_eq!(config.listen.port(), 7443);
    assert_eq!((config.cores, config.partitions, config.listen_plain), (None, None, None));
    let example = file(&example()).unwrap();
    for key in KEYS {
        assert_eq!(example.0[key.name].0, Settings::default().0[key.name].0, "{}", key.name);
        assert!(!key.help.is_empty());
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let mut settings = file("listen = '0.0.0.0:1'\ncores = 3\n[log]\nfilter = 'debug'").unwrap();
    let environment = [("COLUMBA_LISTEN", "0.0.0.0:2"), ("COLUMBA_CORES", "4"), ("PATH", "/bin")];
    settings.merge_environment(environment.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned()))).unwrap();
    settings.merge_flag("listen", "0.0.0.0:3").unwrap();
    let config = settings.build().unwrap();
    assert_eq!((config.listen.port(), config.cores, config.log_filter.as_str()), (3, Some(4), "debug"));
    let shown = settings.show();
    assert!(shown.contains("listen = \"0.0.0.0:3\" # flag --listen\n"), "{shown}");
    assert!(shown.contains("cores = 4 # environment COLUMBA_CORES\n"), "{shown}");
    assert!(
        shown.contains("[log]\nfilter = \"debug\" # columba.toml\n")
            || shown.contains("filter = \"debug\" # columba.toml\n")
    );
    assert!(shown.contains("data_dir = \"./data\" # default\n"), "{shown}");
    assert_eq!(file(&shown).unwrap().build().unwrap().listen, config.listen, "what is shown is a file again");
}

#[test]
fn an_unknown_key_is_an_error_that_helps() {
    for (text, expected) in [
        ("lisen = '1.2.3.4:5'", "lisen (columba.toml): there is no such key; the closest is listen"),
        ("[tls]\nname = ['a']", "tls.name (columba.toml): there is no such key; the closest is tls.names"),
        ("[tsl]\nkey = 'a'", "tsl (columba.toml): there is no such key"),
        ("cores = 'two'", "cores (columba.toml): must be a whole number, 0 or more"),
        ("cores = -1", "cores (columba.toml): must be a whole number, 0 or more"),
        ("disk = 'floppy'", "disk (columba.toml): must be one of: auto, uring, thread"),
    ] {
        let error = file(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let mut settings = Settings::default();
    let wrong = [("COLUMBA_DATADIR".to_owned(), "x".to_owned())];
    let error = settings.merge_environment(wrong.into_iter()).unwrap_err().to_string();
    assert_eq!(error, "datadir (environment COLUMBA_DATADIR): there is no such key; the closest is data_dir");
}

#[test]
fn values_that_cannot_be_used_are_named() {
    for (text, expected) in [
        ("listen = 'localhost'", "listen"),
        ("cores = 1000", "cores"),
        ("data_dir = ''", "data_dir"),
        ("tls.key = 'x'", "tls.certificate"),
        ("registration.mode = 'invite'", "registration.invites"),
        ("registration = { mode = 'invite', invites = ['short'] }", "registration.invites"),
        ("registration.mode = 'jwt'", "registration.jwt_key"),
        ("connections.total_max = 0", "connections.total_max"),
    ] {
        let Err(Error::Config { key, .. }) = file(text).unwrap().build() else { panic!("{text} was accepted") };
        assert_eq!(key, expected);
    }
}

#[test]
fn retention_is_one_word_and_maybe_its_days() {
    for (text, expected) in [
        ("history", Some(Retention::History { days: None })),
        ("history:365d", Some(Retention::History { days: Some(365) })),
        ("until-delivered", Some(Retention::UntilDelivered { days: 30 })),
        ("until-delivered:7d", Some(Retention::UntilDelivered { days: 7 })),
        ("", None),
        ("forever", None),
        ("history:", None),
        ("history:d", None),
        ("history:7", None),
        ("history:+7d", None),
        ("history:0d", None),
        ("history:36501d", None),
        ("history:99999999999d", None),
        ("until-delivered:7d:8d", None),
    ] {
        match (file(&format!("retention = '{text}'")).unwrap().build(), expected) {
            (Ok(config), Some(expected)) => assert_eq!(config.retention, expected, "{text}"),
            (Err(Error::Config { key, .. }), None) => assert_eq!(key, "retention", "{text}"),
            (other, _) => panic!("{text:?}: {:?}", other.map(|config| config.retention)),
        }
    }
}

#[test]
fn invites_are_not_shown() {
    let settings = file("registration = { mode = 'invite', invites = ['secret code'] }").unwrap();
    assert!(settings.build().is_ok());
    let shown = settings.show();
    assert!(!shown.contains("secret code") && shown.contains("1 not shown"), "{shown}");
}
