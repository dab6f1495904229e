//! `claviger calibrate` and `claviger doctor`: what the machine and the stores are good for.

use secrecy::ExposeSecret;

use super::Cli;
use crate::common::{Backend, Proxy, RedisServer, Run, redis_url, run};

/// What is wrong, by the parts that it is wrong with.
fn wrong(run: &Run) -> Vec<&str> {
    run.out
        .lines()
        .filter(|line| line.starts_with("FAIL") || line.starts_with("warn"))
        .map(|line| line.split(':').next().unwrap())
        .collect()
}

#[test]
fn the_suggested_cost_is_a_configuration_and_never_under_the_floor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("claviger.toml");
    for (time, memory) in [("1ms", "64"), ("60ms", "24"), ("60ms", "512")] {
        let suggested = run(
            &["calibrate", "--time", time, "--memory-mib", memory],
            &[],
            "",
        );
        assert_eq!(suggested.code, 0, "{suggested:?}");
        let settings: toml::Table = suggested.out.parse().unwrap();
        let number = |key: &str| settings["password"][key].as_integer().unwrap();
        let (memory_kib, iterations) = (number("memory_kib"), number("iterations"));
        assert!(memory_kib >= 19_456 && iterations >= 2, "{suggested:?}");
        assert!(memory_kib <= memory.parse::<i64>().unwrap() * 1024);
        assert_eq!(number("parallelism"), 1);
        if time == "1ms" {
            assert_eq!((memory_kib, iterations), (19_456, 2), "{suggested:?}");
            assert!(suggested.out.contains("under OWASP's floor"));
        }

        std::fs::write(&file, &suggested.out).unwrap();
        let check = ["--config", file.to_str().unwrap(), "config", "check"];
        let checked = run(&check, &[], "");
        assert_eq!((checked.code, checked.err.as_str()), (0, ""), "{checked:?}");
    }
    for wrong in [
        ["--time", "250"],
        ["--time", "0ms"],
        ["--time", "1h"],
        ["--memory-mib", "18"],
    ] {
        let refused = run(&["calibrate", wrong[0], wrong[1]], &[], "");
        assert_eq!(refused.code, 64, "{refused:?}");
    }
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_with_what_works() {
    let cli = Cli::migrated(Backend::External).await;
    let redis = RedisServer::start();
    let mut variables = cli.variables();
    variables.push(("CLAVIGER_TOKENS__URL", redis.url.expose_secret()));
    let well = run(&["doctor"], &variables, "");
    assert_eq!((well.code, wrong(&well)), (0, vec![]), "{well:?}");
    for part in [
        "configuration",
        "hash gate",
        "database",
        "schema",
        "token store",
        "clock",
        "eviction",
    ] {
        assert!(well.out.contains(&format!("ok    {part}: ")), "{well:?}");
    }
    let tokens: Vec<String> = redis.ask(&["KEYS", "clv_*"]).await;
    assert!(tokens.is_empty(), "the token of the test is gone");

    // Alone with its file it works, and says what it is not.
    let cli = Cli::migrated(Backend::Embedded).await;
    let well = run(&["doctor"], &cli.variables(), "");
    assert_eq!(
        (well.code, wrong(&well)),
        (0, vec!["warn  token store"]),
        "{well:?}"
    );
}

#[test]
fn the_doctor_makes_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("claviger.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    let ill = run(&["doctor"], &[("CLAVIGER_DATABASE__URL", &url)], "");
    assert_eq!(
        (ill.code, wrong(&ill)),
        (0, vec!["warn  database", "warn  token store"]),
        "{ill:?}"
    );
    assert!(ill.out.contains("there is no such file"), "{ill:?}");
    assert!(!file.exists());
}

#[tokio::test]
async fn the_doctor_says_what_to_do_about_a_schema_and_about_eviction() {
    let cli = Cli::new(Backend::External).await;
    let redis = RedisServer::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut variables = cli.variables();
    variables.push(("CLAVIGER_TOKENS__URL", redis.url.expose_secret()));
    let ill = run(&["doctor"], &variables, "");
    assert_eq!(
        (ill.code, wrong(&ill)),
        (69, vec!["FAIL  schema", "warn  token store"]),
        "{ill:?}"
    );
    assert!(ill.out.contains("Run `claviger migrate up`."), "{ill:?}");

    assert_eq!(cli.run(&["migrate", "up"]).code, 0);
    let better = run(&["doctor"], &variables, "");
    assert_eq!(
        (better.code, wrong(&better)),
        (0, vec!["warn  eviction"]),
        "{better:?}"
    );
    redis
        .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .await;
    let well = run(&["doctor"], &variables, "");
    assert_eq!((well.code, wrong(&well)), (0, vec![]), "{well:?}");
}

// The program is waited for beside the proxies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_tells_which_store_is_away_and_that_it_is_back() {
    let cli = Cli::migrated(Backend::External).await;
    let (database, database_url) = Proxy::before(&cli.database.url).await;
    let (redis, tokens_url) = Proxy::before(&redis_url()).await;
    let variables = [
        ("CLAVIGER_DATABASE__URL", database_url.expose_secret()),
        ("CLAVIGER_DATABASE__ACQUIRE_TIMEOUT", "20s"),
        ("CLAVIGER_TOKENS__URL", tokens_url.expose_secret()),
    ];
    let doctor = || run(&["doctor"], &variables, "");
    redis.cut();
    let ill = doctor();
    assert_eq!(
        (ill.code, wrong(&ill)),
        (69, vec!["FAIL  token store"]),
        "{ill:?}"
    );
    redis.heal();
    database.cut();
    let ill = doctor();
    assert_eq!(ill.code, 69);
    assert_eq!(
        wrong(&ill),
        ["FAIL  database", "warn  token store"],
        "{ill:?}"
    );
    for url in [&cli.database.url, &redis_url()] {
        let secret = url::Url::parse(url.expose_secret()).unwrap();
        let secret = secret.password().unwrap_or("no password");
        assert!(!(ill.out.clone() + &ill.err).contains(secret), "{ill:?}");
    }
    database.heal();
    let well = doctor();
    assert_eq!(well.code, 0, "{well:?}");
}

#[test]
fn the_doctor_refuses_a_wrong_configuration() {
    let ill = run(
        &["doctor"],
        &[("CLAVIGER_TOKENS__TTL", "1"), ("RUST_LOG", "info")],
        "",
    );
    assert_eq!(ill.code, 78, "{ill:?}");
    assert!(ill.err.contains("tokens.ttl"), "{ill:?}");
}
