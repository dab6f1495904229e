//! The command line, as an operator uses it: the built program, its output and its exit codes.

mod import;
mod machine;
mod sessions;

use claviger::config::{self, Config};
use claviger::store::schema::Schema;
use claviger::store::tokens::{Device, Issued, Tokens};
use redis::AsyncCommands;
use rstest::rstest;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::common::{
    Backend, Deployment, PASSWORD, Program, RedisServer, Run, TestDatabase, database, post_login,
    run, with_token,
};

/// The program on a database of its own.
struct Cli {
    database: TestDatabase,
}

impl Cli {
    async fn new(backend: Backend) -> Self {
        Self {
            database: database(backend).await,
        }
    }

    /// With the schema at its latest version.
    async fn migrated(backend: Backend) -> Self {
        let cli = Self::new(backend).await;
        Schema::new(cli.database.connect().await)
            .up()
            .await
            .unwrap();
        cli
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Run {
        let run = run(arguments, &self.variables(), input);
        assert!(!(run.out.clone() + &run.err).contains(PASSWORD), "{run:?}");
        run
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        vec![
            ("CLAVIGER_DATABASE__URL", self.database.url.expose_secret()),
            ("CLAVIGER_LIMITS__ENABLED", "false"),
            // A busy machine is no outage.
            ("CLAVIGER_DATABASE__ACQUIRE_TIMEOUT", "20s"),
        ]
    }

    fn add(&self, name: &str) -> Run {
        self.run_with(&["user", "add", name, "--password-stdin"], PASSWORD)
    }

    fn users(&self) -> Vec<Value> {
        let run = self.run(&["user", "list", "--json"]);
        assert_eq!(run.code, 0, "{run:?}");
        serde_json::from_str(&run.out).unwrap()
    }
}

#[rstest]
#[tokio::test]
async fn users_are_added_listed_and_changed(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::migrated(backend).await;
    assert!(cli.users().is_empty());
    let run = cli.run_with(
        &["user", "add", "Alice", "--admin", "--password-stdin"],
        PASSWORD,
    );
    assert_eq!(
        (run.code, run.out.as_str()),
        (0, "created alice with id 1\n")
    );
    assert_eq!(cli.add("bob").code, 0);

    let users = cli.users();
    assert_eq!(users.len(), 2);
    assert_eq!(users[0]["username"], "alice");
    assert_eq!(users[0]["is_admin"], true);
    assert_eq!(users[0]["disabled"], false);
    assert_eq!(users[1]["is_admin"], false);
    for time in ["created_at", "updated_at"] {
        assert!(users[0][time].as_str().unwrap().ends_with('Z'), "{users:?}");
    }
    assert!(users[0]["last_login_at"].is_null());
    assert!(!users[0].as_object().unwrap().contains_key("password_hash"));

    assert_eq!(cli.run(&["user", "disable", "bob"]).code, 0);
    assert_eq!(cli.users()[1]["disabled"], true);
    assert_eq!(cli.run(&["user", "enable", "BOB"]).code, 0);
    assert_eq!(cli.users()[1]["disabled"], false);
    let run = cli.run_with(
        &["user", "passwd", "bob", "--password-stdin"],
        "another long password\n",
    );
    assert_eq!(run.code, 0, "{run:?}");
    let listed = cli.run(&["user", "list"]);
    assert!(
        listed.out.lines().nth(2).unwrap().contains("bob"),
        "{listed:?}"
    );

    assert_eq!(cli.run(&["user", "delete", "bob"]).code, 0);
    assert_eq!(cli.users().len(), 1);
    let run = cli.add("carol");
    assert_eq!(
        run.out, "created carol with id 3\n",
        "an id is never used again"
    );

    // Somebody has to be left who may manage users.
    for command in ["disable", "delete"] {
        let run = cli.run(&["user", command, "alice"]);
        assert_eq!(
            (run.code, run.err.as_str()),
            (
                65,
                "claviger: this is the last administrator who is enabled: make another one first\n"
            )
        );
    }
    assert_eq!(cli.users()[0]["disabled"], false);
}

#[rstest]
#[tokio::test]
async fn what_can_not_be_done_is_said_with_the_right_code(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::migrated(backend).await;
    assert_eq!(cli.add("alice").code, 0);

    let taken = cli.add("ALICE");
    assert_eq!(
        (taken.code, taken.err.as_str()),
        (65, "claviger: the username is taken\n")
    );
    for command in ["passwd", "disable", "enable", "delete"] {
        let mut arguments = vec!["user", command, "nobody"];
        if command == "passwd" {
            arguments.push("--password-stdin");
        }
        let run = cli.run_with(&arguments, PASSWORD);
        assert_eq!(
            (run.code, run.err.as_str()),
            (67, "claviger: there is no user of this name\n")
        );
    }
    let short = cli.run_with(&["user", "add", "bob", "--password-stdin"], "short\n");
    assert_eq!(short.code, 65);
    assert_eq!(
        short.err,
        "claviger: the password must have at least 15 characters\n"
    );
    for (name, password) in [
        (["user", "add", "trustworthy-bob"], "Trustworthy-Bob"),
        (["user", "passwd", "alice"], "alicealicealice"),
    ] {
        let run = cli.run_with(&[&name[..], &["--password-stdin"]].concat(), password);
        assert_eq!(
            (run.code, run.err.as_str()),
            (
                65,
                "claviger: the password must not be the username, also not repeated\n"
            )
        );
    }
    assert_eq!(
        cli.run_with(&["user", "add", "bob", "--password-stdin"], "\n")
            .code,
        65
    );
    assert_eq!(cli.add("two words").code, 65);
    // There is no terminal to ask at.
    assert_eq!(cli.run(&["user", "add", "bob"]).code, 64);
    assert_eq!(cli.users().len(), 1);
}

#[rstest]
#[case::unknown_command(&["nonsense"], 64)]
#[case::unknown_flag(&["user", "list", "--nonsense"], 64)]
#[case::password_as_argument(&["user", "add", "bob", "--password", "secret"], 64)]
#[case::missing_argument(&["user", "add"], 64)]
#[case::no_version(&["migrate", "to", "nonsense"], 64)]
#[case::unknown_version(&["migrate", "to", "99"], 64)]
#[case::help(&["--help"], 0)]
#[case::version(&["--version"], 0)]
#[tokio::test]
async fn the_command_line_is_checked(#[case] arguments: &[&str], #[case] code: i32) {
    let cli = Cli::new(Backend::Embedded).await;
    let run = cli.run(arguments);
    assert_eq!(run.code, code, "{run:?}");
    assert_eq!(run.err.is_empty(), code == 0, "{run:?}");
}

#[rstest]
#[tokio::test]
async fn the_schema_goes_to_any_version(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::new(backend).await;
    let status = || cli.run(&["migrate", "status"]).out;
    assert!(
        status().starts_with("behind: version 0 of 4, missing "),
        "{}",
        status()
    );
    for from in 0..=4 {
        for to in 0..=4 {
            for version in [from, to] {
                let run = cli.run(&["migrate", "to", &version.to_string()]);
                assert_eq!(run.code, 0, "{from} to {to}: {run:?}");
            }
            let expected = if to == 4 { "current" } else { "behind" };
            assert!(status().starts_with(&format!("{expected}: version {to} of 4")));
        }
    }
    assert_eq!(cli.run(&["migrate", "down"]).code, 0);
    assert!(status().starts_with("behind: version 3 of 4"));
    assert_eq!(
        cli.run(&["migrate", "to", "latest"]).out,
        "current: version 4 of 4\n"
    );
    assert_eq!(cli.run(&["migrate", "to", "zero"]).code, 0);
    assert_eq!(cli.run(&["migrate", "up"]).out, "current: version 4 of 4\n");
    let json: Value = serde_json::from_str(&cli.run(&["migrate", "status", "--json"]).out).unwrap();
    assert_eq!(
        (&json["comparison"], &json["version"]),
        (&"current".into(), &4.into())
    );
}

#[rstest]
#[tokio::test]
async fn eight_processes_that_migrate_at_once_all_succeed(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::new(backend).await;
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| cli.run(&["migrate", "up"])))
            .collect();
        for run in runs {
            let run = run.join().unwrap();
            assert_eq!(
                (run.code, run.out.as_str()),
                (0, "current: version 4 of 4\n"),
                "{run:?}"
            );
        }
    });
}

