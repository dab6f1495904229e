//! User and password beside the URL: one URL comes of them, whatever they are made of.

use claviger::store::database;
use claviger::store::tokens::Tokens;
use sea_orm::ConnectionTrait;
use sea_orm::sqlx::{self, AssertSqlSafe};

use super::*;
use crate::common::{
    Backend, Deployment, PASSWORD, RedisServer, TestDatabase, database as empty_database,
    post_login, run, server, unique, with_token,
};

/// Whatever ends a part of a URL early, or is taken for something encoded, with blanks, quotes and letters of two to four bytes.
const AWKWARD: &str = "%2F/?#@:%&=+;,[]{}|\\^`'\"<> ~%zz%41pässwörd-秘密";

fn with<'a>(
    url: &'a str,
    username: Option<&'a str>,
    password: Option<&'a str>,
) -> Vec<(&'static str, &'a str)> {
    let [of_url, of_username, of_password] =
        if url.starts_with("postgres") || url.starts_with("sqlite") {
            [
                "CLAVIGER_DATABASE__URL",
                "CLAVIGER_DATABASE__USERNAME",
                "CLAVIGER_DATABASE__PASSWORD",
            ]
        } else {
            [
                "CLAVIGER_TOKENS__URL",
                "CLAVIGER_TOKENS__USERNAME",
                "CLAVIGER_TOKENS__PASSWORD",
            ]
        };
    let mut variables = vec![(of_url, url)];
    variables.extend(username.map(|value| (of_username, value)));
    variables.extend(password.map(|value| (of_password, value)));
    variables
}

#[rstest]
#[case(
    "postgres://db:5432/x?sslmode=require",
    Some("u"),
    Some("a/b"),
    "postgres://u:a%2Fb@db:5432/x?sslmode=require"
)]
#[case("postgres://db/x", Some("a:b"), None, "postgres://a%3Ab@db/x")]
#[case("postgres://db/x", None, Some("p"), "postgres://:p@db/x")]
#[case(
    "postgres://%2Frun%2Fpg/x",
    Some("u"),
    Some("100%"),
    "postgres://u:100%25@%2Frun%2Fpg/x"
)]
#[case(
    "postgres:///x?host=/run/pg",
    Some("u"),
    Some("a&b +"),
    "postgres:///x?host=/run/pg&user=u&password=a%26b+%2B"
)]
#[case(
    "postgres:///x?host=/run/pg",
    Some("u"),
    None,
    "postgres:///x?host=/run/pg&user=u"
)]
#[case("postgres://db/x", None, None, "postgres://db/x")]
#[case(
    "redis://cache:6379/1",
    Some("u"),
    Some("%41"),
    "redis://u:%2541@cache:6379/1"
)]
#[case("rediss://[::1]", None, Some("p@q"), "rediss://:p%40q@[::1]")]
#[case(
    "redis+sentinel://one:1,two:2/main/0",
    Some("u"),
    Some("a,b/%"),
    "redis+sentinel://u:a,b%2F%25@one:1,two:2/main/0"
)]
#[case(
    "rediss+cluster://[::1],two?protocol=resp3",
    None,
    Some("p"),
    "rediss+cluster://:p@[::1],two?protocol=resp3"
)]
fn they_become_a_part_of_the_url(
    #[case] url: &str,
    #[case] username: Option<&str>,
    #[case] password: Option<&str>,
    #[case] expected: &str,
) {
    let variables = with(url, username, password);
    let config = load_variables(&variables).unwrap().config;
    let found = if variables[0].0 == "CLAVIGER_DATABASE__URL" {
        &config.database.url
    } else {
        &config.tokens.url
    };
    assert_eq!(found.expose_secret(), expected);
}

#[test]
fn each_can_be_a_file_that_the_configuration_names() {
    let file = File::new("");
    let user = file.beside("user", "claviger\n");
    let password = file.beside("password", "a/b \n");
    let text = format!(
        "[database]\nurl = 'postgres://db/x'\nusername_file = '{user}'\npassword_file = '{password}'\n\
         [tokens]\nurl = 'redis://cache'\nusername_file = '{user}'\npassword_file = '{password}'\n"
    );
    let by_file = load_text(&text).unwrap();
    let by_variable = load_variables(&[
        ("DATABASE_URL", "postgres://db/x"),
        ("CLAVIGER_DATABASE__USERNAME_FILE", &user),
        ("CLAVIGER_DATABASE__PASSWORD_FILE", &password),
        ("REDIS_URL", "redis://cache"),
        ("CLAVIGER_TOKENS__USERNAME_FILE", &user),
        ("CLAVIGER_TOKENS__PASSWORD_FILE", &password),
    ])
    .unwrap();
    assert_eq!(
        by_file.config.database.url.expose_secret(),
        "postgres://claviger:a%2Fb%20@db/x"
    );
    assert_eq!(
        by_file.config.tokens.url.expose_secret(),
        "redis://claviger:a%2Fb%20@cache"
    );
    assert_eq!(dump(&by_file.config), dump(&by_variable.config));
}

