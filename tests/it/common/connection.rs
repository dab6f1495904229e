//! A client that says exactly what is sent, and when.

use std::net::Ipv4Addr;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::{Answer, PASSWORD};

/// A connection, over which HTTP/1 is spoken by hand.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects to `http://ADDRESS`. The kernel of the other side does that, whether or not its program takes the connection.
    pub(crate) async fn open(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// The same, from an address of the loopback's network.
    pub(crate) async fn open_from(from: Ipv4Addr, url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        Self(BufReader::new(socket.connect(address).await.unwrap()))
    }

    /// Sends this. On the loopback it has arrived when this has returned.
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends as much of this as the other side takes before it closes the connection.
    pub(crate) async fn send_what_is_taken(&mut self, text: &str) {
        // How it closes is its own business, and what it said before that is still there to be read.
        let _ = self.0.write_all(text.as_bytes()).await;
    }

    /// The next answer, one without a body if its status is an interim one.
    pub(crate) async fn answer(&mut self) -> Answer {
        let first = self.line().await;
        let mut words = first.split(' ');
        assert!(words.next().unwrap().starts_with("HTTP/1."), "{first:?}");
        let status: StatusCode = words.next().unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        assert!(!headers.contains_key("transfer-encoding"), "{headers:?}");
        let length = headers.get("content-length");
        let length: usize = length.map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        Answer {
            status,
            headers,
            body: Bytes::from(body),
        }
    }

    /// Waits until the other side closes the connection, and tells what it sent before that.
    pub(crate) async fn rest(mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).await.unwrap();
        rest
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        let line = line.strip_suffix("\r\n");
        line.expect("the connection was closed before the end of the answer")
            .to_owned()
    }
}

/// A `GET`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

/// A request with a token.
pub(crate) fn with_token(method: &str, token: &str) -> String {
    format!(
        "{method} /v1.0/user/auth HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\r\n"
    )
}

/// The JSON of a login with [`PASSWORD`].
pub(crate) fn credentials(username: &str) -> String {
    serde_json::json!({ "username": username, "password": PASSWORD }).to_string()
}

/// A login, with more headers: each `name: value` and an end of line.
pub(crate) fn post(headers: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1.0/user/auth HTTP/1.1\r\nhost: test\r\ncontent-type: {content_type}\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    )
}

/// A login with [`PASSWORD`].
pub(crate) fn post_login(username: &str) -> String {
    post("", "application/json", &credentials(username))
}

/// The head of a login whose client waits until the service asks for the body.
pub(crate) fn head_of_login(username: &str) -> String {
    let body = credentials(username);
    let login = post("expect: 100-continue\r\n", "application/json", &body);
    login.strip_suffix(&body).unwrap().to_owned()
}
