//! Nobody but Claviger says who is asking.

use rstest::rstest;

use super::{Recipe, Setup, reached, refused, request, values};

/// Names that some program takes for `X-User-Id`: where headers become variables, these are all `HTTP_X_USER_ID`.
const ALIASES: [&str; 7] = [
    "X-User-Id",
    "x-user-id",
    "X-USER-ID",
    "X_User_Id",
    "x_user_id",
    "X-User_Id",
    "x_user-id",
];

/// Whether an application could take this name for `X-User-Id`.
fn is_alias(name: &str) -> bool {
    let same = |(one, other): (u8, u8)| {
        one.eq_ignore_ascii_case(&other) || (other == b'-' && !one.is_ascii_alphanumeric())
    };
    name.len() == "x-user-id".len() && name.bytes().zip(*b"x-user-id").all(same)
}

#[rstest]
#[tokio::test]
async fn an_id_that_the_client_claims_is_never_passed_on(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let setup = Setup::start(recipe).await;
    let mut claims: Vec<String> = ALIASES
        .iter()
        .map(|name| format!("{name}: 1\r\n"))
        .collect();
    // Repeated, all at once, as a list, empty, and with the wish to have it taken out on the way.
    claims.push("X-User-Id: 1\r\n".repeat(3));
    claims.push(claims.concat());
    claims.push("X-User-Id: 1, 3\r\n".to_owned());
    claims.push("X-User-Id:\r\n".to_owned());
    claims.push("Connection: X-User-Id\r\n".to_owned());
    claims.push("X-User-Id: 1\r\nConnection: keep-alive, x-user-id\r\n".to_owned());
    if recipe != Recipe::Caddy {
        claims.push("X.User.Id: 1\r\nX!User-Id: 1\r\n".to_owned());
    }
    for claim in claims {
        let answer = setup.send(&setup.with_token("GET", "/", &claim)).await;
        let seen = reached(&answer);
        let headers = seen["headers"].as_array().unwrap().iter();
        let aliases = headers.filter(|header| is_alias(header[0].as_str().unwrap()));
        assert_eq!(aliases.count(), 1, "{claim}: {seen}");
        let connection = values(&seen, "connection").concat().to_lowercase();
        assert!(!connection.contains("x-user-id"), "{claim}: {seen}");
        let calls = setup.application.calls();
        refused(&setup.send(&request("GET", "/", &claim)).await, 401);
        assert_eq!(setup.application.calls(), calls);
    }
}

#[rstest]
#[tokio::test]
async fn each_request_is_of_its_own_user(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let setup = Setup::start(recipe).await;
    let second = setup
        .service
        .send(&crate::common::post_login("second"))
        .await;
    let second = second.token();
    // On one connection of the client, and those that the gateway keeps.
    let mut connection = setup.connect().await;
    let alice = setup.with_token("GET", "/", "");
    for _ in 0..20 {
        connection.send(&alice).await;
        reached(&connection.answer().await);
        connection.send(&alice.replace(&setup.token, &second)).await;
        let seen = connection.answer().await.json();
        assert_eq!(values(&seen, "x-user-id"), ["2"]);
    }
}

#[test]
fn an_alias_is_told_from_another_name() {
    for name in ALIASES.into_iter().chain(["x.user!id"]) {
        assert!(is_alias(name), "{name}");
    }
    for name in ["x-user-ids", "xuser-id", "x-user-i", "x-forwarded-user"] {
        assert!(!is_alias(name), "{name}");
    }
}
