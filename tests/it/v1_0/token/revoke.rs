//! Ending a token.

use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::common::{Proxy, redis_url};

#[track_caller]
fn done(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, ""));
    assert_eq!(answer.header("content-type"), None);
}

#[rstest]
#[tokio::test]
async fn a_token_is_dead_when_it_is_answered(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = start(backend).await;
    app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);

    done(&revoke(&app, &token).await);

    app.check(&token).await.problem(401, "invalid-token");
    inactive(&introspect(&app, &token).await);
    app.log_out(&token).await.problem(401, "invalid-token");
    assert_eq!(app.check(&other).await.status, 200, "only this one ends");
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 1);

    // Again, and what was never alive: 200, and nothing is counted.
    for token in [token.as_str(), &unknown(), "", "clv_x", "%00"] {
        done(&revoke(&app, token).await);
    }
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 1);
    let hinted = format!("token_type_hint=refresh_token&token={other}&client_id=x");
    done(&ask(&app, REVOKE, &hinted).await);
    app.check(&other).await.problem(401, "invalid-token");
}

#[rstest]
#[tokio::test]
async fn while_the_store_is_away_nothing_is_claimed(#[values(true, false)] hangs: bool) {
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
        let problem = revoke(&app, token)
            .await
            .problem(503, "dependency-unavailable");
        assert_eq!(problem["error"], "temporarily_unavailable");
    }
    done(&revoke(&app, "clv_x").await);
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 0);

    proxy.heal();
    done(&revoke(&app, &token).await);
    app.check(&token).await.problem(401, "invalid-token");
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 1);
}
