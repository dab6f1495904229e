//! What is told of a token.

use std::time::{Duration, SystemTime};

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::common::{Proxy, redis_url};

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

async fn checks(app: &TestApp) -> [u64; 4] {
    let scrape = app.ops("/metrics").await;
    ["valid", "invalid", "unavailable", "error"].map(|outcome| {
        scrape.metric(&format!(
            "claviger_token_checks_total{{outcome=\"{outcome}\"}}"
        ))
    })
}

#[rstest]
#[tokio::test]
async fn a_live_token_tells_its_holder_and_its_end(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = start(backend).await;
    app.user("bob").await;
    let id = app.user("alice").await;
    let before = now();
    let token = app.token("alice").await;

    let answer = introspect(&app, &token).await;

    let after = now();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body = answer.json();
    let exp = body["exp"].as_u64().unwrap();
    // Rounded down, and the store counts in milliseconds.
    let possible = before + 86_399..=after + 86_400;
    assert!(possible.contains(&exp), "{exp} is not in {possible:?}");
    let iat = body["iat"].as_u64().unwrap();
    assert!((before..=after).contains(&iat), "{iat}");
    let expected = json!({
        "active": true,
        "sub": id.to_string(),
        "username": "alice",
        "exp": exp,
        "iat": iat,
        "token_type": "Bearer",
    });
    assert_eq!(body, expected);
    assert_eq!(checks(&app).await, [1, 0, 0, 0]);
    let again = introspect(&app, &token).await;
    assert_eq!(again.json(), expected, "the same is told each time");
}

#[rstest]
#[tokio::test]
async fn of_any_other_nothing_is_told(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = start(backend).await;
    app.user("alice").await;
    let revoked = app.token("alice").await;
    assert_eq!(app.log_out(&revoked).await.status, 204);
    for token in [revoked.as_str(), &unknown(), "", "clv_x", "%00", "1+1"] {
        inactive(&introspect(&app, token).await);
    }
    assert_eq!(checks(&app).await, [0, 6, 0, 0]);
}

#[rstest]
#[tokio::test]
async fn a_hint_and_other_fields_change_nothing(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    for form in [
        format!("token={token}&token_type_hint=access_token"),
        format!("token_type_hint=refresh_token&token={token}"),
        format!("token_type_hint=x&token_type_hint=y&token={token}&scope=z&"),
        format!("&&%74oken={}", token.replace('_', "%5F")),
    ] {
        let answer = ask(&app, INTROSPECT, &form).await;
        assert_eq!(answer.json()["active"], true, "{form}");
    }
}

#[rstest]
#[tokio::test]
async fn a_token_in_the_query_is_not_read(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    for path in [INTROSPECT, REVOKE] {
        let with_query = format!("{path}?token={token}");
        ask(&app, &with_query, "")
            .await
            .problem(422, "invalid-input");
    }
    let other = format!("{INTROSPECT}?token={token}");
    inactive(&ask(&app, &other, "token=clv_x").await);
    assert_eq!(app.check(&token).await.status, 200, "nothing was revoked");
}

#[rstest]
#[tokio::test]
async fn nobody_is_told_that_a_token_is_dead_because_the_store_is(
    #[values(true, false)] hangs: bool,
) {
    let (proxy, url) = Proxy::before(&redis_url()).await;
    let app = TestApp::start_with(Backend::External, |config| {
        register(config);
        config.tokens.url = url;
        config.tokens.timeout = Duration::from_secs(1);
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;

    if hangs {
        proxy.stall();
    } else {
        proxy.cut();
    }
    for token in [token.as_str(), &unknown()] {
        let problem = introspect(&app, token)
            .await
            .problem(503, "dependency-unavailable");
        assert_eq!(problem["error"], "temporarily_unavailable");
        assert_eq!(problem["error_description"], problem["detail"]);
    }
    // What can't be a token needs no store.
    inactive(&introspect(&app, "clv_x").await);
    assert_eq!(checks(&app).await, [0, 1, 2, 0]);

    proxy.heal();
    assert_eq!(introspect(&app, &token).await.json()["active"], true);
    inactive(&introspect(&app, &unknown()).await);
}

#[tokio::test]
async fn what_is_no_user_is_a_bug_and_no_answer() {
    let app = start(Backend::External).await;
    let token = unknown();
    let client = redis::Client::open(secrecy::ExposeSecret::expose_secret(&redis_url())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{}{token}", app.config.tokens.key_prefix);
    redis::cmd("SET")
        .arg(&[key.as_str(), "junk", "EX", "60"])
        .exec_async(&mut connection)
        .await
        .unwrap();
    let problem = introspect(&app, &token).await.problem(500, "internal");
    assert_eq!(problem["error"], "server_error");
    assert_eq!(checks(&app).await, [0, 0, 0, 1]);
}