#[rstest]
#[tokio::test]
async fn a_schema_that_is_ahead_stops_only_what_would_undo_it(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::migrated(backend).await;
    let sql =
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_later', 0)";
    sea_orm::ConnectionTrait::execute_unprepared(&cli.database.connect().await, sql)
        .await
        .unwrap();
    for command in [
        &["migrate", "up"][..],
        &["migrate", "status"],
        &["migrate", "to", "latest"],
    ] {
        let run = cli.run(command);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.out.starts_with("ahead: version 4 of 4"), "{run:?}");
    }
    for command in [
        &["migrate", "down"][..],
        &["migrate", "to", "1"],
        &["migrate", "to", "zero"],
    ] {
        let run = cli.run(command);
        assert_eq!(run.code, 69, "{run:?}");
        assert!(run.err.contains("m29990101_000001_later"), "{run:?}");
    }
    assert_eq!(cli.add("alice").code, 0);
}

#[rstest]
#[tokio::test]
async fn undoing_users_ends_every_session_first(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let redis = RedisServer::start();
    let cli = Cli::migrated(backend).await;
    let mut connection = redis.connect().await;
    let token = claviger::auth::token::Token::generate().expose().to_owned();
    let tokens = Tokens::open(&config::Tokens {
        url: redis.url.clone(),
        ..Config::default().tokens
    });
    let tokens = tokens.unwrap();
    let db = cli.database.connect().await;
    let installation = Schema::new(db).installation_id().await.unwrap().unwrap();
    tokens.belong_to(&installation);
    let generation = tokens.generation(1).await.unwrap();
    let device = Device::default();
    let issued = tokens.issue(&token, 1, "alice", &device, &generation);
    assert_eq!(issued.await.unwrap(), Issued::Done);
    let with_redis = |url: &str, arguments: &[&str]| {
        let mut variables = cli.variables();
        variables.push(("CLAVIGER_TOKENS__URL", url));
        variables.push(("CLAVIGER_TOKENS__TIMEOUT", "500ms"));
        run(arguments, &variables, "")
    };

    // The token store is away: nothing is undone.
    let refused = with_redis("redis://127.0.0.1:1", &["migrate", "to", "zero"]);
    assert_eq!(refused.code, 69, "{refused:?}");
    assert!(cli.run(&["migrate", "status"]).out.starts_with("current"));

    let done = with_redis(redis.url.expose_secret(), &["migrate", "to", "2"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.starts_with("ended 1 sessions\n"), "{done:?}");
    assert!(!connection.exists::<_, bool>(&token).await.unwrap());
}

/// The tokens of another process are out of reach, and nothing else is claimed; that process sees to them itself.
#[rstest]
#[tokio::test]
async fn undoing_users_leaves_sessions_in_memory_to_their_service(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let deployment = Deployment::new(backend).await;
    deployment.user("alice");
    let url = deployment.database.url.expose_secret();
    let variables = [("CLAVIGER_DATABASE__URL", url)];
    let mut service = Program::start(&variables);
    service.wait_for("ready");
    let token = service.send(&post_login("alice")).await.token();

    let undone = run(&["migrate", "to", "1"], &variables, "");
    assert_eq!(undone.code, 0, "{undone:?}");
    assert!(
        undone
            .out
            .starts_with("tokens.url is memory: this command ended no session; "),
        "{undone:?}"
    );
    let ended = service.wait_for("the schema was undone or made anew: all sessions are ended");
    assert_eq!(ended["ended"], 1);
    let check = service.send(&with_token("GET", &token)).await;
    check.problem(401, "invalid-token");
}

#[rstest]
#[tokio::test]
async fn a_schema_that_was_never_migrated_is_said_to_be_behind(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::new(backend).await;
    for command in [
        &["user", "add", "bob", "--password-stdin"][..],
        &["user", "list"],
        &["user", "passwd", "bob", "--password-stdin"],
        &["user", "disable", "bob"],
        &["user", "delete", "bob"],
        &["smoke", "--url", "http://127.0.0.1:1"],
    ] {
        let run = cli.run_with(command, PASSWORD);
        assert_eq!(run.code, 69, "{run:?}");
        let start = "claviger: database unavailable: the schema is behind this binary, run `claviger migrate up`: ";
        assert!(run.err.starts_with(start), "{run:?}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable() {
    let variables = [(
        "DATABASE_URL",
        "postgres://claviger:Sesame-0pen@127.0.0.1:1/claviger",
    )];
    for command in [
        &["migrate", "up"][..],
        &["migrate", "status"],
        &["user", "list"],
    ] {
        let run = run(command, &variables, "");
        assert_eq!(run.code, 69, "{run:?}");
        assert!(
            run.err.starts_with("claviger: database unavailable: "),
            "{run:?}"
        );
        assert!(!run.err.contains("Sesame"), "{run:?}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_told_before_anything_is_done() {
    let variables = [("CLAVIGER_TOKENS__TTL", "soon")];
    for command in [
        &["serve"][..],
        &[],
        &["migrate", "up"],
        &["user", "list"],
        &["config", "check"],
    ] {
        let run = run(command, &variables, "");
        assert_eq!(run.code, 78, "{run:?}");
        assert!(
            run.err.contains("tokens.ttl") && run.err.contains("CLAVIGER_TOKENS__TTL"),
            "{run:?}"
        );
    }
}

/// What only the start finds wrong is said as any other mistake in the configuration, and by `config check` too. Commands
/// that work on a store say it of its URL.
#[rstest]
#[case::policy(
    "BOOTSTRAP__PASSWORD",
    "Sesame-0pen",
    "must have at least 15 characters",
    false
)]
#[case::username("BOOTSTRAP__USERNAME", "Sesame 0pen", "that are not allowed", false)]
#[case::version("DATABASE__SCHEMA_VERSION", "99", "no schema version 99", false)]
#[case::workers(
    "PASSWORD__WORKERS",
    "1024",
    "1024 workers of 1000000 KiB don't fit into ",
    false
)]
#[case::memory(
    "PASSWORD__MEMORY_KIB",
    "4000000000",
    "4000000000 KiB don't fit: of ",
    false
)]
#[case::postgres(
    "DATABASE__URL",
    "postgres://u:Sesame-0pen@db/x?sslmode=Sesame-0pen",
    "expected the form postgres://",
    true
)]
#[case::sqlite(
    "DATABASE__URL",
    "sqlite://Sesame-0pen?mode=Sesame-0pen",
    "expected the form sqlite://",
    true
)]
#[case::redis(
    "TOKENS__URL",
    "redis://u:Sesame-0pen@cache/0?protocol=Sesame-0pen",
    "expected `memory:`, `redis://HOST:6379/0`",
    true
)]
#[tokio::test]
async fn a_mistake_that_the_start_finds_names_its_source(
    #[case] name: &str,
    #[case] value: &str,
    #[case] expected: &str,
    #[case] of_a_store: bool,
) {
    let name = format!("CLAVIGER_{name}");
    let mut variables = vec![
        ("CLAVIGER_BOOTSTRAP__USERNAME", "root"),
        ("CLAVIGER_BOOTSTRAP__PASSWORD", PASSWORD),
        ("CLAVIGER_PASSWORD__MEMORY_KIB", "8"),
    ];
    if value == "1024" {
        // More than any machine has in all, but less for each than where one alone would not fit.
        variables.push(("CLAVIGER_PASSWORD__MEMORY_KIB", "1000000"));
    }
    variables.push((&name, value));
    let mut commands = vec![&["serve"][..], &["config", "check"]];
    if of_a_store {
        commands.extend([
            &["migrate", "up"][..],
            &["user", "list"],
            &["smoke", "--url", "http://127.0.0.1:1"],
        ]);
    }
    let (_, key) = name.split_once('_').unwrap();
    let key = key.to_lowercase().replace("__", ".");
    for command in commands {
        let run = run(command, &variables, "");
        assert_eq!(run.code, 78, "{run:?}");
        assert!(
            run.err.contains("the configuration is not valid:\n  "),
            "{run:?}"
        );
        assert!(
            run.err
                .contains(&format!("{key} (environment variable {name})")),
            "{run:?}"
        );
        assert!(run.err.contains(expected), "{run:?}");
        assert!(!run.err.contains("Sesame"), "{run:?}");
    }
}

