//! What is generated from the list of settings, and the commands that print it.

use super::*;

#[test]
fn the_committed_example_is_the_generated_one() {
    let committed = include_str!("../../../config.example.toml");
    assert!(
        committed == config::example(),
        "run: cargo run -- config example > config.example.toml"
    );
}

#[test]
fn the_example_loads_to_the_defaults_with_and_without_its_signs() {
    let example = config::example();
    let active: String = example
        .lines()
        .map(|line| uncommented(line).unwrap_or(line).to_owned() + "\n")
        .collect();
    let defaults = dump(&Config::default());
    let as_it_is = load_text(&example).unwrap();
    assert_eq!(dump(&as_it_is.config), defaults);
    assert!(as_it_is.origins.is_empty());

    let loaded = load_text(&active).unwrap();
    assert_eq!(dump(&loaded.config), defaults);
    assert!(loaded.warnings.is_empty());
    assert_eq!(
        loaded.origins.len(),
        keys().len(),
        "every key is in the example"
    );
}

#[test]
fn the_tables_in_the_documentation_are_the_generated_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for name in ["docs/configuration.md", "README.md"] {
        let text = fs::read_to_string(root.join(name)).unwrap_or_default();
        if let Some((_, rest)) = text.split_once("<!-- config -->\n") {
            let (block, _) = rest.split_once("<!-- /config -->").expect("the block ends");
            assert!(
                block.trim() == config::table().trim(),
                "the table in {name} is not what `cargo run -- config example --markdown` prints"
            );
            found += 1;
        }
    }
    assert!(found >= 1);
}

fn run(command: cli::config::Command, sources: &Sources) -> (anyhow::Result<()>, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let result = cli::config::run(command, sources, &mut out, &mut err);
    (
        result,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

#[test]
fn config_show_prints_what_loads_to_the_same_settings() {
    let file = File::new("[tokens]\nttl = '90m'\nkey_prefix = 'a\"\\\\b'\n");
    let sources = file.sources(&[
        ("CLAVIGER_MODE", "dev"),
        ("CLAVIGER_SERVER__TRUSTED_PROXIES", "10.0.0.0/8"),
    ]);
    let (result, out, err) = run(cli::config::Command::Show { json: false }, &sources);
    result.unwrap();
    assert_eq!(err, "");
    assert!(
        out.starts_with("mode = \"dev\" # environment variable CLAVIGER_MODE\n"),
        "{out}"
    );
    assert!(
        out.contains(&format!(
            "ttl = \"90m\" # file {}, line 2\n",
            file.path.display()
        )),
        "{out}"
    );
    assert!(out.contains("docs = true # default\n"), "{out}");
    assert!(out.contains("schema_version = \"\" # default\n"), "{out}");

    let mut again = load_text(&out).unwrap().config;
    let first = config::load(&sources).unwrap().config;
    assert_eq!(again.docs(), first.docs());
    assert_eq!(again.migrate(), first.migrate());
    again.server.docs = None;
    again.database.migrate = None;
    again.telemetry = first.telemetry.clone();
    assert_eq!(dump(&again), dump(&first));
}

#[test]
fn config_show_prints_json() {
    let sources = Sources {
        environment: environment(&[
            ("CLAVIGER_BOOTSTRAP__USERNAME", "root"),
            ("CLAVIGER_BOOTSTRAP__PASSWORD", SECRET),
            ("CLAVIGER_TYPO", "x"),
        ]),
        ..Sources::default()
    };
    let (result, out, err) = run(cli::config::Command::Show { json: true }, &sources);
    result.unwrap();
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["mode"]["value"], "prod");
    assert_eq!(json["password"]["memory_kib"]["value"], 19_456);
    assert_eq!(
        json["database"]["schema_version"]["value"],
        serde_json::Value::Null
    );
    assert_eq!(json["bootstrap"]["password"]["value"], "***");
    assert_eq!(
        json["bootstrap"]["password"]["source"],
        "environment variable CLAVIGER_BOOTSTRAP__PASSWORD"
    );
    assert!(
        err.starts_with("warning: environment variable CLAVIGER_TYPO"),
        "{err}"
    );
}

#[test]
fn config_check_says_yes_or_what_is_wrong() {
    let (result, out, err) = run(
        cli::config::Command::Check,
        &File::new("mode = 'dev'").sources(&[]),
    );
    result.unwrap();
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("the configuration is valid\n", "")
    );

    let file = File::new("mode = 'x'");
    let (result, out, _) = run(cli::config::Command::Check, &file.sources(&[]));
    let error = result.unwrap_err().downcast::<ConfigError>().unwrap();
    assert!(error.problems()[0].starts_with("mode (file "), "{error}");
    assert_eq!(out, "");
}

#[test]
fn config_example_needs_no_valid_configuration() {
    let sources = Sources {
        file: Some(PathBuf::from("/nowhere")),
        ..Sources::default()
    };
    let (result, out, _) = run(cli::config::Command::Example { markdown: false }, &sources);
    result.unwrap();
    assert_eq!(out, config::example());
    let (result, out, _) = run(cli::config::Command::Example { markdown: true }, &sources);
    result.unwrap();
    assert_eq!(out, config::table());
}
