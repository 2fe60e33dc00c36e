//! When to look for whom that may admit this node: for ever, since a mesh that fell apart finds together again by its
//! seeds.
//!
//! A pure machine. It takes `now` and a jitter, and says which targets are due. Whoever drives it looks first whether a
//! member that is up has a target's address: then there is nobody to dial.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The pauses between two looks at one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure: nodes that are started together must not wait for one another. Doubles from there.
    pub first: Duration,
    /// After a success, at least this; after a loss, at most this.
    pub settled: Duration,
    /// What the doubling never passes for a seed where nobody known was found: islands find together within it.
    pub stranger: Duration,
    /// For a seed that refused this node, and for one where a member is down: members are dialed apart from this.
    pub lost: Duration,
    /// For all else: looks that find what they sought, and hints.
    pub longest: Duration,
    /// Hints are tried one after another, so far apart: the first that answers makes most others needless.
    pub stagger: Duration,
}

impl Default for Backoff {
    /// 100 ms, 200, 400 ... 6 s, 30 s, or 120 s; 50 ms between hints.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            settled: Duration::from_secs(5),
            stranger: Duration::from_secs(6),
            lost: Duration::from_secs(30),
            longest: Duration::from_mins(2),
            stagger: Duration::from_millis(50),
        }
    }
}

/// What came of a look at a target; of several addresses, the last of these that came of any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sought {
    /// A member that is up is there, or this node itself: nobody was dialed.
    Met,
    /// It was dialed and admitted this node.
    Admitted,
    /// It was dialed and refused this node.
    Refused,
    /// Nobody answered where a member that is down was.
    Lost,
    /// Nobody answered, and nobody is known there.
    Silent,
}

#[derive(Debug)]
struct Target {
    due: Option<Instant>,
    pause: Duration,
    /// Nobody configured it: it was a member once.
    hint: bool,
    /// The last look found a member that is up.
    met: bool,
}

/// The seeds with their next looks. `S` tells one seed from another.
#[derive(Debug)]
pub struct Seeds<S> {
    backoff: Backoff,
    targets: BTreeMap<S, Target>,
}

/// Nobody to look for.
impl<S> Default for Seeds<S> {
    fn default() -> Self {
        Self { backoff: Backoff::default(), targets: BTreeMap::new() }
    }
}

impl<S: Ord + Clone> Seeds<S> {
    /// Seeds are due at once, hints one after another in their order. `hints` are dropped once they are met.
    pub fn new(
        seeds: impl IntoIterator<Item = S>,
        hints: impl IntoIterator<Item = S>,
        backoff: Backoff,
        now: Instant,
    ) -> Self {
        let target = |hint| Target { due: Some(now), pause: backoff.first, hint, met: false };
        let hints = hints.into_iter().map(|hint| (hint, target(true)));
        // Collected last, a seed that is a hint too stays a seed.
        let targets = hints.chain(seeds.into_iter().map(|seed| (seed, target(false)))).collect();
        let mut seeds = Self { backoff, targets };
        seeds.put_off_hints(now);
        seeds
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

    /// Takes what came of a look. `jitter` of 0 to 1 shortens the pause by up to a quarter, so that a fleet does not dial in
    /// step.
    pub fn on_result(&mut self, seed: &S, sought: Sought, jitter: f64, now: Instant) {
        let Some(target) = self.targets.get_mut(seed) else { return };
        let found = matches!(sought, Sought::Met | Sought::Admitted);
        if found && target.hint {
            self.targets.remove(seed);
        } else {
            let most = match sought {
                _ if target.hint => self.backoff.longest,
                Sought::Met | Sought::Admitted => self.backoff.longest,
                Sought::Refused | Sought::Lost => self.backoff.lost,
                Sought::Silent => self.backoff.stranger,
            };
            let least = if found { self.backoff.settled } else { Duration::ZERO };
            let pause = target.pause.max(least).min(most);
            target.due = Some(now + pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0));
            target.pause = pause * 2;
            target.met = sought == Sought::Met;
        }
        if sought == Sought::Admitted {
            // Most of the others come with it.
            self.put_off_hints(now + self.backoff.settled);
        }
    }

    /// A member was lost. It may be one of those that were met: they are looked at soon. Nobody else is, or each loss would
    /// make all nodes exchange states with seeds.
    pub fn hasten(&mut self, now: Instant) {
        for target in self.targets.values_mut().filter(|target| target.met) {
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

    /// Hints that are not under way wait until then, and for one another.
    fn put_off_hints(&mut self, until: Instant) {
        let mut at = until;
        for due in self.targets.values_mut().filter(|target| target.hint).filter_map(|target| target.due.as_mut()) {
            at += self.backoff.stagger;
            *due = at.max(*due);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;
