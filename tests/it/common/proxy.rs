//! A TCP proxy in front of a server, that can be broken and healed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

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

#[derive(Clone, Copy, Debug)]
struct Condition {
    mode: Mode,
    /// A connection that was made before the last restart is dead, also if it did not look at the moment of it.
    restarts: u64,
}

impl Condition {
    fn kills(self, born: u64) -> bool {
        self.mode == Mode::Cut || self.restarts != born
    }
}

/// Stands before a server until it is dropped.
pub(crate) struct Proxy {
    condition: Arc<watch::Sender<Condition>>,
    upstream: Arc<Mutex<String>>,
    taken: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A proxy before the server of `url`, and the URL that leads through it.
    pub(crate) async fn before(url: &SecretString) -> (Self, SecretString) {
        let mut through = url::Url::parse(url.expose_secret()).unwrap();
        let upstream = address_of(&through);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        through.set_host(Some("127.0.0.1")).unwrap();
        through.set_port(Some(address.port())).unwrap();

        let condition = Condition {
            mode: Mode::Pass,
            restarts: 0,
        };
        let condition = Arc::new(watch::Sender::new(condition));
        let mut tasks = JoinSet::new();
        let watched = Arc::clone(&condition);
        let upstream = Arc::new(Mutex::new(upstream));
        let led = Arc::clone(&upstream);
        let taken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&taken);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let upstream = led.lock().unwrap().clone();
                connections.spawn(pass(client, upstream, watched.subscribe()));
            }
        });
        (
            Self {
                condition,
                upstream,
                taken,
                _tasks: tasks,
            },
            String::from(through).into(),
        )
    }

    /// The server is gone.
    pub(crate) fn cut(&self) {
        self.set(Mode::Cut);
    }

    /// The server hangs.
    pub(crate) fn stall(&self) {
        self.set(Mode::Stall);
    }

    /// The server is back.
    pub(crate) fn heal(&self) {
        self.set(Mode::Pass);
    }

    /// The server was restarted: it is there, and all connections are dead.
    pub(crate) fn restart(&self) {
        self.condition
            .send_modify(|condition| condition.restarts += 1);
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// New connections lead to the server of `url`; those that are open stay where they are.
    pub(crate) fn lead_to(&self, url: &SecretString) {
        let url = url::Url::parse(url.expose_secret()).unwrap();
        *self.upstream.lock().unwrap() = address_of(&url);
    }

    fn set(&self, mode: Mode) {
        self.condition
            .send_modify(|condition| condition.mode = mode);
    }
}

fn address_of(url: &url::Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}

async fn pass(client: TcpStream, upstream: String, condition: watch::Receiver<Condition>) {
    let born = condition.borrow().restarts;
    if condition.borrow().kills(born) {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, condition.clone(), born) => {}
        () = copy(from_server, to_client, condition, born) => {}
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut condition: watch::Receiver<Condition>,
    born: u64,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = tokio::select! {
            // What breaks is broken before anything more is passed on.
            biased;
            changed = condition.wait_for(|condition| condition.kills(born)) => {
                drop(changed);
                return;
            }
            read = from.read(&mut buffer) => match read {
                Ok(length @ 1..) => length,
                _ => return,
            },
        };
        let flows = |condition: &Condition| condition.mode != Mode::Stall || condition.kills(born);
        if condition.wait_for(flows).await.is_err() {
            return;
        }
        if condition.borrow().kills(born) || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
