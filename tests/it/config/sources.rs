//! Where values come from, and who wins.

use super::*;

#[test]
fn without_any_source_the_defaults_hold() {
    let loaded = load_variables(&[]).unwrap();
    assert_eq!(dump(&loaded.config), dump(&Config::default()));
    assert!(loaded.warnings.is_empty());
    assert!(loaded.origins.is_empty());
}

#[test]
fn later_sources_win() {
    let file = File::new("[tokens]\nttl = '1h'\ntimeout = '3s'\npool_size = 3\nkey_prefix = 'a'\n");
    let sources = file.sources(&[
        ("CLAVIGER_TOKENS__TTL", "2h"),
        ("CLAVIGER_TOKENS__TIMEOUT", "4s"),
    ]);
    let Loaded {
        config, origins, ..
    } = config::load(&sources).unwrap();

    assert_eq!(config.tokens.ttl, Duration::from_hours(2));
    assert_eq!(config.tokens.timeout, Duration::from_secs(4));
    assert_eq!(config.tokens.pool_size, 3);
    assert_eq!(config.tokens.key_prefix, "a");
    assert_eq!(config.database.max_connections, 10);
    assert_eq!(
        origins["tokens.timeout"],
        Origin::Variable("CLAVIGER_TOKENS__TIMEOUT".to_owned())
    );
    assert_eq!(
        origins["tokens.pool_size"],
        Origin::File {
            path: file.path.clone(),
            line: Some(4)
        }
    );
    assert!(!origins.contains_key("database.max_connections"));
}

#[test]
fn only_the_value_that_wins_is_looked_at() {
    let file = File::new("[database]\nurl_file = '/nowhere'\nmax_connections = 'many'\n");
    let sources = file.sources(&[
        ("DATABASE_URL", "sqlite://x.db"),
        ("CLAVIGER_DATABASE__MAX_CONNECTIONS", "3"),
    ]);
    assert!(config::load(&sources).is_ok());
}

#[test]
fn the_environment_can_name_the_file_and_the_command_line_wins() {
    let (a, b) = (File::new("mode = 'dev'"), File::new("mode = 'prod'"));
    let variables = [("CLAVIGER_CONFIG", a.path.to_str().unwrap())];
    let by_variable = load_variables(&variables).unwrap();
    assert_eq!(by_variable.config.mode, Mode::Dev);
    assert!(by_variable.warnings.is_empty());
    let by_flag = config::load(&b.sources(&variables)).unwrap();
    assert_eq!(by_flag.config.mode, Mode::Prod);
}

#[rstest]
#[case("DATABASE_URL", "postgres://u:p@db/x")]
#[case("REDIS_URL", "redis://cache:6379/1")]
#[case("API_MODE", "dev")]
#[case("RUST_LOG", "warn,claviger=trace")]
fn well_known_variables_are_accepted(#[case] name: &str, #[case] value: &str) {
    let loaded = load_variables(&[(name, value)]).unwrap();
    let config = &loaded.config;
    let found = match name {
        "DATABASE_URL" => config.database.url.expose_secret(),
        "REDIS_URL" => config.tokens.url.expose_secret(),
        "API_MODE" if config.mode == Mode::Dev => "dev",
        "RUST_LOG" => config.log_filter(),
        _ => "",
    };
    assert_eq!(found, value);
    assert!(loaded.warnings.is_empty());
}

