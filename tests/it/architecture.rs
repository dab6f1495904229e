//! The arrows of docs/architecture.md, and the sizes, read from the source.

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;

use self::source::{lines_of_code, paths, without_tests};

/// The rooms in the order of the arrows: each may use those behind it, never those before it or beside it.
const ORDER: [(&str, usize); 7] = [
    ("main", 0),
    ("cli", 1),
    ("app", 2),
    ("server", 2),
    ("api", 3),
    ("auth", 4),
    ("store", 5),
];

/// What every room may use, and what that may use itself.
const SUPPORT: [(&str, &[&str]); 3] = [
    ("config", &[]),
    ("metrics", &[]),
    ("telemetry", &["config"]),
];

const HTTP: [&str; 8] = [
    "axum",
    "http",
    "http_body",
    "http_body_util",
    "hyper",
    "hyper_util",
    "tower",
    "utoipa",
];
const SQL: [&str; 3] = ["sea_orm", "sea_orm_migration", "migration"];
const REDIS: [&str; 2] = ["redis", "deadpool"];

/// The crates that a room must not know.
fn foreign(room: &str) -> Vec<&'static str> {
    let groups: &[&[&'static str]] = match room {
        "main" | "cli" => &[&HTTP, &SQL, &REDIS],
        "app" | "server" | "api" | "telemetry" => &[&SQL, &REDIS, &["anyhow"]],
        "auth" | "config" | "metrics" => &[&HTTP, &SQL, &REDIS, &["anyhow", "reqwest"]],
        "store" => &[&HTTP, &["anyhow", "reqwest"]],
        _ => &[],
    };
    groups.concat()
}

/// The modules that a file under `src` stands for.
fn module(file: &str) -> Vec<&str> {
    let name = file.strip_suffix(".rs").unwrap();
    if name == "lib" {
        return Vec::new();
    }
    name.split('/').collect()
}

/// What is wrong with the paths that `source`, the content of `file` under `src`, names.
fn violations(file: &str, source: &str) -> Vec<String> {
    let module = module(file);
    // It lists the rooms, and stands in none of them.
    let Some(room) = module.first().copied() else {
        return Vec::new();
    };
    let foreign = foreign(room);
    let mut found = Vec::new();
    for path in paths(&without_tests(source), &module) {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let wrong = match names[..] {
            ["crate", other, ..] if other == room => false,
            ["crate", "store", "entity", ..] => true,
            ["crate", other, ..] => !may_use(room, other),
            ["std", "env", ..] => room != "config",
            [other, ..] => foreign.contains(&other),
            [] => false,
        };
        if wrong {
            found.push(path.join("::"));
        }
    }
    found
}

fn may_use(room: &str, other: &str) -> bool {
    let place = |room| ORDER.iter().find(|(name, _)| *name == room);
    let support = |room| SUPPORT.iter().find(|(name, _)| *name == room);
    if let Some((_, allowed)) = support(room) {
        return allowed.contains(&other);
    }
    match (place(room), place(other)) {
        // The entry point knows the command line only, and the listeners know nothing of what they serve.
        (Some(("main", _)), _) => other == "cli",
        (Some(("server", _)), Some(_)) | (None, _) => false,
        (Some((_, place)), Some((_, other))) => place < other,
        (Some(_), None) => support(other).is_some(),
    }
}

/// The source files below a folder, as paths from there.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    walk(&folder, &mut files);
    files.sort();
    // Tests that have a file of their own.
    files.retain(|file| file.file_name().is_some_and(|name| name != "tests.rs"));
    files
        .into_iter()
        .map(|file| {
            let content = fs::read_to_string(&file).unwrap();
            let name = file.strip_prefix(&folder).unwrap().to_str().unwrap();
            (name.to_owned(), content)
        })
        .collect()
}

