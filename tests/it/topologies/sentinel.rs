//! Redis Sentinel: one master, one replica, one sentinel.

use std::time::{Duration, Instant};

use rstest::rstest;
use secrecy::ExposeSecret as _;

use super::{
    MOST_LOOKS, RECOVERY, a_session_comes_and_goes, all_is_unavailable, app_on, until_it_lives,
};
use crate::common::{Backend, Deployment, RedisServer, Sentinel, post_login, with_token};

/// The longest that anybody may be asked who is no master any more.
const STALE: Duration = Duration::from_secs(5);

async fn servers(settings: &[&str]) -> (RedisServer, RedisServer, Sentinel) {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    master.has_replica(&replica).await;
    let sentinel = Sentinel::watch(&master, settings);
    sentinel.wait_for_a_replica().await;
    (master, replica, sentinel)
}

#[tokio::test]
async fn the_master_dies() {
    let (mut master, replica, sentinel) = servers(&[]).await;
    let app = app_on(&sentinel.url).await;
    app.user("alice").await;
    a_session_comes_and_goes(&app, "alice").await;
    let (token, revoked) = (app.token("alice").await, app.token("alice").await);
    assert_eq!(app.log_out(&revoked).await.status, 204);
    master.wait_for_replica(&replica).await;

    let mut switches = sentinel.switches().await;
    master.kill();
    let begin = Instant::now();
    all_is_unavailable(&app, &[&token]).await;

    switches.next().await;
    let after = begin.elapsed();
    let recovery = until_it_lives(&app, &token).await;
    eprintln!("switched after {after:?}, recovered {recovery:?} later");
    assert!(recovery < RECOVERY, "{recovery:?}");
    app.check(&revoked).await.problem(401, "invalid-token");
    assert_eq!(app.ops("/readyz").await.status, 200);
    a_session_comes_and_goes(&app, "alice").await;

    // The old one comes back, with nothing, thinks that it is a master, and is told.
    master.again();
    assert_eq!(app.check(&token).await.status, 200);
    assert_eq!(app.ops("/readyz").await.status, 200);
    assert_eq!(app.log_out(&token).await.status, 204);
    app.check(&token).await.problem(401, "invalid-token");
}

/// Nobody asks anything, and the service finds the new master by itself.
#[tokio::test]
async fn the_watch_follows_the_master() {
    let (mut master, _replica, sentinel) = servers(&[]).await;
    let mut deployment = Deployment::new(Backend::External).await;
    deployment.user("alice");
    deployment.set("CLAVIGER_TOKENS__URL", sentinel.url.expose_secret());
    deployment.set("CLAVIGER_TOKENS__TIMEOUT", "1s");
    let mut service = deployment.start();
    let mut switches = sentinel.switches().await;
    master.kill();
    let why = service.wait_for("not ready");
    assert_eq!(why["failing"], "tokens");
    switches.next().await;
    let begin = Instant::now();
    service.wait_for("ready");
    eprintln!("ready after {:?}", begin.elapsed());
    assert!(begin.elapsed() < RECOVERY);
    let token = service.send(&post_login("alice")).await.token();
    let check = service.send(&with_token("GET", &token)).await;
    assert_eq!(check.status, 200);
}

#[tokio::test]
async fn the_master_hangs() {
    let (master, replica, sentinel) = servers(&[]).await;
    let app = app_on(&sentinel.url).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    master.wait_for_replica(&replica).await;

    let mut switches = sentinel.switches().await;
    master.hold();
    app.check(&token)
        .await
        .problem(503, "dependency-unavailable");
    switches.next().await;
    let recovery = until_it_lives(&app, &token).await;
    eprintln!("recovered after {recovery:?}");
    assert!(recovery < RECOVERY, "{recovery:?}");
    a_session_comes_and_goes(&app, "alice").await;
    assert_eq!(app.ops("/readyz").await.status, 200);

    master.go_on();
    assert_eq!(app.log_out(&token).await.status, 204);
    app.check(&token).await.problem(401, "invalid-token");
}