#[tokio::test]
async fn all_that_the_start_would_refuse_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("claviger.toml");
    let text =
        "[bootstrap]\nusername = 'root'\npassword = 'short'\n\n[database]\nschema_version = 5\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let run = run(&["config", "check", "--config", file], &[], "");
    assert_eq!(run.code, 78, "{run:?}");
    assert_eq!(
        run.err,
        format!(
            "claviger: the configuration is not valid:\n  \
             database.schema_version (file {file}, line 6): there is no schema version 5: this binary knows 0 to 4\n  \
             bootstrap.password (file {file}, line 3), password.min_length (default): must have at least 15 characters\n"
        )
    );
}

#[rstest]
#[case::username(
    "rootrootrootroot",
    ", bootstrap.username (environment variable CLAVIGER_BOOTSTRAP__USERNAME): must not be the username, also not repeated"
)]
#[case::common("passwordpassword", ": must not be a common password repeated")]
#[tokio::test]
async fn the_administrator_of_the_settings_needs_a_good_password(
    #[case] password: &str,
    #[case] refusal: &str,
) {
    let variables = [
        ("CLAVIGER_BOOTSTRAP__USERNAME", "root"),
        ("CLAVIGER_BOOTSTRAP__PASSWORD", password),
    ];
    let run = run(&["config", "check"], &variables, "");
    assert_eq!(run.code, 78, "{run:?}");
    let refusal = format!(
        "bootstrap.password (environment variable CLAVIGER_BOOTSTRAP__PASSWORD){refusal}\n"
    );
    assert!(run.err.ends_with(&refusal), "{run:?}");
}

