//! `claviger session`, and the commands of `claviger user` that end sessions, beside a running service.

use claviger::store::revocations::Revocations;
use redis::AsyncCommands;
use rstest::rstest;
use sea_orm::{ConnectionTrait, TransactionTrait};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::common::{
    Answer, Backend, Deployment, Program, Proxy, Run, post, post_login, redis_url, run, with_token,
};

const NEW: &str = "another long password";

/// The commands that end the sessions of alice; the second is told the id of one.
const COMMANDS: [&[&str]; 5] = [
    &["session", "revoke-all", "alice"],
    &["session", "revoke"],
    &["user", "passwd", "alice", "--password-stdin"],
    &["user", "disable", "alice"],
    &["user", "delete", "alice"],
];

/// What they say that they did.
fn done(command: &[&str]) -> &'static str {
    match command[1] {
        "revoke-all" => "revoked all of alice",
        "revoke" => "revoked the session",
        "passwd" => "changed the password of alice",
        "disable" => "disabled alice",
        _ => "deleted alice",
    }
}

/// What a command complains of, after the warnings about the settings of the tests.
fn complaint(run: &Run) -> &str {
    run.err.lines().next_back().unwrap()
}

/// A service in which alice has two sessions and bob one.
struct LoggedIn {
    service: Program,
    alice: [String; 2],
    /// The id of the first of them.
    session: String,
    bob: String,
}

impl LoggedIn {
    async fn to(deployment: &Deployment) -> Self {
        deployment.user("alice");
        deployment.user("bob");
        let service = deployment.start();
        let log_in = async |name: &str| service.send(&post_login(name)).await.token();
        let (alice, bob) = (
            [log_in("alice").await, log_in("alice").await],
            log_in("bob").await,
        );
        let sessions = sessions(&service, &alice[0]).await;
        let current = sessions.iter().find(|session| session["current"] == true);
        let session = current.unwrap()["id"].as_str().unwrap().to_owned();
        Self {
            service,
            alice,
            session,
            bob,
        }
    }

    async fn check(&self, token: &str) -> Answer {
        self.service.send(&with_token("GET", token)).await
    }

    /// Looks until a token is dead.
    async fn wait_for_the_end(&self, token: &str) {
        for _ in 0..50_000 {
            let answer = self.check(token).await;
            if answer.status == 401 {
                answer.problem(401, "invalid-token");
                return;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        panic!("a token does not die");
    }

    /// Which of alice's tokens a command leaves alive.
    fn left_by<'a>(&'a self, command: &[&str]) -> Option<&'a String> {
        (command[1] == "revoke").then_some(&self.alice[1])
    }

    /// Runs one of [`COMMANDS`].
    fn run(&self, command: &[&str], variables: &[(&str, &str)]) -> Run {
        let mut command = command.to_vec();
        if command[1] == "revoke" {
            command.push(&self.session);
        }
        run(&command, variables, NEW)
    }
}

