//! From one version to the next and back: the promises of `docs/upgrading.md`, each with the built program.
//!
//! The version that comes after this one is this one with one migration more, which expands in every way that there is. What
//! needs no second version stands elsewhere: `store/schema.rs` (any version from any other, failures, the lock), `cli.rs`
//! (commands on a schema that is ahead or behind, eight migrations at once).

use claviger::store::schema::{Schema, SchemaError, Target};
use migration::{
    MigrationName, MigrationTrait, Migrator, MigratorTrait, SchemaManager, async_trait,
};
use redis::AsyncCommands;
use rstest::rstest;
use sea_orm::{ConnectionTrait, DbErr, TransactionTrait};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::common::{
    Backend, Deployment, Program, post_login, redis_url, run, start, wait_for_a_lock,
    wait_for_sessions, with_token,
};

const AHEAD: &str =
    "the schema is ahead of this binary: fine during a roll-out or after a roll-back";

/// Locks the row that the migration of version 2 writes.
const TOUCH: &str = "UPDATE installation SET id = id";

/// What the next version may add, in the words that both databases know.
struct Expand;

impl MigrationName for Expand {
    fn name(&self) -> &'static str {
        "m29990101_000001_later"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Expand {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for sql in [
            "ALTER TABLE users ADD COLUMN locale text DEFAULT 'en'",
            "ALTER TABLE users ADD COLUMN points integer NOT NULL DEFAULT 0",
            "CREATE TABLE later (id integer PRIMARY KEY, user_id bigint REFERENCES users (id) ON DELETE CASCADE)",
            "CREATE INDEX users_created_at ON users (created_at)",
        ] {
            manager.get_connection().execute_unprepared(sql).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for sql in [
            "DROP INDEX users_created_at",
            "DROP TABLE later",
            "ALTER TABLE users DROP COLUMN points",
            "ALTER TABLE users DROP COLUMN locale",
        ] {
            manager.get_connection().execute_unprepared(sql).await?;
        }
        Ok(())
    }
}

/// The schema in the hands of the next version.
async fn next_version(deployment: &Deployment) -> Schema {
    let mut migrations = Migrator::migrations();
    migrations.push(Box::new(Expand));
    Schema::with_migrations(deployment.database.connect().await, migrations)
}

fn latest() -> usize {
    Migrator::migrations().len()
}

async fn failing(service: &Program) -> serde_json::Value {
    service.ops("/readyz").await.json()["failing"].clone()
}

/// Ends a service and tells how often it logged this.
fn ended(service: Program, message: &str) -> usize {
    service.signal("TERM");
    let (status, log) = service.end();
    assert!(status.success(), "{log:?}");
    log.iter().filter(|line| line.contains(message)).count()
}

/// A roll-out migrates while this version still serves, and a roll-back starts it anew on what the next one left.
#[rstest]
#[tokio::test]
async fn this_version_works_on_the_schema_of_the_next(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let deployment = Deployment::new(backend).await;
    deployment.user("alice");
    let before = deployment.start();
    let token = before.send(&post_login("alice")).await.token();

    next_version(&deployment).await.up().await.unwrap();
    // The service that was there all the time, with statements that it prepared before.
    assert_eq!(before.send(&with_token("GET", &token)).await.status, 200);
    let second = before.send(&post_login("alice")).await.token();
    assert_eq!(
        before.send(&with_token("DELETE", &second)).await.status,
        204
    );

    // And one that starts now.
    let mut after = deployment.start();
    after.wait_for(AHEAD);
    assert_eq!(failing(&after).await, json!([]));
    deployment.user("bob");
    let third = after.send(&post_login("bob")).await.token();
    assert_eq!(after.send(&with_token("GET", &third)).await.status, 200);
    if backend == Backend::External {
        assert_eq!(after.send(&with_token("GET", &token)).await.status, 200);
    }
    let up = deployment.run(&["migrate", "up"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert!(
        up.out.starts_with("ahead: ") && up.out.contains(Expand.name()),
        "{up:?}"
    );
    let smoke = deployment.run(&["smoke", "--url", &after.api]);
    assert_eq!(smoke.code, 0, "{smoke:?}");
    let listed = deployment.run(&["user", "list"]);
    assert!(
        listed.out.contains("alice") && listed.out.contains("bob"),
        "{listed:?}"
    );

    assert_eq!(ended(after, AHEAD), 1);
    assert_eq!(ended(before, "panic"), 0);
}

/// Instances that come before their migration wait for it, and those who are logged in notice nothing.
#[rstest]
#[tokio::test]
async fn this_version_waits_on_the_schema_of_the_one_before(
    #[values(0, latest() - 1)] version: usize,
) {
    let deployment = Deployment::new(Backend::External).await;
    let down = deployment.run(&["migrate", "to", &version.to_string()]);
    assert_eq!(down.code, 0, "{down:?}");
    // Issued by the version before.
    let token = claviger::auth::token::Token::generate();
    let key = format!("{}{}", deployment.key_prefix, token.expose());
    let client = redis::Client::open(redis_url().expose_secret()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    redis.set_ex::<_, _, ()>(&key, 7, 600).await.unwrap();

    let mut service = deployment.start_unready();
    service.wait_for("not ready");
    assert_eq!(failing(&service).await, json!(["schema"]));
    let check = with_token("GET", token.expose());
    let checked = service.send(&check).await;
    assert_eq!(checked.header("x-user-id"), Some("7"), "{checked:?}");
    service
        .send(&post_login("alice"))
        .await
        .problem(503, "dependency-unavailable");

    let up = deployment.run(&["migrate", "up"]);
    assert_eq!(up.code, 0, "{up:?}");
    service.wait_for("ready");
    deployment.user("alice");
    service.send(&post_login("alice")).await.token();
    assert_eq!(service.send(&check).await.status, 200);
}

/// The way back with the schema: first by the version that knows how, then the version before. It forgets nothing that it knew.
#[rstest]
#[tokio::test]
async fn the_next_version_takes_its_schema_back(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let deployment = Deployment::new(backend).await;
    deployment.user("alice");
    let next = next_version(&deployment).await;
    next.up().await.unwrap();
    let service = deployment.start();
    let token = service.send(&post_login("alice")).await.token();

    // This version does not know how, and changes nothing.
    for arguments in [&["migrate", "down"][..], &["migrate", "to", "1"]] {
        let refused = deployment.run(arguments);
        assert_eq!(refused.code, 69, "{refused:?}");
        assert!(refused.err.contains(Expand.name()), "{refused:?}");
    }
    assert_eq!(next.status().await.unwrap().version, latest() + 1);

    // Under a service that stays ready, and forward and back again.
    for target in [
        Target::Version(latest()),
        Target::Latest,
        Target::Version(latest()),
    ] {
        next.to(target, async || -> Result<(), SchemaError> {
            panic!("no session has to end")
        })
        .await
        .unwrap();
        assert_eq!(failing(&service).await, json!([]));
        service.send(&post_login("alice")).await.token();
        assert_eq!(service.send(&with_token("GET", &token)).await.status, 200);
    }
    let status = deployment.run(&["migrate", "status"]);
    assert!(status.out.starts_with("current: "), "{status:?}");
    let restarted = deployment.start();
    restarted.send(&post_login("alice")).await.token();
    assert_eq!(ended(restarted, AHEAD), 0);
}

/// What this version itself added goes and comes back under a service that is not restarted.
#[tokio::test]
async fn one_version_down_and_up_under_a_running_service() {
    let deployment = Deployment::new(Backend::External).await;
    deployment.user("alice");
    let mut service = deployment.start();
    let token = service.send(&post_login("alice")).await.token();
    let check = with_token("GET", &token);

    let down = deployment.run(&["migrate", "down"]);
    assert_eq!(down.code, 0, "{down:?}");
    service.wait_for("not ready");
    assert_eq!(failing(&service).await, json!(["schema"]));
    service
        .send(&post_login("alice"))
        .await
        .problem(503, "dependency-unavailable");
    let last = Migrator::migrations().pop().unwrap();
    let ends_sessions = migration::undoing_ends_sessions(last.name());
    let expected = if ends_sessions { 401 } else { 200 };
    assert_eq!(service.send(&check).await.status, expected);

    let up = deployment.run(&["migrate", "up"]);
    assert_eq!(up.code, 0, "{up:?}");
    service.wait_for("ready");
    deployment.user("bob");
    service.send(&post_login("bob")).await.token();
}

/// Jobs of two roll-outs, or of one that was repeated. On PostgreSQL one is in the middle when the others come: its statement
/// waits for a row that somebody else has written. All of them end well; that the lock keeps them apart is seen in
/// `store/schema.rs`.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_jobs_at_once_go_up_together(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let deployment = Deployment::new(backend).await;
    let down = deployment.run(&["migrate", "to", "1"]);
    assert_eq!(down.code, 0, "{down:?}");
    let database = deployment.database.connect().await;
    let variables = deployment.variables();
    let job = || start(&["migrate", "up"], &variables);
    let jobs: Vec<_> = if backend == Backend::External {
        let other = database.begin().await.unwrap();
        other.execute_unprepared(TOUCH).await.unwrap();
        let first = job();
        wait_for_a_lock(&database).await;
        let jobs = vec![first, job(), job(), job()];
        wait_for_sessions(&database, 3, "query LIKE '%pg_try_advisory_lock%'").await;
        other.commit().await.unwrap();
        jobs
    } else {
        (0..4).map(|_| job()).collect()
    };
    for job in jobs {
        let output = job.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(out, format!("current: version {0} of {0}\n", latest()));
    }
}

/// It is killed while its statement waits for a row that somebody else has written, so it is surely in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_in_the_middle_leaves_the_work_to_the_other() {
    let deployment = Deployment::new(Backend::External).await;
    let down = deployment.run(&["migrate", "to", "1"]);
    assert_eq!(down.code, 0, "{down:?}");
    let database = deployment.database.connect().await;
    let other = database.begin().await.unwrap();
    other.execute_unprepared(TOUCH).await.unwrap();
    let variables = deployment.variables();
    let mut killed = start(&["migrate", "up"], &variables);
    wait_for_a_lock(&database).await;
    let second = start(&["migrate", "up"], &variables);
    killed.kill().unwrap();
    assert_eq!(killed.wait().unwrap().code(), None);
    let status = run(&["migrate", "status"], &variables, "");
    assert!(status.out.starts_with("behind: version 1 "), "{status:?}");

    other.commit().await.unwrap();
    let output = second.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    deployment.user("alice");
    let service = deployment.start();
    service.send(&post_login("alice")).await.token();
}
