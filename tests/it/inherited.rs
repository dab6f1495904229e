//! Listeners that somebody else keeps open: the built program, replaced behind them.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use futures_util::future::join_all;

use crate::common::{Backend, Connection, Deployment, Program, credentials, get, head_of_login};

fn listeners() -> (TcpListener, TcpListener) {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    (bind(), bind())
}

fn url(listener: &TcpListener) -> String {
    format!("http://{}", listener.local_addr().unwrap())
}

fn end(service: Program) {
    service.signal("TERM");
    let (status, log) = service.end();
    assert!(status.success(), "{status}\n{}", log.join("\n"));
}

#[tokio::test]
async fn the_service_takes_the_api_first_and_then_operations() {
    let deployment = Deployment::new(Backend::Embedded).await;
    let (api, ops) = listeners();
    let service = deployment.start_with_listeners(&api, &ops);
    assert_eq!((&service.api, &service.ops), (&url(&api), &url(&ops)));
    assert_eq!(service.send(&get("/")).await.status, 200);
    assert_eq!(service.send(&get("/healthz")).await.status, 404);
    assert_eq!(service.ops("/healthz").await.status, 200);
    end(service);
}

#[tokio::test]
async fn who_connects_while_no_process_runs_is_answered_by_the_next_one() {
    let deployment = Deployment::new(Backend::Embedded).await;
    let (api, ops) = listeners();
    end(deployment.start_with_listeners(&api, &ops));

    let url = url(&api);
    let mut waiting = join_all((0..8).map(|_| Connection::open(&url))).await;
    for connection in &mut waiting {
        connection.send(&get("/")).await;
    }
    let service = deployment.start_with_listeners(&api, &ops);
    for connection in &mut waiting {
        assert_eq!(connection.answer().await.status, 200);
    }
    end(service);
}

#[tokio::test]
async fn two_processes_share_a_listener_while_one_replaces_the_other() {
    let deployment = Deployment::new(Backend::Embedded).await;
    deployment.user("alice");
    let (api, ops) = listeners();
    let old = deployment.start_with_listeners(&api, &ops);
    let mut login = old.connect().await;
    login.send(&head_of_login("alice")).await;
    assert_eq!(login.answer().await.status, 100);

    old.signal("TERM");
    let new = deployment.start_with_listeners(&api, &ops);
    // The old one answers what it has, the new one all that comes.
    login.send(&credentials("alice")).await;
    login.answer().await.token();
    let (status, _) = old.end();
    assert!(status.success());
    assert_eq!(new.send(&get("/")).await.status, 200);
    end(new);
}

#[tokio::test]
async fn listeners_for_another_process_are_left_alone() {
    let mut deployment = Deployment::new(Backend::Embedded).await;
    deployment.set("PID", "1");
    let (api, ops) = listeners();
    let service = deployment.start_with_listeners(&api, &ops);
    assert_ne!(service.api, url(&api));
    assert_ne!(service.ops, url(&ops));
    assert_eq!(service.send(&get("/")).await.status, 200);
    end(service);
}

#[test]
fn what_is_no_listener_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .current_dir(&folder)
        .env_clear()
        .envs([
            ("LISTEN_FDS", "1"),
            ("LISTEN_FDS_FIRST_FD", "0"),
            ("CLAVIGER_SERVER__OPS_LISTEN", "127.0.0.1:0"),
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    let last = stderr.lines().last().unwrap();
    assert!(
        last.starts_with("claviger: LISTEN_FDS: number 1 can't be listened on: "),
        "{last}"
    );
}