async fn sessions(service: &Program, token: &str) -> Vec<Value> {
    let request = format!(
        "GET /v1.0/user/sessions HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let answer = service.send(&request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["items"].as_array().unwrap().clone()
}

async fn pending(deployment: &Deployment) -> usize {
    let revocations = Revocations::new(deployment.database.connect().await);
    revocations.pending(100, 0).await.unwrap().len()
}

/// Looks until no promise is left.
async fn wait_until_settled(deployment: &Deployment) {
    let revocations = Revocations::new(deployment.database.connect().await);
    for _ in 0..50_000 {
        if revocations.pending(100, 0).await.unwrap().is_empty() {
            return;
        }
    }
    panic!("a promise is not kept");
}

/// What the command has changed beside the sessions.
async fn assert_changed(logged_in: &LoggedIn, command: &[&str]) {
    let old = logged_in.service.send(&post_login("alice")).await;
    let body = serde_json::json!({ "username": "alice", "password": NEW }).to_string();
    let new = logged_in
        .service
        .send(&post("", "application/json", &body))
        .await;
    let expected = match command[1] {
        "revoke-all" | "revoke" => (200, 401),
        "passwd" => (401, 200),
        _ => (401, 401),
    };
    assert_eq!((old.status.as_u16(), new.status.as_u16()), expected);
}

#[tokio::test]
async fn sessions_are_listed_and_revoked() {
    let deployment = Deployment::new(Backend::External).await;
    let logged_in = LoggedIn::to(&deployment).await;

    let listed = deployment.run(&["session", "list", "ALICE", "--json"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let listed: Vec<Value> = serde_json::from_str(&listed.out).unwrap();
    // The same as the user sees, but for which of them asks.
    let mut own = sessions(&logged_in.service, &logged_in.alice[0]).await;
    for session in &mut own {
        session.as_object_mut().unwrap().remove("current");
        assert_eq!(session["ip"], "127.0.0.1");
        assert!(session["user_agent"].is_null());
    }
    assert_eq!(listed, own);

    let table = deployment.run(&["session", "list", "alice"]);
    assert_eq!(table.code, 0, "{table:?}");
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 3, "{table:?}");
    assert!(lines[0].starts_with("ID "), "{table:?}");
    for (line, session) in lines[1..].iter().zip(&own) {
        for name in ["id", "created_at", "last_seen_at", "expires_at", "ip"] {
            assert!(line.contains(session[name].as_str().unwrap()), "{line}");
        }
    }
    let shown = format!("{listed:?} {table:?}");
    assert!(!shown.contains("clv_"), "{shown}");

    let revoked = deployment.run(&["session", "revoke", &logged_in.session]);
    assert_eq!(
        (revoked.code, revoked.out.as_str()),
        (0, "revoked the session; ended 1 session\n")
    );
    let [first, second] = &logged_in.alice;
    logged_in.check(first).await.problem(401, "invalid-token");
    assert_eq!(logged_in.check(second).await.status, 200);
    let again = deployment.run(&["session", "revoke", &logged_in.session]);
    assert_eq!(
        (again.code, complaint(&again)),
        (65, "claviger: there is no living session of this id")
    );
    let junk = deployment.run(&["session", "revoke", "junk"]);
    assert_eq!(junk.code, 65, "{junk:?}");
    for command in ["list", "revoke-all"] {
        let nobody = deployment.run(&["session", command, "nobody"]);
        assert_eq!(
            (nobody.code, complaint(&nobody)),
            (67, "claviger: there is no user of this name")
        );
    }
    let all = deployment.run(&["session", "revoke-all", "alice"]);
    assert_eq!(all.out, "revoked all of alice; ended 1 session\n");
    let none = deployment.run(&["session", "list", "alice", "--json"]);
    assert_eq!(none.out, "[]\n");
    assert_eq!(logged_in.check(&logged_in.bob).await.status, 200);
    assert_eq!(pending(&deployment).await, 0);
}

/// A promise is what the service carries out, too, and whoever comes second has nothing to tell. So none is made where none is
/// needed: here it would have to wait for the table.
#[tokio::test]
async fn what_can_be_revoked_at_once_is_not_promised() {
    let deployment = Deployment::new(Backend::External).await;
    let logged_in = LoggedIn::to(&deployment).await;
    let database = deployment.database.connect().await;
    let held = database.begin().await.unwrap();
    let lock = "LOCK TABLE pending_revocations IN ACCESS EXCLUSIVE MODE";
    held.execute_unprepared(lock).await.unwrap();
    for (command, said) in [
        (COMMANDS[1], "revoked the session; ended 1 session\n"),
        (COMMANDS[0], "revoked all of alice; ended 1 session\n"),
    ] {
        let ran = logged_in.run(command, &deployment.variables());
        assert_eq!((ran.code, ran.out.as_str()), (0, said), "{}", ran.err);
    }
    held.rollback().await.unwrap();
    for token in &logged_in.alice {
        logged_in.check(token).await.problem(401, "invalid-token");
    }
}

/// When the command has answered the keys are gone, whatever the service does.
#[tokio::test]
async fn sessions_in_redis_are_dead_when_the_command_has_answered() {
    for command in COMMANDS {
        let deployment = Deployment::new(Backend::External).await;
        let logged_in = LoggedIn::to(&deployment).await;
        // The service is held, so that it is not it that ends them.
        logged_in.service.signal("STOP");
        let ran = logged_in.run(command, &deployment.variables());
        let left = logged_in.left_by(command);
        let client = redis::Client::open(redis_url().expose_secret()).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        for token in &logged_in.alice {
            let key = format!("{}{token}", deployment.key_prefix);
            let is_there: bool = redis.exists(key).await.unwrap();
            assert_eq!(is_there, left == Some(token), "{command:?}");
        }
        logged_in.service.signal("CONT");

        let sessions = if left.is_some() {
            "1 session"
        } else {
            "2 sessions"
        };
        let said = format!("{}; ended {sessions}\n", done(command));
        assert_eq!((ran.code, ran.out), (0, said), "{}", ran.err);
        for token in &logged_in.alice {
            let check = logged_in.check(token).await;
            assert_eq!(check.status == 200, left == Some(token), "{command:?}");
        }
        assert_eq!(logged_in.check(&logged_in.bob).await.status, 200);
        assert_eq!(pending(&deployment).await, 0);
        assert_changed(&logged_in, command).await;
    }
}

/// The tokens are in the memory of the service, which a command can't reach: it notes what has to end, and the service does it.
#[rstest]
#[tokio::test]
async fn sessions_in_memory_are_ended_by_their_service(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    for command in COMMANDS {
        let mut deployment = Deployment::new(backend).await;
        deployment.set("CLAVIGER_TOKENS__URL", "memory:");
        let logged_in = LoggedIn::to(&deployment).await;
        let ran = logged_in.run(command, &deployment.variables());
        let said = format!(
            "{}; the service, which keeps the tokens in its memory, ends the sessions within 1 s\n",
            done(command)
        );
        assert_eq!((ran.code, ran.out), (0, said), "{}", ran.err);

        let left = logged_in.left_by(command);
        for token in &logged_in.alice {
            if left != Some(token) {
                logged_in.wait_for_the_end(token).await;
            }
        }
        wait_until_settled(&deployment).await;
        if let Some(token) = left {
            assert_eq!(logged_in.check(token).await.status, 200);
        }
        assert_eq!(logged_in.check(&logged_in.bob).await.status, 200);
        let ended = if left.is_some() { 1 } else { 2 };
        let revoked = "claviger_tokens_revoked_total";
        logged_in.service.wait_for_metric(revoked, ended).await;
        assert_changed(&logged_in, command).await;
    }
}

#[rstest]
#[tokio::test]
async fn sessions_in_memory_are_not_listed(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend).await;
    deployment.set("CLAVIGER_TOKENS__URL", "memory:");
    deployment.user("alice");
    for name in ["alice", "nobody"] {
        let run = deployment.run(&["session", "list", name]);
        assert_eq!((run.code, run.out.as_str()), (78, ""), "{run:?}");
        let start = "claviger: tokens.url is memory: only the service itself knows its sessions";
        assert!(complaint(&run).starts_with(start), "{run:?}");
    }
}

/// The account is changed, the exit code says that not all is well, and the service keeps the promise.
#[tokio::test]
async fn a_command_that_does_not_reach_redis_leaves_its_promise_to_the_service() {
    for command in COMMANDS {
        let deployment = Deployment::new(Backend::External).await;
        let logged_in = LoggedIn::to(&deployment).await;
        let mut variables = deployment.variables();
        variables.push(("CLAVIGER_TOKENS__URL", "redis://127.0.0.1:1"));
        variables.push(("CLAVIGER_TOKENS__TIMEOUT", "500ms"));
        let ran = logged_in.run(command, &variables);
        assert_eq!((ran.code, ran.out.as_str()), (69, ""), "{ran:?}");
        let start = format!(
            "claviger: {}; what has to end is still alive, and a running service ends it as soon as it can: \
             tokens unavailable: ",
            done(command)
        );
        assert!(complaint(&ran).starts_with(&start), "{ran:?}");

        let left = logged_in.left_by(command);
        for token in &logged_in.alice {
            if left != Some(token) {
                logged_in.wait_for_the_end(token).await;
            }
        }
        wait_until_settled(&deployment).await;
        if let Some(token) = left {
            assert_eq!(logged_in.check(token).await.status, 200);
        }
        assert_eq!(logged_in.check(&logged_in.bob).await.status, 200);
        assert_changed(&logged_in, command).await;

        let listed = run(&["session", "list", "bob"], &variables, "");
        assert_eq!((listed.code, listed.out.as_str()), (69, ""), "{listed:?}");
    }
}

/// Redis is away from the service, too: nobody is told that he is logged out, and when it is back the promise is kept.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promise_outlasts_an_outage(#[values(true, false)] restarted: bool) {
    let (proxy, url) = Proxy::before(&redis_url()).await;
    let mut deployment = Deployment::new(Backend::External).await;
    deployment.set("CLAVIGER_TOKENS__URL", url.expose_secret());
    deployment.set("CLAVIGER_TOKENS__TIMEOUT", "1s");
    let mut logged_in = LoggedIn::to(&deployment).await;

    proxy.cut();
    let command = ["user", "disable", "alice"];
    let ran = logged_in.run(&command, &deployment.variables());
    assert_eq!(ran.code, 69, "{ran:?}");
    for token in &logged_in.alice {
        let check = logged_in.check(token).await;
        check.problem(503, "dependency-unavailable");
    }
    assert_eq!(pending(&deployment).await, 1);
    if restarted {
        logged_in.service.signal("TERM");
        logged_in.service = deployment.start_unready();
        logged_in.service.wait_for("not ready");
        assert_eq!(pending(&deployment).await, 1);
    }

    proxy.heal();
    wait_until_settled(&deployment).await;
    for token in &logged_in.alice {
        logged_in.check(token).await.problem(401, "invalid-token");
    }
    assert_eq!(logged_in.check(&logged_in.bob).await.status, 200);
    assert_changed(&logged_in, &command).await;
}

