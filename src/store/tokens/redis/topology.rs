//! Which servers are the masters at the moment, and which of them has a key.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use redis::{RedisError, RedisResult, Value};

use super::failure::Failure;
use super::node::Node;
use super::place::{Access, Address, Servers};
use super::route::Redirect;
use super::sentinels::Sentinels;
use super::slots::{self, SLOTS};

/// A name that is never written: one is needed to try a write on.
const PROBE_KEY: &str = "claviger:probe";

/// How long what the sentinels said is believed. There may be another master since, and a log-out that only it knows of.
const TRUST: Duration = Duration::from_secs(3);

/// The shortest time from one look to the next that was not asked for, however much fails meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest wait for those who know where the masters are, as most of them answer sooner.
const LOOK: Duration = Duration::from_millis(500);

/// Where the masters are, as far as it is known.
pub(super) struct Topology {
    kind: Kind,
    access: Access,
    known: RwLock<Known>,
    /// Held while looking, so that however many want to know, one asks.
    looking: tokio::sync::Mutex<()>,
}

enum Kind {
    Single,
    Sentinels(Sentinels),
    /// The servers that the URL names.
    Cluster(Vec<Arc<Node>>),
}

#[derive(Default)]
struct Known {
    masters: Option<Arc<Masters>>,
    seen: Option<Instant>,
    /// Something failed since.
    doubted: bool,
    /// When the last look began, and what came of it if it failed.
    last: Option<(Instant, Option<RedisError>)>,
    /// Servers to which others have sent us since.
    redirected: Vec<Arc<Node>>,
}

/// The masters at one moment.
pub(super) struct Masters {
    all: Vec<Master>,
    /// First slot, last slot, and which master has them: ordered, none twice.
    ranges: Vec<(u16, u16, usize)>,
}

/// A master.
pub(super) struct Master {
    pub(super) node: Arc<Node>,
    /// A key in one of its slots, which is never there.
    pub(super) probe: String,
}

impl Masters {
    /// All of them: at least one.
    pub(super) fn all(&self) -> &[Master] {
        &self.all
    }

    /// The one that has the slot of `key`.
    pub(super) fn of(&self, key: &[u8]) -> RedisResult<&Arc<Node>> {
        if let [(0, last, only)] = self.ranges.as_slice()
            && *last == SLOTS - 1
        {
            return self.at(*only);
        }
        let slot = slots::of(key);
        let index = self.ranges.partition_point(|(_, last, _)| *last < slot);
        match self.ranges.get(index) {
            Some((first, _, master)) if *first <= slot => self.at(*master),
            _ => Err(Failure::Uncovered.into()),
        }
    }

    fn at(&self, index: usize) -> RedisResult<&Arc<Node>> {
        let master = self.all.get(index);
        master
            .map(|master| &master.node)
            .ok_or_else(|| Failure::Uncovered.into())
    }

    /// Whether every key has a master.
    pub(super) fn cover_all_slots(&self) -> bool {
        let slots = self
            .ranges
            .iter()
            .map(|(first, last, _)| usize::from(last - first) + 1);
        slots.sum::<usize>() == usize::from(SLOTS)
    }

    fn single(node: Arc<Node>) -> Self {
        let probe = PROBE_KEY.to_owned();
        Self {
            all: vec![Master { node, probe }],
            ranges: vec![(0, SLOTS - 1, 0)],
        }
    }
}

impl Topology {
    /// Nobody is asked.
    pub(super) fn new(servers: Servers, access: Access) -> Self {
        let mut known = Known::default();
        let kind = match servers {
            Servers::Single(address) => {
                let node = Node::new(address, access.clone(), true);
                known.masters = Some(Arc::new(Masters::single(Arc::new(node))));
                Kind::Single
            }
            Servers::Sentinels { addresses, master } => {
                Kind::Sentinels(Sentinels::new(addresses, master, &access))
            }
            Servers::Cluster(addresses) => {
                let nodes = addresses
                    .into_iter()
                    .map(|address| Arc::new(Node::new(address, access.clone(), false)));
                Kind::Cluster(nodes.collect())
            }
        };
        Self {
            kind,
            access,
            known: RwLock::new(known),
            looking: tokio::sync::Mutex::new(()),
        }
    }

    /// Whether the keys are spread over several servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    /// The masters as they are known, if that can still be believed.
    pub(super) fn known(&self) -> Option<Arc<Masters>> {
        let known = self.read();
        (!known.doubted).then(|| self.fresh(&known)).flatten()
    }

    /// The masters; asks for them if they are not known, or something failed since.
    pub(super) async fn masters(&self) -> RedisResult<Arc<Masters>> {
        if let Some(masters) = self.known() {
            return Ok(masters);
        }
        let again = {
            let known = self.read();
            let last = known.last.as_ref();
            let just = last.filter(|(began, _)| began.elapsed() < PAUSE);
            just.map(|(_, error)| (error.clone(), self.fresh(&known)))
        };
        match again {
            Some((_, Some(masters))) => Ok(masters),
            Some((Some(error), None)) => Err(error),
            _ => match self.look().await {
                Ok(masters) => Ok(masters),
                // It was one command that failed, and what is known is not too old.
                Err(error) => self.fresh(&self.read()).ok_or(error),
            },
        }
    }

