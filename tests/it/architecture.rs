//! The arrows of docs/architecture.md, read from the source.

use std::fs;
use std::path::{Path, PathBuf};

/// What the files of a room must not name. A room is the file or folder of this name under `src`.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    (
        "store",
        &[
            "crate::api",
            "crate::auth",
            "crate::app",
            "crate::server",
            "crate::cli",
            "axum::",
            "http::",
        ],
    ),
    (
        "auth",
        &[
            "crate::api",
            "crate::app",
            "crate::server",
            "crate::cli",
            "axum::",
            "sea_orm::",
            "redis::",
            "hyper::",
        ],
    ),
    (
        "api",
        &[
            "crate::app",
            "crate::server",
            "crate::cli",
            "sea_orm::",
            "redis::",
            "deadpool_redis::",
        ],
    ),
    (
        "server",
        &[
            "crate::api",
            "crate::auth",
            "crate::store",
            "crate::app",
            "crate::cli",
        ],
    ),
    ("app", &["crate::server", "crate::cli"]),
    (
        "config",
        &[
            "crate::api",
            "crate::auth",
            "crate::store",
            "crate::app",
            "crate::server",
            "crate::cli",
        ],
    ),
];

/// The forbidden names that the code outside of comments uses.
fn violations<'a>(source: &str, forbidden: &[&'a str]) -> Vec<&'a str> {
    // Unit tests stand at the end of a file, and may use what they test with.
    let source = source.split("\n#[cfg(test)]\n").next().unwrap_or(source);
    let code: Vec<&str> = source
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
        .collect();
    let names = |line: &str, name: &str| {
        line.match_indices(name).any(|(start, _)| {
            // `redis::` is not `self::redis::`, and `axum::` not `utoipa_axum::`.
            let before = line[..start].chars().next_back();
            !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
        })
    };
    forbidden
        .iter()
        .copied()
        .filter(|name| code.iter().any(|line| names(line, name)))
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn no_room_knows_what_stands_before_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&folder, &mut files);
    let mut seen = 0;
    for file in files {
        let inside = file.strip_prefix(&folder).unwrap().with_extension("");
        let room = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let Some((_, forbidden)) = FORBIDDEN.iter().find(|(name, _)| *name == room) else {
            continue;
        };
        let found = violations(&fs::read_to_string(&file).unwrap(), forbidden);
        assert!(found.is_empty(), "{} uses {found:?}", file.display());
        seen += 1;
    }
    assert!(seen > 30, "only {seen} files were read");
}

#[test]
fn a_wrong_arrow_is_found() {
    let forbidden = ["crate::api", "axum::", "redis::"];
    assert_eq!(
        violations("use crate::api::Api;", &forbidden),
        ["crate::api"]
    );
    assert_eq!(
        violations("fn f() { axum::serve(); }", &forbidden),
        ["axum::"]
    );
    assert_eq!(
        violations("    let x = redis::cmd(\"GET\");", &forbidden),
        ["redis::"]
    );
    let fine = "//! See crate::api.\nuse utoipa_axum::router;\npub use self::redis::RedisTokens;";
    assert!(violations(fine, &forbidden).is_empty());
}