/// A command that hashes has one worker of its own.
#[tokio::test]
async fn a_hash_that_does_not_fit_names_its_setting() {
    let cli = Cli::migrated(Backend::Embedded).await;
    let mut variables = cli.variables();
    variables.push(("CLAVIGER_PASSWORD__MEMORY_KIB", "4000000000"));
    let run = run(
        &["user", "add", "bob", "--password-stdin"],
        &variables,
        PASSWORD,
    );
    assert_eq!(run.code, 78, "{run:?}");
    let start = "password.memory_kib (environment variable CLAVIGER_PASSWORD__MEMORY_KIB): 4000000000 KiB don't fit: ";
    assert!(run.err.contains(start), "{run:?}");
}

#[rstest]
#[tokio::test]
async fn health_and_smoke_ask_the_running_service(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::migrated(backend).await;
    let mut service = Program::start(&cli.variables());
    service.wait_for("ready");
    let listen = service.ops.strip_prefix("http://").unwrap().to_owned();
    let mut variables = cli.variables();
    variables.push(("CLAVIGER_SERVER__OPS_LISTEN", &listen));

    let healthy = run(&["healthcheck"], &variables, "");
    assert_eq!(healthy.code, 0, "{healthy:?}");
    // A proxy that is meant for other hosts, and is none.
    let mut behind_proxy = variables.clone();
    behind_proxy.push(("HTTP_PROXY", "http://127.0.0.1:1"));
    let healthy = run(&["healthcheck"], &behind_proxy, "");
    assert_eq!(healthy.code, 0, "{healthy:?}");
    for prefix in ["", "/", "/api", "/api/"] {
        let url = format!("{}{prefix}", service.api);
        let smoke = run(&["smoke", "--url", &url], &variables, "");
        assert_eq!(
            smoke.out, "logged in\nchecked\nlogged out\nok\n",
            "{smoke:?}"
        );
        assert_eq!(smoke.code, 0);
    }
    assert!(cli.users().is_empty(), "the user of the smoke test is gone");
    let wrong = run(
        &["smoke", "--url", &format!("{}/wrong", service.api)],
        &variables,
        "",
    );
    assert_eq!(wrong.code, 69, "{wrong:?}");
    assert!(cli.users().is_empty());

    service.signal("TERM");
    assert!(service.end().0.success());
    assert_eq!(run(&["healthcheck"], &variables, "").code, 69);
}