#[rstest]
#[case(
    "DATABASE_URL",
    "CLAVIGER_DATABASE__URL",
    "sqlite://a.db",
    "sqlite://b.db"
)]
#[case("REDIS_URL", "CLAVIGER_TOKENS__URL", "redis://a", "redis://b")]
#[case("API_MODE", "CLAVIGER_MODE", "dev", "prod")]
#[case("RUST_LOG", "CLAVIGER_TELEMETRY__LOG_LEVEL", "warn", "debug")]
fn our_name_wins_and_a_difference_is_warned_about(
    #[case] well_known: &str,
    #[case] ours: &str,
    #[case] one: &str,
    #[case] other: &str,
) {
    let same = load_variables(&[(well_known, one), (ours, one)]).unwrap();
    assert!(same.warnings.is_empty());

    let loaded = load_variables(&[(well_known, other), (ours, one)]).unwrap();
    let [warning] = loaded.warnings.as_slice() else {
        panic!("expected one warning, not {:?}", loaded.warnings);
    };
    assert!(
        warning.contains(well_known) && warning.contains(ours),
        "{warning}"
    );
    assert!(
        !warning.contains(one) && !warning.contains(other),
        "{warning}"
    );
    let alone = load_variables(&[(ours, one)]).unwrap();
    assert_eq!(dump(&loaded.config), dump(&alone.config));
}

#[test]
fn every_key_has_its_variable_and_an_empty_one_counts_as_not_set() {
    let defaults = dump(&Config::default());
    for key in keys() {
        let loaded = load_variables(&[(&variable(&key), "")]).unwrap();
        assert_eq!(dump(&loaded.config), defaults, "{key}");
        assert!(loaded.warnings.is_empty(), "{key}: {:?}", loaded.warnings);
    }
    let twins = [
        ("DATABASE_URL", ""),
        ("DATABASE_URL_FILE", ""),
        ("CLAVIGER_BOOTSTRAP__PASSWORD_FILE", ""),
        ("CLAVIGER_CONFIG", ""),
    ];
    assert_eq!(dump(&load_variables(&twins).unwrap().config), defaults);
}

#[test]
fn an_unknown_variable_is_warned_about_with_a_suggestion() {
    let loaded = load_variables(&[
        ("CLAVIGER_TOKENS__TTTL", SECRET),
        ("CLAVIGER_NOTHING_LIKE_IT", SECRET),
        ("CLAVIGER_tokens__ttl", "1h"),
        ("CLAVIGER_TOKENS__TTL_FILE", "/x"),
        ("HOME", "/root"),
    ])
    .unwrap();
    let warnings = loaded.warnings.join("\n");
    assert_eq!(loaded.warnings.len(), 4, "{warnings}");
    assert!(warnings.contains(
        "CLAVIGER_TOKENS__TTTL is unknown and ignored; did you mean CLAVIGER_TOKENS__TTL?"
    ));
    assert!(warnings.contains("CLAVIGER_NOTHING_LIKE_IT is unknown and ignored"));
    assert!(!warnings.contains(SECRET));
    assert_eq!(loaded.config.tokens.ttl, Duration::from_hours(24));
}

#[test]
fn variables_of_kubernetes_are_one_warning() {
    let loaded = load_variables(&[
        ("CLAVIGER_PORT", "tcp://10.0.0.1:8000"),
        ("CLAVIGER_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("CLAVIGER_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("CLAVIGER_SERVICE_HOST", "10.0.0.1"),
        ("CLAVIGER_SERVICE_PORT_HTTP", "8000"),
    ])
    .unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].contains("CLAVIGER_PORT and 4 more"),
        "{}",
        loaded.warnings[0]
    );
}

#[test]
fn the_variables_of_opentelemetry_are_handed_on() {
    let loaded = load_variables(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", SECRET),
        ("OTEL_SERVICE_NAME", ""),
    ])
    .unwrap();
    let otel = &loaded.config.telemetry.otel;
    assert_eq!(otel.len(), 2);
    assert_eq!(
        otel["OTEL_EXPORTER_OTLP_ENDPOINT"].expose_secret(),
        "http://collector:4318"
    );
    assert!(!format!("{loaded:?}").contains(SECRET));
}

#[rstest]
#[case("CLAVIGER_DATABASE__URL_FILE")]
#[case("DATABASE_URL_FILE")]
fn a_variable_can_name_a_file_that_holds_the_secret(#[case] name: &str) {
    let file = File::new("");
    let url = format!("postgres://u:{SECRET}@db/x");
    let path = file.beside("url", &format!("{url}\n"));
    let loaded = load_variables(&[(name, &path)]).unwrap();
    assert_eq!(loaded.config.database.url.expose_secret(), url);
    assert_eq!(
        loaded.origins["database.url"],
        Origin::Variable(name.to_owned())
    );
}

