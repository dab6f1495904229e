//! What a value may be, and which rules it keeps.

use super::*;

/// Valid values, and how they are shown.
#[rstest]
#[case("server.listen", "[::]:8000", "[::]:8000")]
#[case("server.base_path", "/", "")]
#[case("server.base_path", "/id/v~1.x_-", "/id/v~1.x_-")]
#[case("server.docs", "true", "true")]
#[case(
    "server.trusted_proxies",
    "10.1.2.3/8, 192.0.2.7,fd00::1",
    r#"["10.0.0.0/8","192.0.2.7/32","fd00::1/128"]"#
)]
#[case("server.request_timeout", "1m30s", "90s")]
#[case("server.shutdown_grace", "0s", "0s")]
#[case("server.body_limit", "1MiB", "1 MiB")]
#[case("server.body_limit", "13 KiB", "13 KiB")]
#[case("server.body_limit", "20001", "20001")]
#[case("database.url", "postgresql://u@h/x", "postgresql://***@h/x")]
#[case("database.url", "sqlite::memory:", "sqlite::memory:")]
#[case("database.migrate", "check", "check")]
#[case("database.schema_version", "0", "0")]
#[case("tokens.url", "rediss://:p@[::1]:6379/2", "rediss://:***@[::1]:6379/2")]
#[case("tokens.ttl", "3650d", "3650d")]
#[case("tokens.ttl", "1s", "1s")]
#[case("tokens.ttl", "1000ms", "1s")]
#[case("tokens.ttl", "1d", "24h")]
#[case("tokens.url", "redis+sentinel://h:1/m", "redis+sentinel://h:1/m")]
#[case(
    "tokens.url",
    "redis+sentinel://h:1,i,[::1]:3/m/0",
    "redis+sentinel://h:1,i,[::1]:3/m/0"
)]
#[case("tokens.url", "redis+cluster://h:1", "redis+cluster://h:1")]
#[case("tokens.url", "rediss+cluster://h:1,i:2/", "rediss+cluster://h:1,i:2/")]
#[case("tokens.idle_ttl", "1m", "1m")]
#[case("tokens.idle_ttl", "24h", "24h")]
#[case("tokens.key", "sha256", "sha256")]
#[case("tokens.key", "plain", "plain")]
#[case("tokens.key_prefix", "auth:[x]:", "auth:[x]:")]
#[case("tokens.max_sessions_per_user", "1", "1")]
#[case("tokens.max_sessions_per_user", "1000", "1000")]
#[case("password.workers", "3", "3")]
#[case("password.workers", "auto", "auto")]
#[case("password.memory_kib", "4294967295", "4294967295")]
#[case("limits.enabled", "false", "false")]
#[case("limits.login_per_user", "5/1h30m", "5/90m")]
#[case("telemetry.log_format", "text", "text")]
#[case("telemetry.log_level", "warn,sqlx=off", "warn,sqlx=off")]
fn a_valid_value_is_taken(#[case] key: &str, #[case] value: &str, #[case] shown: &str) {
    let name = variable(key);
    let loaded = load_variables(&[(&name, value)]).unwrap();
    let json = config::show_json(&loaded);
    let (section, key) = key.split_once('.').unwrap();
    let entry = &json[section][key];
    let text = match &entry["value"] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    assert_eq!(text, shown);
    assert_eq!(entry["source"], format!("environment variable {name}"));
}

