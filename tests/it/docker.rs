//! What docker/ and docker-compose.yml repeat of the rest, where it could come apart.

use std::collections::BTreeSet;

use crate::common::run;

const COMPOSE: &str = include_str!("../../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../../docker/api.Dockerfile");
const EXAMPLE: &str = include_str!("../../.env.example");

/// The names of our variables in a text.
fn variables(text: &str) -> BTreeSet<&str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("CLAVIGER_"))
        .collect()
}

#[test]
fn the_image_has_the_version_and_the_toolchain_of_the_package() {
    let version = env!("CARGO_PKG_VERSION");
    let label = format!("org.opencontainers.image.version=\"{version}\"");
    assert!(DOCKERFILE.contains(&label), "{label}");
    let toolchain = include_str!("../../rust-toolchain.toml");
    let toolchain = toolchain.split_once("channel = \"").unwrap().1;
    let (toolchain, _) = toolchain.split_once('"').unwrap();
    // The image is rebuilt for each fix of its series.
    let toolchain = toolchain.rsplit_once('.').unwrap().0;
    for image in DOCKERFILE
        .lines()
        .filter_map(|line| line.strip_prefix("FROM rust:"))
    {
        assert!(image.starts_with(&format!("{toolchain}-")), "{image}");
    }
    assert_eq!(DOCKERFILE.matches("FROM rust:").count(), 1);
}

#[test]
fn every_setting_is_one_that_there_is() {
    let known = run(&["config", "example", "--markdown"], &[], "").out;
    let known = variables(&known);
    assert!(known.contains("CLAVIGER_SERVER__LISTEN"));
    let scripts = [
        include_str!("../../docker/dev"),
        include_str!("../../docker/e2e"),
        include_str!("../../docker/urls"),
        include_str!("../../docker/watch"),
    ];
    for text in [COMPOSE, DOCKERFILE, EXAMPLE].into_iter().chain(scripts) {
        let used = variables(text);
        assert!(!used.is_empty());
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

/// Compose reads a variable that is not in the file as empty, or takes the default that stands in docker-compose.yml.
#[test]
fn every_variable_of_compose_is_in_the_example() {
    let known: BTreeSet<&str> = EXAMPLE
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .filter(|name| !name.starts_with('#'))
        .collect();
    let mut used = 0;
    for (_, rest) in COMPOSE
        .match_indices("${")
        .map(|(at, _)| COMPOSE.split_at(at + 2))
    {
        let (inside, _) = rest.split_once('}').unwrap();
        let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
        let name = name.split(':').next().unwrap();
        assert!(known.contains(name), "{name}");
        if !default.is_empty() {
            let line = format!("{name}={default}");
            assert!(EXAMPLE.lines().any(|it| it == line), "{line}");
        }
        used += 1;
    }
    assert!(used > 0);
}
