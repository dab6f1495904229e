//! Folds the ways in which a proxy may pass a path on into the one that the routes know.
//!
//! Some proxies strip the prefix, some don't, and some turn `/api/v1.0/x` into `//v1.0/x`. A wrong or missing rewrite must
//! do no harm, so `/v1.0/x`, `/api/v1.0/x`, `//v1.0/x` and `/api//v1.0/x` are one route. Nothing else is folded: what comes
//! after is matched to the letter, so that no two spellings of a path can mean different things to a proxy and to us.

use std::borrow::Cow;

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// The path that the routes know for `path`. `base_path` is empty or starts with a slash and doesn't end with one.
fn fold<'a>(path: &'a str, base_path: &str) -> Cow<'a, str> {
    let folded = path.trim_start_matches('/');
    let base = base_path.trim_start_matches('/');
    if !base.is_empty()
        && let Some(rest) = folded.strip_prefix(base)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        return rooted(rest.trim_start_matches('/'), path);
    }
    rooted(folded, path)
}

/// `/` and `bare`, without a copy where that already stands at the end of `path`.
fn rooted<'a>(bare: &'a str, path: &'a str) -> Cow<'a, str> {
    match path
        .len()
        .checked_sub(bare.len() + 1)
        .and_then(|start| path.get(start..))
    {
        Some(suffix) if suffix.starts_with('/') => Cow::Borrowed(suffix),
        _ => Cow::Owned(format!("/{bare}")),
    }
}

/// Rewrites `uri` to the path that the routes know, leaving the query as it is.
pub(super) fn rewrite(uri: &mut Uri, base_path: &str) {
    let path = uri.path();
    if !path.starts_with('/') {
        // `OPTIONS *`
        return;
    }
    let folded = fold(path, base_path);
    if folded.len() == path.len() {
        return;
    }
    let path_and_query = match uri.query() {
        Some(query) => format!("{folded}?{query}"),
        None => folded.into_owned(),
    };
    // What was a valid path and query stays one when its front is cut off.
    if let Ok(path_and_query) = PathAndQuery::try_from(path_and_query) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(path_and_query);
        if let Ok(rewritten) = Uri::from_parts(parts) {
            *uri = rewritten;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewritten(uri: &str, base_path: &str) -> String {
        let mut uri = uri.parse().unwrap();
        rewrite(&mut uri, base_path);
        uri.to_string()
    }

    #[test]
    fn the_four_spellings_are_one_route() {
        for uri in [
            "/v1.0/x",
            "/api/v1.0/x",
            "//v1.0/x",
            "/api//v1.0/x",
            "//api//v1.0/x",
            "////api////v1.0/x",
        ] {
            assert_eq!(rewritten(uri, "/api"), "/v1.0/x", "{uri}");
            assert_eq!(
                rewritten(&format!("{uri}?a=/b//c"), "/api"),
                "/v1.0/x?a=/b//c",
                "{uri}"
            );
        }
        for uri in ["/", "//", "/api", "/api/", "//api//"] {
            assert_eq!(rewritten(uri, "/api"), "/", "{uri}");
        }
    }

    #[test]
    fn nothing_else_is_folded() {
        assert_eq!(rewritten("/v1.0//user", "/api"), "/v1.0//user");
        assert_eq!(rewritten("/v1.0/user/", "/api"), "/v1.0/user/");
        assert_eq!(rewritten("/api/api/v1.0/x", "/api"), "/api/v1.0/x");
        assert_eq!(rewritten("/apiary", "/api"), "/apiary");
        assert_eq!(rewritten("/API/v1.0/x", "/api"), "/API/v1.0/x");
        assert_eq!(rewritten("/%61pi/v1.0/x", "/api"), "/%61pi/v1.0/x");
        assert_eq!(rewritten("/api/../metrics", "/api"), "/../metrics");
        assert_eq!(rewritten("/api/v1.0/x", ""), "/api/v1.0/x");
        assert_eq!(rewritten("/a/b/v1.0/x", "/a/b"), "/v1.0/x");
        assert_eq!(rewritten("/a/v1.0/x", "/a/b"), "/a/v1.0/x");
        assert_eq!(rewritten("*", "/api"), "*");
        assert_eq!(
            rewritten("http://host/api/v1.0/x", "/api"),
            "http://host/v1.0/x"
        );
    }

    proptest! {
        #[test]
        fn a_prefix_changes_nothing(
            path in "v1\\.0(/[a-z0-9.%-]{0,5}){0,4}",
            lead in "/{1,4}",
            middle in "/{1,4}",
            query in prop::option::of("[a-z=&/]{0,8}"),
        ) {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let plain = format!("/{path}{query}");
            prop_assert_eq!(rewritten(&format!("{lead}{path}{query}"), "/api"), plain.clone());
            prop_assert_eq!(rewritten(&format!("{lead}api{middle}{path}{query}"), "/api"), plain.clone());
            prop_assert_eq!(rewritten(&plain, "/api"), plain);
        }

        #[test]
        fn any_path_gives_a_rooted_suffix_of_itself(path in "/[ -~&&[^?#\"<>\\\\^`{|} ]]{0,40}", base in "(/[a-z]{1,4}){0,2}") {
            let folded = fold(&path, &base).into_owned();
            prop_assert!(folded.starts_with('/'));
            prop_assert!(!folded.starts_with("//"));
            prop_assert!(folded == "/" || path.ends_with(&folded));
            // Folding what was folded takes at most one more base path away, never anything else.
            prop_assert!(path.ends_with(fold(&folded, &base).trim_start_matches('/')));
        }
    }
}