#[tokio::test]
async fn what_is_generated_is_complete() {
    let openapi = run(&["openapi"], &[], "");
    assert_eq!(
        openapi.out,
        include_str!("../../openapi.json"),
        "run `make openapi`"
    );
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell], &[], "");
        assert_eq!(script.code, 0);
        assert!(script.out.contains("migrate"), "{shell}");
    }
    assert_eq!(run(&["completions", "tcsh"], &[], "").code, 64);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cli = Cli::new(Backend::Embedded).await;
    let mut variables = cli.variables();
    variables.push(("CLAVIGER_SERVER__LISTEN", &address));
    variables.push(("CLAVIGER_SERVER__OPS_LISTEN", "127.0.0.1:0"));
    let run = run(&["serve"], &variables, "");
    assert_eq!(run.code, 69);
    assert!(
        run.err.contains(&format!("server.listen: {address}: ")),
        "{run:?}"
    );
}

#[rstest]
#[tokio::test]
async fn a_migration_that_can_not_be_done_ends_the_service(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::migrated(backend).await;
    let sql =
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_later', 0)";
    sea_orm::ConnectionTrait::execute_unprepared(&cli.database.connect().await, sql)
        .await
        .unwrap();
    let mut variables = cli.variables();
    variables.push(("CLAVIGER_DATABASE__SCHEMA_VERSION", "1"));
    let (status, log) = Program::start(&variables).end();
    assert_eq!(status.code(), Some(69), "{log:?}");
}
