//! The log of the built program: what stands in it, and what never does.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger::auth::token::Token;
use claviger::store::users::NewUser;
use rstest::rstest;
use sea_orm::{SqliteTransactionMode, TransactionOptions, TransactionTrait};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::common::{
    Answer, Backend, Deployment, PASSWORD, Program, Proxy, RedisServer, credentials, get,
    head_of_login, post, post_login, redis_url, with_token,
};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Sends a request, and tells its answer and the event that it left. There is exactly one: any other would be taken for
/// that of the next request.
async fn logged(service: &mut Program, request: &str) -> (Answer, Value) {
    let answer = service.send(request).await;
    let event = service.wait_for_access();
    (answer, event)
}

#[rstest]
#[tokio::test]
async fn each_request_leaves_one_event(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let deployment = Deployment::new(backend).await;
    deployment.user("alice");
    let mut service = deployment.start();
    let (answer, event) = logged(&mut service, &post_login("alice")).await;
    let token = answer.token();
    let user = answer.json()["user_id"].clone();
    assert_eq!(event["user_id"], user);

    let auth = "/v1.0/user/auth";
    let (check, log_out) = (with_token("GET", &token), with_token("DELETE", &token));
    let cases = [
        (get("/"), "GET", "/", 200, None),
        (post_login("alice"), "POST", auth, 200, Some(&user)),
        (check.clone(), "GET", auth, 200, Some(&user)),
        (log_out, "DELETE", auth, 204, Some(&user)),
        (check, "GET", auth, 401, None),
        (post_login("nobody"), "POST", auth, 401, None),
        (get(auth), "GET", auth, 401, None),
        (with_token("PATCH", &token), "PATCH", auth, 405, None),
        (with_token("BREW", &token), "other", auth, 405, None),
        (post("", JSON, "{"), "POST", auth, 400, None),
        (post("", JSON, "{}"), "POST", auth, 422, None),
        (post("", "text/plain", ""), "POST", auth, 415, None),
        (post("", JSON, &" ".repeat(20_000)), "POST", auth, 413, None),
        (get("//v1.0/user/auth"), "GET", auth, 401, None),
        (get("/api/v1.0/user/auth"), "GET", auth, 401, None),
        (get("/reset/clv_in-a-path"), "GET", "unmatched", 404, None),
        (get("/metrics"), "GET", "unmatched", 404, None),
    ];
    for (request, method, route, status, user) in cases {
        // Of operations there are none: they would be taken for that of the request.
        service.ops("/readyz").await;
        service.ops("/metrics").await;
        let (answer, event) = logged(&mut service, &request).await;
        assert_eq!(answer.status, status, "{request}");
        let id = answer.header("x-request-id").unwrap();
        let duration = event["duration_ms"].as_f64().unwrap();
        assert!((0.0..60_000.0).contains(&duration), "{event}");
        let mut expected = json!({
            "timestamp": event["timestamp"],
            "level": "INFO",
            "target": "claviger::access",
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": event["duration_ms"],
            "request_id": id,
            "client": "127.0.0.1",
        });
        if let Some(user) = user {
            expected["user_id"] = user.clone();
        }
        assert_eq!(event, expected);
    }
}

/// The form of a client, to be sent to one of the routes below `/v1.0/token`.
fn to_token_route(route: &str, secret: &str, form: &str) -> String {
    let basic = STANDARD.encode(format!("gate:{secret}"));
    let header = format!("authorization: Basic {basic}\r\n");
    post(&header, FORM, form).replacen("/v1.0/user/auth", &format!("/v1.0/token/{route}"), 1)
}

