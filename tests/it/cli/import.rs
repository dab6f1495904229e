//! `claviger user import`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use claviger::store::users::{User, Users};
use rstest::rstest;
use sea_orm::{ConnectionTrait, TransactionTrait};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::Cli;
use crate::common::{
    Backend, Deployment, PASSWORD, Program, Run, post, post_login, run, start, wait_for_a_lock,
    with_token,
};

/// Of `"password"`, made with bcrypt 4.0.1 for Python.
const BCRYPT: &str = "$2a$04$7YVo3/9TmNKuxhZlV4BEZeou/.AP47dCs1OAcrjXdSNtIEr6ZT3AS";

/// Of `"password"`, made with OpenSSL, see the tests of the hash gate.
const SCRYPT: &str =
    "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$5f/Vi+XRWGUNGScbsma6KJ4zLFIke/NJsrvr7lQLAyA";

/// A file to import.
struct Lines {
    folder: TempDir,
}

impl Lines {
    fn new(content: impl AsRef<[u8]>) -> Self {
        let lines = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        lines.write(content);
        lines
    }

    fn write(&self, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(), content).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("users.jsonl")
    }
}

fn arguments<'a>(file: &'a Path, options: &[&'a str]) -> Vec<&'a str> {
    [&["user", "import", file.to_str().unwrap()], options].concat()
}

fn import(cli: &Cli, lines: &Lines, options: &[&str]) -> Run {
    cli.run(&arguments(&lines.path(), options))
}

fn user(name: &str, hash: &str) -> String {
    format!("{{\"username\":\"{name}\",\"password_hash\":\"{hash}\"}}\n")
}

async fn stored(cli: &Cli) -> Vec<User> {
    Users::new(cli.database.connect().await)
        .list(0, 10_000)
        .await
        .unwrap()
}

/// All that is stored of each user.
async fn everything(cli: &Cli) -> Vec<String> {
    let users = stored(cli).await.into_iter();
    let text = |user: User| {
        let hash = user
            .password_hash
            .as_ref()
            .map(|hash| hash.expose_secret().to_owned());
        format!("{user:?} {hash:?}")
    };
    users.map(text).collect()
}

fn ended(run: &Run) -> (i32, &str) {
    (run.code, run.out.as_str())
}

#[rstest]
#[tokio::test]
async fn users_are_created_as_the_lines_say(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::migrated(backend).await;
    let mut content = user("Alice", BCRYPT);
    content += "\n   \n";
    content += r#"{"username":"bob","is_admin":true,"disabled":true,"password_hash":null}"#;
    content += "\r\n{\"username\":\"ca\\u0308rol\"}";
    let run = import(&cli, &Lines::new(content), &[]);
    assert_eq!(
        ended(&run),
        (
            0,
            "3 created, 0 changed, 0 left as they were, 0 invalid lines left out\n"
        ),
        "{run:?}"
    );
    assert_eq!(run.err, "");

    let users = stored(&cli).await;
    let names: Vec<&str> = users.iter().map(|user| user.username.as_str()).collect();
    assert_eq!(names, ["alice", "bob", "c\u{e4}rol"]);
    let [alice, bob, carol] = users.as_slice() else {
        panic!("{users:?}")
    };
    assert_eq!(
        alice.password_hash.as_ref().unwrap().expose_secret(),
        BCRYPT
    );
    assert!(!alice.is_admin && alice.disabled_at.is_none());
    assert!(alice.password_changed_at.is_some());
    assert!(bob.is_admin && bob.disabled_at.is_some() && bob.password_hash.is_none());
    assert!(!carol.is_admin && carol.disabled_at.is_none() && carol.password_hash.is_none());
    assert!(carol.password_changed_at.is_none());
}

/// Security checklist, 22 and 23.
#[rstest]
#[tokio::test]
async fn nothing_is_written_if_a_line_is_not_valid(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::migrated(backend).await;
    let lines = Lines::new(
        [
            user("alice", BCRYPT),
            user("bob", "Sesame-0pen"),
            "\n".to_owned(),
            "{\"username\":\"carol\",\"password\":\"Sesame-0pen\"}\n".to_owned(),
            user("ALICE", SCRYPT),
            "Sesame-0pen\n".to_owned(),
            user("dave", "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"),
            format!("{{\"username\":\"{}\"}}\n", "e".repeat(20_000)),
            user("frank", SCRYPT),
        ]
        .concat(),
    );
    let problems = "
  line 2: the password hash is of an unknown kind
  line 4: the field \"password\" is unknown; there are username, password_hash, is_admin and disabled
  line 5: the username stands in a line before
  line 6: is not JSON, from column 1 on
  line 7: the password hash is beyond the bounds
  line 8: has more than 16384 bytes\n";
    let refused = import(&cli, &lines, &[]);
    let file = lines.path();
    let file = file.display();
    assert_eq!(ended(&refused), (65, ""));
    assert_eq!(
        refused.err,
        format!("claviger: {file}: nothing was imported, 6 lines are not valid:{problems}")
    );
    assert!(cli.users().is_empty());

    let rest = import(&cli, &lines, &["--skip-invalid"]);
    assert_eq!(
        ended(&rest),
        (
            0,
            "2 created, 0 changed, 0 left as they were, 6 invalid lines left out\n"
        )
    );
    assert_eq!(
        rest.err,
        format!("claviger: warning: {file}: 6 lines are not valid and will be left out:{problems}")
    );
    let users = stored(&cli).await;
    assert_eq!(users.len(), 2);
    // Of two lines with one name the first counts.
    assert_eq!(
        users[0].password_hash.as_ref().unwrap().expose_secret(),
        BCRYPT
    );
    assert_eq!(users[1].username, "frank");
}

#[tokio::test]
async fn of_many_bad_lines_twenty_are_named() {
    let cli = Cli::migrated(Backend::Embedded).await;
    let run = import(&cli, &Lines::new("x\n".repeat(1000)), &[]);
    assert_eq!(run.code, 65);
    assert_eq!(run.err.lines().count(), 22);
    assert!(run.err.contains("1000 lines are not valid:"), "{run:?}");
    assert!(run.err.contains("\n  line 20: "), "{run:?}");
    assert!(run.err.ends_with("\n  and 980 more\n"), "{run:?}");
}

#[rstest]
#[tokio::test]
async fn a_name_that_is_taken_is_refused_skipped_or_updated(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::migrated(backend).await;
    let first = user("alice", BCRYPT)
        + &user("bob", BCRYPT)
        + "{\"username\":\"carol\",\"is_admin\":true}\n";
    let lines = Lines::new(first);
    assert_eq!(import(&cli, &lines, &[]).code, 0);
    let before = everything(&cli).await;

    lines.write(
        [
            user("dave", BCRYPT),
            user("alice", SCRYPT),
            "{\"username\":\"bob\",\"disabled\":true}\n".to_owned(),
            "{\"username\":\"carol\"}\n".to_owned(),
        ]
        .concat(),
    );
    for options in [&[][..], &["--on-conflict", "fail"], &["--skip-invalid"]] {
        let refused = import(&cli, &lines, options);
        assert_eq!(ended(&refused), (65, ""), "{refused:?}");
        assert_eq!(
            refused.err,
            format!(
                "claviger: {}: nothing was imported, 3 users exist (see --on-conflict):\n  \
                 line 2: the username is taken\n  line 3: the username is taken\n  line 4: the username is taken\n",
                lines.path().display()
            )
        );
        assert_eq!(everything(&cli).await, before);
    }

    let skip = ["--on-conflict", "skip"];
    assert_eq!(
        ended(&import(&cli, &lines, &skip)),
        (
            0,
            "1 created, 0 changed, 3 left as they were, 0 invalid lines left out\n"
        )
    );
    let skipped = everything(&cli).await;
    assert_eq!(skipped[..3], before);
    assert_eq!(
        ended(&import(&cli, &lines, &skip)),
        (
            0,
            "0 created, 0 changed, 4 left as they were, 0 invalid lines left out\n"
        )
    );
    assert_eq!(everything(&cli).await, skipped);

    let update = ["--on-conflict", "update"];
    let run = import(&cli, &lines, &update);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.out
            .starts_with("0 created, 2 changed, 2 left as they were, 0 invalid lines left out; "),
        "{run:?}"
    );
    let users = stored(&cli).await;
    assert_eq!(
        users[0].password_hash.as_ref().unwrap().expose_secret(),
        SCRYPT
    );
    assert!(users[0].password_changed_at > Some(users[0].created_at));
    assert!(users[1].disabled_at.is_some());
    assert_eq!(
        users[1].password_hash.as_ref().unwrap().expose_secret(),
        BCRYPT
    );
    assert!(users[2].is_admin, "what a line does not say stays");
    let updated = everything(&cli).await;
    assert_eq!(updated[2..], skipped[2..]);
    assert_eq!(
        ended(&import(&cli, &lines, &update)),
        (
            0,
            "0 created, 0 changed, 4 left as they were, 0 invalid lines left out\n"
        )
    );
    assert_eq!(everything(&cli).await, updated);

    // And back.
    lines.write("{\"username\":\"bob\",\"disabled\":false,\"password_hash\":null}\n{\"username\":\"dave\",\"is_admin\":true}\n");
    assert_eq!(import(&cli, &lines, &update).code, 0);
    let users = stored(&cli).await;
    assert!(users[1].disabled_at.is_none() && users[1].password_hash.is_none());
    assert!(users[3].is_admin);
}

