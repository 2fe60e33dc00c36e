//! Which rounds of chitchat go out.
//!
//! Each names every member: 18 KB in a mesh of 250, and as much again in the answer. The packets of gossip tell already
//! whether anything is missing here, so while nothing is, a round goes out only where it was asked for, to push a change,
//! and now and then, so that what chitchat holds follows what came by other ways.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// While nothing is missing, one round goes out in so many periods.
const SELDOM: u32 = 20;

/// A pure machine: it is told of each round that chitchat wants to begin, and says whether it may.
#[derive(Debug)]
pub struct Rounds {
    pause: Duration,
    behind: bool,
    wanted: BTreeSet<SocketAddr>,
    last: Option<Instant>,
}

impl Rounds {
    /// For a chitchat that begins rounds every `round`. At first all is missing.
    #[must_use]
    pub fn new(round: Duration) -> Self {
        Self { pause: round * SELDOM, behind: true, wanted: BTreeSet::new(), last: None }
    }

    /// Something is missing here, or no longer.
    pub const fn on_behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    /// A round with this peer is wanted.
    pub fn want(&mut self, to: SocketAddr) {
        self.wanted.insert(to);
    }

    /// May a round with this peer begin?
    pub fn may_begin(&mut self, to: SocketAddr, now: Instant) -> bool {
        let wanted = self.wanted.remove(&to);
        let due = self.last.is_none_or(|last| last + self.pause <= now);
        let may = wanted || self.behind || due;
        if may {
            self.last = Some(now);
        }
        may
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn while_nothing_is_missing_only_what_is_wanted_goes_out_and_one_now_and_then() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (one, two) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let mut rounds = Rounds::new(Duration::from_secs(3));
        assert!(rounds.may_begin(one, start) && rounds.may_begin(two, start), "at first all is missing");
        rounds.on_behind(false);
        assert!(!rounds.may_begin(one, after(3)));
        rounds.want(two);
        assert!(!rounds.may_begin(one, after(4)));
        assert!(rounds.may_begin(two, after(4)));
        assert!(!rounds.may_begin(two, after(5)));
        assert_eq!([63, 64, 65].map(|at| rounds.may_begin(one, after(at))), [false, true, false]);
        rounds.on_behind(true);
        assert!(rounds.may_begin(one, after(66)));
    }

    /// When the last round began.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Last {
        Never,
        JustNow,
        LongAgo,
    }

    #[test]
    fn whether_a_round_may_begin_is_as_the_table_says_in_every_state() {
        use Last::{JustNow, LongAgo, Never};
        const YES: bool = true;
        const NO: bool = false;
        let (this, other) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let round = Duration::from_secs(3);
        let long_ago = Instant::now();
        let now = long_ago + 20 * round;
        // Is something missing, is a round with this peer wanted, when was the last; and may one with it begin, and one with
        // another?
        for ((missing, wanted, last), expected) in [
            ((YES, YES, Never), (YES, YES)),
            ((YES, YES, JustNow), (YES, YES)),
            ((YES, YES, LongAgo), (YES, YES)),
            ((YES, NO, Never), (YES, YES)),
            ((YES, NO, JustNow), (YES, YES)),
            ((YES, NO, LongAgo), (YES, YES)),
            ((NO, YES, Never), (YES, YES)),
            ((NO, YES, JustNow), (YES, NO)),
            ((NO, YES, LongAgo), (YES, YES)),
            ((NO, NO, Never), (YES, YES)),
            ((NO, NO, JustNow), (NO, NO)),
            ((NO, NO, LongAgo), (YES, YES)),
        ] {
            let machine = || {
                let mut rounds = Rounds::new(round);
                match last {
                    Never => {}
                    JustNow => assert!(rounds.may_begin(other, now)),
                    LongAgo => assert!(rounds.may_begin(other, long_ago)),
                }
                rounds.on_behind(missing);
                if wanted {
                    rounds.want(this);
                }
                rounds
            };
            let (mut rounds, mut others) = (machine(), machine());
            let may = (rounds.may_begin(this, now), others.may_begin(other, now));
            assert_eq!(may, expected, "{missing}, {wanted}, {last:?}");
            // Whatever was wanted of this peer is done, and what is wanted of it is not done by a round with another.
            assert_eq!((rounds.may_begin(this, now), others.may_begin(this, now)), (missing, missing || wanted));
        }
    }
}
