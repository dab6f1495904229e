//! The route template of a request, for what observes it: `/v1.0/users/{id}` and never the path with its id.

use std::sync::Arc;

/// Stands for every path that no route matches: the path itself would give each stranger a metric of their own.
const UNMATCHED: &str = "unmatched";

/// The templates of all routes. The router knows them too, but tells them only to the handlers behind it.
#[derive(Clone)]
pub(super) struct RouteTemplates(Arc<Inner>);

struct Inner {
    templates: matchit::Router<Arc<str>>,
    unmatched: Arc<str>,
}

impl RouteTemplates {
    pub(super) fn new<'a>(routes: impl Iterator<Item = &'a str>) -> Self {
        let mut templates = matchit::Router::new();
        for template in routes {
            // The router takes the same templates and would have refused what can't be one.
            let _ = templates.insert(template, template.into());
        }
        let unmatched = UNMATCHED.into();
        Self(Arc::new(Inner {
            templates,
            unmatched,
        }))
    }

    /// The template that `path` matches.
    pub(super) fn of(&self, path: &str) -> Arc<str> {
        let Inner {
            templates,
            unmatched,
        } = &*self.0;
        let template = templates
            .at(path)
            .map_or(unmatched, |matched| matched.value);
        Arc::clone(template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_by_its_template() {
        let routes = RouteTemplates::new(["/", "/users/{id}", "/users/self"].into_iter());
        assert_eq!(&*routes.of("/"), "/");
        assert_eq!(&*routes.of("/users/7"), "/users/{id}");
        assert_eq!(&*routes.of("/users/self"), "/users/self");
        for path in [
            "/users",
            "/users/",
            "/users/7/",
            "/users/7/x",
            "//",
            "*",
            "",
        ] {
            assert_eq!(&*routes.of(path), UNMATCHED, "{path}");
        }
    }
}
