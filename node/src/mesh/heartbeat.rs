use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a loop promises a watchdog: whenever it waits, it says until when at the most. So an idle loop is not taken for
/// one that stands still, and a busy one is noticed as soon as it keeps others waiting.
#[derive(Debug)]
pub struct Heartbeat {
    base: Instant,
    /// Nanoseconds from `base` on.
    due: AtomicU64,
    turns: AtomicU64,
}

/// Of a loop that has ended: it owes nothing.
const NEVER: u64 = u64::MAX;

impl Heartbeat {
    /// Of a loop that starts now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { base: now, due: AtomicU64::new(0), turns: AtomicU64::new(0) }
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(NEVER - 1)
    }

    /// The loop waits now; it is back at `due` at the latest.
    pub fn promise(&self, due: Instant) {
        self.due.store(self.nanos(due), Ordering::Relaxed);
    }

    /// The loop is back, and works from now on.
    pub fn turn(&self, now: Instant) {
        self.due.store(self.nanos(now), Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// The loop has ended, as it should.
    pub fn end(&self) {
        self.due.store(NEVER, Ordering::Relaxed);
    }

    /// By how long the loop is late: its work since it last waited counts as well.
    #[must_use]
    pub fn overdue(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.nanos(now).saturating_sub(self.due.load(Ordering::Relaxed)))
    }

    /// How often the loop went round.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_overdue_when_it_broke_its_promise_and_while_it_works() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let heartbeat = Heartbeat::new(start);
        heartbeat.promise(at(5_000));
        assert_eq!(heartbeat.overdue(at(4_999)), Duration::ZERO);
        assert_eq!(heartbeat.overdue(at(5_300)), Duration::from_millis(300));
        heartbeat.turn(at(5_300));
        assert_eq!(heartbeat.turns(), 1);
        assert_eq!(heartbeat.overdue(at(7_300)), Duration::from_secs(2));
        heartbeat.promise(at(8_000));
        heartbeat.turn(at(7_400));
        assert_eq!(heartbeat.turns(), 2);
        heartbeat.end();
        assert_eq!(heartbeat.overdue(at(1_000_000)), Duration::ZERO);
    }
}
