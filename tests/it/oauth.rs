//! OAuth 2 clients that others wrote.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rstest::rstest;
use serde_json::json;

use crate::common::{Backend, Deployment, PASSWORD};

/// A python3 that has Authlib.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness says where its programs are"
)]
fn python() -> PathBuf {
    std::env::var_os("TEST_OAUTH_PYTHON")
        .expect("TEST_OAUTH_PYTHON is a python3 with the packages of tests/oauth/requirements.in")
        .into()
}

#[rstest]
#[case::plain("a-secret-of-20-characters")]
#[case::base64("Zm9vYmFy+Zm9vYmFy/Zm9vYg==")]
#[tokio::test]
async fn authlib_gets_a_token_introspects_and_revokes_it(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] secret: &str,
) {
    let mut deployment = Deployment::new(backend).await;
    deployment.set("CLAVIGER_CLIENTS__GATE__SECRET", secret);
    deployment.user("alice");
    let service = deployment.start();
    let given = json!({
        "api": service.api,
        "client": "gate",
        "secret": secret,
        "username": "alice",
        "password": PASSWORD,
    });

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oauth/client.py");
    let mut child = Command::new(python())
        // Nothing is left beside the script, and nobody's own packages or proxies are used.
        .args(["-B", "-I"])
        .arg(script)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(given.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