/// Security checklist, 14: an operator lets somebody in who was locked out.
#[tokio::test]
async fn unlocking_and_a_new_password_let_in_who_was_locked_out() {
    let mut deployment = Deployment::new(Backend::External).await;
    deployment.set("CLAVIGER_LIMITS__ENABLED", "true");
    deployment.set("CLAVIGER_LIMITS__LOGIN_PER_USER", "1/15m");
    deployment.user("alice");
    let service = deployment.start();
    let wrong = || {
        let body = r#"{"username":"alice","password":"not the right password"}"#;
        post("", "application/json", body)
    };
    let command = |arguments: &[&str]| run(arguments, &deployment.variables(), NEW);

    assert_eq!(service.send(&wrong()).await.status, 401);
    assert_eq!(service.send(&wrong()).await.status, 429);
    let unlocked = command(&["user", "unlock", "Alice"]);
    assert_eq!(
        (unlocked.code, unlocked.out.as_str()),
        (0, "unlocked alice\n")
    );
    let unlocked = command(&["user", "unlock", "alice"]);
    assert_eq!(
        (unlocked.code, unlocked.out.as_str()),
        (0, "not locked: alice\n")
    );
    assert_eq!(service.send(&wrong()).await.status, 401);
    assert_eq!(service.send(&wrong()).await.status, 429);
    let changed = command(&["user", "passwd", "alice", "--password-stdin"]);
    assert_eq!(changed.code, 0, "{changed:?}");
    let body = format!(r#"{{"username":"alice","password":"{NEW}"}}"#);
    let answer = service.send(&post("", "application/json", &body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn attempts_in_memory_are_not_unlocked() {
    let deployment = Deployment::new(Backend::Embedded).await;
    let refused = run(&["user", "unlock", "alice"], &deployment.variables(), "");
    assert_eq!(refused.code, 78, "{refused:?}");
}
