use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use crate::Timeline;

/// Retries allowed for each hundred requests.
pub const RETRY_SHARE: u64 = 20;
/// Retries allowed each second whatever the load, so that a quiet service may retry too.
pub const RETRIES_PER_SECOND: u64 = 1;
const BUCKETS: u64 = 10;
const PLACES: usize = 10;

/// How many retries one service may be sent: [`RETRY_SHARE`] percent of its requests and [`RETRIES_PER_SECOND`], over
/// the current second and the nine before it.
///
/// It keeps a failing service from being struck by its callers: load grows by a fifth at most. Shards share it. It is
/// exact under concurrency: a retry is counted first and taken back if that was too many, so that two shards may both
/// be refused the last one, and never both given it.
#[derive(Debug)]
pub struct RetryBudget {
    timeline: Timeline,
    buckets: [AtomicU64; PLACES],
}

/// One second: `| its number: 20 bits | retries: 20 bits | requests: 24 bits |`. Counts saturate; numbers come round
/// after 12 days, and a bucket so old is met again only by a service that was asked in no second between.
#[derive(Clone, Copy)]
struct Second(u64);

impl Second {
    const REQUESTS_MAX: u64 = (1 << 24) - 1;
    const RETRIES_MAX: u64 = (1 << 20) - 1;
    const NUMBERS: u64 = 1 << 20;

    const fn new(number: u64) -> Self {
        Self((number % Self::NUMBERS) << 44)
    }

    const fn is(self, number: u64) -> bool {
        self.0 >> 44 == number % Self::NUMBERS
    }

    const fn requests(self) -> u64 {
        self.0 & Self::REQUESTS_MAX
    }

    const fn retries(self) -> u64 {
        (self.0 >> 24) & Self::RETRIES_MAX
    }

    const fn and_request(self) -> Self {
        if self.requests() < Self::REQUESTS_MAX { Self(self.0 + 1) } else { self }
    }

    const fn and_retry(self) -> Option<Self> {
        if self.retries() < Self::RETRIES_MAX { Some(Self(self.0 + (1 << 24))) } else { None }
    }

    const fn less_retry(self) -> Option<Self> {
        if self.retries() > 0 { Some(Self(self.0 - (1 << 24))) } else { None }
    }
}

impl RetryBudget {
    /// An unused budget.
    #[must_use]
    pub fn new(timeline: Timeline) -> Self {
        // A fresh bucket names a second that its place never holds, so that it counts as old.
        Self { timeline, buckets: std::array::from_fn(|at| AtomicU64::new(Second::new(at as u64 + 1).0)) }
    }

    /// Counts a request: first tries only.
    pub fn on_request(&self, now: Instant) {
        let second = self.timeline.seconds(now);
        _ = self.update(second, |bucket| Some(bucket.and_request()));
    }

    /// Takes one retry out of the budget; false if it is spent.
    #[must_use]
    pub fn withdraw(&self, now: Instant) -> bool {
        let second = self.timeline.seconds(now);
        if !self.update(second, Second::and_retry) {
            return false;
        }
        let (requests, retries) = self.sums(second);
        let granted = retries <= allowance(requests);
        if !granted {
            _ = self.update(second, Second::less_retry);
        }
        granted
    }

    /// Retries that may still be made now.
    #[must_use]
    pub fn remaining(&self, now: Instant) -> u64 {
        let (requests, retries) = self.sums(self.timeline.seconds(now));
        allowance(requests).saturating_sub(retries)
    }

    /// Requests of the last ten seconds.
    #[must_use]
    pub fn requests(&self, now: Instant) -> u64 {
        self.sums(self.timeline.seconds(now)).0
    }

    /// Changes the bucket of a second, emptying it first if it holds an older one. False if `change` declines.
    fn update(&self, second: u64, change: impl Fn(Second) -> Option<Second>) -> bool {
        self.bucket(second)
            .try_update(SeqCst, SeqCst, |bits| {
                let bucket = Second(bits);
                change(if bucket.is(second) { bucket } else { Second::new(second) }).map(|bucket| bucket.0)
            })
            .is_ok()
    }

    /// (requests, retries) of the window that ends with this second.
    fn sums(&self, second: u64) -> (u64, u64) {
        let oldest = second.saturating_sub(BUCKETS - 1);
        (oldest..=second).fold((0, 0), |(requests, retries), number| {
            let bucket = Second(self.bucket(number).load(SeqCst));
            if bucket.is(number) {
                (requests + bucket.requests(), retries + bucket.retries())
            } else {
                (requests, retries)
            }
        })
    }