/// More than one batch, some of which have lines that are left out.
#[rstest]
#[tokio::test]
async fn many_lines_are_imported_in_their_order(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let cli = Cli::migrated(backend).await;
    let mut content = String::new();
    for number in 0..1250 {
        content += &user(&format!("user{number}"), BCRYPT);
        if number % 250 == 0 {
            content += "bad\n\n";
        }
    }
    let lines = Lines::new(&content);
    assert_eq!(
        ended(&import(&cli, &lines, &["--skip-invalid"])),
        (
            0,
            "1250 created, 0 changed, 0 left as they were, 5 invalid lines left out\n"
        )
    );
    let users = stored(&cli).await;
    assert_eq!(users.len(), 1250);
    for (number, stored) in users.iter().enumerate() {
        assert_eq!(stored.username, format!("user{number}"));
    }
    // The last line of all is in no full batch.
    let _ = writeln!(content, "{{\"username\":\"user1249\"}}");
    lines.write(&content);
    let refused = import(&cli, &lines, &["--skip-invalid"]);
    assert!(
        refused
            .err
            .contains(" 1250 users exist (see --on-conflict):"),
        "{refused:?}"
    );
    assert!(refused.err.ends_with("\n  and 1230 more\n"), "{refused:?}");
}

#[tokio::test]
async fn a_file_that_can_not_be_read_twice_is_refused() {
    let cli = Cli::migrated(Backend::Embedded).await;
    let stdin = cli.run_with(&["user", "import", "-"], &user("alice", BCRYPT));
    assert_eq!(stdin.code, 64);
    assert_eq!(
        stdin.err,
        "claviger: the file is read twice, so it can't be standard input\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    for (path, reason) in [
        (missing.as_path(), "No such file"),
        (folder.path(), "is read twice, so it has to be a file"),
        (
            Path::new("/dev/stdin"),
            "is read twice, so it has to be a file",
        ),
    ] {
        let run = cli.run_with(&arguments(path, &[]), &user("alice", BCRYPT));
        assert_eq!(run.code, 66, "{run:?}");
        assert!(run.err.contains(reason), "{run:?}");
    }
    assert!(cli.users().is_empty());
    assert_eq!(import(&cli, &Lines::new(""), &[]).code, 0);
}

