//! A service that is away, hangs, comes, goes and moves.

use rstest::rstest;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{
    EXAMPLE, EXAMPLE_NEEDS, Edge, Front, HERE, THERE, compose, deployment, outside, port, replace,
    stand_in, with_log, without_tls,
};
use crate::common::{Dns, Nginx, get, post_login, with_token};

#[rstest]
#[tokio::test]
async fn an_api_that_is_away_is_a_502(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let deployment = deployment().await;
    let service = deployment.start();
    let mut front = edge.before_service(&service).await;
    let login = outside(&post_login("alice"));
    front.nginx.send(&login).await.token();

    service.signal("TERM");
    let (status, log) = service.end();
    assert!(status.success(), "{log:?}");
    for request in [&login, &get("/api"), &get("/api/nothing.html")] {
        let answer = front.nginx.send(request).await;
        answer.problem(502, "bad-gateway");
        let access = front.access(&answer);
        assert_eq!(access["status"], "502");
        assert!(request.starts_with(access["method"].as_str().unwrap()));
    }
}

#[rstest]
#[tokio::test]
async fn an_api_that_hangs_is_a_504(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let deployment = deployment().await;
    let service = deployment.start();
    let front = edge
        .before_with(&[HERE], port(&service), |text| {
            replace(text, "proxy_read_timeout 15s;", "proxy_read_timeout 300ms;")
        })
        .await;
    service.signal("STOP");
    let answer = front.nginx.send(&outside(&post_login("alice"))).await;
    answer.problem(504, "gateway-timeout");
    service.signal("CONT");
    front.wait_for(200).await;
}

#[tokio::test]
async fn nginx_starts_first_and_follows_the_api() {
    follows(|listen, dns, port| compose(listen, dns, &format!("api:{port}"))).await;
}

#[tokio::test]
async fn the_example_needs_a_new_nginx_and_follows_the_api() {
    let as_it_is = |listen: &str, dns: &str, port: u16| {
        let resolver = format!("resolver {dns} valid=1s");
        let text = replace(
            &with_log(EXAMPLE),
            "resolver 127.0.0.53 valid=5s",
            &resolver,
        );
        let text = replace(
            &text,
            "server claviger.internal:8000",
            &format!("server claviger.internal:{port}"),
        );
        without_tls(&text, listen)
    };
    if Nginx::version() >= EXAMPLE_NEEDS.to_vec() {
        follows(as_it_is).await;
    } else {
        let (accepted, said) = Nginx::test(&as_it_is("127.0.0.1:1", "127.0.0.1:1", 1));
        assert!(!accepted);
        assert!(
            said.contains("\"resolver\" directive is not allowed here"),
            "{said}"
        );
    }
}

async fn follows(configuration: impl Fn(&str, &str, u16) -> String) {
    let mut deployment = deployment().await;
    let service = deployment.start();
    let port = port(&service);
    let dns = Dns::start(&[]).await;
    let address = dns.address.to_string();
    let nginx = Nginx::start(|listen| configuration(listen, &address, port));
    let front = Front { nginx, dns };

    let answer = front.nginx.send(&outside(&post_login("alice"))).await;
    answer.problem(502, "bad-gateway");
    front.dns.move_to(HERE);
    front.wait_for(200).await;

    // As a container that was made anew.
    service.signal("TERM");
    service.end();
    front.wait_for(502).await;
    deployment.set("CLAVIGER_SERVER__LISTEN", &format!("{THERE}:{port}"));
    let service = deployment.start();
    front.dns.move_to(THERE);
    front.wait_for(200).await;
    front
        .nginx
        .send(&outside(&post_login("alice")))
        .await
        .token();
    drop(service);
}

#[rstest]
#[tokio::test]
async fn a_login_goes_to_the_address_that_takes_it(
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
) {
    let deployment = deployment().await;
    let service = deployment.start();
    let front = edge.before(&[THERE, HERE], port(&service)).await;
    for _ in 0..6 {
        let answer = front.nginx.send(&outside(&post_login("alice"))).await;
        answer.token();
    }
}

#[rstest]
#[tokio::test]
async fn a_login_goes_past_an_address_that_is_silent(
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
) {
    let deployment = deployment().await;
    let service = deployment.start();
    let port = port(&service);
    // As a machine without power. The kernel keeps one connection here that nobody takes, and drops what comes after it.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind((THERE, port).into()).unwrap();
    let silent = silent.listen(0).unwrap();
    let _kept = TcpStream::connect((THERE, port)).await.unwrap();
    let front = edge
        .before_with(&[THERE, HERE], port, |text| {
            replace(
                text,
                "proxy_connect_timeout 2s;",
                "proxy_connect_timeout 200ms;",
            )
        })
        .await;
    for _ in 0..8 {
        let answer = front.nginx.send(&outside(&post_login("alice"))).await;
        answer.token();
    }
    drop(silent);
}

/// Another address is for those that fail at once: nobody waits for the longest answer twice.
#[rstest]
#[tokio::test]
async fn who_was_answered_nothing_for_long_is_not_sent_on(
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
) {
    let (here, port) = stand_in().await;
    let there = TcpListener::bind((THERE, port)).await.unwrap();
    let front = edge
        .before_with(&[HERE, THERE], port, |text| {
            let text = replace(text, "proxy_read_timeout 15s;", "proxy_read_timeout 300ms;");
            replace(
                &text,
                "proxy_next_upstream_timeout 5s;",
                "proxy_next_upstream_timeout 100ms;",
            )
        })
        .await;
    let request = outside(&get("/"));
    let mut asked = std::pin::pin!(front.nginx.send(&request));
    // Open, and never answered.
    let mut taken = Vec::new();
    let answer = loop {
        tokio::select! {
            answer = asked.as_mut() => break answer,
            Ok((stream, _)) = here.accept() => taken.push(stream),
            Ok((stream, _)) = there.accept() => taken.push(stream),
        }
    };
    answer.problem(504, "gateway-timeout");
    assert_eq!(taken.len(), 1);
}

#[rstest]
#[case::log_in(post_login("alice"), 1)]
#[case::check(with_token("GET", "clv_x"), 2)]
#[tokio::test]
async fn no_login_is_sent_twice(
    #[case] request: String,
    #[case] times: usize,
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
) {
    let (here, port) = stand_in().await;
    let there = TcpListener::bind((THERE, port)).await.unwrap();
    let front = edge.before(&[HERE, THERE], port).await;
    let request = outside(&request);
    let asked = front.nginx.send(&request);
    let mut asked = std::pin::pin!(asked);
    let mut taken = 0;
    let answer = loop {
        tokio::select! {
            answer = asked.as_mut() => break answer,
            Ok((mut stream, _)) = here.accept() => {
                taken += 1;
                // Read, and never answered.
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
            }
            Ok((mut stream, _)) = there.accept() => {
                taken += 1;
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
            }
        }
    };
    answer.problem(502, "bad-gateway");
    assert_eq!(taken, times);
}
