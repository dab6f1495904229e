//! The service behind a real nginx, with the configuration files that people use.

use std::net::Ipv4Addr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Answer, Backend, Deployment, Dns, Nginx, Program, get};

mod answers;
mod example;
mod paths;
mod requests;
mod upstream;

const TEMPLATE: &str = include_str!("../../docker/nginx/templates/default.conf.template");
const EXAMPLE: &str = include_str!("../../examples/nginx/claviger.conf");

/// The first version that reads [`EXAMPLE`] as it is.
const EXAMPLE_NEEDS: [u32; 3] = [1, 27, 3];

/// Two addresses of this machine. Linux has all of 127.0.0.0/8; elsewhere the second has to be added to the loopback.
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    /// What docker-compose.yml mounts.
    Compose,
    /// The example for production, without TLS and with addresses in place of a name.
    Example,
}

/// Puts something in place of text that has to be there once.
#[track_caller]
fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

/// As the image of nginx fills the template in.
fn compose(listen: &str, dns: &str, api: &str) -> String {
    let variables = [
        ("${NGINX_LISTEN}", listen),
        ("${NGINX_RESOLVER}", dns),
        ("${API_UPSTREAM}", api),
    ];
    let mut text = TEMPLATE.to_owned();
    for (name, value) in variables {
        text = replace(&text, name, value);
    }
    assert!(!text.contains("${"), "a variable that nobody fills in");
    text
}

/// The example as it runs here, without TLS.
fn example(listen: &str, servers: &str) -> String {
    without_tls(&with_servers(servers), listen)
}

/// The example as older versions of nginx read it: with `servers` in place of a name that is looked up.
fn with_servers(servers: &str) -> String {
    let named =
        "resolver 127.0.0.53 valid=5s ipv6=off;\n    server claviger.internal:8000 resolve;";
    with_log(&replace(EXAMPLE, named, servers))
}

/// The example without certificates, on one address.
fn without_tls(text: &str, listen: &str) -> String {
    let text = &replace(
        text,
        "server {\n    listen 443 ssl default_server;\n    listen [::]:443 ssl default_server;\n    \
         ssl_reject_handshake on;\n}\n",
        "",
    );
    let text = &replace(
        text,
        "listen 443 ssl;\n    listen [::]:443 ssl;\n    http2 on;",
        &format!("listen {listen};"),
    );
    replace(
        text,
        "    ssl_certificate /etc/nginx/tls/login.example.com.pem;\n    \
         ssl_certificate_key /etc/nginx/tls/login.example.com.key;\n",
        "",
    )
}

/// The example with its log where the test reads it.
fn with_log(text: &str) -> String {
    replace(text, "/var/log/nginx/claviger.log", "/dev/stdout")
}

impl Edge {
    /// An nginx before these addresses, which have the same port.
    async fn before(self, addresses: &[Ipv4Addr], port: u16) -> Front {
        self.before_with(addresses, port, str::to_owned).await
    }

    /// The same, with other settings.
    async fn before_with(
        self,
        addresses: &[Ipv4Addr],
        port: u16,
        change: impl Fn(&str) -> String,
    ) -> Front {
        let dns = Dns::start(addresses).await;
        let nginx = Nginx::start(|listen| {
            change(&match self {
                Self::Compose => compose(listen, &dns.address.to_string(), &format!("api:{port}")),
                Self::Example => {
                    let servers = addresses.iter();
                    let servers = servers.map(|address| format!("server {address}:{port};"));
                    example(listen, &servers.collect::<Vec<_>>().join(" "))
                }
            })
        });
        Front { nginx, dns }
    }

    /// An nginx before a service.
    async fn before_service(self, service: &Program) -> Front {
        self.before(&[HERE], port(service)).await
    }
}

/// An nginx, and where it looks for the service.
struct Front {
    nginx: Nginx,
    dns: Dns,
}

impl Front {
    /// Asks until it is answered with this status, and tells that answer.
    async fn wait_for(&self, status: u16) -> Answer {
        // A name is looked up once a second at most; each look takes a part of a millisecond.
        for _ in 0..200_000 {
            let answer = self.nginx.send(&get("/api/")).await;
            if answer.status == status {
                return answer;
            }
        }
        panic!("it never becomes {status}");
    }

    /// What nginx logged of this answer.
    fn access(&mut self, answer: &Answer) -> Value {
        self.nginx
            .wait_for_access(answer.header("x-request-id").unwrap())
    }
}

fn port(service: &Program) -> u16 {
    let (_, port) = service.api.rsplit_once(':').unwrap();
    port.parse().unwrap()
}

async fn deployment() -> Deployment {
    let mut deployment = Deployment::new(Backend::Embedded).await;
    deployment.set("CLAVIGER_SERVER__TRUSTED_PROXIES", "127.0.0.1");
    deployment.user("alice");
    deployment
}

/// The same request, as it is sent to nginx.
fn outside(request: &str) -> String {
    request.replacen(" /", " /api/", 1)
}

/// A socket that stands in for the service, and its port.
async fn stand_in() -> (TcpListener, u16) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Reads the head of a request, answers it, and tells the head.
async fn serve_one(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    String::from_utf8(head).unwrap()
}

/// The head of the request that arrives while `asked` is waited for.
async fn seen(listener: &TcpListener, asked: impl Future<Output = Answer>) -> String {
    let taken = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        serve_one(&mut stream).await
    };
    tokio::select! {
        biased;
        head = taken => head,
        answer = asked => panic!("nginx answered by itself: {answer:?}"),
    }
}