    fn bucket(&self, second: u64) -> &AtomicU64 {
        // Below 10: it fits.
        #[allow(clippy::cast_possible_truncation)]
        &self.buckets[(second % BUCKETS) as usize]
    }
}

const fn allowance(requests: u64) -> u64 {
    requests * RETRY_SHARE / 100 + RETRIES_PER_SECOND * BUCKETS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::epoch;

    fn budget() -> (RetryBudget, impl Fn(u64) -> Instant) {
        let start = epoch();
        (RetryBudget::new(Timeline::starting(start)), move |millis| start + Duration::from_millis(millis))
    }

    fn drain(budget: &RetryBudget, now: Instant) -> usize {
        std::iter::repeat_with(|| budget.withdraw(now)).take_while(|granted| *granted).count()
    }

    #[test]
    fn without_requests_ten_retries_are_allowed_in_ten_seconds() {
        let (budget, at) = budget();
        assert_eq!(drain(&budget, at(0)), 10);
        assert_eq!(drain(&budget, at(9_999)), 0);
        assert_eq!(drain(&budget, at(10_000)), 10);
    }

    #[test]
    fn each_five_requests_allow_one_retry_more() {
        let (budget, at) = budget();
        (0..104).for_each(|_| budget.on_request(at(500)));
        assert_eq!(budget.remaining(at(500)), 30);
        assert_eq!(drain(&budget, at(900)), 30);
        assert_eq!(budget.remaining(at(900)), 0);
    }

    #[test]
    fn a_second_leaves_the_window_with_its_requests_and_its_retries() {
        let (budget, at) = budget();
        (0..50).for_each(|_| budget.on_request(at(0)));
        assert_eq!(drain(&budget, at(3_000)), 20);
        assert_eq!(budget.remaining(at(9_999)), 0);
        // The requests are gone, the retries are not: more were made than are allowed now.
        assert_eq!(budget.remaining(at(10_000)), 0);
        assert_eq!(budget.remaining(at(13_000)), 10);
    }

    #[test]
    fn a_bucket_is_empty_when_its_place_comes_round() {
        let (budget, at) = budget();
        (0..1_000).for_each(|_| budget.on_request(at(2_000)));
        for later in [12_000, 22_000, 1_002_000] {
            assert_eq!(budget.remaining(at(later)), 10, "{later} ms");
        }
    }

    #[test]
    fn counts_saturate_and_never_reach_their_neighbours() {
        let full = Second(Second::new(7).0 | Second::REQUESTS_MAX | Second::RETRIES_MAX << 24);
        assert_eq!(full.and_request().0, full.0);
        assert!(full.and_retry().is_none());
        assert!(full.is(7) && full.requests() == Second::REQUESTS_MAX && full.retries() == Second::RETRIES_MAX);
        assert!(Second::new(7).less_retry().is_none());
    }

    proptest! {
        /// Against a list of all that happened.
        #[test]
        fn the_budget_is_what_the_last_ten_seconds_allow_and_is_never_exceeded(
            steps in prop::collection::vec((prop_oneof![Just(0u64), 0u64..500, 0u64..12_000], 0usize..40, 0usize..20), 1..60),
        ) {
            let (budget, at) = budget();
            let (mut millis, mut requests, mut retries) = (0, Vec::new(), Vec::new());
            for (pause, asked, wanted) in steps {
                millis += pause;
                let second = millis / 1_000;
                let recent = |all: &[u64]| all.iter().filter(|at| **at + 10 > second).count();
                for _ in 0..asked {
                    budget.on_request(at(millis));
                    requests.push(second);
                }
                for _ in 0..wanted {
                    let allowed = recent(&requests) / 5 + 10;
                    let granted = budget.withdraw(at(millis));
                    prop_assert_eq!(granted, recent(&retries) < allowed);
                    if granted {
                        retries.push(second);
                    }
                }
                let left = (recent(&requests) / 5 + 10).saturating_sub(recent(&retries));
                prop_assert_eq!(budget.remaining(at(millis)), left as u64);
            }
        }
    }

    #[test]
    fn shards_that_race_for_the_last_retry_never_get_more_than_there_are() {
        let (budget, at) = budget();
        (0..500).for_each(|_| budget.on_request(at(0)));
        let granted: usize = std::thread::scope(|scope| {
            let shards: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..500).filter(|_| budget.withdraw(at(0))).count())).collect();
            shards.into_iter().map(|shard| shard.join().unwrap()).sum()
        });
        assert!(granted <= 110, "{granted} retries of 110");
        assert_eq!(drain(&budget, at(0)) + granted, 110);
    }
}