#[rstest]
#[tokio::test]
async fn the_last_administrator_stays_one(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[values("\"is_admin\":false", "\"disabled\":true")] change: &str,
) {
    let cli = Cli::migrated(backend).await;
    let lines = Lines::new(
        "{\"username\":\"root\",\"is_admin\":true}\n{\"username\":\"off\",\"is_admin\":true,\"disabled\":true}\n",
    );
    assert_eq!(import(&cli, &lines, &[]).code, 0);
    let before = everything(&cli).await;
    let update = ["--on-conflict", "update"];
    lines.write(format!(
        "{}{{\"username\":\"root\",{change}}}\n",
        user("new", BCRYPT)
    ));
    let refused = import(&cli, &lines, &update);
    assert_eq!(ended(&refused), (65, ""));
    assert!(
        refused.err.ends_with(
            ": lines 1 to 2: the last administrator who is not disabled would be disabled or be none any more; \
             0 users were created and 0 changed before that, and stay so\n"
        ),
        "{refused:?}"
    );
    assert_eq!(everything(&cli).await, before);

    lines.write(format!(
        "{{\"username\":\"root\",{change}}}\n{{\"username\":\"off\",\"disabled\":false}}\n"
    ));
    let run = import(&cli, &lines, &update);
    assert_eq!(run.code, 0, "{run:?}");
}

