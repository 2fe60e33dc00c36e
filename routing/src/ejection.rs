use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::timeline::nanos;

/// Failures in a row after which an endpoint is left out for a while.
pub const FAILURES_TO_EJECT: u32 = 5;
/// How long the first time, before jitter; each further time twice as long.
pub const EJECTION_MIN: Duration = Duration::from_secs(1);
/// The longest time, jitter included. An endpoint that was good for as long begins at [`EJECTION_MIN`] again.
pub const EJECTION_MAX: Duration = Duration::from_mins(1);

/// Passive ejection of one endpoint.
///
/// ```text
///            5 failures in a row                    time is up
/// Counting ───────────────────────> Ejected ───────────────────────> Returning
///    ^                              |     ^     one failure            |    |
///    |    success of a new request  |     └────────────────────────────┘    |
///    └──────────────────────────────┴──────────────── one success ──────────┘
/// ```
/// What began before the last ejection is old news and changes nothing: of twenty requests that fail together the first
/// five eject, and the rest do not prolong it.
///
/// One decision is made for the whole node: shards share the atomics, and of several that count the fifth failure one
/// wins.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    /// In a row.
    failures: AtomicU32,
    /// Ejections without a good time of [`EJECTION_MAX`] between.
    trips: AtomicU32,
    /// When the last one began; 0: never.
    since: AtomicU64,
    /// When it ends or ended; 0: never.
    until: AtomicU64,
}

impl Ejection {
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        self.until.load(Relaxed) > now
    }

    /// How much longer, in nanoseconds; 0: not ejected.
    pub(crate) fn left(&self, now: u64) -> u64 {
        self.until.load(Relaxed).saturating_sub(now)
    }

    /// Failures in a row, as far as they count.
    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    /// A request that began at `started` succeeded: the row of failures ends, and so does an ejection.
    pub(crate) fn on_success(&self, started: u64, now: u64) {
        if started < self.since.load(Relaxed) {
            return;
        }
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.is_ejected(now) {
            self.until.store(now, Relaxed);
        }
    }

    /// A request that began at `started` failed. `jitter` is a random number. True if this ejects the endpoint.
    pub(crate) fn on_failure(&self, started: u64, now: u64, jitter: u16) -> bool {
        let until = self.until.load(Relaxed);
        if until > now || started < self.since.load(Relaxed) {
            return false;
        }
        // Bounded: a row grows by at most the requests in flight, each failing once, before it ejects.
        if self.failures.fetch_add(1, Relaxed).saturating_add(1) < FAILURES_TO_EJECT {
            return false;
        }
        let good_for = now - until;
        let trips = if good_for > nanos(EJECTION_MAX) { 0 } else { self.trips.load(Relaxed) };
        let ejected = self.until.compare_exchange(until, now + length(trips, jitter), Relaxed, Relaxed).is_ok();
        if ejected {
            self.since.store(now, Relaxed);
            self.trips.store(trips.saturating_add(1), Relaxed);
        }
        ejected
    }
}

/// In nanoseconds: doubled for each trip before, up to a quarter longer by jitter, so that what fell together does not
/// come back together.
fn length(trips: u32, jitter: u16) -> u64 {
    let base = nanos(EJECTION_MIN) << trips.min(6);
    (base + base / 4 * u64::from(jitter) / u64::from(u16::MAX)).min(nanos(EJECTION_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    /// Four failures: the next one ejects.
    fn counting() -> Ejection {
        let ejection = Ejection::default();
        (0..4).for_each(|_| assert!(!ejection.on_failure(S, S, 0)));
        ejection
    }

    /// Since 10 s, until 11 s.
    fn ejected() -> Ejection {
        let ejection = counting();
        assert!(ejection.on_failure(S, 10 * S, 0));
        ejection
    }

    #[test]
    fn every_input_in_every_state_does_what_the_diagram_says() {
        #[derive(Clone, Copy)]
        enum Input {
            Success,
            Failure,
        }
        use Input::{Failure, Success};
        // (state, when the request began and ended in s, input) -> (ejected until in s, failures in a row)
        for (state, make, began, ended, input, until, failures) in [
            ("new", Ejection::default as fn() -> Ejection, 1, 2, Success, 0, 0),
            ("new", Ejection::default, 1, 2, Failure, 0, 1),
            ("counting", counting, 1, 2, Success, 0, 0),
            ("counting", counting, 1, 2, Failure, 3, 5),
            ("ejected, old request", ejected, 9, 10, Success, 11, 5),
            ("ejected, old request", ejected, 9, 10, Failure, 11, 5),
            ("ejected, new request", ejected, 10, 10, Success, 10, 0),
            ("ejected, new request", ejected, 10, 10, Failure, 11, 5),
            ("returning, old request", ejected, 9, 12, Success, 11, 5),
            ("returning, old request", ejected, 9, 12, Failure, 11, 5),
            ("returning, new request", ejected, 11, 12, Success, 11, 0),
            ("returning, new request", ejected, 11, 12, Failure, 14, 6),
        ] {
            let ejection = make();
            match input {
                Success => ejection.on_success(began * S, ended * S),
                Failure => _ = ejection.on_failure(began * S, ended * S, 0),
            }
            let got = (ejection.until.load(Relaxed) / S, ejection.failures());
            assert_eq!(got, (until, failures), "{state}, request from {began} to {ended}");
        }
    }

    #[test]
    fn each_ejection_is_twice_as_long_until_the_longest_and_a_good_minute_forgives() {
        let ejection = counting();
        let mut now = 10 * S;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(ejection.on_failure(now, now, 0));
            assert_eq!(ejection.left(now), seconds * S);
            now += seconds * S;
        }
        now += 61 * S;
        assert!(ejection.on_failure(now, now, 0), "the row of failures has not ended");
        assert_eq!(ejection.left(now), S);
    }

    #[test]
    fn of_many_failures_at_once_one_ejects() {
        let ejection = Ejection::default();
        let ejections = (0..20).filter(|_| ejection.on_failure(S, 2 * S, 0)).count();
        assert_eq!((ejections, ejection.left(2 * S)), (1, S));
    }

    proptest! {
        #[test]
        fn an_ejection_is_never_shorter_or_longer_than_its_bounds(trips: u32, jitter: u16) {
            let length = Duration::from_nanos(length(trips, jitter));
            prop_assert!((EJECTION_MIN..=EJECTION_MAX).contains(&length));
        }

        #[test]
        fn fewer_than_five_failures_in_a_row_never_eject(rows in prop::collection::vec(0usize..5, 1..30)) {
            let ejection = Ejection::default();
            let mut now = S;
            for failures in rows {
                for _ in 0..failures {
                    now += 1;
                    prop_assert!(!ejection.on_failure(now, now, 0));
                }
                ejection.on_success(now, now);
            }
        }
    }
}
