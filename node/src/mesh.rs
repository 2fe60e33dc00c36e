//! The mesh driver: it gives the sans-IO engine of `gossip` its sockets, its clock, its disk and its peers.
//!
//! One driver task owns the engine. Everything else is small tasks around it, on the same single-threaded runtime, apart from
//! the data plane so that load there never makes a healthy node look dead:
//!
//! | module | does |
//! | --- | --- |
//! | `driver` | gossip socket, timers, commands -> `Engine::handle` -> outputs |
//! | `seed`, `resolver` | where seeds are, for the machine that says when to dial them |
//! | `peers` | one control connection a peer: join, resolve, pull, ping; chitchat's messages |
//! | `catalog` | the one module that runs chitchat |
//! | `data_dir` | lock, generation; members, values and group keys known last time |
//!
//! Readers hold the [`View`] by [`Mesh::view`] and never wait for any of it.

mod catalog;
mod counters;
mod data_dir;
mod driver;
mod heartbeat;
mod keyring_file;
mod keys;
mod links;
mod members_file;
mod peers;
mod persist;
mod records_file;
mod resolver;
mod roster;
mod seed;
mod start;
mod survey;
mod troubles;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use starling_gossip::{Config, View};
use starling_proto::mesh::v1;
use starling_proto::{Generation, NodeAddress, NodeId, ServiceName};
use starling_transport::{Carriers, Connection, DialerError, Identity, Tls};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use counters::Counters;
pub use counters::Counts;
pub use data_dir::DataDirError;
use driver::Job;
pub use heartbeat::Heartbeat;
pub use keys::ChangeKeysError;
use links::Links;
use peers::Peers;
pub use seed::Seed;
pub use starling_gossip::Backoff;
pub use survey::{Answer, Look, Skew, Survey};
pub use troubles::{Trouble, TroubleKind};

/// What a mesh driver is started with.
pub struct MeshConfig {
    /// The node's certificate and keys.
    pub identity: Arc<Identity>,
    /// The same, as the sockets want it.
    pub tls: Tls,
    /// Where others reach this node.
    pub advertise: NodeAddress,
    /// The local address of the gossip socket and of the sockets that dial.
    pub bind: IpAddr,
    /// Whom to ask for admission.
    pub seeds: Vec<Seed>,
    /// Where to keep what must be remembered; used by one node at a time.
    pub data_dir: PathBuf,
    /// Where the node stands; empty if it does not say.
    pub zone: String,
    /// Threads of its data plane, for others to see.
    pub shards: u32,
    /// Members that the mesh may have.
    pub member_limit: usize,
    /// What control connections run over.
    pub carriers: Carriers,
    /// How often and how long.
    pub timings: Timings,
}

impl MeshConfig {
    /// The default of [`MeshConfig::member_limit`].
    pub const MEMBER_LIMIT: usize = Config::MEMBER_LIMIT;
}

/// How often and how long the driver does what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// The engine's own.
    pub gossip: starling_gossip::Timings,
    /// Pauses between dials of a seed.
    pub seeds: Backoff,
    /// The period of the catalog's anti-entropy. A change does not wait for it.
    pub catalog_round: Duration,
    /// A leaving node goes on telling so for this long.
    pub leave: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            gossip: starling_gossip::Timings::default(),
            seeds: Backoff::default(),
            catalog_round: Duration::from_secs(3),
            // Five rounds of gossip: with three told in each, all of 200 know of it.
            leave: Duration::from_secs(1),
        }
    }
}

