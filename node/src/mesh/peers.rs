//! Control connections: at most one a peer is kept, whichever side dialed it, and closed when nobody needs it.

mod ask;
mod better;
mod serve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use starling_proto::mesh::v1;
use starling_proto::{ErrorCode, SpiffeId};
use starling_transport::{Alpn, ConnectError, Connection, Dialer, Lost, StreamError};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::catalog::Outgoing;
use super::counters::{Counters, add};
use super::driver::Job;
use super::roster::SharedRoster;
use super::seed::Seed;
use super::troubles::TroubleKind;

/// A dial ends after this: a host that returns is met by the next one. QUIC sends its first packet again after 300 and
/// 900 ms.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Every so many failures in a row, a dial is given longer: the peer may be there and slow.
const PATIENT_EVERY: u32 = 4;
const PATIENT_TIMEOUT: Duration = Duration::from_secs(3);
/// Handshakes with peers at a time.
const DIALS: usize = 32;
/// Chitchat messages that wait for their peers at a time; more wait in the queue, which drops.
const SENDS: usize = 32;
/// Requests of peers served at a time, and of one connection: each may hold a full state of some MB.
const ANSWERS: usize = 16;
pub(super) const ANSWERS_EACH: usize = 2;
/// Messages of peers taken at a time, and of one connection: each has at most 66 KiB.
const TAKES: usize = 128;
pub(super) const TAKES_EACH: usize = 8;
/// Control connections at a time: every member by both sides, and some who are not members yet.
const MAX_CONNECTIONS: usize = 2_048;
/// Of these, of one peer: both sides' own, and some whose end was not noticed yet.
const MAX_CONNECTIONS_EACH: usize = 6;
/// A connection that nobody used for so long is closed: in a large mesh most pairs seldom speak.
const IDLE: Duration = Duration::from_secs(30);

/// Why a peer could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the connection fell silent")]
    Silent,
    #[error("too many are being dialed")]
    Busy,
    #[error("{}: {}", .0.code, .0.detail)]
    Answer(v1::ControlError),
    #[error("it answered something else")]
    Other,
    #[error("this node stops")]
    Stopped,
}

type Dialed = Option<Result<Connection, AskError>>;

#[derive(Default)]
struct Slot {
    ready: Option<(Connection, Instant)>,
    /// A dial under way: whoever comes now waits for the same one.
    dialing: Option<watch::Receiver<Dialed>>,
    /// Dials that failed since the last one that did not, and when.
    failures: u32,
    failed: Option<Instant>,
    /// Its connection runs over TCP: when QUIC is tried again.
    better: Option<better::Better>,
}

/// All control connections of this node.
pub(super) struct Peers {
    dialer: Dialer,
    own_address: SocketAddr,
    slots: Mutex<BTreeMap<SocketAddr, Slot>>,
    roster: SharedRoster,
    jobs: mpsc::Sender<Job>,
    counters: Arc<Counters>,
    runtime: Handle,
    stop: CancellationToken,
    dials: Semaphore,
    sends: Semaphore,
    answers: Semaphore,
    takes: Semaphore,
    connections: Mutex<BTreeMap<SpiffeId, usize>>,
}

