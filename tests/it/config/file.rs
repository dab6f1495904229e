//! The TOML file.

use super::*;

#[rstest]
#[case(
    "[tokens]\ntttl = '1h'\n",
    "line 2: `tokens.tttl` is no setting; did you mean `tokens.ttl`?"
)]
#[case(
    "ttl = '1h'\n",
    "line 1: `ttl` is no setting; did you mean `tokens.ttl`?"
)]
#[case("\n\n[tokns]\nx = 1\n", "line 3: `tokns` is no setting")]
#[case("[server]\ntls = {cert = 'x'}\n", "line 2: `server.tls` is no setting")]
#[case(
    "tokens = 'memory:'\n",
    "line 1: `tokens` is a section: expected `[tokens]`"
)]
#[case("[tokens]\nttl_file = '/x'\n", "`tokens.ttl_file` is no setting")]
#[case("[tokens.ttl]\nx = 1\n", "expected a duration")]
#[case("[server]\nlisten = 8000\n", "line 2): expected an address and a port")]
#[case("mode = 'prod'\nmode = 'dev'\n", "line 2: is not TOML: ")]
fn what_is_wrong_in_a_file_is_named(#[case] text: &str, #[case] expected: &str) {
    let file = File::new(text);
    let found = problem(file.load());
    assert!(found.contains(expected), "{found}");
    assert!(found.contains(file.path.to_str().unwrap()), "{found}");
}

#[test]
fn a_missing_file_is_an_error() {
    let sources = Sources {
        file: Some(PathBuf::from("/nowhere/claviger.toml")),
        ..Sources::default()
    };
    let found = problem(config::load(&sources));
    assert!(
        found.starts_with("file /nowhere/claviger.toml: can't be read: "),
        "{found}"
    );
}

#[test]
fn sections_dotted_keys_and_inline_tables_are_the_same() {
    let texts = [
        "[tokens]\nttl = '1h'\npool_size = 3\n",
        "tokens.ttl = '1h'\ntokens.pool_size = 3\n",
        "tokens = { ttl = '1h', pool_size = 3 }\n",
    ];
    for text in texts {
        let tokens = load_text(text).unwrap().config.tokens;
        assert_eq!(
            (tokens.ttl, tokens.pool_size),
            (Duration::from_hours(1), 3),
            "{text}"
        );
    }
}

#[test]
fn in_a_file_an_empty_text_unsets_an_optional_setting() {
    let loaded = load_text(
        "server.docs = ''\ndatabase.migrate = ''\ndatabase.schema_version = ''\nbootstrap.password = ''\n\
         server.base_path = ''\ntokens.idle_ttl = ''\n",
    )
    .unwrap();
    assert_eq!(loaded.config.server.docs, None);
    assert_eq!(loaded.config.database.schema_version, None);
    assert!(loaded.config.bootstrap.password.is_none());
    assert_eq!(loaded.config.tokens.idle_ttl, None);
    assert_eq!(loaded.config.server.base_path, "");
    assert!(problem(load_text("tokens.ttl = ''\n")).contains("expected a duration"));
}
