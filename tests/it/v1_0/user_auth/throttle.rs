//! The throttle, from the outside.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use claviger::api::Api;
use claviger::app::App;
use claviger::config::{Config, Rate};
use claviger::store::attempts::{Attempts, Reserved, Step};
use claviger::store::tokens::Tokens;
use futures_util::future::join_all;
use redis::AsyncCommands;
use rstest::rstest;
use serde_json::json;
use tower::ServiceExt;

use crate::common::{Answer, Backend, PASSWORD, Proxy, RedisServer, TestApp, login, redis_url};

const WRONG: &str = "not the right password";

/// Logs in from an address; `forwarded` is what the client says of itself.
async fn log_in_from(
    app: &TestApp,
    peer: &str,
    forwarded: Option<&str>,
    name: &str,
    password: &str,
) -> Answer {
    let body = json!({ "username": name, "password": password }).to_string();
    let mut request = login().header("content-type", "application/json");
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    let mut request = request.body(Body::from(body)).unwrap();
    let peer = SocketAddr::new(peer.parse().unwrap(), 1234);
    request.extensions_mut().insert(ConnectInfo(peer));
    app.send(request).await
}

async fn from(app: &TestApp, peer: &str, name: &str, password: &str) -> Answer {
    log_in_from(app, peer, None, name, password).await
}

/// A rate within a quarter of an hour.
fn rate(count: u32) -> Rate {
    Rate {
        count,
        per: Duration::from_mins(15),
    }
}

fn user_limit(count: u32) -> impl FnOnce(&mut Config) {
    move |config| config.limits.login_per_user = rate(count)
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").unwrap().parse().unwrap()
}

/// Security checklist, 4: one bucket for all spellings. And 19.
#[rstest]
#[tokio::test]
async fn over_the_limit_nobody_is_looked_at_and_real_names_are_refused_like_others(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, user_limit(3)).await;
    app.user("alice").await;
    let mut refusals = Vec::new();
    for spellings in [
        ["alice", "ALICE", "\u{ff21}lice", "Alice"],
        ["bob", "BOB", "\u{ff22}ob", "Bob"],
    ] {
        for spelling in &spellings[..3] {
            let refused = app.log_in(spelling, WRONG).await;
            refused.problem(401, "invalid-credentials");
        }
        let before = app.hash_runs();
        // Not even the right password is looked at.
        let refused = app.log_in(spellings[3], PASSWORD).await;
        refused.problem(429, "too-many-attempts");
        assert_eq!(app.hash_runs(), before);
        assert_eq!(retry_after(&refused), 1);
        refusals.push(refused);
    }
    let [real, unknown] = refusals.try_into().unwrap();
    let told = |answer: &Answer| {
        let mut problem = answer.json();
        problem.as_object_mut().unwrap().remove("request_id");
        let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
        names.sort();
        (problem, names)
    };
    assert_eq!(told(&real), told(&unknown));
    assert_eq!(
        app.metric(r#"claviger_logins_total{outcome="throttled"}"#)
            .await,
        2
    );
    let form = app.post_form("username=alice&password=x").await;
    let form = form.problem(429, "too-many-attempts");
    assert_eq!(form["error"], "temporarily_unavailable");
}

/// Security checklist, 10: a hundred failures from a hundred addresses.
#[rstest]
#[tokio::test]
async fn after_a_hundred_failures_a_stranger_waits_for_a_day_and_the_owner_does_not(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, user_limit(1_000)).await;
    app.user("alice").await;
    from(&app, "203.0.113.1", "alice", PASSWORD).await.token();
    for number in 0..100 {
        let refused = from(&app, &format!("192.0.2.{number}"), "alice", WRONG).await;
        refused.problem(401, "invalid-credentials");
    }
    let before = app.hash_runs();
    for password in [WRONG, PASSWORD] {
        let refused = from(&app, "192.0.2.200", "alice", password).await;
        refused.problem(429, "too-many-attempts");
        let wait = retry_after(&refused);
        assert!((86_000..=86_400).contains(&wait), "{wait}");
    }
    assert_eq!(app.hash_runs(), before);

    // Security checklist, 14. And a success ends the row.
    from(&app, "203.0.113.1", "alice", PASSWORD).await.token();
    let refused = from(&app, "192.0.2.200", "alice", WRONG).await;
    refused.problem(401, "invalid-credentials");
}