#[rstest]
#[tokio::test]
async fn the_event_of_a_machine_names_it(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend).await;
    let secret = "s3cret-of-a-machine!";
    deployment.set("CLAVIGER_CLIENTS__GATE__SECRET", secret);
    deployment.user("alice");
    let mut service = deployment.start();
    let (answer, event) = logged(&mut service, &post_login("alice")).await;
    assert_eq!(event.get("client_name"), None);
    let form = format!("token={}", answer.token());
    let user = answer.json()["user_id"].clone();
    for (route, secret, form, status, name, user) in [
        (
            "introspect",
            secret,
            form.as_str(),
            200,
            Some("gate"),
            Some(&user),
        ),
        ("introspect", secret, "", 422, Some("gate"), None),
        ("introspect", secret, "token=x", 200, Some("gate"), None),
        ("revoke", secret, &form, 200, Some("gate"), None),
        ("revoke", secret, &form, 200, Some("gate"), None),
        // Whoever can't prove the name hasn't got it.
        ("revoke", "s3cret-of-a-machine?", &form, 401, None, None),
    ] {
        let request = to_token_route(route, secret, form);
        let (answer, event) = logged(&mut service, &request).await;
        assert_eq!(answer.status, status, "{event}");
        assert_eq!(event["route"], format!("/v1.0/token/{route}"));
        assert_eq!(event.get("client_name").and_then(Value::as_str), name);
        assert_eq!(event.get("user_id"), user);
    }
}

/// What docs/operations.md says that the log says.
#[rstest]
#[case::replicas("min-replicas-to-write", "1", "NOREPLICAS")]
#[case::password("requirepass", "x", "NOAUTH")]
#[tokio::test]
async fn what_redis_refuses_with_is_in_the_log(
    #[case] setting: &str,
    #[case] value: &str,
    #[case] code: &str,
) {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", setting, value]).await;
    let mut deployment = Deployment::new(Backend::Embedded).await;
    deployment.set("CLAVIGER_TOKENS__URL", redis.url.expose_secret());
    let mut service = deployment.start_unready();
    let causes = service.wait_for("not ready")["causes"].clone();
    assert_eq!(
        causes,
        format!("tokens unavailable: the server answered {code}")
    );
}

#[tokio::test]
async fn a_parameter_of_a_url_that_the_driver_does_not_know_is_not_logged() {
    let mut deployment = Deployment::new(Backend::External).await;
    let mut url = url::Url::parse(deployment.database.url.expose_secret()).unwrap();
    url.query_pairs_mut().append_pair("pasword", "Sesame-0pen");
    deployment.set("CLAVIGER_DATABASE__URL", url.as_str());
    deployment.set("RUST_LOG", "trace");
    let service = deployment.start();
    service.signal("TERM");
    let (_, log) = service.end();
    let log = log.join("\n");
    assert!(log.contains("is unknown, and ignored"), "{log}");
    assert!(!log.contains("Sesame"), "{log}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_logged_with_its_cause_and_the_id_of_the_request(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut deployment = Deployment::new(backend).await;
    deployment.user("alice");
    let (proxy, url) = Proxy::before(&redis_url()).await;
    match backend {
        Backend::Embedded => deployment.set("CLAVIGER_DATABASE__ACQUIRE_TIMEOUT", "500ms"),
        Backend::External => deployment.set("CLAVIGER_TOKENS__URL", url.expose_secret()),
    }
    let mut service = deployment.start();
    let database = deployment.database.connect().await;
    let lock = match backend {
        // Somebody else writes for ever.
        Backend::Embedded => {
            let options = TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            };
            Some(database.begin_with_options(options).await.unwrap())
        }
        Backend::External => {
            proxy.cut();
            None
        }
    };

    let request = post(
        "x-request-id: of-the-caller-1\r\n",
        JSON,
        &credentials("alice"),
    );
    let answer = service.send(&request).await;
    answer.problem(503, "dependency-unavailable");
    assert_eq!(answer.header("x-request-id"), Some("of-the-caller-1"));
    let cause = service.wait_for("a login could not be answered");
    assert_eq!(cause["level"], "WARN");
    assert_eq!(cause["request_id"], "of-the-caller-1");
    let part = if backend == Backend::Embedded {
        "database"
    } else {
        "tokens"
    };
    let text = cause["cause"].as_str().unwrap();
    assert!(text.starts_with(&format!("{part} unavailable: ")), "{text}");
    let event = service.wait_for_access();
    assert_eq!(event["status"], 503);
    assert_eq!(event["request_id"], "of-the-caller-1");
    drop(lock);
}

