//! A TCP proxy in front of a server, that can be broken and healed.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the proxy does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Connections are closed, new ones as well.
    Cut,
    /// Nothing is passed on, and nothing is closed.
    Stall,
}

/// Stands before a server until it is dropped.
pub(crate) struct Proxy {
    mode: Arc<watch::Sender<Mode>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A proxy before the server of `url`, and the URL that leads through it.
    pub(crate) async fn before(url: &SecretString) -> (Self, SecretString) {
        let mut through = url::Url::parse(url.expose_secret()).unwrap();
        let upstream = format!(
            "{}:{}",
            through.host_str().unwrap(),
            through.port().unwrap()
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        through.set_host(Some("127.0.0.1")).unwrap();
        through.set_port(Some(address.port())).unwrap();

        let mode = Arc::new(watch::Sender::new(Mode::Pass));
        let mut tasks = JoinSet::new();
        let watched = Arc::clone(&mode);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(pass(client, upstream.clone(), watched.subscribe()));
            }
        });
        (
            Self {
                mode,
                _tasks: tasks,
            },
            String::from(through).into(),
        )
    }

    /// The server is gone.
    pub(crate) fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// The server hangs.
    pub(crate) fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    /// The server is back.
    pub(crate) fn heal(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

async fn pass(client: TcpStream, upstream: String, mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, mode.clone()) => {}
        () = copy(from_server, to_client, mode) => {}
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut mode: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = tokio::select! {
            // What breaks is broken before anything more is passed on.
            biased;
            changed = mode.wait_for(|mode| *mode == Mode::Cut) => {
                drop(changed);
                return;
            }
            read = from.read(&mut buffer) => match read {
                Ok(length @ 1..) => length,
                _ => return,
            },
        };
        if mode.wait_for(|mode| *mode != Mode::Stall).await.is_err() {
            return;
        }
        if *mode.borrow() == Mode::Cut || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