/// Security checklist, 11.
#[rstest]
#[tokio::test]
async fn two_hundred_guesses_at_once_cost_no_more_runs_than_the_limit(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let before = app.hash_runs();
    let guesses =
        (0..200).map(|number| app.log_in("alice", if number == 150 { PASSWORD } else { WRONG }));
    let answers = join_all(guesses).await;
    let runs = app.hash_runs() - before;
    assert!(runs <= 20, "{runs} runs");
    let count = |status: u16| {
        answers
            .iter()
            .filter(|answer| answer.status == status)
            .count()
    };
    assert_eq!(count(401) + count(429), 200, "the right one came too late");
    assert_eq!(count(401) as u64, runs);
}

/// Security checklist, 12: and they leave nothing that counts.
#[rstest]
#[tokio::test]
async fn twenty_right_logins_at_once_succeed_and_leave_nothing_that_counts(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    for _ in 0..3 {
        let logins = (0..20).map(|_| app.log_in("alice", PASSWORD));
        for answer in join_all(logins).await {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    for _ in 0..20 {
        app.log_in("alice", WRONG)
            .await
            .problem(401, "invalid-credentials");
    }
    app.log_in("alice", WRONG)
        .await
        .problem(429, "too-many-attempts");
}

/// Security checklist, 13.
#[tokio::test]
async fn instances_share_the_counters_and_a_restart_forgets_none() {
    let app = TestApp::start_with(Backend::External, user_limit(4)).await;
    app.user("alice").await;
    let another = another_instance(&app).await;
    for instance in [None, Some(&another), None, Some(&another)] {
        log_in_at(&app, instance, WRONG)
            .await
            .problem(401, "invalid-credentials");
    }
    for instance in [None, Some(&another)] {
        log_in_at(&app, instance, PASSWORD)
            .await
            .problem(429, "too-many-attempts");
    }
    drop(another);
    let restarted = another_instance(&app).await;
    log_in_at(&app, Some(&restarted), PASSWORD)
        .await
        .problem(429, "too-many-attempts");
}

/// Another instance of the same installation.
async fn another_instance(app: &TestApp) -> Api {
    let another = Box::pin(App::build(app.config.clone(), || 0)).await;
    let (api, _, _, mut startup) = another.unwrap().into_parts();
    Box::pin(startup.round()).await.unwrap();
    api
}

/// Logs in as alice, at another instance if one is given.
async fn log_in_at(app: &TestApp, instance: Option<&Api>, password: &str) -> Answer {
    let Some(instance) = instance else {
        return app.log_in("alice", password).await;
    };
    let body = json!({ "username": "alice", "password": password }).to_string();
    let request = login().header("content-type", "application/json");
    let request = request.body(Body::from(body)).unwrap();
    Answer::of(instance.clone().oneshot(request).await.unwrap()).await
}

/// Security checklist, 15 and 17: the address that counts is that of the peer, or what a proxy of ours says.
#[rstest]
#[tokio::test]
async fn nobody_gets_another_bucket_by_what_he_says_of_himself(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        config.limits.login_per_ip = rate(3);
        config.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    for number in 0..3 {
        let claim = format!("198.51.100.{number}");
        let name = format!("name{number}");
        log_in_from(&app, "192.0.2.1", Some(&claim), &name, WRONG)
            .await
            .problem(401, "invalid-credentials");
    }
    for claim in ["198.51.100.7", "junk", "10.0.0.1"] {
        log_in_from(&app, "192.0.2.1", Some(claim), "another", WRONG)
            .await
            .problem(429, "too-many-attempts");
    }
    // Behind a proxy of ours the same client is the same, whatever it puts before.
    for claim in ["192.0.2.1", "6.6.6.6, 192.0.2.1", "::ffff:192.0.2.1"] {
        log_in_from(&app, "10.0.0.1", Some(claim), "another", WRONG)
            .await
            .problem(429, "too-many-attempts");
    }
    log_in_from(&app, "10.0.0.1", Some("192.0.2.2"), "another", WRONG)
        .await
        .problem(401, "invalid-credentials");
    log_in_from(&app, "10.0.0.1", Some("junk"), "another", WRONG)
        .await
        .problem(401, "invalid-credentials");
}

/// Security checklist, 16.
#[rstest]
#[tokio::test]
async fn a_network_of_64_bits_is_one_and_one_of_48_bits_has_ten_times_the_limit(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| config.limits.login_per_ip = rate(2)).await;
    for peer in ["2001:db8::1", "2001:DB8:0:0:ffff::2"] {
        from(&app, peer, "alice", WRONG)
            .await
            .problem(401, "invalid-credentials");
    }
    from(&app, "2001:db8::3", "alice", WRONG)
        .await
        .problem(429, "too-many-attempts");
    for number in 1..19 {
        let name = format!("name{number}");
        from(&app, &format!("2001:db8:0:{number:x}::1"), &name, WRONG)
            .await
            .problem(401, "invalid-credentials");
    }
    from(&app, "2001:db8:0:aaaa::1", "alice", WRONG)
        .await
        .problem(429, "too-many-attempts");
    from(&app, "2001:db8:1::1", "alice", WRONG)
        .await
        .problem(401, "invalid-credentials");
}

/// Security checklist, 45.
#[rstest]
#[tokio::test]
async fn a_success_does_not_clear_the_address(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| config.limits.login_per_ip = rate(3)).await;
    app.user("alice").await;
    for name in ["bob", "carol", "dave"] {
        from(&app, "192.0.2.1", "alice", PASSWORD).await.token();
        from(&app, "192.0.2.1", name, WRONG)
            .await
            .problem(401, "invalid-credentials");
    }
    let refused = from(&app, "192.0.2.1", "alice", PASSWORD).await;
    refused.problem(429, "too-many-attempts");
    let wait = retry_after(&refused);
    assert!((800..=900).contains(&wait), "{wait}");
    from(&app, "192.0.2.2", "alice", PASSWORD).await.token();
}