#[tokio::test]
async fn in_dev_mode_a_line_says_the_same_to_people() {
    let mut deployment = Deployment::new(Backend::Embedded).await;
    deployment.set("CLAVIGER_MODE", "dev");
    deployment.user("alice");
    let mut service = deployment.start();
    let (answer, event) = logged(&mut service, &post_login("alice")).await;
    let duration = event["duration_ms"].as_str().unwrap();
    assert!(duration.parse::<f64>().unwrap() > 0.0);
    let expected = json!({
        "target": "claviger::access",
        "message": "",
        "method": "POST",
        "route": "/v1.0/user/auth",
        "status": "200",
        "duration_ms": duration,
        "request_id": answer.header("x-request-id"),
        "user_id": answer.json()["user_id"].to_string(),
        "client": "127.0.0.1",
    });
    assert_eq!(event, expected);
}

/// Sends what a secret may hide in, and notes what must not come out again.
struct Prying {
    service: Program,
    secrets: Vec<String>,
    /// All that the service answered, but for the tokens that it is asked for.
    answers: String,
}

impl Prying {
    async fn send(&mut self, request: &str) -> Answer {
        let answer = self.service.send(request).await;
        if answer.status != 200 {
            let _ = writeln!(self.answers, "{:?}\n{}", answer.headers, answer.text());
        }
        answer
    }

    async fn token(&mut self, request: &str) -> String {
        let token = self.send(request).await.token();
        self.secrets.push(token.clone());
        token
    }

    async fn logins(&mut self) {
        let user = "s3cret-name";
        let known = credentials("alice");
        let bodies = [
            (JSON, known.replace(PASSWORD, "s3cret-wrong")),
            (JSON, credentials(user)),
            (JSON, known.replace("alice", "s3cret name of two words")),
            (JSON, known.replace("alice", &"s3cret".repeat(50))),
            (JSON, known.replace(PASSWORD, &"s3cret".repeat(200))),
            (JSON, known.replace(PASSWORD, "s3cret\\u0000")),
            (JSON, known.replace(PASSWORD, "s3cret\\ud800")),
            (JSON, known.replace("\"username\"", "\"s3cret-field\"")),
            (JSON, known.replace('{', "{\"password\":\"s3cret\",")),
            (JSON, known.replace('}', "")),
            (JSON, format!("[{known}]")),
            (
                JSON,
                r#"{"username":"s3cret","password":["s3cret"]}"#.to_owned(),
            ),
            (
                JSON,
                r#"{"username":{"s3cret":1},"password":null}"#.to_owned(),
            ),
            (JSON, "s3cret".repeat(5_000)),
            ("text/plain", known.clone()),
            ("application/s3cret", known.clone()),
            (
                FORM,
                "username=alice&password=s3cret-wrong&grant_type=password".to_owned(),
            ),
            (FORM, format!("username={user}&password=s3cret")),
            (
                FORM,
                "username=s3cret&password=s3cret&grant_type=s3cret".to_owned(),
            ),
            (FORM, "username=s3cret&password=s3cret%ff".to_owned()),
            (FORM, "s3cret".to_owned()),
        ];
        for (content_type, body) in bodies {
            let answer = self.send(&post("", content_type, &body)).await;
            assert!(answer.status.is_client_error(), "{body}");
        }
        let form = "username=alice&password=correct+horse+battery+staple&s3cret=s3cret";
        let elsewhere = post("origin: https://s3cret.example\r\n", FORM, form);
        assert_eq!(self.send(&elsewhere).await.status, 403);
        let unusable = self.send(&post_login("unusable")).await;
        unusable.problem(401, "invalid-credentials");

        self.token(&post_login("alice")).await;
        let basic = "authorization: Basic czNjcmV0OnMzY3JldA==\r\n";
        self.token(&post(basic, FORM, form)).await;
        // No HTTP, and no end.
        let mut junk = self.service.connect().await;
        junk.send("s3cret s3cret s3cret\r\n\r\n").await;
        self.answers += &junk.rest().await;
        let mut leaves = self.service.connect().await;
        leaves.send(&head_of_login("alice")).await;
        assert_eq!(leaves.answer().await.status, 100);
        leaves.send("s3cret").await;
    }