#[test]
fn no_room_knows_what_stands_before_it() {
    let mut found = Vec::new();
    let sources = sources("src");
    for (file, source) in &sources {
        let wrong = violations(file, source).into_iter();
        found.extend(wrong.map(|path| format!("src/{file} uses {path}")));
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(sources.len() > 50, "only {} files were read", sources.len());
    // Each room was met, and its arrows were read.
    for (room, next) in [
        ("cli", "app"),
        ("app", "api"),
        ("api", "auth"),
        ("auth", "store"),
    ] {
        let meets = sources.iter().any(|(file, source)| {
            let module = module(file);
            module.first() == Some(&room)
                && paths(source, &module)
                    .iter()
                    .any(|path| path[0] == "crate" && path.get(1).is_some_and(|name| name == next))
        });
        assert!(meets, "{room} uses {next}");
    }
}

#[test]
fn migrations_import_nothing_of_the_service() {
    for (file, source) in sources("migration/src") {
        let paths = paths(&without_tests(&source), &module(&file));
        let wrong = paths.iter().find(|path| path[0] == "claviger");
        assert_eq!(wrong, None, "migration/src/{file}");
    }
}

#[test]
fn files_are_small() {
    let mut large = Vec::new();
    for folder in ["src", "migration/src"] {
        for (file, source) in sources(folder) {
            let most = if file == "main.rs" { 60 } else { 400 };
            let lines = lines_of_code(&source);
            if lines > most {
                large.push(format!("{folder}/{file}: {lines}"));
            }
        }
    }
    assert!(
        large.is_empty(),
        "lines of code beyond what one file should hold: {large:#?}"
    );
}

#[rstest]
#[case::back("auth/token.rs", "use crate::api::Api;", "crate::api::Api")]
#[case::beside("app.rs", "use crate::server::serve;", "crate::server::serve")]
#[case::inline("store/users.rs", "fn f() { crate::auth::f(); }", "crate::auth::f")]
#[case::relative(
    "store/users.rs",
    "use super::super::auth::Login;",
    "crate::auth::Login"
)]
#[case::room("auth.rs", "use super::api;", "crate::api")]
#[case::group(
    "store/tokens/redis.rs",
    "use crate::{config, auth::{Login, token::{self, Token}}};",
    "crate::auth::Login"
)]
#[case::whole("api/ops.rs", "pub use crate::app as other;", "crate::app")]
#[case::all("auth.rs", "use crate::api::*;", "crate::api")]
#[case::generic("auth.rs", "struct A(Vec<crate::api::Api>);", "crate::api::Api")]
#[case::support(
    "config/load.rs",
    "use crate::store::StoreError;",
    "crate::store::StoreError"
)]
#[case::support_of_support("metrics.rs", "use crate::config::Config;", "crate::config::Config")]
#[case::listeners("server.rs", "use crate::api::Api;", "crate::api::Api")]
#[case::entry("main.rs", "fn main() { claviger::app::f() }", "crate::app::f")]
#[case::http_in_auth("auth.rs", "use axum::http::StatusCode;", "axum::http::StatusCode")]
#[case::http_in_store("store.rs", "fn f() { hyper::f() }", "hyper::f")]
#[case::sql_in_auth("auth.rs", "use {sea_orm as orm, std::fmt};", "sea_orm")]
#[case::sql_in_api("api.rs", "use ::sea_orm::DbErr;", "sea_orm::DbErr")]
#[case::redis_in_api("api.rs", "use redis::cmd;", "redis::cmd")]
#[case::pool_in_auth("auth.rs", "use deadpool::managed::Pool;", "deadpool::managed::Pool")]
#[case::entity(
    "auth.rs",
    "use crate::store::entity::users;",
    "crate::store::entity::users"
)]
#[case::environment("app.rs", "use std::{env, fmt};", "std::env")]
#[case::environment_inline("telemetry.rs", "let x = std::env::args();", "std::env::args")]
#[case::erased("store.rs", "use anyhow::Result;", "anyhow::Result")]
#[case::before_tests(
    "auth.rs",
    "use crate::api::Api;\n#[cfg(test)]\nmod tests { use crate::app::App; }",
    "crate::api::Api"
)]
#[case::after_a_quote(
    "auth.rs",
    "let c = '\"'; crate::api::f(); let d = '\"';",
    "crate::api::f"
)]
fn a_wrong_arrow_is_found(#[case] file: &str, #[case] source: &str, #[case] path: &str) {
    let found = violations(file, source);
    assert_eq!(found.first().map(String::as_str), Some(path), "{found:?}");
}

#[rstest]
#[case(
    "cli/serve.rs",
    "use crate::{app::App, server, auth, store, telemetry, config};"
)]
#[case(
    "api/extract.rs",
    "use super::AppState; use super::super::auth; use self::client::X;"
)]
#[case(
    "api.rs",
    "mod redis; use self::redis::X; use utoipa_axum::router; use axum::Router;"
)]
#[case(
    "auth.rs",
    "//! See crate::api.\n/* use crate::api; /* axum:: */ hyper:: */ use std::fmt;"
)]
#[case(
    "auth.rs",
    "let text = \"use crate::api; \\\" axum::f\"; let raw = r#\"\"hyper::f\"#;"
)]
#[case("auth.rs", "#[cfg(test)]\nmod tests {\n use crate::api::Api;\n}")]
#[case("auth.rs", "let version = env!(\"X\"); fn f<'env>(x: &'env str) {}")]
#[case("config/environment.rs", "use std::env;")]
#[case(
    "store/users.rs",
    "use super::entity::users; use crate::store::entity; use sea_orm::DbErr;"
)]
#[case("lib.rs", "pub mod api; use self::api::Api;")]
#[case("main.rs", "fn main() { claviger::cli::main() }")]
fn a_right_arrow_is_not_complained_about(#[case] file: &str, #[case] source: &str) {
    let found = violations(file, source);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn lines_of_code_are_neither_blank_nor_comments_nor_tests() {
    let source = "//! Doc.\n\nuse a;\n/* b\n c */\nfn d() { // e\n    #[cfg(test)]\n    f(\"\nh\n\");\n}\n\n\
                  #[cfg(test)]\nmod tests {\n    fn g() {}\n}\n";
    assert_eq!(lines_of_code(source), 7);
}