/// It can still be reached, and answers, but what happens to sessions happens elsewhere.
#[tokio::test]
async fn an_old_master_that_was_cut_off_is_not_believed_for_long() {
    let (master, replica, sentinel) = servers(&[]).await;
    for server in [&master, &replica] {
        let service = ["ACL", "SETUSER", "claviger", "on", ">secret", "~*", "+@all"];
        server.command(&service).await;
    }
    let app = app_on(&sentinel.url_with("claviger:secret@")).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    master.wait_for_replica(&replica).await;

    // The sentinel, as the user that has no name, may not ask any more, and not tell it either what has become of it.
    let mut switches = sentinel.switches().await;
    let cut = ["ACL", "SETUSER", "default", "-@all", "+role"];
    master.command(&cut).await;
    switches.next().await;
    let begin = Instant::now();
    // Somebody ends the session, where it is now.
    let ended: u64 = replica
        .ask(&["DEL", &[&app.config.tokens.key_prefix, &*token].concat()])
        .await;
    assert_eq!(ended, 1);
    for _ in 0..MOST_LOOKS {
        let answer = app.check(&token).await;
        if answer.status != 200 {
            answer.problem(401, "invalid-token");
            break;
        }
        assert!(begin.elapsed() < STALE, "the old master is still believed");
    }
    eprintln!("the old master was believed for {:?}", begin.elapsed());
    let role: Vec<redis::Value> = master.ask(&["ROLE"]).await;
    assert_eq!(
        role[0],
        redis::Value::BulkString(b"master".to_vec()),
        "it never heard of it"
    );
    a_session_comes_and_goes(&app, "alice").await;
}

/// There may be another master, and nobody would say so.
#[tokio::test]
async fn a_master_of_which_no_sentinel_tells_is_not_believed_for_long() {
    let (_master, _replica, mut sentinel) = servers(&[]).await;
    let app = app_on(&sentinel.url).await;
    app.user("alice").await;
    let token = app.token("alice").await;

    sentinel.kill();
    let begin = Instant::now();
    for _ in 0..MOST_LOOKS {
        let answer = app.check(&token).await;
        if answer.status != 200 {
            answer.problem(503, "dependency-unavailable");
            break;
        }
        assert!(begin.elapsed() < STALE, "the master is still believed");
    }
    eprintln!("the master was believed for {:?}", begin.elapsed());
    all_is_unavailable(&app, &[&token]).await;

    sentinel.again();
    assert!(until_it_lives(&app, &token).await < RECOVERY);
    a_session_comes_and_goes(&app, "alice").await;
}

#[rstest]
#[case::of_the_master_alone(&[])]
#[case::of_both(&["requirepass secret"])]
#[tokio::test]
async fn the_password_is_for_the_master_and_for_a_sentinel_that_asks_for_one(
    #[case] settings: &[&str],
) {
    let auth = "sentinel auth-pass main secret";
    let master = RedisServer::start();
    let sentinel = Sentinel::watch(&master, &[&[auth], settings].concat());
    master
        .command(&["CONFIG", "SET", "requirepass", "secret"])
        .await;
    let app = app_on(&sentinel.url_with(":secret@")).await;
    app.user("alice").await;
    a_session_comes_and_goes(&app, "alice").await;

    let wrong = app_on(&sentinel.url_with(":wrong@")).await;
    wrong.user("alice").await;
    all_is_unavailable(&wrong, &[]).await;
}

#[tokio::test]
async fn one_sentinel_is_enough_of_several_and_the_name_has_to_be_known() {
    let (_master, _replica, sentinel) = servers(&[]).await;
    // Nobody is there under the first one.
    let app = app_on(&sentinel.url_with("127.0.0.1:1,")).await;
    app.user("alice").await;
    a_session_comes_and_goes(&app, "alice").await;

    let other = sentinel.url.expose_secret().replace("/main/", "/other/");
    let app = app_on(&other.into()).await;
    app.user("alice").await;
    all_is_unavailable(&app, &[]).await;
}
