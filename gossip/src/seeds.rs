//! When to dial whom that may admit this node: for ever, since a mesh that fell apart finds together again by its seeds.
//!
//! A pure machine. It takes `now` and a jitter, and says which targets are due.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The pauses between two dials of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure: nodes that are started together must not wait for one another. Doubles from there.
    pub first: Duration,
    /// After a success, at least this; after a loss, at most this.
    pub settled: Duration,
    /// What the doubling never passes.
    pub longest: Duration,
}

impl Default for Backoff {
    /// 100 ms, 200, 400 ... 5 s ... 120 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), settled: Duration::from_secs(5), longest: Duration::from_mins(2) }
    }
}

#[derive(Debug)]
struct Target {
    due: Option<Instant>,
    pause: Duration,
    /// Nobody configured it: it was a member once.
    hint: bool,
}

/// The seeds with their next dials. `S` tells one seed from another.
#[derive(Debug)]
pub struct Seeds<S> {
    backoff: Backoff,
    targets: BTreeMap<S, Target>,
}

/// Nobody to dial.
impl<S> Default for Seeds<S> {
    fn default() -> Self {
        Self { backoff: Backoff::default(), targets: BTreeMap::new() }
    }
}

impl<S: Ord + Clone> Seeds<S> {
    /// All are due at once. `hints` are dialed like seeds, until they are dropped.
    pub fn new(
        seeds: impl IntoIterator<Item = S>,
        hints: impl IntoIterator<Item = S>,
        backoff: Backoff,
        now: Instant,
    ) -> Self {
        let target = |hint| Target { due: Some(now), pause: backoff.first, hint };
        let hints = hints.into_iter().map(|hint| (hint, target(true)));
        // Collected last, a seed that is a hint too stays a seed.
        let targets = hints.chain(seeds.into_iter().map(|seed| (seed, target(false)))).collect();
        Self { backoff, targets }
    }

    /// When the next one is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.targets.values().filter_map(|target| target.due).min()
    }

    /// Those that are due. Each is not due again before [`Self::on_result`] was told.
    pub fn poll_due(&mut self, now: Instant) -> Vec<S> {
        let due = self.targets.iter_mut().filter(|(_, target)| target.due.is_some_and(|due| due <= now));
        due.map(|(seed, target)| {
            target.due = None;
            seed.clone()
        })
        .collect()
    }

    /// Takes how a dial went. `jitter` of 0 to 1 shortens the pause by up to a quarter, so that a fleet does not dial in step.
    pub fn on_result(&mut self, seed: &S, admitted: bool, jitter: f64, now: Instant) {
        let Some(target) = self.targets.get_mut(seed) else { return };
        if admitted {
            target.pause = target.pause.max(self.backoff.settled);
        }
        let pause = target.pause;
        target.due = Some(now + pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0));
        target.pause = (pause * 2).min(self.backoff.longest);
    }

    /// A node was lost or came back: dials may help now, so those that wait for long wait less.
    pub fn hasten(&mut self, now: Instant) {
        for target in self.targets.values_mut() {
            let soon = now + self.backoff.settled;
            if target.due.is_some_and(|due| due > soon) {
                target.due = Some(soon);
            }
            target.pause = target.pause.min(self.backoff.settled);
        }
    }

    /// Drops what was only a hint.
    pub fn forget_hints(&mut self) {
        self.targets.retain(|_, target| !target.hint);
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn pauses(seeds: &mut Seeds<u8>, admitted: bool, count: usize, now: &mut Instant) -> Vec<u64> {
        let step = |_| {
            let due = seeds.poll_timeout().unwrap();
            let pause = due - *now;
            *now = due;
            for seed in seeds.poll_due(*now) {
                seeds.on_result(&seed, admitted, 0.0, *now);
            }
            u64::try_from(pause.as_millis()).unwrap()
        };
        (0..count).map(step).collect()
    }

    #[test]
    fn a_seed_that_does_not_answer_is_dialed_fast_then_ever_slower_and_never_given_up() {
        let mut now = Instant::now();
        let mut seeds = Seeds::new([1], [], Backoff::default(), now);
        let expected = [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 120_000, 120_000];
        assert_eq!(pauses(&mut seeds, false, expected.len(), &mut now), expected);
    }

    #[test]
    fn a_seed_that_admitted_us_is_dialed_again_from_five_seconds_on() {
        let mut now = Instant::now();
        let mut seeds = Seeds::new([1], [], Backoff::default(), now);
        assert_eq!(pauses(&mut seeds, true, 5, &mut now), [0, 5_000, 10_000, 20_000, 40_000]);
    }

    #[test]
    fn a_seed_under_way_is_not_due() {
        let now = Instant::now();
        let mut seeds = Seeds::new([1, 2], [], Backoff::default(), now);
        assert_eq!(seeds.poll_due(now), [1, 2]);
        assert_eq!((seeds.poll_due(now), seeds.poll_timeout()), (vec![], None));
        seeds.on_result(&2, false, 1.0, now);
        assert_eq!(seeds.poll_timeout(), Some(now + Duration::from_millis(75)));
    }

    #[test]
    fn hints_are_dialed_until_they_are_dropped_and_a_seed_among_them_stays() {
        let now = Instant::now();
        let mut seeds = Seeds::new([1], [1, 2], Backoff::default(), now);
        assert_eq!(seeds.poll_due(now), [1, 2]);
        for target in [1, 2] {
            seeds.on_result(&target, false, 0.0, now);
        }
        seeds.forget_hints();
        assert_eq!(seeds.poll_due(now + Duration::from_secs(1)), [1]);
    }

    #[test]
    fn a_loss_makes_long_pauses_short() {
        let mut now = Instant::now();
        let mut seeds = Seeds::new([1], [], Backoff::default(), now);
        pauses(&mut seeds, true, 8, &mut now);
        assert!(seeds.poll_timeout().unwrap() > now + Duration::from_mins(1));
        seeds.hasten(now);
        assert_eq!(seeds.poll_timeout(), Some(now + Duration::from_secs(5)));
    }
}