#[tokio::test]
async fn a_database_that_is_away_is_no_fault_of_the_file() {
    let cli = Cli::new(Backend::Embedded).await;
    let lines = Lines::new(user("alice", BCRYPT));
    for options in [&[][..], &["--on-conflict", "skip"]] {
        let run = import(&cli, &lines, options);
        assert_eq!(run.code, 69, "{run:?}");
        assert!(run.err.contains("claviger migrate up"), "{run:?}");
    }
    assert_eq!(cli.run(&["migrate", "up"]).code, 0);
    assert_eq!(import(&cli, &lines, &[]).code, 0);
}

/// Somebody makes the user between the two readings.
#[rstest]
#[case::fail("fail", 65)]
#[case::skip("skip", 0)]
#[case::update("update", 0)]
#[tokio::test]
async fn a_name_that_is_taken_meanwhile(#[case] on_conflict: &str, #[case] code: i32) {
    let cli = Cli::migrated(Backend::External).await;
    let lines = Lines::new(
        [
            user("alice", BCRYPT),
            user("bob", SCRYPT),
            user("carol", BCRYPT),
        ]
        .concat(),
    );
    let database = cli.database.connect().await;
    let other = database.begin().await.unwrap();
    let insert = "INSERT INTO users (username) VALUES ('bob')";
    other.execute_unprepared(insert).await.unwrap();

    let path = lines.path();
    let command = start(
        &arguments(&path, &["--on-conflict", on_conflict]),
        &cli.variables(),
    );
    wait_for_a_lock(&database).await;
    other.commit().await.unwrap();
    let output = command.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );

    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    let users = stored(&cli).await;
    let bob = users.iter().find(|user| user.username == "bob").unwrap();
    let hash = bob
        .password_hash
        .as_ref()
        .map(|hash| hash.expose_secret().to_owned());
    match on_conflict {
        "fail" => {
            assert!(
                err.contains(": line 2: the username was taken meanwhile; 0 users were created"),
                "{err}"
            );
            assert_eq!(users.len(), 1);
        }
        "skip" => {
            assert!(
                out.starts_with("2 created, 0 changed, 1 left as they were"),
                "{out}"
            );
            assert_eq!((users.len(), hash), (3, None));
        }
        _ => {
            assert!(
                out.starts_with("2 created, 1 changed, 0 left as they were"),
                "{out}"
            );
            assert_eq!((users.len(), hash.as_deref()), (3, Some(SCRYPT)));
        }
    }
}