impl Peers {
    pub(super) fn new(
        dialer: Dialer,
        own_address: SocketAddr,
        roster: SharedRoster,
        jobs: mpsc::Sender<Job>,
        counters: Arc<Counters>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            dialer,
            own_address,
            slots: Mutex::default(),
            roster,
            jobs,
            counters,
            runtime: Handle::current(),
            stop,
            dials: Semaphore::new(DIALS),
            sends: Semaphore::new(SENDS),
            answers: Semaphore::new(ANSWERS),
            takes: Semaphore::new(TAKES),
            connections: Mutex::default(),
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A live connection to whoever accepts QUIC at an address; dialed if there is none, by one task for all who ask.
    async fn connection(self: &Arc<Self>, at: SocketAddr) -> Result<Connection, AskError> {
        let mut dialed = {
            let mut slots = self.slots();
            let slot = slots.entry(at).or_default();
            if let Some((connection, used)) = &mut slot.ready {
                if connection.lost().is_none() && !connection.is_silent() {
                    *used = Instant::now();
                    return Ok(connection.clone());
                }
                slot.ready = None;
            }
            if let Some(dialing) = &slot.dialing {
                dialing.clone()
            } else {
                let (result, dialing) = watch::channel(None);
                slot.dialing = Some(dialing.clone());
                let peers = Arc::clone(self);
                self.runtime.spawn(async move { peers.dial(at, &result).await });
                dialing
            }
        };
        match dialed.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(AskError::Stopped)),
            Err(_) => Err(AskError::Stopped),
        }
    }

    async fn dial(self: Arc<Self>, at: SocketAddr, result: &watch::Sender<Dialed>) {
        let outcome = if let Ok(_permit) = self.dials.try_acquire() {
            add(&self.counters.dials);
            let expected = self.roster.load().expected_at(at).cloned();
            let failures = self.slots().get(&at).map_or(0, |slot| slot.failures);
            let patient = failures % PATIENT_EVERY == PATIENT_EVERY - 1;
            let timeout = if patient { PATIENT_TIMEOUT } else { CONNECT_TIMEOUT };
            let connecting = self.dialer.connect(at, expected.as_ref(), Alpn::Control, timeout);
            tokio::select! {
                made = connecting => made.map_err(AskError::from),
                () = self.stop.cancelled() => Err(AskError::Stopped),
            }
        } else {
            add(&self.counters.dials_dropped);
            Err(AskError::Busy)
        };
        self.on_dialed(at, &outcome);
        result.send_replace(Some(outcome));
    }

    fn on_dialed(self: &Arc<Self>, at: SocketAddr, outcome: &Result<Connection, AskError>) {
        let mut slots = self.slots();
        let slot = slots.entry(at).or_default();
        slot.dialing = None;
        if let Ok(connection) = outcome {
            slot.ready = Some((connection.clone(), Instant::now()));
            slot.failures = 0;
            drop(slots);
            self.serve(connection.clone());
        } else {
            slot.failures += 1;
            slot.failed = Some(Instant::now());
            drop(slots);
            add(&self.counters.dials_failed);
        }
    }

    /// Keeps a connection that a peer made, if there is none to it yet.
    fn adopt(self: &Arc<Self>, connection: &Connection) {
        let roster = self.roster.load();
        let Some((_, member)) = roster.named(&connection.peer().spiffe) else { return };
        let mut slots = self.slots();
        let slot = slots.entry(member.address).or_default();
        if slot.is_bettered_by(connection) {
            let old = slot.ready.replace((connection.clone(), Instant::now()));
            drop(slots);
            self.retire(old);
        }
    }

    /// The peer uses a connection: it is not idle.
    fn touch(&self, connection: &Connection) {
        for slot in self.slots().values_mut() {
            if let Some((known, used)) = &mut slot.ready
                && known.id() == connection.id()
            {
                *used = Instant::now();
            }
        }
    }

    /// Lets go of a connection that does not serve any more. The next to ask dials anew.
    fn discard(&self, connection: &Connection) {
        let is_it = |slot: &Slot| slot.ready.as_ref().is_some_and(|(known, _)| known.id() == connection.id());
        for slot in self.slots().values_mut().filter(|slot| is_it(slot)) {
            slot.ready = None;
        }
    }

    /// Closes connections that nobody used for long, and forgets what is not needed.
    pub(super) fn sweep(&self) {
        let mut idle = Vec::new();
        self.slots().retain(|_, slot| {
            if slot.ready.as_ref().is_some_and(|(connection, _)| connection.lost().is_some()) {
                slot.ready = None;
            }
            let unused = slot.ready.as_ref().is_some_and(|(_, used)| used.elapsed() > IDLE);
            idle.extend(slot.ready.take_if(|_| unused));
            let failing = slot.failed.is_some_and(|failed| failed.elapsed() < IDLE);
            slot.ready.is_some() || slot.dialing.is_some() || failing
        });
        for (connection, _) in idle {
            connection.close(ErrorCode::Cancelled, "idle");
        }
    }

    /// Sends what chitchat queued, each message on a stream of its own, so that one peer never waits for another.
    pub(super) async fn run_sends(self: Arc<Self>, mut outbox: mpsc::Receiver<Outgoing>) {
        loop {
            let message = tokio::select! {
                message = outbox.recv() => message,
                () = self.stop.cancelled() => None,
            };
            let Some(message) = message else { return };
            let peers = Arc::clone(&self);
            // Waiting here fills the queue, which drops.
            let Ok(permit) = self.sends.acquire().await else { return };
            permit.forget();
            self.runtime.spawn(async move {
                let push = v1::ControlPush { kind: Some(v1::control_push::Kind::Chitchat(message.bytes.into())) };
                match peers.push(message.to, &push).await {
                    Ok(()) => add(&peers.counters.chitchat_sent),
                    Err(_) => add(&peers.counters.chitchat_dropped),
                }
                peers.sends.add_permits(1);
            });
        }
    }

    /// Tells all peers that a connection exists to that this node drains. Waits for none of them.
    pub(super) fn go_away(self: &Arc<Self>, reason: &str) {
        let at: Vec<SocketAddr> =
            self.slots().iter().filter(|(_, slot)| slot.ready.is_some()).map(|(at, _)| *at).collect();
        for at in at {
            let kind = v1::control_push::Kind::GoAway(v1::GoAway { reason: reason.to_owned() });
            let peers = Arc::clone(self);
            self.runtime.spawn(async move { peers.push(at, &v1::ControlPush { kind: Some(kind) }).await });
        }
    }

    /// Does a live member accept QUIC there, or this node itself?
    pub(super) fn is_met_at(&self, at: SocketAddr) -> bool {
        at == self.own_address || self.roster.load().alive.iter().any(|(_, address)| *address == at)
    }

    /// Does a member accept QUIC there, be it alive or not?
    pub(super) fn is_known_at(&self, at: SocketAddr) -> bool {
        self.roster.load().expected_at(at).is_some()
    }

    /// A seed admitted this node: what kept it from doing so is over.
    pub(super) fn on_seed_admitted(&self, at: SocketAddr) {
        for kind in [TroubleKind::NameTaken, TroubleKind::MemberLimit, TroubleKind::Seed] {
            self.counters.troubles.on_over(kind, &at.to_string());
        }
    }

    /// Counts and names why a seed did not admit this node, where that is worth a look.
    pub(super) fn on_seed_failed(&self, seed: &Seed, at: SocketAddr, error: &AskError) {
        let (reason, kind) = match error {
            AskError::Answer(answer) if answer.code == "name-taken" => ("refused", TroubleKind::NameTaken),
            AskError::Answer(answer) if answer.code == "member-limit" => ("refused", TroubleKind::MemberLimit),
            AskError::Answer(_) => ("refused", TroubleKind::Seed),
            AskError::Connect(ConnectError::Untrusted(_) | ConnectError::Refused(_)) => {
                ("untrusted", TroubleKind::Seed)
            }
            _ => {
                tracing::debug!(%seed, %at, %error, "no admission by seed");
                return;
            }
        };
        let text = format!("{error} (seed {seed} at {at})");
        self.counters.refuse("seed", reason, &text);
        self.counters.troubles.on_trouble(kind, &at.to_string(), text, Instant::now());
    }

    /// Hands the driver what came of something that it started.
    pub(super) async fn report(&self, job: Job) {
        // It may have ended: then nobody wants to know.
        self.jobs.send(job).await.ok();
    }

    /// Counts a connection that is to be served, if it may be.
    fn count_in(&self, peer: &SpiffeId) -> bool {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = connections.values().sum();
        let known = connections.get(peer).copied().unwrap_or(0);
        let room = all < MAX_CONNECTIONS && known < MAX_CONNECTIONS_EACH;
        if room {
            connections.insert(peer.clone(), known + 1);
        }
        room
    }

    fn count_out(&self, peer: &SpiffeId) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = connections.get_mut(peer) {
            *count -= 1;
            if *count == 0 {
                connections.remove(peer);
            }
        }
    }
}