#[test]
fn every_secret_has_a_twin_in_file_and_environment() {
    let file = File::new("");
    let redis = file.beside("redis", "redis://cache");
    let password = file.beside("password", SECRET);
    let database = file.beside("database", "sqlite://other.db");
    let by_variable = load_variables(&[
        ("REDIS_URL_FILE", &redis),
        ("CLAVIGER_DATABASE__URL_FILE", &database),
        ("CLAVIGER_BOOTSTRAP__USERNAME", "root"),
        ("CLAVIGER_BOOTSTRAP__PASSWORD_FILE", &password),
    ])
    .unwrap();
    let by_file = load_text(&format!(
        "tokens.url_file = '{redis}'\ndatabase.url_file = '{database}'\n\
         [bootstrap]\nusername = 'root'\npassword_file = '{password}'\n"
    ))
    .unwrap();
    assert_eq!(
        by_variable
            .config
            .bootstrap
            .password
            .as_ref()
            .unwrap()
            .expose_secret(),
        SECRET
    );
    assert_eq!(
        by_variable.config.tokens.url.expose_secret(),
        "redis://cache"
    );
    assert_eq!(dump(&by_variable.config), dump(&by_file.config));
}

#[rstest]
#[case("pass word \n", "pass word ")]
#[case("pass\r\n", "pass")]
#[case("pass\n\n", "pass\n")]
#[case("pass\r", "pass\r")]
#[case("pass", "pass")]
fn one_line_end_is_removed_and_nothing_else(#[case] content: &str, #[case] password: &str) {
    let file = File::new("");
    let path = file.beside("password", content);
    let loaded = load_variables(&[
        ("CLAVIGER_BOOTSTRAP__USERNAME", "root"),
        ("CLAVIGER_BOOTSTRAP__PASSWORD_FILE", &path),
    ])
    .unwrap();
    assert_eq!(
        loaded.config.bootstrap.password.unwrap().expose_secret(),
        password
    );
}

#[test]
fn a_secret_and_its_twin_are_an_error_that_names_both() {
    for (name, twin) in [
        ("DATABASE_URL", "DATABASE_URL_FILE"),
        ("CLAVIGER_DATABASE__URL", "CLAVIGER_DATABASE__URL_FILE"),
    ] {
        let found = problem(load_variables(&[(name, "sqlite://a.db"), (twin, "/x")]));
        assert!(found.starts_with("database.url ("), "{found}");
        assert!(
            found.contains(&format!("`{name}` and `{twin}` are both set")),
            "{found}"
        );
    }
    let found = problem(load_text("[tokens]\nurl = 'memory:'\nurl_file = '/x'\n"));
    assert!(
        found.contains("`tokens.url` and `tokens.url_file` are both set"),
        "{found}"
    );
    assert!(found.contains("line 3"), "{found}");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_variable_path_and_cause() {
    let found = problem(load_variables(&[("REDIS_URL_FILE", "/nowhere/redis")]));
    assert!(
        found.starts_with("tokens.url (environment variable REDIS_URL_FILE): "),
        "{found}"
    );
    assert!(
        found.contains("/nowhere/redis") && found.contains("No such file"),
        "{found}"
    );

    let file = File::new("");
    for content in ["", "\n", "\r\n"] {
        let empty = file.beside("empty", content);
        let found = problem(load_variables(&[("REDIS_URL_FILE", &empty)]));
        assert!(
            found.contains(&empty) && found.contains("is empty"),
            "{found}"
        );
    }
    let found = problem(load_text(
        "bootstrap.username = 'a'\nbootstrap.password_file = 5\n",
    ));
    assert!(found.contains("expected the path of a file"), "{found}");
}
