//! In which words a route tells its failures.

use axum::http::HeaderMap;

use super::extract::Encoding;

/// The forward-auth route; all below it belongs to it.
const FORWARD_AUTH: &str = "/v1.0/forward-auth";

/// The route of the login.
const LOGIN: &str = "/v1.0/user/auth";

/// The routes of RFC 7662 and RFC 7009.
const TOKEN: &str = "/v1.0/token/";

/// How a failure is told. It follows from the route, and for the login from how its body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A problem document, RFC 9457.
    Problem,
    /// A problem document that also says what RFC 6749 has a word for, in `error` and `error_description`.
    OAuth,
    /// No body, and no other status than 200, 401 and 503: what a gateway can make something of.
    Bare,
}

impl Dialect {
    /// What is spoken with the client that sent these `headers` to `path`, which is one that the routes know.
    pub(super) fn of(path: &str, headers: &HeaderMap) -> Self {
        if path
            .strip_prefix(FORWARD_AUTH)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        {
            Self::Bare
        } else if path.starts_with(TOKEN)
            || path == LOGIN && Encoding::of(headers) == Some(Encoding::Form)
        {
            Self::OAuth
        } else {
            Self::Problem
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_says_what_is_spoken() {
        let form = |content_type: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", content_type.parse().unwrap());
            headers
        };
        let (json, form) = (
            form("application/json"),
            form("application/x-www-form-urlencoded"),
        );
        for (path, of_json, of_form) in [
            ("/v1.0/user/auth", Dialect::Problem, Dialect::OAuth),
            (
                "/v1.0/forward-authority",
                Dialect::Problem,
                Dialect::Problem,
            ),
            ("/v1.0/user/password", Dialect::Problem, Dialect::Problem),
            ("/v1.0/token", Dialect::Problem, Dialect::Problem),
            ("/v1.0/token/introspect", Dialect::OAuth, Dialect::OAuth),
            ("/v1.0/token/nothing", Dialect::OAuth, Dialect::OAuth),
            ("/v1.0/forward-auth", Dialect::Bare, Dialect::Bare),
            ("/v1.0/forward-auth/", Dialect::Bare, Dialect::Bare),
            ("/v1.0/forward-auth/a/../b", Dialect::Bare, Dialect::Bare),
        ] {
            assert_eq!(Dialect::of(path, &json), of_json, "{path}");
            assert_eq!(Dialect::of(path, &form), of_form, "{path}");
        }
    }
}