/// Security checklist, 18: whoever holds a token can't guess with it.
#[rstest]
#[tokio::test]
async fn changing_a_password_shares_the_counters(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, user_limit(4)).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let new = "a wholly different passphrase";
    for _ in 0..2 {
        app.change_password(&token, WRONG, new)
            .await
            .problem(403, "invalid-credentials");
        app.log_in("alice", WRONG)
            .await
            .problem(401, "invalid-credentials");
    }
    let before = app.hash_runs();
    app.change_password(&token, PASSWORD, new)
        .await
        .problem(429, "too-many-attempts");
    app.log_in("alice", PASSWORD)
        .await
        .problem(429, "too-many-attempts");
    assert_eq!(app.hash_runs(), before);
    // What is no password, or none that may be set, is told at once and counts nothing.
    app.change_password(&token, PASSWORD, "short")
        .await
        .problem(422, "invalid-input");
}

#[rstest]
#[tokio::test]
async fn unlocking_gives_a_new_row(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, user_limit(2)).await;
    app.user("alice").await;
    for _ in 0..2 {
        app.log_in("alice", WRONG)
            .await
            .problem(401, "invalid-credentials");
    }
    app.log_in("alice", PASSWORD)
        .await
        .problem(429, "too-many-attempts");
    let alice = claviger::auth::username::Username::parse("alice").unwrap();
    let limits = app.state.authenticator().limits();
    assert!(limits.unlock(&alice).await.unwrap());
    app.token("alice").await;
}

#[rstest]
#[tokio::test]
async fn without_limits_nobody_is_refused_for_failing(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        config.limits.login_per_user = rate(1);
        config.limits.login_per_ip = rate(1);
        config.limits.enabled = false;
    })
    .await;
    app.user("alice").await;
    for _ in 0..5 {
        app.log_in("alice", WRONG)
            .await
            .problem(401, "invalid-credentials");
    }
    app.token("alice").await;
}

/// The throttle never fails open; and what it could not note it does not hold against anybody for ever.
#[tokio::test]
async fn without_the_store_nobody_may_try() {
    let (redis, url) = Proxy::before(&redis_url()).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.limits.login_per_user = rate(2);
        config.tokens.url = url;
    })
    .await;
    app.user("alice").await;
    let before = app.hash_runs();
    redis.cut();
    for password in [WRONG, PASSWORD, WRONG] {
        app.log_in("alice", password)
            .await
            .problem(503, "dependency-unavailable");
    }
    assert_eq!(app.hash_runs(), before);
    redis.heal();
    app.token("alice").await;
}