async fn log_in(service: &Program, name: &str, password: &str) -> u16 {
    let body = serde_json::json!({ "username": name, "password": password }).to_string();
    service
        .send(&post("", "application/json", &body))
        .await
        .status
        .as_u16()
}

/// Security checklist, 23 and 26: beside a service that runs, with tokens in Redis and in its memory.
#[rstest]
#[case::password("\"password_hash\":\"HASH\"", true, true)]
#[case::no_password("\"password_hash\":null", true, false)]
#[case::disabled("\"disabled\":true", true, false)]
#[case::administrator("\"is_admin\":true", false, false)]
#[case::nothing("\"disabled\":false", false, false)]
#[tokio::test]
async fn sessions_end_with_a_change_of_what_logs_in(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] change: &str,
    #[case] ends: bool,
    #[case] new_password: bool,
) {
    let deployment = Deployment::new(backend).await;
    deployment.user("alice");
    deployment.user("bob");
    let service = deployment.start();
    let alice = service.send(&post_login("alice")).await.token();
    let bob = service.send(&post_login("bob")).await.token();

    let change = change.replace("HASH", BCRYPT);
    let lines = Lines::new(format!(
        "{{\"username\":\"alice\",{change}}}\n{{\"username\":\"carol\",\"password_hash\":\"{BCRYPT}\"}}\n"
    ));
    let path = lines.path();
    let run = deployment.run(&arguments(&path, &["--on-conflict", "update"]));
    assert_eq!(run.code, 0, "{run:?}");
    let told = match (ends, backend) {
        (false, _) => "",
        (true, Backend::External) => "; ended the sessions of those who have to log in again",
        (true, Backend::Embedded) => {
            "; the service, which keeps the tokens in its memory, ends the sessions of those who have to log in again within 1 s"
        }
    };
    assert!(
        run.out
            .ends_with(&format!("0 invalid lines left out{told}\n")),
        "{run:?}"
    );

    let check = async |token: &str| service.send(&with_token("GET", token)).await;
    if ends && backend == Backend::Embedded {
        let mut looks = 0..50_000;
        while check(&alice).await.status == 200 {
            assert!(looks.next().is_some(), "the token does not die");
        }
    }
    assert_eq!(check(&alice).await.status, if ends { 401 } else { 200 });
    assert_eq!(check(&bob).await.status, 200);
    assert_eq!(
        log_in(&service, "alice", PASSWORD).await,
        if ends { 401 } else { 200 }
    );
    assert_eq!(
        log_in(&service, "alice", "password").await,
        if new_password { 200 } else { 401 }
    );
    assert_eq!(log_in(&service, "carol", "password").await, 200);
    assert_eq!(log_in(&service, "carol", "passwort").await, 401);
}

/// The users are changed, the promise is kept when the token store is back.
#[tokio::test]
async fn sessions_that_can_not_end_at_once_end_later() {
    let deployment = Deployment::new(Backend::External).await;
    deployment.user("alice");
    let service = deployment.start();
    let token = service.send(&post_login("alice")).await.token();
    let lines = Lines::new(user("alice", BCRYPT));
    let path = lines.path();
    let mut variables = deployment.variables();
    variables.push(("CLAVIGER_TOKENS__URL", "redis://127.0.0.1:1"));
    variables.push(("CLAVIGER_TOKENS__TIMEOUT", "500ms"));
    let run = run(
        &arguments(&path, &["--on-conflict", "update"]),
        &variables,
        "",
    );
    assert_eq!(run.code, 69, "{run:?}");
    assert_eq!(
        run.out,
        "0 created, 1 changed, 0 left as they were, 0 invalid lines left out\n"
    );
    assert!(
        run.err
            .contains("are still alive, and a running service ends them as soon as it can"),
        "{run:?}"
    );
    let mut looks = 0..50_000;
    while service.send(&with_token("GET", &token)).await.status == 200 {
        assert!(looks.next().is_some(), "the token does not die");
    }
    assert_eq!(log_in(&service, "alice", "password").await, 200);
}