#[rstest]
#[case("postgres://u@db/x", Some("v"), None)]
#[case("postgres://u@db/x", None, Some("p"))]
#[case("postgres://:p@db/x", Some("v"), None)]
#[case("postgres://db/x?user=u", Some("v"), None)]
#[case("postgres:///x?host=/run/pg&password=p", None, Some("q"))]
#[case("redis://:p@cache", None, Some("p"))]
#[case("redis://u:p@cache", Some("v"), Some("q"))]
#[case("redis+sentinel://u:p@one,two:2/main/0", Some("v"), Some("q"))]
#[case("redis+cluster://:p@one,two:2", None, Some("q"))]
fn beside_a_url_with_credentials_they_are_an_error_that_names_both(
    #[case] url: &str,
    #[case] username: Option<&str>,
    #[case] password: Option<&str>,
) {
    let variables = with(url, username, password);
    let found = problem(load_variables(&variables));
    for (name, _) in &variables {
        assert!(
            found.contains(&format!("(environment variable {name})")),
            "{found}"
        );
    }
    assert!(
        found.contains("holds a user or a password already"),
        "{found}"
    );
}

#[rstest]
#[case("sqlite://x.db?mode=rwc")]
#[case("memory:")]
fn with_an_embedded_store_they_mean_nothing(#[case] url: &str) {
    for (username, password) in [(Some("u"), None), (None, Some("p")), (Some("u"), Some("p"))] {
        let variables = with(url, username, password);
        let found = problem(load_variables(&variables));
        for (name, _) in &variables {
            assert!(
                found.contains(&format!("(environment variable {name})")),
                "{found}"
            );
        }
        let (scheme, _) = url.split_once(':').unwrap();
        assert!(
            found.contains(&format!("`{scheme}:` asks for no user and no password")),
            "{found}"
        );
    }
    // The URL is the default one.
    let found = problem(load_text("database.password = 'p'"));
    assert!(
        found.contains("database.url (default): `sqlite:`"),
        "{found}"
    );
}

#[test]
fn what_no_server_could_be_told_is_refused() {
    let found = problem(load_variables(&with("redis://cache", Some("u"), None)));
    assert!(
        found.contains("tokens.username") && found.contains("takes no user without a password"),
        "{found}"
    );
    let file = File::new("database.url = 'postgres://db/x'\ndatabase.password = \"a\\u0000b\"\n");
    let found = problem(file.load());
    assert!(
        found.contains("database.password (file ") && found.contains("no zero byte"),
        "{found}"
    );
    // An URL that can't be used is the only problem.
    let found = problem(load_variables(&with(
        "postgres://u:1/2@db/x",
        Some("v"),
        Some("p"),
    )));
    assert!(found.starts_with("database.url ("), "{found}");
}

#[test]
fn they_are_masked_and_the_url_is_shown_as_it_was_given() {
    let file = File::new(&format!(
        "database = {{ url = 'postgres://db/x?sslmode=require', username = '{SECRET}', password = '{SECRET}' }}\n\
         tokens = {{ url = 'redis://cache', password = '{SECRET}' }}\n"
    ));
    let loaded = file.load().unwrap();
    let shown = config::show(&loaded);
    let path = file.path.display();
    for line in [
        format!("url = \"postgres://db/x?sslmode=require\" # file {path}, line 1\n"),
        format!("username = \"***\" # file {path}, line 1\n"),
        "username = \"\" # default\n".to_owned(),
        format!("url = \"redis://cache\" # file {path}, line 2\n"),
        format!("password = \"***\" # file {path}, line 2\n"),
    ] {
        assert!(shown.contains(&line), "{line}{shown}");
    }
    let everything = format!("{shown}{}{loaded:?}", config::show_json(&loaded));
    assert!(!everything.contains(SECRET), "{everything}");
}

/// A role with an awkward name and password, which is the owner of a database; removed when this is dropped.
struct Role {
    database: TestDatabase,
    name: String,
    url: String,
}

impl Role {
    async fn new() -> Self {
        let database = empty_database(Backend::External).await;
        let name = format!("{}%2F/?#@:% 秘", unique("role"));
        let mut url = url::Url::parse(database.url.expose_secret()).unwrap();
        let sql = format!(
            "CREATE ROLE \"{name}\" LOGIN PASSWORD '{}'; ALTER DATABASE {} OWNER TO \"{name}\"",
            AWKWARD.replace('\'', "''"),
            url.path().trim_start_matches('/'),
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut server().await)
            .await
            .unwrap();
        url.set_username("").unwrap();
        url.set_password(None).unwrap();
        Self {
            database,
            name,
            url: url.into(),
        }
    }

    /// Ends the role, once its database is gone.
    async fn drop(self) {
        drop(self.database);
        sqlx::raw_sql(AssertSqlSafe(format!("DROP ROLE \"{}\"", self.name)))
            .execute(&mut server().await)
            .await
            .unwrap();
    }
}

