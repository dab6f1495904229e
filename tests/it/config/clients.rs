//! Section `clients`, whose names are the operator's.

use super::*;

/// Long enough, and valid nowhere else.
const LONG_SECRET: &str = "Sesame-0pen-and-then-some";

/// All that a configuration has of clients: name, secret, source.
fn clients(loaded: &Loaded) -> Vec<(String, String, String)> {
    let clients = loaded.config.clients.iter();
    clients
        .map(|(name, client)| {
            let source = loaded.origins[format!("clients.{name}.secret").as_str()].to_string();
            (
                name.clone(),
                client.secret.expose_secret().to_owned(),
                source,
            )
        })
        .collect()
}

#[test]
fn names_come_from_the_environment_in_lower_case() {
    let loaded = load_variables(&[
        ("CLAVIGER_CLIENTS__GATE__SECRET", LONG_SECRET),
        (
            "CLAVIGER_CLIENTS__MY__OTHER-GATE.2__SECRET",
            "~ twenty characters ~",
        ),
        ("CLAVIGER_CLIENTS__UNSET__SECRET", ""),
    ])
    .unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let expected = [
        (
            "gate",
            LONG_SECRET,
            "environment variable CLAVIGER_CLIENTS__GATE__SECRET",
        ),
        (
            "my__other-gate.2",
            "~ twenty characters ~",
            "environment variable CLAVIGER_CLIENTS__MY__OTHER-GATE.2__SECRET",
        ),
    ];
    let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(clients(&loaded), expected);
    assert!(load_variables(&[]).unwrap().config.clients.is_empty());
}

#[test]
fn each_has_a_section_in_the_file_and_the_environment_wins() {
    let file = File::new(&format!(
        "[clients.gate]\nsecret = '{LONG_SECRET}'\n\n[clients.\"other.gate\"]\nsecret = 'x'\n"
    ));
    let secret = file.beside("secret", &format!("{LONG_SECRET}\n"));
    let loaded = config::load(
        &file.sources(&[("CLAVIGER_CLIENTS__OTHER.GATE__SECRET_FILE", secret.as_str())]),
    )
    .unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let path = file.path.display();
    let expected = [
        (
            "gate".to_owned(),
            LONG_SECRET.to_owned(),
            format!("file {path}, line 2"),
        ),
        (
            "other.gate".to_owned(),
            LONG_SECRET.to_owned(),
            "environment variable CLAVIGER_CLIENTS__OTHER.GATE__SECRET_FILE".to_owned(),
        ),
    ];
    assert_eq!(clients(&loaded), expected);

    for text in [
        format!("clients.gate.secret_file = '{secret}'"),
        format!("clients = {{ gate = {{ secret_file = '{secret}' }} }}"),
    ] {
        let loaded = load_text(&text).unwrap();
        assert_eq!(
            loaded.config.clients["gate"].secret.expose_secret(),
            LONG_SECRET
        );
    }
}

#[rstest]
#[case(
    "[clients.gate]\nsecret = 'nineteen-characters'\n",
    "clients.gate.secret (file ",
    "line 2): expected 20 printable ASCII characters at least"
)]
#[case(
    "[clients.gate]\nsecret = ''\n",
    "clients.gate.secret (file ",
    "expected 20 printable"
)]
#[case(
    "[clients.gate]\nsecret = \"twenty-characters-\\n-\"\n",
    "clients.gate.secret (file ",
    "expected 20 printable"
)]
#[case(
    "[clients.gate]\nsecret = 'zwanzig-schlüssel-äö'\n",
    "clients.gate.secret (file ",
    "expected 20 printable"
)]
#[case(
    "[clients.gate]\nsecret = 20\n",
    "clients.gate.secret (file ",
    "expected a text in quotes"
)]
#[case(
    "[clients.gate]\n",
    "clients.gate.secret (default)",
    "expected 20 printable"
)]
#[case(
    "[clients.gate]\nsecret_file = '/nowhere'\n",
    "clients.gate.secret (file ",
    "line 2): the file /nowhere can't be read"
)]
#[case(
    "[clients.gate]\nsecret = 'x'\nsecret_file = 'x'\n",
    "clients.gate.secret (file ",
    "`clients.gate.secret` and `clients.gate.secret_file` are both set"
)]
#[case(
    "[clients.gate]\nsecrte = 'x'\n",
    "file ",
    "line 2: `clients.gate.secrte` is no setting; expected `clients.gate.secret`"
)]
#[case(
    "[clients]\ngate = 'x'\n",
    "file ",
    "line 2: `clients.gate` is a section: expected `[clients.gate]`"
)]
#[case("clients = 'x'\n", "file ", "line 1: `clients` is a section")]
#[case(
    "[clients.my.gate]\nsecret = 'x'\n",
    "file ",
    "line 1: `clients.my.gate` is no setting; a name with a dot stands in quotes"
)]
#[case(
    "[clients.Gate]\nsecret = 'twenty-characters-at-least'\n",
    "clients.Gate.secret (file ",
    "expected another name"
)]
#[case(
    "[clients.'']\nsecret = 'twenty-characters-at-least'\n",
    "clients..secret (file ",
    "expected another name"
)]
#[case(
    "[clients.'a b']\nsecret = 'twenty-characters-at-least'\n",
    "clients.a b.secret (file ",
    "`a` to `z`, `0` to `9`, `-`, `_` and `.`"
)]
fn what_is_wrong_in_a_file_is_named(
    #[case] text: &str,
    #[case] start: &str,
    #[case] expected: &str,
) {
    let found = problem(load_text(text));
    assert!(
        found.starts_with(start) && found.contains(expected),
        "{found}"
    );
}

