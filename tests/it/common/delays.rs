//! A TCP proxy that delays each message by a random time, and loses a connection now and then: what comes in several steps is
//! torn apart, and steps of many clients come between each other that seldom do so by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Most messages wait for less than this.
const SHORT: Duration = Duration::from_millis(5);

/// One of so many waits for [`LONG`].
const ONE_IN: u32 = 25;

const LONG: Duration = Duration::from_millis(50);

/// Stands before a server until it is dropped.
pub(crate) struct DelayingProxy {
    disturbance: Arc<Disturbance>,
    _tasks: JoinSet<()>,
}

struct Disturbance {
    seed: AtomicU64,
    /// One message of so many takes its connection along. 0: none does.
    lost_one_in: u32,
    connections: AtomicU64,
    active: AtomicBool,
}

impl DelayingProxy {
    /// A proxy before the server of `url`, and the URL that leads through it. It disturbs nothing before it is told to.
    pub(crate) async fn before(
        url: &SecretString,
        seed: u64,
        lost_one_in: u32,
    ) -> (Self, SecretString) {
        let mut through = url::Url::parse(url.expose_secret()).unwrap();
        let port = through.port().unwrap();
        let upstream = format!("{}:{port}", through.host_str().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        through.set_host(Some("127.0.0.1")).unwrap();
        through.set_port(Some(address.port())).unwrap();

        let disturbance = Arc::new(Disturbance {
            seed: AtomicU64::new(seed),
            lost_one_in,
            connections: AtomicU64::new(0),
            active: AtomicBool::new(false),
        });
        let shared = Arc::clone(&disturbance);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                connections.spawn(pass(client, upstream.clone(), Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        });
        let proxy = Self {
            disturbance,
            _tasks: tasks,
        };
        (proxy, String::from(through).into())
    }

    /// What happens to connections that are made from now on is chosen by another seed.
    pub(crate) fn choose_by(&self, seed: u64) {
        self.disturbance.seed.store(seed, Ordering::Relaxed);
        self.disturbance.connections.store(0, Ordering::Relaxed);
    }

    /// From now on messages are delayed and lost, or not.
    pub(crate) fn disturb(&self, active: bool) {
        self.disturbance.active.store(active, Ordering::Relaxed);
    }
}

impl Disturbance {
    /// What this direction of a connection will meet, message by message.
    fn of(&self, connection: u64, direction: u64) -> StdRng {
        let place = (2 * connection + direction).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        StdRng::seed_from_u64(self.seed.load(Ordering::Relaxed) ^ place)
    }
}

async fn pass(client: TcpStream, upstream: String, disturbance: Arc<Disturbance>) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    // Nothing waits but for the delays.
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let connection = disturbance.connections.fetch_add(1, Ordering::Relaxed);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // A question that is lost was not asked; an answer that is lost leaves open what was done.
    tokio::select! {
        () = copy(from_client, to_server, disturbance.of(connection, 0), &disturbance) => {}
        () = copy(from_server, to_client, disturbance.of(connection, 1), &disturbance) => {}
    }
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut random: StdRng,
    disturbance: &Disturbance,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if disturbance.active.load(Ordering::Relaxed) {
            let delay = if random.random_ratio(1, ONE_IN) {
                LONG
            } else {
                random.random_range(Duration::ZERO..SHORT)
            };
            // The experiment: nothing is waited for.
            tokio::time::sleep(delay).await;
            let lost = disturbance.lost_one_in;
            if lost > 0 && random.random_ratio(1, lost) {
                return;
            }
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
