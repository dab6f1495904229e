//! The end of the service: the built program, real sockets, real signals.
//!
//! What was sent when is not left to chance. A login that has sent its head with `Expect: 100-continue` and was told to
//! continue is in its handler; a process that is held by SIGSTOP takes nothing from the kernel, so all that is sent
//! meanwhile waits there when the signal to end comes.

use claviger::store::schema::{Schema, Target};
use futures_util::future::join_all;
use redis::AsyncCommands;
use rstest::rstest;
use sea_orm::{ConnectionTrait, TransactionTrait};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::common::{
    Answer, Backend, Connection, Deployment, Program, credentials, get, head_of_login, post_login,
    redis_url, wait_for_a_lock, with_token,
};

const ALL_ANSWERED: &str = "all accepted requests were answered";
const NOT_ALL: &str = "some requests were not answered within server.shutdown_grace";
const TOLD_TWICE: &str = "signalled twice: not waiting for open requests";

/// A login whose handler waits for the body.
async fn open_login(service: &Program, username: &str) -> Connection {
    let mut connection = service.connect().await;
    connection.send(&head_of_login(username)).await;
    assert_eq!(connection.answer().await.status, 100);
    connection
}

async fn deployment(backend: Backend) -> Deployment {
    let mut deployment = Deployment::new(backend).await;
    deployment.slow_hashes();
    deployment.user("alice");
    deployment
}

/// Waits for the end, asserts that it was an orderly one that said `last`, and none of the others.
#[track_caller]
fn ended(service: Program, last: &str) {
    let (status, log) = service.end();
    let log = log.join("\n");
    assert!(status.success(), "{status}\n{log}");
    for message in [ALL_ANSWERED, NOT_ALL, TOLD_TWICE] {
        assert_eq!(log.contains(message), message == last, "{message}\n{log}");
    }
}

/// Asserts that these logins have succeeded, and that what they were given is worth something.
async fn lost_none(backend: Backend, deployment: &Deployment, answers: &[Answer]) {
    let tokens: Vec<String> = answers.iter().map(Answer::token).collect();
    if backend == Backend::External {
        let client = redis::Client::open(redis_url().expose_secret()).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        for (token, answer) in tokens.iter().zip(answers) {
            let key = format!("{}{token}", deployment.key_prefix);
            let value: Option<i64> = redis.get(&key).await.unwrap();
            assert_eq!(json!(value), answer.json()["user_id"]);
            assert!(redis.ttl::<_, i64>(&key).await.unwrap() > 0);
        }
    }
}

#[rstest]
#[tokio::test]
async fn logins_in_their_handlers_are_answered(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[values("TERM", "INT")] signal: &str,
) {
    let deployment = deployment(backend).await;
    let service = deployment.start();
    let mut logins = join_all((0..8).map(|_| open_login(&service, "alice"))).await;

    service.signal(signal);
    let ready = service.wait_for_draining().await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["failing"], json!(["draining"]));
    assert_eq!(service.ops("/healthz").await.status, 200);

    let answers = join_all(logins.iter_mut().map(async |login| {
        login.send(&credentials("alice")).await;
        login.answer().await
    }))
    .await;
    ended(service, ALL_ANSWERED);
    lost_none(backend, &deployment, &answers).await;
    for (login, answer) in logins.into_iter().zip(answers) {
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(login.rest().await, "");
    }
}

#[rstest]
#[tokio::test]
async fn logins_that_wait_for_their_hash_are_answered(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut deployment = deployment(backend).await;
    deployment.set("CLAVIGER_PASSWORD__WORKERS", "1");
    deployment.slow_user("slow").await;
    let service = deployment.start();

    // One keeps the only worker busy, so that the others wait in the queue.
    let mut slow = service.connect().await;
    slow.send(&post_login("slow")).await;
    service
        .wait_for_metric("claviger_hash_workers_busy", 1)
        .await;
    let mut logins = join_all((0..8).map(|_| service.connect())).await;
    for login in &mut logins {
        login.send(&post_login("alice")).await;
    }
    service
        .wait_for_metric("claviger_hash_queue_length", 8)
        .await;

    service.signal("TERM");
    let answers = join_all(logins.iter_mut().map(Connection::answer)).await;
    slow.answer().await.problem(401, "invalid-credentials");
    ended(service, ALL_ANSWERED);
    lost_none(backend, &deployment, &answers).await;
}

#[rstest]
#[tokio::test]
async fn what_waits_in_the_kernel_is_answered(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let deployment = deployment(backend).await;
    let service = deployment.start();
    let mut idle = join_all((0..4).map(|_| service.connect())).await;
    for connection in &mut idle {
        connection.send(&get("/")).await;
        assert_eq!(connection.answer().await.status, 200);
    }

    service.signal("STOP");
    // On connections that the service has, and on such that it has not yet taken.
    let fresh = join_all((0..4).map(|_| service.connect())).await;
    let mut logins: Vec<Connection> = idle.into_iter().chain(fresh).collect();
    for login in &mut logins {
        login.send(&post_login("alice")).await;
    }
    service.signal("TERM");
    service.signal("CONT");

    let answers = join_all(logins.iter_mut().map(Connection::answer)).await;
    ended(service, ALL_ANSWERED);
    lost_none(backend, &deployment, &answers).await;
}

