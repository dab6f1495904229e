//! What is told of a session.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use claviger::store::tokens::SessionId;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ROUTE, ids, sha256};
use crate::common::{Backend, TestApp, credentials, login};

/// Logs in from a peer with these headers, and tells the token.
async fn log_in_from(app: &TestApp, peer: &str, headers: &[(&str, &str)]) -> String {
    let peer: SocketAddr = peer.parse().unwrap();
    let mut request = login()
        .extension(ConnectInfo(peer))
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::from(credentials("alice"));
    app.send(request.body(body).unwrap()).await.token()
}

fn time(session: &Value, name: &str) -> DateTime<Utc> {
    let text = session[name].as_str().unwrap();
    assert!(text.ends_with('Z') && text.len() == 20, "{text}");
    text.parse().unwrap()
}

#[rstest]
#[tokio::test]
async fn a_session_tells_its_times_and_its_device(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        config.server.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    let id = app.user("alice").await;
    let before = Utc::now();
    let browser = [
        ("x-forwarded-for", "6.6.6.6, 192.0.2.7"),
        ("user-agent", "A browser/1.0"),
    ];
    let first = log_in_from(&app, "10.0.0.1:4000", &browser).await;
    let untrusted = [("x-forwarded-for", "6.6.6.6")];
    let second = log_in_from(&app, "[2001:db8::1]:4000", &untrusted).await;
    // Without a socket nobody knows where it came from.
    let third = app.token("alice").await;
    let after = Utc::now();

    let answer = app.call_with("GET", ROUTE, &second).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.json()["next"].is_null() && answer.json().get("next").is_some());
    let sessions = answer.json()["items"].as_array().unwrap().clone();
    let devices = [
        (&third, Value::Null, Value::Null, false),
        (&second, json!("2001:db8::1"), Value::Null, true),
        (&first, json!("192.0.2.7"), json!("A browser/1.0"), false),
    ];
    // Logins of one millisecond may stand in either order.
    let mut seen = Vec::new();
    for session in &sessions {
        let of_token =
            |token: &&String| session["id"] == SessionId::of(id, token).to_string().as_str();
        let (_, ip, user_agent, current) = devices
            .iter()
            .find(|(token, ..)| of_token(token))
            .expect("a session of this user");
        let expected = json!({
            "id": session["id"],
            "created_at": session["created_at"],
            "expires_at": session["expires_at"],
            "last_seen_at": session["last_seen_at"],
            "ip": ip,
            "user_agent": user_agent,
            "current": current,
        });
        assert_eq!(*session, expected);
        let created_at = time(session, "created_at");
        let second = TimeDelta::seconds(1);
        assert!(
            created_at > before - second && created_at <= after,
            "{session}"
        );
        let life = time(session, "expires_at") - created_at;
        assert_eq!(life, TimeDelta::hours(24), "{session}");
        let last_seen_at = time(session, "last_seen_at");
        assert_eq!(last_seen_at.timestamp() % 60, 0, "{session}");
        assert!(last_seen_at > created_at - TimeDelta::seconds(60));
        seen.push(created_at);
    }
    assert_eq!(sessions.len(), 3);
    assert!(seen.is_sorted_by(|one, next| one >= next), "{seen:?}");
}

#[rstest]
#[tokio::test]
async fn a_user_agent_is_cut_and_a_hostile_one_does_no_harm(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let long = "\u{e4}".repeat(300);
    for (sent, shown) in [
        (long.as_bytes(), json!("\u{e4}".repeat(256))),
        (&[b'x'; 256], json!("x".repeat(256))),
        (b"<script>\"\\", json!("<script>\"\\")),
        (b"tab\there", json!("tabhere")),
        (b"no UTF-8: \xff", json!("no UTF-8: \u{fffd}")),
        (b"", Value::Null),
    ] {
        let request = login()
            .header("content-type", "application/json")
            .header("user-agent", sent)
            .body(Body::from(credentials("alice")));
        let token = app.send(request.unwrap()).await.token();
        let sessions = app.sessions(&token).await;
        let current: Vec<_> = sessions
            .iter()
            .filter(|session| session["current"] == true)
            .collect();
        assert_eq!(current.len(), 1);
        assert_eq!(current[0]["user_agent"], shown);
    }
}

#[rstest]
#[tokio::test]
async fn nobody_sees_the_sessions_of_another(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    app.user("bob").await;
    let (of_alice, of_bob) = (app.token("alice").await, app.token("bob").await);
    app.token("bob").await;
    let (alice, bob) = (app.sessions(&of_alice).await, app.sessions(&of_bob).await);
    assert_eq!((alice.len(), bob.len()), (1, 2));
    assert!(!ids(&bob).contains(&ids(&alice)[0]));
}

/// Neither the token nor what stands in Redis for it can be had from an id, nor from any other part of the list.
#[rstest]
#[tokio::test]
async fn an_id_reveals_nothing_of_the_token(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let user_id = app.user("alice").await;
    let tokens = [app.token("alice").await, app.token("alice").await];
    let text = app.call_with("GET", ROUTE, &tokens[0]).await.text();
    for token in &tokens {
        let secrets = [
            token.clone(),
            sha256(token),
            URL_SAFE_NO_PAD.encode(Sha256::digest(token)),
            sha256(&token[4..47]),
        ];
        for secret in &secrets {
            // Not even a part of it.
            for start in 0..secret.len() - 8 {
                let part = &secret[start..start + 8];
                assert!(!text.contains(part), "{part} of {secret} in {text}");
            }
        }
        let id = SessionId::of(user_id, token).to_string();
        assert!(text.contains(&id), "{id} in {text}");
        assert!(
            id.starts_with(&format!("{user_id}.")) && id.len() == 24,
            "{id}"
        );
        // It is no key of anything either.
        app.check(&id).await.problem(401, "invalid-token");
    }
}

#[rstest]
#[tokio::test]
async fn a_session_that_ended_is_not_listed(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    assert_eq!(app.sessions(&token).await.len(), 2);
    app.log_out(&other).await;
    let sessions = app.sessions(&token).await;
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0]["current"], true);
}
