//! `/v1.0/forward-auth`: what gateways ask.

use axum::body::Body;
use axum::http::Request;

use crate::common::{Answer, TestApp};

mod answers;
mod outage;
mod sockets;

/// The two statuses that don't depend on what is asked, and what comes with each.
const STATUSES: [u16; 3] = [200, 401, 503];

/// Asks with these headers.
async fn ask_with(app: &TestApp, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

/// Asks with a token.
async fn ask(app: &TestApp, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    ask_with(
        app,
        "GET",
        "/v1.0/forward-auth",
        &[("authorization", &bearer)],
    )
    .await
}

/// Asserts that a gateway can make something of this answer, and tells the user's id.
#[track_caller]
fn understood(answer: &Answer, status: u16) -> Option<&str> {
    assert!(STATUSES.contains(&status));
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.is_empty(), "{answer:?}");
    let present = |name| answer.header(name).is_some();
    assert_eq!(answer.header("content-length"), Some("0"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(present("x-request-id"));
    assert_eq!(present("x-user-id"), status == 200, "{answer:?}");
    assert_eq!(present("www-authenticate"), status == 401, "{answer:?}");
    assert_eq!(present("retry-after"), status == 503, "{answer:?}");
    assert!(!present("content-type") && !present("allow"), "{answer:?}");
    answer.header("x-user-id")
}
