//! A list in parts.

use claviger::store::tokens::SessionId;
use futures_util::future::join_all;
use rstest::rstest;
use serde_json::Value;

use super::{ROUTE, end_session, ids};
use crate::common::{Backend, TestApp};

async fn get(app: &TestApp, token: &str, query: &str) -> Value {
    let answer = app
        .call_with("GET", &format!("{ROUTE}?{query}"), token)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn items(page: &Value) -> &Vec<Value> {
    page["items"].as_array().unwrap()
}

#[rstest]
#[tokio::test]
async fn the_parts_make_up_the_whole(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let tokens = join_all((0..7).map(|_| app.token("alice"))).await;
    let whole = app.sessions(&tokens[0]).await;
    assert_eq!(whole.len(), 7);
    for limit in 1..=8 {
        let mut seen = Vec::new();
        let mut page = get(&app, &tokens[0], &format!("limit={limit}")).await;
        loop {
            assert!(items(&page).len() <= limit);
            seen.extend(items(&page).clone());
            let Some(next) = page["next"].as_str() else {
                break;
            };
            // It can stand in a URL as it is.
            assert!(
                next.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            );
            page = get(&app, &tokens[0], &format!("after={next}&limit={limit}")).await;
        }
        assert_eq!(seen, whole, "limit {limit}");
    }
}

#[rstest]
#[tokio::test]
async fn a_place_outlives_the_session_that_it_came_from(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    let tokens = join_all((0..6).map(|_| app.token("alice"))).await;
    let whole = app.sessions(&tokens[0]).await;
    // It asks whose own place in the list is the first.
    let is_first = |token: &&String| SessionId::of(id, token).to_string() == ids(&whole)[0];
    let asker = tokens.iter().find(is_first).unwrap();
    let page = get(&app, asker, "limit=3").await;
    let next = page["next"].as_str().unwrap();
    // The last of this part ends, one of the next part too, and a new one begins, which belongs to the first part.
    for ended in [ids(items(&page))[2], ids(&whole)[4]] {
        let answer = end_session(&app, asker, ended).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    app.token("alice").await;

    let rest = get(&app, asker, &format!("limit=3&after={next}")).await;
    let expected = [ids(&whole)[3], ids(&whole)[5]];
    assert_eq!(ids(items(&rest)), expected);
    assert!(rest["next"].is_null());
}

#[rstest]
#[tokio::test]
async fn a_page_has_fifty_unless_more_are_wanted(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        config.tokens.max_sessions_per_user = 300;
        config.limits.enabled = false;
        config.password.queue = Some(1000);
        config.password.queue_timeout = std::time::Duration::from_secs(20);
        config.server.request_timeout = std::time::Duration::from_mins(1);
    })
    .await;
    app.user("alice").await;
    let tokens = join_all((0..203).map(|_| app.token("alice"))).await;
    for (query, length) in [("", 50), ("limit=51", 51), ("limit=200", 200)] {
        let page = get(&app, &tokens[0], query).await;
        assert_eq!(items(&page).len(), length, "{query}");
        assert!(page["next"].is_string());
    }
    let next = get(&app, &tokens[0], "limit=200").await["next"].clone();
    let query = format!("after={}", next.as_str().unwrap());
    let rest = get(&app, &tokens[0], &query).await;
    assert_eq!((items(&rest).len(), &rest["next"]), (3, &Value::Null));
}

#[rstest]
#[case::zero("limit=0", &["limit"])]
#[case::too_many("limit=201", &["limit"])]
#[case::negative("limit=-1", &["limit"])]
#[case::no_number("limit=all", &["limit"])]
#[case::empty("limit=", &["limit"])]
#[case::twice("limit=1&limit=1", &["limit"])]
#[case::no_place("after=x", &["after"])]
#[case::an_id("after=1.AAAAAAAAAAAAAAAAAAAAAA", &["after"])]
#[case::no_utf8("after=%ff", &["after"])]
#[case::both("after=&limit=x", &["limit", "after"])]
#[tokio::test]
async fn what_is_no_page_is_refused(#[case] query: &str, #[case] expected: &[&str]) {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let answer = app
        .call_with("GET", &format!("{ROUTE}?{query}"), &token)
        .await;
    let problem = answer.problem(422, "invalid-input");
    let errors = problem["errors"].as_array().unwrap().iter();
    let fields: Vec<_> = errors
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn other_parameters_are_ignored() {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    for query in ["user_id=7", "x=1&x=2&limit=1", "LIMIT=0", "&&", "%ff=%ff"] {
        assert_eq!(items(&get(&app, &token, query).await).len(), 1, "{query}");
    }
}