/// Why a node could not take part in its mesh.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// Its data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Its generation could not be written, and must be before it is used.
    #[error("generation: cannot write it to node.data_dir: {0}")]
    Generation(std::io::Error),
    /// The gossip port is not to be had.
    #[error("mesh.gossip_port: cannot bind UDP {address}: {source}")]
    Bind {
        /// The socket's address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is no socket to dial from.
    #[error(transparent)]
    Dialer(#[from] DialerError),
    /// The identity's gossip or group key is unusable.
    #[error("identity: {0}")]
    Key(String),
    /// The catalog could not be started.
    #[error("catalog: {0}")]
    Catalog(String),
    /// The driver has ended.
    #[error("the mesh driver has ended")]
    Stopped,
}

/// A snapshot for those who look after the node.
#[derive(Debug, Clone)]
pub struct Status {
    /// Who it is.
    pub id: NodeId,
    /// Its boot.
    pub generation: Generation,
    /// What the driver counted.
    pub counts: Counts,
    /// What the engine counted.
    pub engine: starling_gossip::Counters,
    /// The revision of its group keys.
    pub key_revision: u64,
    /// The epoch that it seals with.
    pub key_epoch: u32,
    /// Of the catalog as this node has it: equal on all nodes that agree.
    pub catalog_hash: u64,
    /// Rules that members broke, by rule, as long as those members are listed.
    pub offences: std::collections::BTreeMap<&'static str, u64>,
    /// How much the engine holds.
    pub sizes: starling_gossip::Sizes,
    /// Commands and reports that waited for the driver.
    pub jobs_queued: usize,
}

/// A running mesh driver. Cheap to clone; the driver ends with its last handle.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

struct Inner {
    id: NodeId,
    view: Arc<ArcSwap<View>>,
    views: watch::Receiver<Arc<View>>,
    jobs: mpsc::Sender<Job>,
    links: Arc<Links>,
    peers: Arc<Peers>,
    counters: Arc<Counters>,
    heartbeat: Arc<Heartbeat>,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Mesh {
    /// Starts the driver on the current runtime, which should be single-threaded and carry no requests. When this returns the
    /// gossip port is bound, the generation is on disk, and the seeds are being dialed.
    pub async fn start(config: MeshConfig) -> Result<Self, MeshError> {
        start::start(config).await
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// The current view, always the newest: load it for each use.
    pub fn view(&self) -> Arc<ArcSwap<View>> {
        Arc::clone(&self.inner.view)
    }

    /// Changes of the view.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.inner.views.clone()
    }

    /// Offers a service instance, or says something new of one.
    pub async fn register(&self, record: v1::ServiceRecord) -> Result<(), MeshError> {
        self.send(Job::Register(record)).await
    }

    /// Takes a service instance back.
    pub async fn withdraw(&self, service: &ServiceName, instance: u32) -> Result<(), MeshError> {
        self.send(Job::Withdraw { service: service.clone(), instance }).await
    }

    /// Tells that a data connection to a node was made, or that one is gone. Counted: every shard tells of each of its own. Never
    /// waits.
    pub fn link(&self, node: NodeId, up: bool) {
        self.inner.links.on_link(node, up);
    }

    /// Tells this node's load, for others to know. Never waits; the last one counts.
    pub fn load(&self, load: v1::LoadSummary) {
        self.inner.links.on_load(load);
    }

    /// Tells all at once that an instance of this node, registered before, is (not) healthy.
    pub async fn health(&self, service: &ServiceName, instance: u32, healthy: bool) -> Result<(), MeshError> {
        self.send(Job::Health { service: service.clone(), instance, healthy }).await
    }

    /// Tells all that a member which is down will not come back: it counts as left, or is not listed at all (`prune`).
    /// Nothing happens to a member that is up. Returns once this node's own view says so.
    pub async fn dismiss(&self, node: NodeId, prune: bool, reason: &str) -> Result<(), MeshError> {
        let (done, told) = oneshot::channel();
        self.send(Job::Dismiss { node, prune, reason: reason.to_owned(), done }).await?;
        self.reply(told).await
    }

    /// What the driver's loop promises a watchdog.
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        Arc::clone(&self.inner.heartbeat)
    }

    /// What showed lately that an operator should see to.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.inner.counters.troubles.current(Instant::now())
    }

    /// Takes over a control connection that a shard accepted. Never waits.
    pub fn control_incoming(&self, connection: Connection) {
        self.inner.peers.serve(connection);
    }

    /// Says that this node drains: its services ask for no new requests, and its peers are told.
    pub async fn go_away(&self, reason: &str) -> Result<(), MeshError> {
        let (done, told) = oneshot::channel();
        self.send(Job::GoAway { reason: reason.to_owned(), done }).await?;
        self.reply(told).await
    }

    /// Leaves the mesh: tells the others, and returns once that had time to spread ([`Timings::leave`]).
    pub async fn leave(&self, reason: &str) -> Result<(), MeshError> {
        let (done, told) = oneshot::channel();
        self.send(Job::Leave { reason: reason.to_owned(), done }).await?;
        self.reply(told).await
    }

    /// What the driver counted so far. Never waits.
    pub fn counts(&self) -> Counts {
        self.inner.counters.snapshot()
    }

    /// A snapshot of more than the counts.
    pub async fn status(&self) -> Result<Status, MeshError> {
        let (reply, status) = oneshot::channel();
        self.send(Job::Status { reply }).await?;
        self.reply(status).await
    }

    /// What the driver says to a job; nothing, if it ended first. A job that slips in as it ends is answered by nobody and
    /// dropped by nobody, so the reply alone would not tell.
    async fn reply<T>(&self, reply: oneshot::Receiver<T>) -> Result<T, MeshError> {
        tokio::select! {
            biased;
            reply = reply => reply.map_err(|_| MeshError::Stopped),
            () = self.inner.stop.cancelled() => Err(MeshError::Stopped),
        }
    }

    async fn send(&self, job: Job) -> Result<(), MeshError> {
        self.inner.jobs.send(job).await.map_err(|_| MeshError::Stopped)
    }
}
