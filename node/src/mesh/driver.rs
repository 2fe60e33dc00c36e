//! The one task that owns the engine: whatever happens goes in, and what comes out is carried out.

mod events;
mod job;
mod jobs;
mod keys;
mod outputs;
mod push;
mod recall;
mod resync;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use starling_gossip::{Engine, Input, Seeds, View};
use starling_proto::mesh::v1;
use starling_proto::{NodeId, ServiceName};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::catalog::{Arrived, Outgoing, Replication};
use super::counters::{Counters, add};
use super::data_dir::GenerationFile;
use super::heartbeat::Heartbeat;
use super::links::Links;
use super::peers::Peers;
use super::persist::{Desk, Unmet};
use super::resolver::Resolver;
use super::roster::SharedRoster;
use super::seed::Seed;
use super::{MeshError, Timings};
pub(super) use job::{Heard, Job, JoinOutcome};
use push::Pushes;
use resync::Resync;

/// Jobs that wait for the driver; who has more waits.
pub(super) const JOBS: usize = 512;
/// Datagrams taken at once before others have their turn.
const BATCH: usize = 64;
/// Longer than any packet: what does not fit is refused for its size.
const DATAGRAM: usize = 2_048;
/// Pulls of values under way at a time: each answer holds at most what one node may have.
const PULLS: usize = 32;
/// How often idle connections and the catalogs of others are looked at.
const SWEEP: Duration = Duration::from_secs(5);
/// Members of the last run that nobody met for so long are gone.
const UNMET: Duration = Duration::from_hours(24);
/// After chitchat ended, which only a bug makes it do, it is started again after this.
const RESTART: Duration = Duration::from_secs(1);

/// What ended a wait.
enum Happening {
    Job(Job),
    Datagrams,
    Arrived(Arrived),
    Links,
    Time,
    CatalogEnded(String),
    Stop,
}

/// Everything the driver task owns.
pub(super) struct Driver {
    pub(super) engine: Engine,
    pub(super) this: NodeId,
    pub(super) zone: String,
    pub(super) cluster: String,
    pub(super) timings: Timings,
    pub(super) socket: UdpSocket,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) links: Arc<Links>,
    pub(super) peers: Arc<Peers>,
    pub(super) counters: Arc<Counters>,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) roster: SharedRoster,
    pub(super) view: Arc<ArcSwap<View>>,
    pub(super) views: watch::Sender<Arc<View>>,
    pub(super) disk: Arc<Desk>,
    pub(super) generation: Arc<GenerationFile>,
    pub(super) outbox: mpsc::Sender<Outgoing>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) seeds: Seeds<Seed>,
    pub(super) unmet: Unmet,
    pub(super) stop: CancellationToken,
    pub(super) state: State,
}

type Ended = Pin<Box<dyn Future<Output = String> + Send>>;

/// What the driver keeps for itself.
pub(super) struct State {
    replication: Option<Replication>,
    arrivals: Option<mpsc::Receiver<Arrived>>,
    ended: Option<Ended>,
    restart_at: Option<Instant>,
    joining: BTreeSet<SocketAddr>,
    offered: BTreeMap<(ServiceName, u32), v1::ServiceRecord>,
    draining: bool,
    leaving: Option<(Instant, oneshot::Sender<()>)>,
    pushes: Pushes,
    resync: Resync,
    pulls: Arc<Semaphore>,
    look_at: Instant,
    sweep_at: Instant,
    unmet_until: Option<Instant>,
    /// There is a view that was not looked at for members of the last run.
    unread_view: bool,
    /// Of the catalog, when it was last given to the disk.
    written_hash: u64,
}

impl State {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            replication: None,
            arrivals: None,
            ended: None,
            restart_at: None,
            joining: BTreeSet::new(),
            offered: BTreeMap::new(),
            draining: false,
            leaving: None,
            pushes: Pushes::default(),
            resync: Resync::default(),
            pulls: Arc::new(Semaphore::new(PULLS)),
            look_at: now,
            sweep_at: now + SWEEP,
            unmet_until: Some(now + UNMET),
            unread_view: false,
            written_hash: 0,
        }
    }
}

impl Driver {
    /// Runs until the last handle is gone, or until the node has left.
    pub(super) async fn run(mut self) {
        // However this ends, nobody is to wait for an answer any more.
        let _stopped = self.stop.clone().drop_guard();
        self.feed(Input::Tick).await;
        loop {
            let happening = self.next().await;
            self.heartbeat.turn(Instant::now());
            match happening {
                Happening::Job(job) => self.handle_job(job).await,
                Happening::Datagrams => self.handle_datagrams().await,
                Happening::Arrived(arrived) => self.handle_arrived(arrived).await,
                Happening::Links => self.handle_links().await,
                Happening::Time => {}
                Happening::CatalogEnded(reason) => self.handle_catalog_ended(&reason),
                Happening::Stop => return self.heartbeat.end(),
            }
            if self.handle_time().await {
                return self.heartbeat.end();
            }
        }
    }