/// What is set reaches a real PostgreSQL byte by byte, from a file too, in the authority and in the query of the URL.
#[tokio::test]
async fn postgresql_takes_any_password() {
    let role = Role::new().await;
    let file = File::new("");
    let password = file.beside("password", &format!("{AWKWARD}\n"));
    let url = url::Url::parse(&role.url).unwrap();
    let in_query = format!(
        "postgres://{}?host={}&port={}",
        url.path(),
        url.host_str().unwrap(),
        url.port().unwrap()
    );
    for url in [&role.url, &in_query] {
        let variables = [
            ("CLAVIGER_DATABASE__URL", url.as_str()),
            ("CLAVIGER_DATABASE__USERNAME", &role.name),
            ("CLAVIGER_DATABASE__PASSWORD_FILE", &password),
        ];
        let loaded = load_variables(&variables).unwrap();
        let connection = database::connect(&loaded.config.database).await.unwrap();
        connection.execute_unprepared("SELECT 1").await.unwrap();

        let done = run(&["migrate", "up"], &variables, "");
        assert_eq!(done.code, 0, "{done:?}");
    }
    let wrong = run(
        &["migrate", "up"],
        &[
            ("CLAVIGER_DATABASE__URL", role.url.as_str()),
            ("CLAVIGER_DATABASE__USERNAME", &role.name),
            ("CLAVIGER_DATABASE__PASSWORD", SECRET),
        ],
        "",
    );
    assert_eq!(wrong.code, 69, "{wrong:?}");
    assert!(!format!("{wrong:?}").contains(SECRET), "{wrong:?}");

    // The driver would say which character it is.
    let excluded = run(
        &["migrate", "status"],
        &[
            ("CLAVIGER_DATABASE__URL", role.url.as_str()),
            ("CLAVIGER_DATABASE__USERNAME", &role.name),
            ("CLAVIGER_DATABASE__PASSWORD", "a🔑b"),
        ],
        "",
    );
    assert_eq!(excluded.code, 69, "{excluded:?}");
    assert!(
        excluded.err.contains("that SCRAM excludes") && !excluded.err.contains('🔑'),
        "{excluded:?}"
    );
    role.drop().await;
}

/// The password of the default user alone, and a user of the access list with its own.
#[tokio::test]
async fn redis_takes_any_password() {
    let redis = RedisServer::start();
    let password = format!("{AWKWARD}\t🔑\n");
    let name = "%2F/?#@:%秘";
    redis
        .command(&[
            "ACL",
            "SETUSER",
            name,
            "on",
            &format!(">{password}"),
            "~*",
            "+@all",
        ])
        .await;
    redis
        .command(&["CONFIG", "SET", "requirepass", &password])
        .await;
    for username in [None, Some(name)] {
        let loaded =
            load_variables(&with(redis.url.expose_secret(), username, Some(&password))).unwrap();
        let tokens = Tokens::open(&loaded.config.tokens).unwrap();
        tokens.ping().await.unwrap();

        let wrong =
            load_variables(&with(redis.url.expose_secret(), username, Some(SECRET))).unwrap();
        let error = Tokens::open(&wrong.config.tokens)
            .unwrap()
            .ping()
            .await
            .unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
    }
}

/// The whole service, as a chart would start it: addresses in the configuration file, the parts in files.
#[tokio::test]
async fn a_service_with_its_secrets_in_files_works_and_logs_none_of_them() {
    let role = Role::new().await;
    let redis = RedisServer::start();
    redis
        .command(&["CONFIG", "SET", "requirepass", AWKWARD])
        .await;
    let file = File::new(&format!(
        "database.url = '{}'\ntokens.url = '{}'\n",
        role.url,
        redis.url.expose_secret()
    ));
    let (user, password) = (
        file.beside("user", &role.name),
        file.beside("password", AWKWARD),
    );
    let mut deployment = Deployment::new(Backend::External).await;
    for (name, value) in [
        ("CLAVIGER_CONFIG", file.path.to_str().unwrap()),
        ("CLAVIGER_DATABASE__URL", ""),
        ("CLAVIGER_TOKENS__URL", ""),
        ("CLAVIGER_DATABASE__USERNAME_FILE", &user),
        ("CLAVIGER_DATABASE__PASSWORD_FILE", &password),
        ("CLAVIGER_TOKENS__PASSWORD_FILE", &password),
        ("CLAVIGER_DATABASE__MIGRATE", "auto"),
        ("CLAVIGER_BOOTSTRAP__USERNAME", "root"),
        ("CLAVIGER_BOOTSTRAP__PASSWORD", PASSWORD),
        ("RUST_LOG", "trace"),
    ] {
        deployment.set(name, value);
    }
    let mut service = deployment.start();
    service.wait_for("created the administrator of bootstrap.username");
    let token = service.send(&post_login("root")).await.token();
    assert_eq!(service.send(&with_token("GET", &token)).await.status, 200);
    service.signal("TERM");
    let (status, log) = service.end();
    assert!(status.success());
    let log = log.join("\n");
    // As they are, and as they stand in the URL.
    for secret in ["pässwörd", "p%C3%A4ssw", "%252F%2F"] {
        assert!(!log.contains(secret), "{secret}");
    }
    role.drop().await;
}