/// Values that are refused, each with a part of what is said.
#[rstest]
#[case("mode", "production", "`dev` or `prod`")]
#[case("server.listen", ":8000", "`0.0.0.0:8000` or `[::]:8000`")]
#[case("server.listen", "localhost:8000", "an address and a port")]
#[case("server.base_path", "api", "a path such as `/api`")]
#[case("server.base_path", "/api/", "a path such as `/api`")]
#[case("server.base_path", "//api", "a path such as `/api`")]
#[case("server.base_path", "/a/../b", "a path such as `/api`")]
#[case("server.base_path", "/a b", "a path such as `/api`")]
#[case("server.base_path", "/{x}", "a path such as `/api`")]
#[case("server.docs", "1", "true or false")]
#[case("server.trusted_proxies", "10.0.0.0/33", "addresses or networks")]
#[case("server.trusted_proxies", "10.0.0.1,proxy", "addresses or networks")]
#[case("server.request_timeout", "0s", "more than zero")]
#[case("server.request_timeout", "10", "add `ms`, `s`, `m`, `h` or `d`")]
#[case("server.shutdown_grace", "s", "a duration such as")]
#[case("server.shutdown_grace", "-5s", "a duration such as")]
#[case("server.shutdown_grace", "1.5s", "a duration such as")]
#[case("server.shutdown_grace", "5 s", "a duration such as")]
#[case("server.shutdown_grace", "5w", "a duration such as")]
#[case("server.shutdown_grace", "1h30", "a duration such as")]
#[case("server.shutdown_grace", "30m1h", "a duration such as")]
#[case("server.shutdown_grace", "1h1h", "a duration such as")]
#[case("server.shutdown_grace", "36501d", "a duration such as")]
#[case("server.shutdown_grace", "99999999999999999999d", "a duration such as")]
#[case("server.body_limit", "12 KiB", "`13 KiB` at least")]
#[case("server.body_limit", "16 KB", "a size such as `16 KiB`")]
#[case("server.body_limit", "-1", "a size such as")]
#[case("server.body_limit", "99999999999999 GiB", "a size such as")]
#[case(
    "database.url",
    "mysql://u@h/x",
    "`postgres://USER:PASSWORD@HOST/NAME`"
)]
#[case("database.url", "sqlite://", "`sqlite://FILE?mode=rwc`")]
#[case("database.url", "postgres://u:p#w@h/x", "`%2F` and so on")]
#[case("database.url", "postgres://u:1/2@h/x", "`%2F` and so on")]
#[case("database.max_connections", "0", "1 at least")]
#[case("database.max_connections", "4294967296", "a whole number")]
#[case("database.max_connections", "ten", "a whole number")]
#[case("database.acquire_timeout", "0ms", "more than zero")]
#[case("database.migrate", "yes", "`auto` or `check`")]
#[case("database.schema_version", "-1", "a whole number")]
#[case("tokens.url", "memory", "`memory:`")]
#[case("tokens.url", "memory:x", "`memory:`")]
#[case("tokens.url", "redis:", "`redis://:PASSWORD@HOST:6379/0`")]
#[case("tokens.url", "redis:///0", "`redis://:PASSWORD@HOST:6379/0`")]
#[case("tokens.url", "redis://h/zero", "`redis://:PASSWORD@HOST:6379/0`")]
#[case("tokens.url", "http://h", "`redis://:PASSWORD@HOST:6379/0`")]
#[case("tokens.url", "redis+sentinel://h:1", "the name of the master")]
#[case("tokens.url", "redis+sentinel://h:1//0", "the name of the master")]
#[case(
    "tokens.url",
    "redis+sentinel://h:1,i:2/m/x",
    "the number of the database"
)]
#[case(
    "tokens.url",
    "rediss+sentinel://h:1,i:2/m/1/2",
    "the number of the database"
)]
#[case(
    "tokens.url",
    "redis+sentinel://h:1,/m/0",
    "`redis+sentinel://HOST:26379"
)]
#[case(
    "tokens.url",
    "redis+sentinel://,h:1/m/0",
    "`redis+sentinel://HOST:26379"
)]
#[case(
    "tokens.url",
    "redis+sentinel://h:1, i:2/m/0",
    "`redis+sentinel://HOST:26379"
)]
#[case("tokens.url", "redis+sentinel://:1/2@h:1,i:2/m/0", "`%2F` and so on")]
#[case(
    "tokens.url",
    "redis+cluster://:1#2@h:1,i:2",
    "`redis+cluster://HOST:6379"
)]
#[case("tokens.url", "redis+cluster://h:1,i:x", "`redis+cluster://HOST:6379")]
#[case(
    "tokens.url",
    "redis+cluster://h:1,i:65536",
    "`redis+cluster://HOST:6379"
)]
#[case("tokens.url", "redis+cluster://h:1,i:2/0", "nothing behind the hosts")]
#[case("tokens.url", "redis+cluster:h:1", "`redis+cluster://HOST:6379")]
#[case("tokens.url", "redis+other://h:1", "`redis+cluster://HOST:6379")]
#[case("tokens.url", "redis://h:1,i:2", "`redis://:PASSWORD@HOST:6379/0`")]
#[case("tokens.ttl", "999ms", "whole seconds, from `1s` to `3650d`")]
#[case("tokens.ttl", "1s500ms", "whole seconds")]
#[case("tokens.ttl", "3651d", "whole seconds")]
#[case("tokens.ttl", "0s", "whole seconds")]
#[case("tokens.idle_ttl", "999ms", "whole seconds, `1s` at least")]
#[case("tokens.idle_ttl", "90s500ms", "whole seconds, `1s` at least")]
#[case("tokens.idle_ttl", "60", "add `ms`, `s`, `m`, `h` or `d`")]
#[case(
    "tokens.idle_ttl",
    "25h",
    "tokens.ttl (default): the former is longer than the latter"
)]
#[case("tokens.key", "md5", "`plain` or `sha256`")]
#[case("tokens.key_prefix", "a b", "without blanks")]
#[case("tokens.key_prefix", "auth:{x}:", "no `{` and no `}`")]
#[case("tokens.key_prefix", "}", "no `{` and no `}`")]
#[case("tokens.key_prefix", "schlüssel:", "printable ASCII")]
#[case("tokens.key_prefix", "claviger:x", "private keys")]
#[case("tokens.timeout", "0s", "more than zero")]
#[case("tokens.pool_size", "0", "1 at least")]
#[case("tokens.wait_replicas", "-1", "a whole number")]
#[case("tokens.max_sessions_per_user", "0", "1 to 1000")]
#[case("tokens.max_sessions_per_user", "1001", "1 to 1000")]
#[case("password.memory_kib", "7", "8 KiB of memory at least for each lane")]
#[case("password.parallelism", "0", "1 to 16777215")]
#[case(
    "password.parallelism",
    "4000",
    "8 KiB of memory at least for each lane"
)]
#[case("password.iterations", "0", "1 at least")]
#[case("password.min_length", "0", "1 to 1024")]
#[case("password.min_length", "1025", "1 to 1024")]
#[case("password.foreign_max_mib", "0", "1 at least")]
#[case("password.workers", "0", "`auto` or 1 to 1024")]
#[case("password.workers", "many", "`auto` or a whole number")]
#[case("password.queue", "0", "`auto` or 1 to 1000000")]
#[case("password.queue_timeout", "0s", "more than zero")]
#[case("limits.enabled", "on", "true or false")]
#[case("limits.login_per_user", "20", "a rate such as `20/15m`")]
#[case("limits.login_per_user", "20/15", "a rate such as `20/15m`")]
#[case("limits.login_per_user", "+5/15m", "a rate such as `20/15m`")]
#[case("limits.login_per_user", "0/15m", "one time at least")]
#[case("limits.login_per_ip", "5/999ms", "within `1s` at least")]
#[case("telemetry.log_format", "xml", "`text` or `json`")]
#[case("telemetry.log_level", "claviger=loud", "directives such as")]
#[case("telemetry.log_level", "wran", "directives such as")]
fn an_invalid_value_is_named_with_its_source(
    #[case] key: &str,
    #[case] value: &str,
    #[case] expected: &str,
) {
    let name = variable(key);
    let found = problem(load_variables(&[(&name, value)]));
    let start = format!("{key} (environment variable {name})");
    assert!(found.contains(&start), "{found}");
    assert!(found.contains(expected), "{found}");
}