    /// Asks for the masters now. Whoever comes while somebody else is asking waits for a look that began after that.
    pub(super) async fn look(&self) -> RedisResult<Arc<Masters>> {
        let asked = Instant::now();
        let _alone = self.looking.lock().await;
        {
            let known = self.read();
            if let (Some((began, error)), Some(masters)) = (&known.last, &known.masters)
                && *began >= asked
            {
                return error.clone().map_or_else(|| Ok(masters.clone()), Err);
            }
        }
        let began = Instant::now();
        let seen = match &self.kind {
            Kind::Single => None,
            Kind::Sentinels(sentinels) => {
                let address = sentinels.master(self.patience()).await;
                Some(address.map(|address| Masters::single(self.node_at(&address))))
            }
            Kind::Cluster(named) => {
                let ranges = slots::ask(&self.nodes(named), self.patience()).await;
                Some(ranges.map(|ranges| self.share_out(ranges)))
            }
        };
        let mut known = self.write();
        known.last = Some((began, None));
        match seen {
            Some(Err(error)) => {
                known.last = Some((began, Some(error.clone())));
                return Err(error);
            }
            Some(Ok(masters)) => {
                known.masters = Some(Arc::new(masters));
                known.seen = Some(began);
                known.redirected.clear();
            }
            None => {}
        }
        known.doubted = false;
        let masters = known.masters.clone();
        masters.ok_or_else(|| Failure::Uncovered.into())
    }

    /// Something failed, so that the masters may be others now.
    pub(super) fn doubt(&self) {
        if !matches!(self.kind, Kind::Single) && !self.read().doubted {
            self.write().doubted = true;
        }
    }

    /// Where an answer of `node` sends us, and whether only for this command.
    pub(super) fn redirection(&self, answer: &Value, node: &Node) -> Option<(Arc<Node>, bool)> {
        if !self.is_cluster() {
            return None;
        }
        let Redirect { address, ahead } = Redirect::of(answer, node.address())?;
        let node = self.node_at(&address);
        let mut known = self.write();
        // A slot that has moved says that the others may have, too.
        known.doubted |= !ahead;
        if !known
            .redirected
            .iter()
            .any(|known| Arc::ptr_eq(known, &node))
        {
            known.redirected.push(Arc::clone(&node));
        }
        drop(known);
        Some((node, ahead))
    }

    fn fresh(&self, known: &Known) -> Option<Arc<Masters>> {
        let recent = || known.seen.is_some_and(|seen| seen.elapsed() < TRUST);
        let fresh = match self.kind {
            // Its name says where it is, and a cluster's servers say when it is another.
            Kind::Single | Kind::Cluster(_) => true,
            Kind::Sentinels(_) => recent(),
        };
        fresh.then(|| known.masters.clone()).flatten()
    }

    /// The node for an address: the one that is known, with its connection, if there is one.
    fn node_at(&self, address: &Address) -> Arc<Node> {
        let named: &[Arc<Node>] = match &self.kind {
            Kind::Cluster(named) => named,
            Kind::Single | Kind::Sentinels(_) => &[],
        };
        let nodes = self.nodes(named);
        let known = nodes.iter().find(|node| node.address() == address);
        known.cloned().unwrap_or_else(|| {
            let asks_role = !self.is_cluster();
            Arc::new(Node::new(address.clone(), self.access.clone(), asks_role))
        })
    }

    /// All nodes that are known, each once.
    fn nodes(&self, named: &[Arc<Node>]) -> Vec<Arc<Node>> {
        let known = self.read();
        let masters = known.masters.iter().flat_map(|masters| masters.all());
        let masters = masters.map(|master| &master.node);
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for node in masters.chain(&known.redirected).chain(named) {
            if nodes.iter().all(|other| other.address() != node.address()) {
                nodes.push(node.clone());
            }
        }
        nodes
    }

    fn share_out(&self, ranges: Vec<slots::Range>) -> Masters {
        let mut masters = Masters {
            all: Vec::new(),
            ranges: Vec::new(),
        };
        for slots::Range {
            first,
            last,
            address,
        } in ranges
        {
            let mut nodes = masters.all.iter().map(|master| master.node.address());
            let index = nodes.position(|other| *other == address);
            let index = index.unwrap_or_else(|| {
                masters.all.push(Master {
                    node: self.node_at(&address),
                    probe: slots::key_between(PROBE_KEY, first, last),
                });
                masters.all.len() - 1
            });
            masters.ranges.push((first, last, index));
        }
        masters
    }

    fn patience(&self) -> Duration {
        LOOK.min(self.access.timeout() / 2)
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The good answers of more than half of those that are asked, or of as many as answer within `patience`; and an error of the
/// others.
pub(super) async fn most<T>(
    asked: Vec<BoxFuture<'_, RedisResult<T>>>,
    patience: Duration,
) -> (Vec<T>, Option<RedisError>) {
    let mut asked: FuturesUnordered<_> = asked.into_iter().collect();
    let enough = asked.len() / 2 + 1;
    let mut good = Vec::new();
    let mut error = None;
    let gather = async {
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(answer) => good.push(answer),
                Err(other) => error = Some(other),
            }
            if good.len() >= enough {
                break;
            }
        }
    };
    if tokio::time::timeout(patience, gather).await.is_err() {
        error.get_or_insert_with(|| std::io::Error::from(std::io::ErrorKind::TimedOut).into());
    }
    (good, error)
}
