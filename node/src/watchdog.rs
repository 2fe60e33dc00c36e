//! A thread apart that notices when the gossip loop stands still, says so, and answers for it meanwhile.
//!
//! Gossip, DNS and the admin interface share one thread: if that is blocked nobody is left there to tell. So the
//! watchdog takes what waits at the admin sockets and answers it itself: `/live` that it is not, and why.

mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::admin::StandIn;
use crate::mesh::Heartbeat;
use watch::{LIMIT, News, PERIOD, Watch};

/// While a loop stands still the log says so this often.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// What the watchdog saw so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatchdogCounts {
    /// Times that the gossip loop stood still for longer than [`Watchdog::LIMIT`].
    pub stalls: u64,
    /// How long these lasted together, in milliseconds; the present one as far as it has come.
    pub stalled_ms: u64,
    /// Times that the whole process did not run for over a second: stopped, suspended, or starved of the processor.
    pub pauses: u64,
}

#[derive(Debug, Default)]
struct Counters {
    stalls: AtomicU64,
    stalled_ms: AtomicU64,
    pauses: AtomicU64,
}

/// A running watchdog; its thread ends with it.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    gossip: Arc<Heartbeat>,
    /// Of the thread that gossip shares with others.
    thread: Arc<Heartbeat>,
    counters: Counters,
    stop: Mutex<bool>,
    stopped: Condvar,
}

impl Watchdog {
    /// A loop that is late by this much stands still.
    pub const LIMIT: Duration = LIMIT;

    /// Watches the gossip loop and the thread that it runs on; `stand_in` answers while that thread can't.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(gossip: Arc<Heartbeat>, thread: Arc<Heartbeat>, stand_in: Option<StandIn>) -> std::io::Result<Self> {
        let (counters, stop, stopped) = (Counters::default(), Mutex::new(false), Condvar::new());
        let shared = Arc::new(Shared { gossip, thread, counters, stop, stopped });
        let watching = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watching.run(stand_in.as_ref()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// By how long the gossip loop is late, if it stands still.
    #[must_use]
    pub fn stalled(&self) -> Option<Duration> {
        let late = self.shared.gossip.overdue(Instant::now());
        (late >= LIMIT).then_some(late)
    }

    /// How often the gossip loop went round.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.shared.gossip.turns()
    }

    /// What it saw so far.
    #[must_use]
    pub fn counts(&self) -> WatchdogCounts {
        let Counters { stalls, stalled_ms, pauses } = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchdogCounts { stalls: read(stalls), stalled_ms: read(stalled_ms), pauses: read(pauses) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.stopped.notify_all();
        if let Some(thread) = self.thread.take() {
            // It ends within one answer of its stand-in; a panic in it is told by the panic itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, stand_in: Option<&StandIn>) {
        let mut watch = Watch::new(Instant::now());
        let (mut said, mut fed) = (None, None);
        let mut before = Duration::ZERO;
        while !self.wait() {
            let now = Instant::now();
            let late = self.gossip.overdue(now);
            match watch.poll(late, now) {
                News::Paused(time) => {
                    self.counters.pauses.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(?time, "this process did not run for a while: stopped, suspended, or starved");
                }
                News::Stalled => {
                    self.counters.stalls.fetch_add(1, Ordering::Relaxed);
                }
                News::Recovered => tracing::warn!(stood_still = ?before, "the gossip loop turns again"),
                News::None => {}
            }
            if watch.is_stalled() {
                let more = late.saturating_sub(before);
                self.counters.stalled_ms.fetch_add(millis(more), Ordering::Relaxed);
                before = late;
                self.on_stalled(late, &mut said, now);
                if self.thread.overdue(now) >= LIMIT
                    && let Some(stand_in) = stand_in
                {
                    stand_in.answer(&standing_still(late), &self.metrics());
                }
            } else {
                (before, said) = (Duration::ZERO, None);
                feed_systemd(&mut fed, now);
            }
        }
    }

    /// Waits for the next look. True if it is the end.
    fn wait(&self) -> bool {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stopped.wait_timeout_while(stop, PERIOD, |stop| !*stop);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn on_stalled(&self, late: Duration, said: &mut Option<Instant>, now: Instant) {
        if said.is_some_and(|at| now.saturating_duration_since(at) < SAY_AGAIN) {
            return;
        }
        *said = Some(now);
        let blocked = self.thread.overdue(now) >= LIMIT;
        let turns = self.gossip.turns();
        tracing::error!(
            ?late,
            turns,
            thread_blocked = blocked,
            "the gossip loop stands still: others will take this node for dead"
        );
    }

    /// What of the metrics can be told while those who know the others can't.
    fn metrics(&self) -> String {
        let stalls = self.counters.stalls.load(Ordering::Relaxed);
        format!(
            "# TYPE starling_gossip_stalled gauge\nstarling_gossip_stalled 1\n\
             # TYPE starling_gossip_stalls_total counter\nstarling_gossip_stalls_total {stalls}\n"
        )
    }
}

/// In words, for whoever asks.
pub(crate) fn standing_still(late: Duration) -> String {
    format!("the gossip loop has stood still for {:.1} s", late.as_secs_f64())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// systemd restarts a service of `WatchdogSec=` that says nothing: it hears of us while the loop turns.
fn feed_systemd(fed: &mut Option<Instant>, now: Instant) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    if fed.is_none_or(|at| now.saturating_duration_since(at) >= patience / 4) {
        *fed = Some(now);
        // Whoever should hear it is gone, or hears the next one.
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}