    async fn tokens(&mut self) {
        let alive = self.token(&post_login("alice")).await;
        let revoked = self.token(&post_login("alice")).await;
        let log_out = with_token("DELETE", &revoked);
        assert_eq!(self.send(&log_out).await.status, 204);
        let unknown = Token::generate().expose().to_owned();
        let mistyped = format!("{}!", &alive[..alive.len() - 1]);
        self.secrets.extend([unknown.clone(), mistyped.clone()]);
        assert_eq!(self.send(&with_token("GET", &alive)).await.status, 200);
        for token in [&revoked, &unknown, &mistyped] {
            for method in ["GET", "DELETE"] {
                let answer = self.send(&with_token(method, token)).await;
                answer.problem(401, "invalid-token");
            }
        }
        let twice = format!("\r\nauthorization: Bearer {alive}\r\n");
        let twice = with_token("GET", &alive).replacen("\r\n", &twice, 1);
        self.send(&twice).await.problem(401, "invalid-token");
        let paths = [
            format!("/v1.0/user/auth?access_token={alive}"),
            format!("/v1.0/user/auth/{alive}"),
            format!("/api/{alive}"),
            "/s3cret?s3cret=s3cret".to_owned(),
        ];
        for path in paths {
            assert!(self.send(&get(&path)).await.status.is_client_error());
        }
        let header = format!("\r\nx-request-id: {alive} s3cret\r\nuser-agent: s3cret\r\n");
        let answer = self
            .send(&get("/nowhere").replacen("\r\n", &header, 1))
            .await;
        answer.problem(404, "not-found");
    }

    async fn clients(&mut self) {
        let token = self.token(&post_login("alice")).await;
        let (known, wrong) = ("s3cret-of-a-machine!", "s3cret-of-a-machine?");
        for secret in [known, wrong] {
            let basic = STANDARD.encode(format!("gate:{secret}"));
            self.secrets.push(basic);
            for route in ["introspect", "revoke", "s3cret"] {
                for form in [
                    "token=s3cret&s3cret=s3cret",
                    "s3cret",
                    "token=s3cret%ff",
                    "token=s3cret&token=s3cret",
                    &format!("token={token}&token_type_hint=s3cret"),
                ] {
                    self.send(&to_token_route(route, secret, form)).await;
                }
            }
        }
    }

    /// Ends the service and asserts that nothing came out.
    async fn end(mut self) -> Vec<String> {
        self.answers += &self.service.ops("/readyz").await.text();
        let metrics = self.service.ops("/metrics").await.text();
        self.service.signal("TERM");
        let (status, log) = self.service.end();
        assert!(status.success());
        let all = log.join("\n");
        assert!(!all.is_empty());
        for text in [&all, &metrics, &self.answers] {
            for secret in &self.secrets {
                let place = text.find(secret.as_str());
                let line = place.map(|at| &text[at.saturating_sub(300)..at + secret.len()]);
                assert_eq!(line, None, "{secret} came out");
            }
        }
        log
    }
}