#[test]
fn the_type_of_a_toml_value_matters() {
    for text in [
        "server.docs = 1",
        "server.listen = true",
        "server.trusted_proxies = [1]",
        "server.trusted_proxies = 1",
        "tokens.key_prefix = 5",
        "tokens.ttl = 1.5",
        "tokens.ttl = 60",
        "limits.login_per_ip = 5",
        "database.max_connections = 1.5",
        "database.max_connections = 99999999999999999999999999999999999999999999999",
        "database.url = 1979-05-27",
        "mode = []",
    ] {
        let found = problem(load_text(text));
        let key = text.split(' ').next().unwrap();
        assert!(found.starts_with(&format!("{key} (file ")), "{found}");
    }
    let loaded = load_text(
        "server.docs = true\nserver.body_limit = 0x1_0000\nserver.trusted_proxies = ['10.0.0.0/8']\n",
    )
    .unwrap();
    assert_eq!(loaded.config.server.docs, Some(true));
    assert_eq!(loaded.config.server.body_limit, 65_536);
    assert_eq!(loaded.config.server.trusted_proxies.len(), 1);
}

#[rstest]
#[case("127.0.0.1:9000", "127.0.0.1:9000", false)]
#[case("0.0.0.0:9000", "127.0.0.1:9000", false)]
#[case("[::1]:9000", "[::]:9000", false)]
#[case("127.0.0.1:0", "127.0.0.1:0", true)]
#[case("127.0.0.1:9000", "127.0.0.2:9000", true)]
#[case("127.0.0.1:9000", "[::1]:9000", true)]
fn the_two_listeners_need_an_address_each(
    #[case] api: &str,
    #[case] operations: &str,
    #[case] valid: bool,
) {
    let result = load_variables(&[
        ("CLAVIGER_SERVER__LISTEN", api),
        ("CLAVIGER_SERVER__OPS_LISTEN", operations),
    ]);
    assert_eq!(result.is_ok(), valid);
    if !valid {
        let found = problem(result);
        assert!(
            found.contains("CLAVIGER_SERVER__LISTEN")
                && found.contains("CLAVIGER_SERVER__OPS_LISTEN")
        );
    }
}