/// Whoever hangs up before the answer has guessed all the same.
#[rstest]
#[tokio::test]
async fn a_guess_whose_client_leaves_counts(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, user_limit(1)).await;
    app.user("alice").await;
    let slow = "$argon2id$v=19$m=8,t=20000,p=1$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
    app.insert(claviger::store::users::NewUser {
        username: "slow".to_owned(),
        password_hash: Some(slow.into()),
        is_admin: false,
        disabled: false,
    })
    .await;
    let before = app.hash_runs();
    let mut guess = Box::pin(app.log_in("slow", WRONG));
    while app.state.authenticator().hash_pool().stats().busy == 0 {
        tokio::select! {
            biased;
            answer = &mut guess => panic!("{}", answer.status),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(guess);
    // In flight or failed: both count.
    let refused = app.log_in("slow", WRONG).await;
    refused.problem(429, "too-many-attempts");
    assert!(app.hash_runs() - before <= 1);
}

/// At whatever moment a client leaves: the attempt is not counted, or as a failure of the account and of the network; and it does
/// not stay under way, which would lock others out.
#[rstest]
#[case::wrong(WRONG)]
#[case::right(PASSWORD)]
#[tokio::test]
async fn a_client_that_leaves_at_any_moment_leaves_nothing_under_way(#[case] password: &str) {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url.clone_from(&redis.url);
        config.limits.login_per_user = rate(1_000);
        config.limits.login_per_ip = rate(1_000);
    })
    .await;
    app.user("alice").await;
    let mut connection = redis.connect().await;
    let mut most_failed = 0;
    for looks in 1.. {
        let mut log_in = Box::pin(app.log_in("alice", password));
        let mut left = looks;
        let answer = poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            log_in.as_mut().poll(context).map(Some)
        });
        let answer = answer.await;
        drop(log_in);

        let mut counted = Counted::of(&mut connection).await;
        for _ in 0..20_000 {
            // A success ends the row, and not what the network has failed.
            let agree = password == PASSWORD || counted.straight == counted.of_network;
            if counted.flying == 0 && agree {
                break;
            }
            counted = Counted::of(&mut connection).await;
        }
        assert_eq!(counted.flying, 0, "{looks} looks: {counted:?}");
        if password == WRONG {
            assert_eq!(counted.straight, counted.of_network, "{looks} looks");
        }
        most_failed = most_failed.max(counted.of_network);
        if let Some(answer) = answer {
            let expected = if password == WRONG { 401 } else { 200 };
            assert_eq!(answer.status, expected, "{}", answer.text());
            break;
        }
    }
    assert!(most_failed > 0, "none of those who left was counted");
}

/// What stands in a Redis that counts one account and one network.
#[derive(Debug, Default)]
struct Counted {
    flying: u32,
    straight: u32,
    of_network: u32,
}

impl Counted {
    async fn of(connection: &mut redis::aio::MultiplexedConnection) -> Self {
        let mut counted = Self::default();
        let keys: Vec<String> = connection.keys("claviger:*").await.unwrap();
        for key in keys {
            let fields: Vec<(String, String)> = connection.hgetall(&key).await.unwrap();
            for (field, value) in fields {
                if field.starts_with("b:") && key.ends_with(":attempts") {
                    let flying = value.split(' ').nth(1).unwrap();
                    counted.flying += flying.parse::<u32>().unwrap();
                } else if field == "straight" {
                    counted.straight = value.parse().unwrap();
                } else if field == "failed" {
                    counted.of_network = value.parse().unwrap();
                }
            }
        }
        counted
    }
}

/// `Retry-After` tells the truth: a moment before it is refused, then it is looked at.
#[tokio::test]
async fn what_is_told_is_true() {
    let app = TestApp::start_with(Backend::External, user_limit(1)).await;
    app.user("alice").await;
    let installation: String = {
        let schema = claviger::store::schema::Schema::new(app.database.connect().await);
        schema.installation_id().await.unwrap().unwrap()
    };
    let tokens = Tokens::open(&app.config.tokens).unwrap();
    tokens.belong_to(&installation);
    let attempts = Attempts::beside(&tokens);
    app.log_in("alice", WRONG)
        .await
        .problem(401, "invalid-credentials");
    for _ in 0..5 {
        let refused = app.log_in("alice", WRONG).await;
        refused.problem(429, "too-many-attempts");
        // As if the client had waited for so long.
        let later = attempts.ahead(Duration::from_secs(retry_after(&refused)));
        let rate = app.config.limits.login_per_user;
        let Reserved::Granted(grant) = later.reserve("alice", "none", rate).await.unwrap() else {
            panic!("refused after {}", retry_after(&refused));
        };
        let failed = later.settle("alice", "none", rate, &grant, Step::Failed);
        failed.await.unwrap();
    }
}
