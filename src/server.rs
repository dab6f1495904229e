//! Listeners, connections, shutdown. Knows nothing of handlers.

mod inherited;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

pub use self::inherited::Inherited;

/// How long a connection that was accepted during shutdown may take to send its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// How many connections the kernel keeps until they are taken; it may be configured to keep fewer. What comes beyond that
/// is not refused but dropped, and its client tries again after one second, then after two more: a burst of clients that
/// meets a busy machine sees these seconds. As many as Linux allows by default (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// The most of a request that is buffered, and so the largest head. By default it is 400 KiB, and a thousand clients that
/// each send a head without end would hold 400 MiB.
const MAX_BUFFER: usize = 32 << 10;

/// How long accepting pauses after an error that concerns the process, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long clients are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the head of a request, counted from the end of the one before: a connection that nobody uses is closed after
    /// this, too.
    pub head: Duration,
    /// For all that is open at shutdown.
    pub grace: Duration,
}

/// What a listener serves.
pub trait HttpService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> HttpService for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Listens on `address`.
///
/// # Errors
/// The address is taken, or not one of this machine.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // The connections of a process that has just ended don't keep the next one from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `service` on `listener` until `shutdown`, then answers what has been accepted and waits for that, but not longer
/// than `timeouts.grace`. Tells whether all was answered.
///
/// Whoever connected before the listener was closed is answered, also if the kernel has the connection but it was not
/// taken from it yet.
pub async fn serve(
    listener: TcpListener,
    service: impl HttpService,
    shutdown: CancellationToken,
    timeouts: Timeouts,
) -> bool {
    let connections = TaskTracker::new();
    let start = |(stream, peer)| {
        connections.spawn(connection(
            stream,
            peer,
            service.clone(),
            shutdown.clone(),
            timeouts.head,
        ));
    };

    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => start(accepted),
                Err(error) => pause(&error).await,
            },
        }
    }
    // What waits in the kernel's queue would be reset when the listener is closed. The runtime may not have heard of it yet,
    // so the kernel is asked itself.
    if let Ok(listener) = listener.into_std() {
        while let Some(accepted) = waiting(&listener) {
            start(accepted);
        }
    }

    connections.close();
    tokio::time::timeout(timeouts.grace, connections.wait())
        .await
        .is_ok()
}

/// The client left between the kernel's handshake and our taking it: that concerns nobody else.
fn is_of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

async fn pause(error: &std::io::Error) {
    if is_of_the_client(error) {
        return;
    }
    tracing::error!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// A connection that waits to be accepted; the listener does not block.
fn waiting(listener: &std::net::TcpListener) -> Option<(TcpStream, SocketAddr)> {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stream = stream
                    .set_nonblocking(true)
                    .and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    return Some((stream, peer));
                }
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(_) => return None,
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: impl HttpService,
    shutdown: CancellationToken,
    head_timeout: Duration,
) {
    // Answers are small: waiting to fill a packet would only delay them.
    let _ = stream.set_nodelay(true);
    // A client that asks and never reads the answers would keep its connection for ever.
    #[cfg(target_os = "linux")]
    let unread = u32::try_from(head_timeout.as_millis()).unwrap_or(u32::MAX);
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, unread);
    let asked = Arc::new(Notify::new());
    let mark = Arc::clone(&asked);
    let answer = service_fn(move |request: Request<Incoming>| {
        mark.notify_one();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        service.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_BUFFER)
        // An answer is a head and a few bytes: one buffer, one plain write.
        .writev(false)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);

    // The connection is polled first, so that a request which has arrived is seen before the connection is told to end: one
    // that it has not begun to read it would drop.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => {}
    }
    // Who has just connected is about to ask. After the first request this doesn't wait.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        _ = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, asked.notified()) => {}
    }
    connection.as_mut().graceful_shutdown();
    // A failure here is the client's: it left, or sent what is no HTTP.
    let _ = connection.await;
}
