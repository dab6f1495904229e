//! No secret is ever shown.

use super::*;

/// Everything that loading lets anybody see.
fn everything_shown(sources: &Sources) -> String {
    match config::load(sources) {
        Err(error) => format!("{error} {error:?} {sources:?}"),
        Ok(loaded) => format!(
            "{loaded:?} {} {} {}",
            loaded.warnings.join(" "),
            config::show(&loaded),
            config::show_json(&loaded)
        ),
    }
}

/// Settings that are a plain text, so that anything is a valid value and shown as it is.
const FREE_TEXTS: [&str; 3] = [
    "tokens.key_prefix",
    "bootstrap.username",
    "telemetry.log_level",
];

#[test]
fn a_secret_in_any_place_of_the_environment_is_never_shown() {
    for key in keys()
        .iter()
        .filter(|key| !FREE_TEXTS.contains(&key.as_str()))
    {
        for name in [
            variable(key),
            variable(key) + "_FILE",
            variable(key) + "_TYPO",
        ] {
            let sources = Sources {
                environment: environment(&[
                    (&name, SECRET),
                    ("CLAVIGER_BOOTSTRAP__USERNAME", "root"),
                ]),
                ..Sources::default()
            };
            let shown = everything_shown(&sources);
            assert!(!shown.contains(SECRET), "{name}: {shown}");
        }
    }
}

#[test]
fn a_secret_in_any_place_of_the_file_is_never_shown() {
    for key in keys()
        .iter()
        .filter(|key| !FREE_TEXTS.contains(&key.as_str()))
    {
        for text in [
            format!("{key} = '{SECRET}'"),
            format!("{key}_file = '{SECRET}'"),
            format!("{key} = ['{SECRET}']"),
            format!("{key} = {{ a = '{SECRET}' }}"),
            format!("{key}_typo = '{SECRET}'"),
            // Not TOML, in several ways.
            format!("{key} = {SECRET}"),
            format!("{key} = '{SECRET}"),
            format!("{key} = \"\\{SECRET}\""),
            format!("{key} = '{SECRET}' '{SECRET}'"),
            format!("{key} = '{SECRET}'\n{key} = '{SECRET}'"),
        ] {
            let file = File::new(&text);
            let shown =
                everything_shown(&file.sources(&[("CLAVIGER_BOOTSTRAP__USERNAME", "root")]));
            assert!(!shown.contains(SECRET), "{text}: {shown}");
        }
    }
}

#[rstest]
#[case(
    "DATABASE_URL",
    "postgres://claviger:S@db:5432/x?sslmode=require",
    "postgres://claviger:***@db:5432/x?sslmode=require"
)]
#[case(
    "DATABASE_URL",
    "postgres://db/x?user=u&password=S",
    "postgres://db/x?user=***&password=***"
)]
#[case(
    "DATABASE_URL",
    "postgres:///x?host=/run/pg&password=S",
    "postgres:///x?host=/run/pg&password=***"
)]
#[case(
    "DATABASE_URL",
    "sqlite://claviger.db?mode=rwc&key=S",
    "sqlite://claviger.db?mode=rwc&key=***"
)]
#[case("DATABASE_URL", "postgres://db/x?S", "postgres://db/x?***")]
#[case("REDIS_URL", "redis://:S@cache:6379/0", "redis://:***@cache:6379/0")]
#[case("REDIS_URL", "redis://u:a@S@cache", "redis://u:***@cache")]
#[case("REDIS_URL", "redis://S@cache", "redis://***@cache")]
#[case(
    "REDIS_URL",
    "rediss://cache/?password=S",
    "rediss://cache/?password=***"
)]
#[case(
    "REDIS_URL",
    "redis+sentinel://u:S@one:26379,two:26379/main/0",
    "redis+sentinel://u:***@one:26379,two:26379/main/0"
)]
#[case(
    "REDIS_URL",
    "redis+sentinel://:a,S@one,[::1]:2/main/0?protocol=resp3&password=S",
    "redis+sentinel://:***@one,[::1]:2/main/0?protocol=resp3&password=***"
)]
#[case(
    "REDIS_URL",
    "rediss+cluster://S@one:6379,two:6379",
    "rediss+cluster://***@one:6379,two:6379"
)]
#[case(
    "REDIS_URL",
    "redis+cluster://u:a@S,@one,two:6379/",
    "redis+cluster://u:***@one,two:6379/"
)]
fn of_a_url_only_the_host_is_shown(#[case] name: &str, #[case] url: &str, #[case] shown: &str) {
    let loaded = load_variables(&[(name, &url.replace('S', SECRET))]).unwrap();
    let text = config::show(&loaded);
    assert!(
        text.contains(&format!(
            "url = \"{shown}\" # environment variable {name}\n"
        )),
        "{text}"
    );
    assert!(!text.contains(SECRET));
}

/// A password that ends the authority early would be taken for a host, a port, or a path.
#[rstest]
#[case("DATABASE_URL", "postgres://u:12/S@db/x")]
#[case("DATABASE_URL", "postgres://u:12?S@db/x")]
#[case("DATABASE_URL", "postgres://u:12#S@db/x")]
#[case("DATABASE_URL", "postgres://u:S/12@db/x")]
#[case("DATABASE_URL", "postgres://u:S#12@db/x")]
#[case("REDIS_URL", "redis+sentinel://u:12/S@one,two:2/main/0")]
#[case("REDIS_URL", "redis+sentinel://u:S/12@one,two:2/main/0")]
#[case("REDIS_URL", "redis+sentinel://u:1,2?S@one,two:2/main/0")]
#[case("REDIS_URL", "redis+cluster://u:1,2/S@one,two:2")]
#[case("REDIS_URL", "redis+cluster://u:12#S@one,two:2")]
#[case("REDIS_URL", "redis+cluster://one,S/12@two:2")]
#[case("REDIS_URL", "redis+cluster:S@one,two:2")]
fn a_url_that_is_misread_is_refused_and_not_shown(#[case] name: &str, #[case] url: &str) {
    let sources = Sources {
        environment: environment(&[(name, &url.replace('S', SECRET))]),
        ..Sources::default()
    };
    assert!(config::load(&sources).is_err());
    assert!(!everything_shown(&sources).contains(SECRET));
}
