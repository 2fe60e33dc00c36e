//! The one module that runs chitchat.
//!
//! Chitchat 0.11.2 carries signed values from node to node by anti-entropy. It gets a transport of our own: what it sends
//! is only queued, what arrives is checked as bytes ([`starling_gossip::catalog::wire`]) before it is decoded, and
//! values that are new come out as [`Arrived`]. It decides nothing: the engine's catalog checks and merges each value
//! once more, liveness is foca's, and the set of nodes follows admission.

mod replica;
mod socket;

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, DeletionStatus, FailureDetectorConfig, ListenerHandle, VersionedValue,
    spawn_chitchat,
};
use starling_gossip::catalog::wire::ReplicaId;
use starling_gossip::catalog::{Rounds, text};
use starling_proto::NodeId;
use tokio::sync::mpsc;

use super::counters::{Counters, add};
use super::roster::SharedRoster;
use replica::chitchat_id;
pub(super) use socket::{INBOX, Incoming, OUTBOX, Outgoing};
use socket::{Opener, Wiring};

/// Values that arrived and that the engine has not taken yet: what the inbox can hold at most, so that none is lost.
const ARRIVED: usize = 1 << 16;

/// A value that chitchat did not have before.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) owner: NodeId,
    pub(super) key: String,
    /// An encoded `SignedValue`.
    pub(super) value: Bytes,
}

/// A running chitchat of one generation of this node.
pub(super) struct Replication {
    handle: ChitchatHandle,
    counters: Arc<Counters>,
    inbox: mpsc::Sender<Incoming>,
    rounds: SharedRounds,
    _listener: ListenerHandle,
}

/// What [`Replication::start`] needs.
pub(super) struct Settings {
    pub(super) this: ReplicaId,
    /// Our own values: key, version, encoded `SignedValue`.
    pub(super) own: Vec<(String, u64, Vec<u8>)>,
    pub(super) cluster: String,
    pub(super) round: Duration,
    pub(super) roster: SharedRoster,
    pub(super) counters: Arc<Counters>,
    pub(super) outbox: mpsc::Sender<Outgoing>,
}

impl Replication {
    /// Starts chitchat on the current runtime. Values of others come out of the receiver.
    pub(super) async fn start(settings: Settings) -> anyhow::Result<(Self, mpsc::Receiver<Arrived>)> {
        let Settings { this, own: values, cluster, round, roster, counters, outbox } = settings;
        let (inbox, messages) = mpsc::channel(INBOX);
        let (arrived, arrivals) = mpsc::channel(ARRIVED);
        let rounds = SharedRounds::new(Rounds::new(round));
        let wiring = Wiring { this, cluster: cluster.clone(), roster, round, rounds: rounds.clone() };
        let opener = Opener::new(wiring, Arc::clone(&counters), outbox, messages);
        let chitchat = opener.chitchat();
        let config = ChitchatConfig {
            chitchat_id: chitchat_id(&this),
            cluster_id: cluster,
            gossip_interval: round,
            listen_addr: this.address,
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                // 64 samples a node: the default of 1,000 costs 8 KB for each.
                sampling_window_size: 64,
                initial_interval: round,
                max_interval: round * 4,
                // One that foca holds for dead is dropped soon, so that former boots do not pile up.
                dead_node_grace_period: round * 20,
                ..FailureDetectorConfig::default()
            },
            // Nothing is ever deleted: a withdrawal is a signed value.
            marked_for_deletion_grace_period: Duration::from_hours(24),
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let handle = spawn_chitchat(config, Vec::new(), &opener).await?;
        let running = handle.chitchat();
        let own = handle.chitchat_id().clone();
        let tally = Arc::clone(&counters);
        let listener = running.lock().await.subscribe_event("", move |event| {
            if *event.node == own {
                return;
            }
            let (Ok(owner), Ok(value)) = (event.node.node_id.parse(), text::decode(event.value)) else { return };
            if arrived.try_send(Arrived { owner, key: event.key.to_owned(), value }).is_err() {
                add(&tally.inputs_dropped);
            }
        });
        restore(&mut *running.lock().await, values);
        chitchat.set(Arc::downgrade(&running)).ok();
        Ok((Self { handle, counters, inbox, rounds, _listener: listener }, arrivals))
    }

    /// Hands over a message of an admitted peer, unchecked. Never waits.
    pub(super) fn receive(&self, message: Incoming) {
        if self.inbox.try_send(message).is_err() {
            add(&self.counters.chitchat_dropped);
        }
    }

    /// Sets one of our own values.
    pub(super) async fn set(&self, key: &str, value: &[u8]) {
        let text = text::encode(value);
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().set(key, &text)).await;
    }

    /// Completes with a reason when chitchat ends by itself, which only a bug makes it do.
    pub(super) fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let ended = self.handle.termination_watcher();
        async move { ended.await.map_or_else(|error| error.to_string(), |()| "shut down".to_owned()) }
    }

    /// Something is missing here, as the packets of others tell, or no longer: then rounds are few.
    pub(super) fn on_behind(&self, behind: bool) {
        self.rounds.lock().on_behind(behind);
    }

    /// Starts a round with a peer now.
    pub(super) fn push(&self, to: SocketAddr) {
        self.rounds.lock().want(to);
        // An error means that chitchat has ended, and with it this node's mesh.
        self.handle.gossip(to).ok();
    }
}

impl Drop for Replication {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// Puts our own values into a fresh chitchat, each at the version that its signature names.
fn restore(chitchat: &mut Chitchat, values: Vec<(String, u64, Vec<u8>)>) {
    let Some(highest) = values.iter().map(|(_, version, _)| *version).max() else { return };
    let this = chitchat.self_chitchat_id().clone();
    let values = values.into_iter().map(|(key, version, value)| {
        (key, VersionedValue { value: text::encode(&value), version, status: DeletionStatus::Set })
    });
    chitchat.reset_node_state_if_update(&this, values, highest, 0);
}

/// The heartbeat of everyone alive: seconds since `since`, from 2 on.
fn beat(since: Instant) -> u64 {
    since.elapsed().as_secs() + 2
}

/// Which rounds go out: asked by chitchat's task, told by the driver.
#[derive(Clone)]
struct SharedRounds(Arc<Mutex<Rounds>>);

impl SharedRounds {
    fn new(rounds: Rounds) -> Self {
        Self(Arc::new(Mutex::new(rounds)))
    }

    fn lock(&self) -> MutexGuard<'_, Rounds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chitchat that is not there yet when its socket is made.
type SharedChitchat = Arc<OnceLock<std::sync::Weak<tokio::sync::Mutex<chitchat::Chitchat>>>>;

/// Counts several at once.
fn add_many(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
}