/// What is typed here holds "s3cret", and nothing else does.
fn secrets(deployment: &Deployment) -> Vec<String> {
    let mut secrets: Vec<String> = [
        PASSWORD,
        "correct+horse",
        "s3cret",
        "czNjcmV0",
        "$argon2",
        "$unknown",
    ]
    .map(str::to_owned)
    .into();
    for url in [&deployment.database.url, &redis_url()] {
        let url = url::Url::parse(url.expose_secret()).unwrap();
        secrets.extend(url.password().map(str::to_owned));
    }
    secrets
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_comes_out_at_any_level(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[values("json", "text")] format: &str,
) {
    let mut deployment = Deployment::new(backend).await;
    deployment.set("CLAVIGER_MODE", "dev");
    deployment.set("CLAVIGER_TELEMETRY__LOG_FORMAT", format);
    deployment.set("RUST_LOG", "trace");
    deployment.set("CLAVIGER_BOOTSTRAP__USERNAME", "root");
    deployment.set(
        "CLAVIGER_BOOTSTRAP__PASSWORD",
        "s3cret-of-the-first-administrator",
    );
    deployment.set("CLAVIGER_CLIENTS__GATE__SECRET", "s3cret-of-a-machine!");
    // The hash of another cost is replaced at the first login.
    deployment.set("CLAVIGER_PASSWORD__ITERATIONS", "2");
    deployment.user("alice");
    deployment.set("CLAVIGER_PASSWORD__ITERATIONS", "1");
    let unusable = NewUser {
        username: "unusable".to_owned(),
        password_hash: Some(SecretString::from("$unknown$s3cret")),
        is_admin: false,
        disabled: false,
    };
    deployment.insert(unusable).await;
    // A file and a map don't go away.
    let mut breakable = None;
    if backend == Backend::External {
        let (database, database_url) = Proxy::before(&deployment.database.url).await;
        let (tokens, tokens_url) = Proxy::before(&redis_url()).await;
        deployment.set("CLAVIGER_DATABASE__URL", database_url.expose_secret());
        deployment.set("CLAVIGER_TOKENS__URL", tokens_url.expose_secret());
        deployment.set("CLAVIGER_DATABASE__ACQUIRE_TIMEOUT", "3s");
        deployment.set("CLAVIGER_TOKENS__TIMEOUT", "3s");
        breakable = Some((database, tokens));
    }

    let mut prying = Prying {
        service: deployment.start(),
        secrets: secrets(&deployment),
        answers: String::new(),
    };
    prying.logins().await;
    prying.tokens().await;
    prying.clients().await;
    if let Some((database, tokens)) = &breakable {
        database.cut();
        let answer = prying.send(&post_login("alice")).await;
        answer.problem(503, "dependency-unavailable");
        tokens.cut();
        let token = Token::generate().expose().to_owned();
        for request in [
            post_login("alice"),
            with_token("GET", &token),
            with_token("DELETE", &token),
            to_token_route(
                "introspect",
                "s3cret-of-a-machine!",
                &format!("token={token}"),
            ),
            to_token_route("revoke", "s3cret-of-a-machine!", &format!("token={token}")),
        ] {
            prying
                .send(&request)
                .await
                .problem(503, "dependency-unavailable");
        }
        prying.secrets.push(token);
        prying.answers += &prying.service.ops("/readyz").await.text();
        database.heal();
        tokens.heal();
        prying.token(&post_login("alice")).await;
    }
    let log = prying.end().await;

    // Libraries did talk, but not at the level at which they tell what they are called with.
    let mut levels: Vec<Value> = log
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| !line["target"].as_str().unwrap().starts_with("claviger"))
        .map(|line| line["level"].clone())
        .collect();
    levels.sort_by_key(ToString::to_string);
    levels.dedup();
    assert_eq!(format == "json", levels.contains(&json!("DEBUG")));
    assert!(!levels.contains(&json!("TRACE")), "{levels:?}");
}

#[tokio::test]
async fn the_password_of_the_first_administrator_stands_in_its_file_only() {
    let mut deployment = Deployment::new(Backend::Embedded).await;
    deployment.set("CLAVIGER_MODE", "dev");
    deployment.set("RUST_LOG", "trace");
    let mut service = deployment.start();
    let created = service.wait_for("created 'admin'; the password is in the file");
    let file = std::fs::read_to_string(created["file"].as_str().unwrap()).unwrap();
    let password = file.trim_end();
    assert!(password.len() >= 32);
    let login = json!({ "username": "admin", "password": password }).to_string();
    let mut prying = Prying {
        service,
        secrets: vec![password.to_owned()],
        answers: String::new(),
    };
    prying.token(&post("", JSON, &login)).await;
    prying.end().await;
}
