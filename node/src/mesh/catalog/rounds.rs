//! Which rounds of chitchat go out.
//!
//! Each names every member: 18 KB in a mesh of 250, and as much again in the answer. The packets of gossip tell already
//! whether anything is missing here, so while nothing is, a round goes out only where it was asked for, to push a change,
//! and now and then, so that what chitchat holds follows what came by other ways.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// While nothing is missing, one round goes out in so many that chitchat would begin.
const SELDOM: u32 = 10;

#[derive(Debug)]
pub(super) struct Rounds {
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    behind: bool,
    wanted: BTreeSet<SocketAddr>,
    last: Option<Instant>,
}

impl Rounds {
    /// For a chitchat that begins rounds every `round`.
    pub(super) fn new(round: Duration) -> Self {
        let state = State { behind: true, ..State::default() };
        Self { pause: round * SELDOM, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is missing here, or no longer.
    pub(super) fn on_behind(&self, behind: bool) {
        self.state().behind = behind;
    }

    /// A round with this peer is wanted.
    pub(super) fn want(&self, to: SocketAddr) {
        self.state().wanted.insert(to);
    }

    /// May a round with this peer begin?
    pub(super) fn may_begin(&self, to: SocketAddr, now: Instant) -> bool {
        let mut state = self.state();
        let wanted = state.wanted.remove(&to);
        let due = state.last.is_none_or(|last| last + self.pause <= now);
        let may = wanted || state.behind || due;
        if may {
            state.last = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_nothing_is_missing_only_what_is_wanted_goes_out_and_one_now_and_then() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (one, two) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let rounds = Rounds::new(Duration::from_secs(3));
        assert!(rounds.may_begin(one, start) && rounds.may_begin(two, start), "at first all is missing");
        rounds.on_behind(false);
        assert!(!rounds.may_begin(one, after(3)));
        rounds.want(two);
        assert!(!rounds.may_begin(one, after(4)));
        assert!(rounds.may_begin(two, after(4)));
        assert!(!rounds.may_begin(two, after(5)));
        assert_eq!([33, 34, 35].map(|at| rounds.may_begin(one, after(at))), [false, true, false]);
        rounds.on_behind(true);
        assert!(rounds.may_begin(one, after(36)));
    }
}