#[test]
fn the_first_administrator_needs_both_name_and_password() {
    for name in [
        "CLAVIGER_BOOTSTRAP__USERNAME",
        "CLAVIGER_BOOTSTRAP__PASSWORD",
    ] {
        let found = problem(load_variables(&[(name, SECRET)]));
        assert!(
            found.contains("expected both or none") && found.contains(name),
            "{found}"
        );
        assert!(found.contains("(default)"), "{found}");
    }
    let with = |name: &str, password: &str| {
        load_variables(&[
            ("CLAVIGER_BOOTSTRAP__USERNAME", name),
            ("CLAVIGER_BOOTSTRAP__PASSWORD", password),
        ])
    };
    assert!(with(&"ü".repeat(254), &"x".repeat(1024)).is_ok());
    assert!(problem(with(&"ü".repeat(255), "x")).contains("254 characters at most"));
    assert!(problem(with("a", &"x".repeat(1025))).contains("1024 bytes at most"));
}

#[test]
fn one_problem_does_not_drag_another_behind_it() {
    // The password can't be read, so nothing is said about a name without a password.
    let found = problem(load_variables(&[
        ("CLAVIGER_BOOTSTRAP__USERNAME", "root"),
        ("CLAVIGER_BOOTSTRAP__PASSWORD_FILE", "/nowhere"),
    ]));
    assert!(found.contains("/nowhere"));
}

#[rstest]
#[case(&[("CLAVIGER_PASSWORD__MEMORY_KIB", "19455")], "OWASP")]
#[case(&[("CLAVIGER_PASSWORD__ITERATIONS", "1")], "OWASP")]
#[case(&[("CLAVIGER_PASSWORD__MIN_LENGTH", "7")], "NIST")]
#[case(&[("CLAVIGER_SERVER__TRUSTED_PROXIES", "10.0.0.0/8,::/0")], "every client is trusted")]
#[case(&[("CLAVIGER_PASSWORD__QUEUE_TIMEOUT", "10s")], "let the former be shorter")]
#[case(&[("CLAVIGER_TOKENS__IDLE_TTL", "59s")], "logged out")]
#[case(&[("CLAVIGER_TOKENS__WAIT_REPLICAS", "1")], "no replicas to wait for")]
fn some_choices_are_warned_about(#[case] variables: &[(&str, &str)], #[case] expected: &str) {
    let loaded = load_variables(variables).unwrap();
    let [warning] = loaded.warnings.as_slice() else {
        panic!("expected one warning, not {:?}", loaded.warnings);
    };
    assert!(
        warning.contains(expected) && warning.contains(variables[0].0),
        "{warning}"
    );
}

#[rstest]
#[case("47104", "1")]
#[case("19456", "2")]
#[case("12288", "3")]
#[case("9216", "4")]
#[case("7168", "5")]
fn costs_as_good_as_the_floor_are_not_warned_about(#[case] memory: &str, #[case] passes: &str) {
    let variables = |memory| {
        [
            ("CLAVIGER_PASSWORD__MEMORY_KIB", memory),
            ("CLAVIGER_PASSWORD__ITERATIONS", passes),
        ]
    };
    assert!(
        load_variables(&variables(memory))
            .unwrap()
            .warnings
            .is_empty()
    );
    let less = (memory.parse::<u32>().unwrap() - 1).to_string();
    assert_eq!(load_variables(&variables(&less)).unwrap().warnings.len(), 1);
}

