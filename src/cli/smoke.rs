//! `claviger smoke`: the whole path of a login, from the outside.

use std::io::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::exit::Failure;
use super::stores::Stores;
use crate::auth::password::Password;
use crate::config::Loaded;
use crate::store::audit::Author;
use crate::store::users::NewUser;
use crate::store::with_sources;

/// For each step; longer than a login may wait for its turn.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What to ask.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where the API is, with the prefix if there is one: `https://example.org/api`
    #[arg(long)]
    url: String,
}

pub(super) async fn run(
    arguments: Arguments,
    loaded: &Loaded,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Stores { accounts, .. } = Stores::open(&loaded.config).await?;
    let username = format!(
        "smoke-{}",
        random(12)?.to_ascii_lowercase().replace(['-', '_'], "0")
    );
    let password = SecretString::from(random(24)?);
    let parsed = Password::parse(password.clone()).map_err(anyhow::Error::from)?;
    let password_hash = Some(super::user::hash(&parsed, loaded).await?);
    let new = NewUser {
        username: username.clone(),
        password_hash,
        is_admin: false,
        disabled: false,
    };
    let user = accounts.create(new, &Author::command()).await?;

    let url = format!("{}/v1.0/user/auth", arguments.url.trim_end_matches('/'));
    let outcome = steps(&url, &username, &password, user.id, out).await;
    // Whatever came of it. Nothing is said of a deletion that went well.
    let mut unsaid = Vec::new();
    let deleted = match accounts.delete(user.id, &Author::command()).await {
        Ok(change) => super::user::tell("deleted the user", change, &mut unsaid),
        Err(error) => Err(error.into()),
    };
    match (outcome, deleted) {
        (Ok(()), Ok(())) => Ok(writeln!(out, "ok")?),
        (Ok(()), Err(failure)) => Err(failure),
        (Err(step), Ok(())) => Err(Failure::Unavailable(step)),
        (Err(step), Err(failure)) => Err(Failure::Unavailable(format!(
            "{step}; and the user {username} is left: {failure}"
        ))),
    }
}

async fn steps(
    url: &str,
    username: &str,
    password: &SecretString,
    user_id: i64,
    out: &mut dyn Write,
) -> Result<(), String> {
    let client =
        super::http_client(|client| client.timeout(TIMEOUT)).map_err(|error| error.to_string())?;
    let mut say = |step: &str| writeln!(out, "{step}").map_err(|error| error.to_string());

    let credentials = json!({ "username": username, "password": password.expose_secret() });
    let login = answer(
        "log in",
        client.post(url).json(&credentials),
        StatusCode::OK,
    )
    .await?;
    let token = login
        .get("access_token")
        .and_then(Value::as_str)
        .ok_or("log in: the answer holds no access_token")?;
    expect_user("log in", &login, user_id)?;
    say("logged in")?;

    let checked = answer("check", client.get(url).bearer_auth(token), StatusCode::OK).await?;
    expect_user("check", &checked, user_id)?;
    say("checked")?;

    answer(
        "log out",
        client.delete(url).bearer_auth(token),
        StatusCode::NO_CONTENT,
    )
    .await?;
    answer(
        "check after log out",
        client.get(url).bearer_auth(token),
        StatusCode::UNAUTHORIZED,
    )
    .await?;
    say("logged out")
}

async fn answer(
    step: &str,
    request: reqwest::RequestBuilder,
    expected: StatusCode,
) -> Result<Value, String> {
    let response = request
        .send()
        .await
        .map_err(|error| format!("{step}: {}", with_sources(&error)))?;
    let status = response.status();
    let body = response
        .text()
        .await
        .map_err(|error| format!("{step}: {}", with_sources(&error)))?;
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    if status == expected {
        return Ok(body);
    }
    // Of a problem document; of anything else there is nothing to tell.
    let named = |field: &str| Some(format!(", {field} {}", body.get(field)?.as_str()?));
    let details: String = ["code", "request_id"]
        .into_iter()
        .filter_map(named)
        .collect();
    Err(format!("{step}: {status} instead of {expected}{details}"))
}

fn expect_user(step: &str, answer: &Value, user_id: i64) -> Result<(), String> {
    match answer.get("user_id").and_then(Value::as_i64) {
        Some(found) if found == user_id => Ok(()),
        found => Err(format!(
            "{step}: user_id is {found:?} instead of {user_id}: does the URL use another database?"
        )),
    }
}

fn random(bytes: usize) -> Result<String, Failure> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).map_err(anyhow::Error::from)?;
    Ok(URL_SAFE_NO_PAD.encode(buffer))
}
