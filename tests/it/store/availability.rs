//! A database that is away, hangs, restarts, is locked or may only be read: an error in time, and no restart of the service
//! to get over it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use claviger::config;
use claviger::store::revocations::Revocation;
use claviger::store::schema::{Schema, SchemaError, Target};
use claviger::store::users::Users;
use claviger::store::{Dependency, StoreError, database};
use rstest::rstest;
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{connected, named, users};
use crate::common::{Backend, TestDatabase, server};

const LIMIT: Duration = Duration::from_millis(200);
/// Far above twice the limit, for a machine that does other things too, and far below for ever.
const SOON: Duration = Duration::from_secs(20);

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    match outcome {
        Err(StoreError::Unavailable {
            dependency: Dependency::Database,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
}

async fn impatient(settings: config::Database) -> DatabaseConnection {
    database::connect(&config::Database {
        acquire_timeout: LIMIT,
        ..settings
    })
    .await
    .unwrap()
}

/// The address of the database's server, and its settings with another address in place of it.
fn behind(database: &TestDatabase, address: SocketAddr) -> (SocketAddr, config::Database) {
    let mut url = url::Url::parse(database.url.expose_secret()).unwrap();
    let server = url.socket_addrs(|| Some(5432)).unwrap()[0];
    url.set_ip_host(address.ip()).unwrap();
    url.set_port(Some(address.port())).unwrap();
    (
        server,
        config::Database {
            url: String::from(url).into(),
            ..database.settings()
        },
    )
}

/// A network that can swallow what is sent on the connections of now, while new ones work.
struct Network {
    listener: TcpListener,
    lost: watch::Sender<()>,
}

impl Network {
    async fn new() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            lost: watch::Sender::new(()),
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    async fn run(&self, server: SocketAddr) {
        loop {
            let (client, _) = self.listener.accept().await.unwrap();
            let mut lost = self.lost.subscribe();
            tokio::spawn(async move {
                let (mut client_in, mut client_out) = client.into_split();
                let (mut server_in, mut server_out) =
                    TcpStream::connect(server).await.unwrap().into_split();
                let mut to_client = [0; 4096];
                let mut to_server = [0; 4096];
                loop {
                    tokio::select! {
                        // Neither end is told, as if the packets vanished.
                        _ = lost.changed() => std::future::pending().await,
                        read = client_in.read(&mut to_server) => match read {
                            Ok(length @ 1..) => server_out.write_all(&to_server[..length]).await.unwrap(),
                            _ => break,
                        },
                        read = server_in.read(&mut to_client) => match read {
                            Ok(length @ 1..) => client_out.write_all(&to_client[..length]).await.unwrap(),
                            _ => break,
                        },
                    }
                }
            });
        }
    }
}

#[tokio::test]
async fn away_and_back() {
    let (database, _users) = users(Backend::External).await;
    let network = Network::new().await;
    let address = network.address();
    let (server, settings) = behind(&database, address);
    drop(network);

    let users = Users::new(impatient(settings).await);
    let start = Instant::now();
    assert_unavailable(users.find("alice").await);
    assert_unavailable(users.insert(named("alice")).await);
    assert_unavailable(users.ping().await);
    assert!(start.elapsed() < SOON);

    let network = Network {
        listener: TcpListener::bind(address).await.unwrap(),
        lost: watch::Sender::new(()),
    };
    tokio::spawn(async move { network.run(server).await });
    users.ping().await.unwrap();
    users.insert(named("alice")).await.unwrap();
}

/// Takes connections and never says a word.
#[tokio::test]
async fn hung_from_the_start() {
    let (database, _users) = users(Backend::External).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_, settings) = behind(&database, silent.local_addr().unwrap());
    let users = Users::new(impatient(settings).await);
    let start = Instant::now();
    assert_unavailable(users.find("alice").await);
    assert!(start.elapsed() < SOON);
}

/// The connection that was used before never answers again: the call ends in time, and the connection gives up its place.
#[tokio::test]
async fn hung_in_the_middle() {
    let (database, _users) = users(Backend::External).await;
    let network = Network::new().await;
    let (server, settings) = behind(&database, network.address());
    let lost = network.lost.clone();
    tokio::spawn(async move { network.run(server).await });
    let db = impatient(config::Database {
        max_connections: 1,
        ..settings
    })
    .await;
    connected(&db).await;
    let users = Users::new(db);

    lost.send_replace(());
    let start = Instant::now();
    let outcome = tokio::time::timeout(SOON, users.find("alice")).await;
    assert_unavailable(outcome.expect("the call never ended"));
    // It takes the pool some time to give up the connection.
    while users.find("alice").await.is_err() {
        assert!(
            start.elapsed() < SOON,
            "the pool never opened another connection"
        );
    }
}

/// The server restarted in between: every pooled connection is dead, and nobody notices.
#[tokio::test]
async fn restarted() {
    let (database, users) = users(Backend::External).await;
    users.insert(named("alice")).await.unwrap();
    for round in 0..3 {
        // As many connections as the pool may have.
        let mut busy = JoinSet::new();
        for _ in 0..10 {
            let users = users.clone();
            busy.spawn(async move { users.find("alice").await.unwrap() });
        }
        busy.join_all().await;
        terminate_sessions(&database).await;

        match round {
            0 => assert!(users.find("alice").await.unwrap().is_some()),
            1 => assert_eq!(users.insert(named("bob")).await.unwrap().username, "bob"),
            _ => users.ping().await.unwrap(),
        }
    }
}

async fn terminate_sessions(database: &TestDatabase) {
    let url = url::Url::parse(database.url.expose_secret()).unwrap();
    // Waits until they are gone.
    let query = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1";
    let ended = sea_orm::sqlx::query(query)
        .bind(url.path().trim_start_matches('/'))
        .fetch_all(&mut server().await)
        .await
        .unwrap();
    assert!(!ended.is_empty());
}

#[tokio::test]
async fn locked_table() {
    let (database, users) = users(Backend::External).await;
    let alice = users.insert(named("alice")).await.unwrap();
    let db = impatient(config::Database {
        max_connections: 1,
        ..database.settings()
    })
    .await;
    let users = Users::new(db.clone());
    // A statement that the connection knows is sent to run, one that is new to it only to be looked at.
    assert!(
        !users
            .delete(4711, &Revocation::of_user(4711))
            .await
            .unwrap()
    );
    connected(&db).await;
    let other = database.connect().await;
    let lock = other.begin().await.unwrap();
    lock.execute_unprepared("LOCK TABLE users").await.unwrap();

    let start = Instant::now();
    assert_unavailable(users.delete(alice.id, &Revocation::of_user(alice.id)).await);
    assert_unavailable(users.find("alice").await);
    assert_unavailable(users.insert_first(named("bob")).await);
    assert!(start.elapsed() < SOON);
    // Nothing of it is left at the server, to be done when nobody asks for it any more: it would come before this lock.
    lock.rollback().await.unwrap();
    let lock = other.begin().await.unwrap();
    lock.execute_unprepared("LOCK TABLE users").await.unwrap();
    lock.rollback().await.unwrap();
    assert!(users.find("alice").await.unwrap().is_some());
}

#[tokio::test]
async fn locked_file() {
    let (database, users) = users(Backend::Embedded).await;
    let root = users.insert(named("root")).await.unwrap();
    let users = Users::new(impatient(database.settings()).await);
    let other = database.connect().await;
    let lock = other.begin().await.unwrap();
    lock.execute_unprepared("UPDATE users SET is_admin = true")
        .await
        .unwrap();

    assert!(users.find("alice").await.unwrap().is_none());
    assert_unavailable(users.insert(named("alice")).await);
    assert_unavailable(users.record_login(&root, None).await);
    assert_unavailable(users.ping().await);
    lock.rollback().await.unwrap();
    users.ping().await.unwrap();
}

/// What a failover looks like to who is still connected to the old primary.
#[tokio::test]
async fn read_only_server() {
    let (database, users) = users(Backend::External).await;
    let alice = users.insert(named("alice")).await.unwrap();
    users.ping().await.unwrap();
    let other = database.connect().await;
    let name = url::Url::parse(database.url.expose_secret())
        .unwrap()
        .path()
        .trim_start_matches('/')
        .to_owned();
    let alter = |setting: &str| {
        format!("ALTER DATABASE {name} SET default_transaction_read_only = {setting}")
    };
    other.execute_unprepared(&alter("on")).await.unwrap();
    // The setting is for new sessions.
    terminate_sessions(&database).await;

    assert_unavailable(users.ping().await);
    assert!(users.find("alice").await.unwrap().is_some());
    assert_unavailable(users.record_login(&alice, None).await);
    assert_unavailable(users.insert(named("bob")).await);
    assert_unavailable(users.ping().await);

    let mut admin = server().await;
    sea_orm::sqlx::raw_sql(sea_orm::sqlx::AssertSqlSafe(alter("off")))
        .execute(&mut admin)
        .await
        .unwrap();
    // The sessions of before are still read-only; nobody ends them but the service.
    users.ping().await.unwrap();
    users.record_login(&alice, None).await.unwrap();
}

#[tokio::test]
async fn read_only_file() {
    let (database, users) = users(Backend::Embedded).await;
    let alice = users.insert(named("alice")).await.unwrap();
    let url = database.url.expose_secret().replace("mode=rwc", "mode=ro");
    let users = Users::new(
        impatient(config::Database {
            url: url.into(),
            ..database.settings()
        })
        .await,
    );
    assert!(users.find("alice").await.unwrap().is_some());
    assert_unavailable(users.record_login(&alice, None).await);
    assert_unavailable(users.insert(named("bob")).await);
    assert_unavailable(users.ping().await);
}

#[rstest]
#[tokio::test]
async fn schema_behind(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let database = crate::common::database(backend).await;
    let db = database.connect().await;
    let users = Users::new(db.clone());
    users.ping().await.unwrap();
    assert_unavailable(users.find("alice").await);
    assert_unavailable(users.insert(named("alice")).await);
    assert_unavailable(users.insert_first(named("alice")).await);
    assert_unavailable(users.is_empty().await);
    // The statements that were prepared in vain work afterwards, and after the way back and forth.
    let schema = Schema::new(db);
    for _ in 0..2 {
        schema.up().await.unwrap();
        users.insert(named("alice")).await.unwrap();
        assert!(users.find("alice").await.unwrap().is_some());
        schema
            .to(Target::Version(1), async || {
                Ok::<(), std::convert::Infallible>(())
            })
            .await
            .unwrap();
        assert_unavailable(users.find("alice").await);
    }
}

#[tokio::test]
async fn wrong_password() {
    let (database, _users) = users(Backend::External).await;
    let mut url = url::Url::parse(database.url.expose_secret()).unwrap();
    url.set_username("nobody_of_this_name").unwrap();
    url.set_password(Some("hunter2")).unwrap();
    let users = Users::new(
        impatient(config::Database {
            url: String::from(url).into(),
            ..database.settings()
        })
        .await,
    );
    let StoreError::Unavailable { source, .. } = users.find("alice").await.unwrap_err() else {
        panic!()
    };
    assert!(!format!("{source} {source:?}").contains("hunter2"));
}

/// The connection that holds the migration lock breaks: nothing goes on without the lock, and nothing was changed.
#[tokio::test]
async fn migration_lock_lost() {
    let (database, users) = users(Backend::External).await;
    users.insert(named("alice")).await.unwrap();
    let schema = Schema::new(database.connect().await);
    let before = schema.status().await.unwrap();
    let break_it = async || {
        terminate_sessions(&database).await;
        Ok::<(), std::convert::Infallible>(())
    };
    let outcome = schema.to(Target::Zero, break_it).await;
    assert!(
        matches!(outcome, Err(SchemaError::Migration { .. })),
        "{outcome:?}"
    );

    assert_eq!(schema.status().await.unwrap(), before);
    assert!(users.find("alice").await.unwrap().is_some());
    // And the lock is free.
    let schema = schema.lock_wait(Duration::ZERO);
    schema
        .to(
            Target::Zero,
            async || Ok::<(), std::convert::Infallible>(()),
        )
        .await
        .unwrap();
}