#[rstest]
#[case(
    "CLAVIGER_CLIENTS__GATE__SECRET",
    "nineteen-characters",
    "expected 20 printable"
)]
#[case(
    "CLAVIGER_CLIENTS__GATE__SECRET_FILE",
    "/nowhere",
    "the file /nowhere can't be read"
)]
fn what_is_wrong_in_the_environment_is_named(
    #[case] name: &str,
    #[case] value: &str,
    #[case] expected: &str,
) {
    let found = problem(load_variables(&[(name, value)]));
    let start = format!("clients.gate.secret (environment variable {name}): ");
    assert!(
        found.starts_with(&start) && found.contains(expected),
        "{found}"
    );
}

#[test]
fn two_variables_of_one_client_are_an_error_that_names_both() {
    for other in [
        "CLAVIGER_CLIENTS__GATE__SECRET_FILE",
        "CLAVIGER_CLIENTS__Gate__SECRET",
    ] {
        let found = problem(load_variables(&[
            ("CLAVIGER_CLIENTS__GATE__SECRET", LONG_SECRET),
            (other, LONG_SECRET),
        ]));
        assert!(found.starts_with("clients.gate.secret ("), "{found}");
        assert!(
            found.contains(&format!(
                "`CLAVIGER_CLIENTS__GATE__SECRET` and `{other}` are both set"
            )),
            "{found}"
        );
    }
}

#[test]
fn a_variable_that_is_nearly_one_is_warned_about() {
    for name in [
        "CLAVIGER_CLIENTS__GATE__SECRTE",
        "CLAVIGER_CLIENTS__GATE",
        "CLAVIGER_CLIENTS__SECRET",
    ] {
        let loaded = load_variables(&[(name, LONG_SECRET)]).unwrap();
        assert_eq!(
            loaded.warnings,
            [format!(
                "environment variable {name} is unknown and ignored; expected CLAVIGER_CLIENTS__NAME__SECRET"
            )]
        );
        assert!(loaded.config.clients.is_empty());
    }
}

#[test]
fn secrets_are_masked() {
    let file = File::new("");
    let loaded = config::load(&file.sources(&[
        ("CLAVIGER_CLIENTS__GATE__SECRET", LONG_SECRET),
        ("CLAVIGER_CLIENTS__OTHER.GATE__SECRET", LONG_SECRET),
    ]))
    .unwrap();
    let shown = config::show(&loaded);
    let end = "\n[clients.gate]\n\
               secret = \"***\" # environment variable CLAVIGER_CLIENTS__GATE__SECRET\n\n\
               [clients.\"other.gate\"]\n\
               secret = \"***\" # environment variable CLAVIGER_CLIENTS__OTHER.GATE__SECRET\n";
    assert!(shown.ends_with(end), "{shown}");
    let json = config::show_json(&loaded);
    assert_eq!(
        json["clients"]["other.gate"],
        serde_json::json!({ "secret": {
            "value": "***",
            "source": "environment variable CLAVIGER_CLIENTS__OTHER.GATE__SECRET",
        }})
    );
    let everything = format!("{shown}{json}{loaded:?}");
    assert!(!everything.contains("Sesame"), "{everything}");

    for name in ["SECRET", "SECRET_FILE", "SECRTE"] {
        let error = load_variables(&[
            (&format!("CLAVIGER_CLIENTS__GATE__{name}"), "Sesame-0pen"),
            ("CLAVIGER_MODE", "x"),
        ]);
        let error = error.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("Sesame"), "{error}");
    }
}

/// Without its signs, and with a secret, it is a client.
#[test]
fn the_example_shows_how() {
    let example = config::example();
    let (_, block) = example.split_once("#     [clients.gate]\n").unwrap();
    let (secret, file) = ("secret = \"...\"", "secret_file = \"PATH\"");
    assert_eq!(
        block,
        format!("#     {secret}\n#     # Or, to read it from a file:\n#     {file}\n")
    );
    let text = format!("[clients.gate]\n{}\n", secret.replace("...", LONG_SECRET));
    assert!(
        load_text(&text)
            .unwrap()
            .config
            .clients
            .contains_key("gate")
    );
    assert!(
        config::table()
            .contains("| CLAVIGER_CLIENTS__NAME__SECRET, CLAVIGER_CLIENTS__NAME__SECRET_FILE |\n")
    );
}
