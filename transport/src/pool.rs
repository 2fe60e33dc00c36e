//! Warm connections of one shard: a machine that decides, and a task that does.

mod driver;
mod machine;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use starling_proto::SpiffeId;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use self::machine::{Answer, Link, Machine, Settings};
use crate::{Alpn, ConnectError, Connection, Dialer};

/// A peer to connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The name its certificate must carry.
    pub spiffe: SpiffeId,
    /// Where it accepts connections.
    pub address: SocketAddr,
}

/// Times and bounds of a pool.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// What its connections are for.
    pub alpn: Alpn,
    /// How long one dial may take.
    pub connect_timeout: Duration,
    /// Connections to peers that are not kept warm are let go when unused for so long.
    pub idle: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            alpn: Alpn::Data,
            // Room for two lost packets on a near network; a caller retries elsewhere meanwhile.
            connect_timeout: Duration::from_secs(1),
            idle: Duration::from_mins(5),
        }
    }
}

/// A thousand peers that must all be dialed at once get their turn, so many at a time.
const DIALS: usize = 32;
/// After a failed dial, the next waits this long and then twice as long each time …
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// … but no longer than this: a peer that returns is to be back in service within three seconds.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Silence is found well within this time.
const EXAMINED_FOR: Duration = Duration::from_millis(900);
/// A peer that takes connections and drops them again within this time is backed off from like one that takes none.
const SETTLED: Duration = Duration::from_secs(2);
/// Where TCP stands in for QUIC, QUIC is tried again after this, and then twice as long each time …
const BETTER_MIN: Duration = Duration::from_secs(5);
/// … but no longer than this: a dial every minute costs next to nothing.
const BETTER_MAX: Duration = Duration::from_mins(1);
/// A silent connection may heal for so long while another carrier works. With the time to notice the silence and to make the
/// other connection, requests that may be repeated are on it well within two seconds.
const GIVEN_UP: Duration = Duration::from_millis(600);
/// … and has worked for so long.
const REACHED: Duration = Duration::from_millis(200);

/// Connections of one shard to the peers it talks to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    driver: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    machine: Mutex<Machine<Connection, ConnectError>>,
    dialer: Arc<Dialer>,
    settings: PoolSettings,
    /// The driver has something to look at.
    wake: Notify,
    /// Something came of a dial, or a connection changed.
    changed: Notify,
    linked: watch::Sender<Arc<BTreeSet<SpiffeId>>>,
}

impl Link for Connection {
    fn is_silent(&self) -> bool {
        Self::is_silent(self)
    }

    fn is_leaving(&self) -> bool {
        Self::is_leaving(self)
    }

    fn stands_in(&self) -> bool {
        Self::stands_in(self)
    }
}

impl Pool {
    /// A pool that dials through `dialer`, driven by a task on the current runtime.
    pub fn start(dialer: Arc<Dialer>, settings: PoolSettings) -> Self {
        let machine = Machine::new(Settings {
            dials: DIALS,
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
            settled: SETTLED,
            idle: settings.idle,
            better_min: BETTER_MIN,
            better_max: BETTER_MAX,
            given_up: GIVEN_UP,
            reached: REACHED,
        });
        let shared = Arc::new(Shared {
            machine: Mutex::new(machine),
            dialer,
            settings,
            wake: Notify::new(),
            changed: Notify::new(),
            linked: watch::channel(Arc::new(BTreeSet::new())).0,
        });
        let driver = tokio::spawn(driver::drive(shared.clone())).abort_handle();
        Self(Arc::new(Handle { shared, driver }))
    }

    /// Keeps these peers connected from now on, and only these; others are let go once unused.
    pub fn warm(&self, targets: &[Target]) {
        let targets = targets.iter().map(|target| (target.spiffe.clone(), target.address));
        self.0.shared.machine().handle_warm(targets, Instant::now());
        self.0.shared.wake.notify_one();
    }

    /// A connection to this peer that is not silent and not draining. Returns at once when there is one; else waits for
    /// the one dial that serves all who wait.
    ///
    /// # Errors
    /// If the dial fails, or failed a moment ago.
    pub async fn connection(&self, target: &Target) -> Result<Connection, ConnectError> {
        loop {
            let changed = self.0.shared.changed.notified();
            if let Some(outcome) = self.try_connection(target) {
                return outcome;
            }
            changed.await;
        }
    }

    /// Like [`Self::connection`], but `None` instead of waiting (a dial is started).
    pub fn try_connection(&self, target: &Target) -> Option<Result<Connection, ConnectError>> {
        let answer = self.0.shared.machine().handle_request(&target.spiffe, target.address, Instant::now());
        match answer {
            Answer::Ready(connection) => Some(Ok(connection)),
            Answer::Failed(error) => Some(Err(error)),
            Answer::Wait => {
                self.0.shared.wake.notify_one();
                None
            }
        }
    }

    /// Is this peer connected, but silent on all connections? Then another should be chosen.
    pub fn is_silent(&self, spiffe: &SpiffeId) -> bool {
        self.0.shared.machine().is_silent(spiffe)
    }

    /// Looks whether the connections to this peer still carry anything, as if a request were outstanding: somebody doubts
    /// that it lives, and an idle connection does not show it. What is found shows in [`Pool::is_silent`] and
    /// [`Pool::linked`]. To be called on the shard's runtime.
    pub fn examine(&self, spiffe: &SpiffeId) {
        for connection in self.0.shared.machine().speaking(spiffe) {
            let outstanding = connection.begin_request();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(EXAMINED_FOR, outstanding.connection().silent()).await;
            });
        }
    }

    /// Would a request for this peer have to wait, since all its connections are silent or draining, or none could be made
    /// yet? Then another should be chosen. False for a peer that was never asked for.
    pub fn is_unusable(&self, spiffe: &SpiffeId) -> bool {
        self.0.shared.machine().is_unusable(spiffe)
    }

    /// The peers with a connection that works, each time that changes.
    pub fn linked(&self) -> watch::Receiver<Arc<BTreeSet<SpiffeId>>> {
        self.0.shared.linked.subscribe()
    }
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, Machine<Connection, ConnectError>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.driver.abort();
        self.shared.machine().clear();
    }
}