#[test]
fn all_problems_are_reported_at_once() {
    let file = File::new("nonsense = 1\n[server]\nbody_limit = 1\n");
    let error = config::load(&file.sources(&[
        ("CLAVIGER_TOKENS__TTL", "5"),
        ("CLAVIGER_DATABASE__URL", "what"),
        ("CLAVIGER_LIMITS__ENABLED", "maybe"),
    ]))
    .unwrap_err();
    assert_eq!(error.problems().len(), 5, "{error}");
    let text = error.to_string();
    assert_eq!(text.lines().count(), 6, "{text}");
    for part in [
        "nonsense",
        "server.body_limit",
        "tokens.ttl",
        "database.url",
        "limits.enabled",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[rstest]
#[case(
    "postgres://u:p@db/x?sslmode=require&options[search_path]=a&application_name=b",
    false
)]
#[case("sqlite://x.db?mode=rwc", false)]
#[case("postgres://u:p@db/x?sslmod=verify-full", true)]
#[case("postgres://u@db/x?Sesame-0pen", true)]
#[case("postgres://u@db/x?pasword=Sesame-0pen", true)]
fn a_parameter_that_is_ignored_is_warned_about(#[case] url: &str, #[case] warned: bool) {
    let warnings = load_variables(&[("DATABASE_URL", url)]).unwrap().warnings;
    let expected = "database.url (environment variable DATABASE_URL): a parameter behind the `?` is unknown, and ignored";
    assert_eq!(warnings, [expected][usize::from(!warned)..]);
}

#[test]
fn a_session_may_be_idle_for_no_longer_than_it_lives() {
    let with = |ttl, idle_ttl| {
        load_variables(&[
            ("CLAVIGER_TOKENS__TTL", ttl),
            ("CLAVIGER_TOKENS__IDLE_TTL", idle_ttl),
        ])
    };
    let tokens = with("2h", "2h").unwrap().config.tokens;
    assert_eq!(tokens.idle_ttl, Some(Duration::from_hours(2)));
    let found = problem(with("2h", "2h1s"));
    assert!(
        found.starts_with(
            "tokens.idle_ttl (environment variable CLAVIGER_TOKENS__IDLE_TTL), \
             tokens.ttl (environment variable CLAVIGER_TOKENS__TTL): "
        ),
        "{found}"
    );
    // With a Redis the replicas are somebody's business.
    let loaded = load_variables(&[
        ("REDIS_URL", "redis://cache"),
        ("CLAVIGER_TOKENS__WAIT_REPLICAS", "2"),
    ])
    .unwrap();
    assert_eq!(loaded.config.tokens.wait_replicas, 2);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn the_mode_decides_what_is_not_set() {
    let postgres = ("DATABASE_URL", "postgres://u:p@db/x");
    let prod = load_variables(&[postgres]).unwrap().config;
    assert!(!prod.docs());
    assert_eq!(prod.migrate(), MigrateMode::Check);
    assert_eq!(prod.log_format(), LogFormat::Json);
    assert_eq!(prod.log_filter(), "info");

    let dev = load_variables(&[postgres, ("CLAVIGER_MODE", "dev")])
        .unwrap()
        .config;
    assert!(dev.docs());
    assert_eq!(dev.migrate(), MigrateMode::Auto);
    assert_eq!(dev.log_format(), LogFormat::Text);
    assert_eq!(dev.log_filter(), "info,claviger=debug");

    assert_eq!(
        load_variables(&[]).unwrap().config.migrate(),
        MigrateMode::Auto
    );
    let set = load_variables(&[
        ("CLAVIGER_MODE", "dev"),
        ("CLAVIGER_SERVER__DOCS", "false"),
        ("CLAVIGER_DATABASE__MIGRATE", "check"),
        ("CLAVIGER_TELEMETRY__LOG_FORMAT", "json"),
        ("CLAVIGER_TELEMETRY__LOG_LEVEL", "error"),
    ])
    .unwrap()
    .config;
    assert!(!set.docs());
    assert_eq!(set.migrate(), MigrateMode::Check);
    assert_eq!(set.log_format(), LogFormat::Json);
    assert_eq!(set.log_filter(), "error");
}
