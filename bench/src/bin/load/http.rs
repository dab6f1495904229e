//! As much of HTTP/1.1 as a load generator needs: a request that is ready to be sent, and an answer with a length.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use claviger_bench::ROUTE;

/// Longer than any answer may take; a hang must end the run.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The bytes of a request.
pub(crate) struct Request(Vec<u8>);

impl Request {
    pub(crate) fn login(username: &str, password: &str) -> Self {
        Self::login_from("", username, password)
    }

    /// `device`: more headers, each with the end of its line.
    pub(crate) fn login_from(device: &str, username: &str, password: &str) -> Self {
        let body = serde_json::json!({ "username": username, "password": password }).to_string();
        let length = body.len();
        Self(
            format!(
                "POST {ROUTE} HTTP/1.1\r\nhost: bench\r\n{device}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    }

    pub(crate) fn check(token: &str) -> Self {
        Self(
            format!("GET {ROUTE} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n")
                .into_bytes(),
        )
    }

    pub(crate) fn get(path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes())
    }
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Vec<u8>,
}

/// A connection that is opened when it is first used, and again when the server has closed it.
pub(crate) struct Connection {
    addr: SocketAddr,
    stream: Option<TcpStream>,
}

impl Connection {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, stream: None }
    }

    /// Opens the connection if it is not open.
    pub(crate) fn open(&mut self) -> io::Result<&mut TcpStream> {
        let stream = if let Some(stream) = self.stream.take() {
            stream
        } else {
            let stream = TcpStream::connect(self.addr)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            stream
        };
        Ok(self.stream.insert(stream))
    }

    /// Sends a request and reads its answer.
    pub(crate) fn exchange(&mut self, request: &Request) -> io::Result<Answer> {
        let result = self.open().and_then(|stream| {
            stream.write_all(&request.0)?;
            read_answer(stream)
        });
        if !matches!(result, Ok((_, true))) {
            self.stream = None;
        }
        result.map(|(answer, _)| answer)
    }
}

/// Reads one answer, and whether the connection can be used again.
fn read_answer(stream: &mut impl Read) -> io::Result<(Answer, bool)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            break std::mem::replace(&mut bytes, body);
        }
        read_some(stream, &mut bytes)?;
    };
    let head = String::from_utf8(head).map_err(|_| malformed("the head is no text"))?;
    let status = head
        .get(9..12)
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| malformed("no status"))?;
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.trim()))
    };
    let length = match header("content-length") {
        Some(length) => length
            .parse()
            .map_err(|_| malformed("the content-length is no number"))?,
        None if status == 204 => 0,
        None => return Err(malformed("no content-length")),
    };
    while bytes.len() < length {
        read_some(stream, &mut bytes)?;
    }
    let reusable = !header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let retry_after = header("retry-after").and_then(|value| value.parse().ok());
    Ok((
        Answer {
            status,
            retry_after,
            body: bytes,
        },
        reusable,
    ))
}

fn read_some(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 2048];
    match stream.read(&mut chunk)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            bytes.extend(chunk.iter().take(read));
            Ok(())
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_retry_after_and_body() {
        let mut text: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 4\r\nconnection: close\r\n\r\nbusy";
        let (answer, reusable) = read_answer(&mut text).unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 503,
                retry_after: Some(2),
                body: b"busy".to_vec()
            }
        );
        assert!(!reusable);
    }

    #[test]
    fn an_answer_in_pieces_is_put_together() {
        let mut text = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
            .chain(&b"he"[..])
            .chain(&b"llo"[..]);
        let (answer, reusable) = read_answer(&mut text).unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 200,
                retry_after: None,
                body: b"hello".to_vec()
            }
        );
        assert!(reusable);
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error() {
        let mut text: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe";
        assert_eq!(
            read_answer(&mut text).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn an_answer_without_a_length_is_an_error() {
        let mut text: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(
            read_answer(&mut text).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
