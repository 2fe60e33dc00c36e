use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Outcome;
use crate::ejection::Ejection;
use crate::latency::PeakEwma;

/// What a node has learnt of one endpoint: shared by its shards, plain atomics, one cache line.
///
/// Times are nanoseconds on the node's [`Timeline`](crate::Timeline).
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct EndpointStats {
    in_flight: AtomicU32,
    latency: PeakEwma,
    ejection: Ejection,
    chosen: AtomicU64,
}

/// An endpoint's numbers at one moment, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Requests of this node that it is serving now.
    pub in_flight: u32,
    /// The latency estimate; `None`: nothing was heard of it in the last [`TAU`](crate::TAU), or it failed and
    /// [`PENALTY_LASTS`](crate::PENALTY_LASTS) is over.
    pub latency: Option<Duration>,
    /// Failures in a row.
    pub failures: u32,
    /// How much longer it is ejected; `None`: it is not.
    pub ejected_for: Option<Duration>,
    /// How often this node chose it.
    pub chosen: u64,
}

impl EndpointStats {
    /// Requests of this node that it is serving now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Is it left out now?
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        self.ejection.is_ejected(now)
    }

    pub(crate) fn cost(&self, now: u64) -> f64 {
        self.latency.cost(self.in_flight(), now)
    }

    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.chosen.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// What became of a request from `started` to `now`. `answered`: it was served before, and this is about what
    /// followed, so its time is no latency.
    pub(crate) fn on_outcome(&self, outcome: Outcome, answered: bool, started: u64, now: u64, jitter: u16) {
        let sample = if answered { 0 } else { now.saturating_sub(started) };
        match outcome {
            Outcome::Served => {
                if !answered {
                    self.latency.on_answer(sample, now);
                }
                self.ejection.on_success(started, now);
            }
            Outcome::Failed => {
                self.latency.on_failure(sample, now);
                if self.ejection.on_failure(started, now, jitter) {
                    // When it comes back it is unknown, which gives it one request at a time until it has answered.
                    self.latency.forget();
                }
            }
            Outcome::Unanswered => self.latency.on_silence(sample, now),
            Outcome::Unrelated => {}
        }
    }

    pub(crate) fn snapshot(&self, now: u64) -> StatsSnapshot {
        // The estimate is positive and below 2^63 ns.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let latency = self.latency.at(now).map(|nanos| Duration::from_nanos(nanos as u64));
        let left = self.ejection.left(now);
        StatsSnapshot {
            in_flight: self.in_flight(),
            latency,
            failures: self.ejection.failures(),
            ejected_for: (left > 0).then(|| Duration::from_nanos(left)),
            chosen: self.chosen.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn all_that_is_known_of_an_endpoint_fits_one_cache_line() {
        assert_eq!((size_of::<EndpointStats>(), align_of::<EndpointStats>()), (64, 64));
    }

    #[test]
    fn every_outcome_feeds_latency_and_ejection_as_the_table_says() {
        // (outcome, was answered before) -> (latency known after in ms, failures in a row), from 4 failures and 20 ms
        for (outcome, answered, millis, failures) in [
            (Outcome::Served, false, Some(100), 0),
            (Outcome::Served, true, Some(20), 0),
            (Outcome::Failed, false, None, 5),
            (Outcome::Failed, true, None, 5),
            (Outcome::Unanswered, false, Some(100), 4),
            (Outcome::Unanswered, true, Some(20), 4),
            (Outcome::Unrelated, false, Some(20), 4),
            (Outcome::Unrelated, true, Some(20), 4),
        ] {
            let stats = EndpointStats::default();
            (0..4).for_each(|_| stats.on_outcome(Outcome::Failed, false, S, S, 0));
            stats.latency.forget();
            stats.latency.on_answer(S / 50, S + S / 10);
            stats.on_outcome(outcome, answered, S, S + S / 10, 0);
            let seen = stats.snapshot(S + S / 10);
            let got = seen.latency.map(|latency| latency.as_millis());
            assert_eq!((got, seen.failures), (millis, failures), "{outcome:?}, answered: {answered}");
            assert_eq!(seen.ejected_for.is_some(), failures == 5);
        }
    }
}