    async fn next(&mut self) -> Happening {
        let due = self.poll_timeout();
        self.heartbeat.promise(due);
        let Self { socket, jobs, links, stop, state, .. } = self;
        let arrived = async {
            match &mut state.arrivals {
                Some(arrivals) => arrivals.recv().await,
                None => None,
            }
        };
        let ended = async {
            match &mut state.ended {
                Some(ended) => ended.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => Happening::Stop,
            Some(job) = jobs.recv() => Happening::Job(job),
            Some(arrived) = arrived => Happening::Arrived(arrived),
            _ = socket.readable() => Happening::Datagrams,
            () = links.changed() => Happening::Links,
            reason = ended => Happening::CatalogEnded(reason),
            () = tokio::time::sleep_until(due.into()) => Happening::Time,
        }
    }

    /// When something is due whatever happens.
    fn poll_timeout(&self) -> Instant {
        let state = &self.state;
        let leaving = state.leaving.as_ref().map(|(until, _)| *until);
        let due = [self.engine.poll_timeout(), self.seeds.poll_timeout(), state.pushes.poll_timeout()];
        let due = due.into_iter().chain([state.restart_at, state.unmet_until, leaving]).flatten();
        due.fold(state.sweep_at, Instant::min)
    }

    /// Does what is due. True once the node has left.
    async fn handle_time(&mut self) -> bool {
        let now = Instant::now();
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.feed(Input::Tick).await;
        }
        if let Some((_, done)) = self.state.leaving.take_if(|(until, _)| *until <= now) {
            done.send(()).ok();
            return true;
        }
        if self.state.restart_at.take_if(|due| *due <= now).is_some()
            && let Err(error) = self.start_catalog().await
        {
            self.handle_catalog_ended(&error.to_string());
        }
        if self.state.unmet_until.take_if(|due| *due <= now).is_some() {
            self.unmet.clear();
            self.seeds.forget_hints();
        }
        if std::mem::take(&mut self.state.unread_view) {
            self.recall_records().await;
        }
        self.seek_seeds(now);
        self.push_catalog(now);
        if self.state.sweep_at <= now {
            self.state.sweep_at = now + SWEEP;
            self.peers.sweep();
            self.peers.try_better();
            self.remember_records();
            self.pull_differing(now);
        }
        false
    }

    /// Gives the engine an input and carries out what it wants.
    async fn feed(&mut self, input: Input) -> Option<starling_gossip::Refusal> {
        let outputs = self.engine.handle(input, Instant::now());
        self.carry_out(outputs).await
    }

    async fn handle_datagrams(&mut self) {
        let mut buffer = [0; DATAGRAM];
        for _ in 0..BATCH {
            match self.socket.try_recv_from(&mut buffer) {
                Ok((len, from)) => {
                    add(&self.counters.datagrams_received);
                    self.counters.add_bytes_received(len);
                    let bytes = Bytes::copy_from_slice(&buffer[..len]);
                    self.feed(Input::Datagram { from, bytes }).await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // What the network said of a datagram of ours that it did not deliver.
                Err(_) => {}
            }
        }
    }

    async fn handle_arrived(&mut self, first: Arrived) {
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(Arrived { owner, key, value }) = next.take() else { return };
            add(&self.counters.values);
            self.feed(Input::Value { owner, key, value }).await;
            next = self.state.arrivals.as_mut().and_then(|arrivals| arrivals.try_recv().ok());
        }
        if let Some(Arrived { owner, key, value }) = next {
            add(&self.counters.values);
            self.feed(Input::Value { owner, key, value }).await;
        }
    }

    async fn handle_links(&mut self) {
        let news = self.links.take();
        for (node, up) in news.links {
            self.feed(Input::Link { node, up }).await;
        }
        if let Some(load) = news.load {
            self.feed(Input::Load(load)).await;
        }
    }

    /// Starts chitchat with the generation and the values that the engine has now.
    pub(super) async fn start_catalog(&mut self) -> Result<(), MeshError> {
        self.state.replication = None;
        let identity = *self.engine.identity();
        let values = self.engine.catalog().values_of(self.this);
        let own =
            values.map(|value| (value.key.clone(), value.version, prost::Message::encode_to_vec(value))).collect();
        let started = Replication::start(super::catalog::Settings {
            this: starling_gossip::catalog::wire::ReplicaId {
                node: self.this,
                generation: identity.generation.0.into(),
                address: identity.address.quic(),
            },
            own,
            cluster: self.cluster.clone(),
            round: self.timings.catalog_round,
            roster: Arc::clone(&self.roster),
            counters: Arc::clone(&self.counters),
            outbox: self.outbox.clone(),
        });
        let (replication, arrivals) = started.await.map_err(|error| MeshError::Catalog(error.to_string()))?;
        self.state.ended = Some(Box::pin(replication.ended()));
        self.state.replication = Some(replication);
        self.state.arrivals = Some(arrivals);
        Ok(())
    }

    fn handle_catalog_ended(&mut self, reason: &str) {
        tracing::error!(reason, "chitchat ended; starting it again");
        self.state.replication = None;
        self.state.ended = None;
        self.state.restart_at = Some(Instant::now() + RESTART);
    }
}