#[tokio::test]
async fn a_full_queue_of_connections_is_answered() {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    service.signal("STOP");
    let mut connections = join_all((0..500).map(|_| service.connect())).await;
    for connection in &mut connections {
        connection.send(&get("/")).await;
    }
    service.signal("TERM");
    service.signal("CONT");
    for connection in &mut connections {
        assert_eq!(connection.answer().await.status, 200);
    }
    ended(service, ALL_ANSWERED);
}

#[tokio::test]
async fn an_answer_says_that_no_request_is_taken_after_it() {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let mut connection = open_login(&service, "alice").await;
    service.signal("TERM");
    service.wait_for_draining().await;
    // What comes behind the request that was open at the signal was not accepted, and its client is told to send it elsewhere.
    let both = credentials("alice") + &get("/");
    connection.send(&both).await;
    let answer = connection.answer().await;
    answer.token();
    assert_eq!(answer.header("connection"), Some("close"));
    ended(service, ALL_ANSWERED);
}

#[tokio::test]
async fn connections_that_nobody_uses_hold_nothing_up() {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let mut used = service.connect().await;
    used.send(&get("/")).await;
    assert_eq!(used.answer().await.status, 200);
    let unused = service.connect().await;

    // The grace is four minutes here.
    service.signal("TERM");
    assert_eq!(used.rest().await, "");
    assert_eq!(unused.rest().await, "");
    ended(service, ALL_ANSWERED);
}

#[tokio::test]
async fn a_request_whose_head_had_begun_to_arrive_is_answered() {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let (head, rest) = ("GET / HTTP/1.1\r\nhost", ": test\r\n\r\n");
    let mut begun = service.connect().await;
    begun.send(head).await;
    service.signal("TERM");
    service.wait_for_draining().await;
    begun.send(rest).await;
    assert_eq!(begun.answer().await.status, 200);
    ended(service, ALL_ANSWERED);
}

#[tokio::test]
async fn a_head_that_never_ends_is_waited_for_as_long_as_at_any_time() {
    let mut deployment = deployment(Backend::Embedded).await;
    deployment.set("CLAVIGER_SERVER__REQUEST_TIMEOUT", "300ms");
    let service = deployment.start();
    let mut begun = service.connect().await;
    begun.send("GET / HTTP/1.1\r\n").await;
    // The grace is four minutes here.
    service.signal("TERM");
    assert_eq!(begun.rest().await, "");
    ended(service, ALL_ANSWERED);
}

#[tokio::test]
async fn new_connections_are_refused_while_it_drains() {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let mut login = open_login(&service, "alice").await;
    service.signal("TERM");
    service.wait_for_draining().await;
    let address = service.api.strip_prefix("http://").unwrap().to_owned();
    // Draining is said just before the listener is closed, so the first tries may still be taken.
    let mut refused = false;
    for _ in 0..10_000 {
        refused = tokio::net::TcpStream::connect(&address).await.is_err();
        if refused {
            break;
        }
    }
    assert!(refused);
    login.send(&credentials("alice")).await;
    login.answer().await.token();
    ended(service, ALL_ANSWERED);
}

#[tokio::test]
async fn a_client_that_never_ends_is_not_waited_for_beyond_the_grace() {
    let mut deployment = deployment(Backend::Embedded).await;
    deployment.set("CLAVIGER_SERVER__SHUTDOWN_GRACE", "300ms");
    let service = deployment.start();
    let login = open_login(&service, "alice").await;
    service.signal("TERM");
    ended(service, NOT_ALL);
    assert_eq!(login.rest().await, "");
}

#[rstest]
#[tokio::test]
async fn a_second_signal_ends_it_at_once(
    #[values("TERM", "INT")] first: &str,
    #[values("TERM", "INT")] second: &str,
) {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let login = open_login(&service, "alice").await;
    service.signal(first);
    service.wait_for_draining().await;
    service.signal(second);
    ended(service, TOLD_TWICE);
    assert_eq!(login.rest().await, "");
}

#[rstest]
#[tokio::test]
async fn a_restart_keeps_what_redis_keeps(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let deployment = deployment(backend).await;
    let service = deployment.start();
    let kept = service.send(&post_login("alice")).await.token();
    let revoked = service.send(&post_login("alice")).await.token();
    assert_eq!(
        service.send(&with_token("DELETE", &revoked)).await.status,
        204
    );
    service.signal("TERM");
    ended(service, ALL_ANSWERED);

    let service = deployment.start();
    let expected = if backend == Backend::External {
        200
    } else {
        401
    };
    assert_eq!(
        service.send(&with_token("GET", &kept)).await.status,
        expected
    );
    service
        .send(&with_token("GET", &revoked))
        .await
        .problem(401, "invalid-token");
}

#[tokio::test]
async fn a_migration_that_has_begun_is_waited_for() {
    let mut deployment = Deployment::new(Backend::External).await;
    deployment.set("CLAVIGER_DATABASE__MIGRATE", "auto");
    let database = deployment.database.connect().await;
    let schema = Schema::new(database.clone());
    schema
        .to(Target::Version(1), async || Ok::<(), std::io::Error>(()))
        .await
        .unwrap();
    // The next migration writes this row, and waits for whoever has written it.
    let other = database.begin().await.unwrap();
    other
        .execute_unprepared("UPDATE installation SET id = id")
        .await
        .unwrap();
    let service = deployment.start_unready();
    wait_for_a_lock(&database).await;

    service.signal("TERM");
    service.wait_for_draining().await;
    other.commit().await.unwrap();
    ended(service, ALL_ANSWERED);
    assert_eq!(schema.status().await.unwrap().version, 4);
}
