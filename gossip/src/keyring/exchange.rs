use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use starling_proto::NodeId;

use crate::allowance::{Allowances, Rate};

/// With a peer whose keys differ, keys are exchanged again after this at first.
const PAUSE: Duration = Duration::from_secs(1);
/// And twice as long after each time that it was of no use, up to this.
const MAX_PAUSE: Duration = Duration::from_mins(1);
/// Packets of an epoch that is not known make this node look for their sender at most once in this time: anybody can send
/// such packets.
const HINT_PAUSE: Duration = Duration::from_millis(500);
/// Statements of one peer that are looked into: each may cost the check of a signature. An honest one shows its own once a
/// second at most, and a few more while several changes are under way.
const SHOWN: Rate = Rate { burst: 16, each: Duration::from_millis(250) };
/// Peers that are counted at a time: all that may be admitted.
const MAX_SHOWING: usize = 1_024;

/// Which keys each peer has, as it last said, and with whom to exchange them.
///
/// Every packet carries the mark of its sender's keys. Whoever sees another one than its own exchanges keys with the
/// sender: so a change spreads as fast as packets meet, and whoever missed it learns of it from whomever it meets.
#[derive(Debug)]
pub(crate) struct Exchange {
    peers: BTreeMap<NodeId, Known>,
    shown: Allowances<NodeId>,
    hint_after: Option<Instant>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self { peers: BTreeMap::new(), shown: Allowances::new(SHOWN, MAX_SHOWING), hint_after: None }
    }
}

#[derive(Debug)]
struct Known {
    /// None was heard yet.
    mark: Option<u64>,
    next: Option<Instant>,
    pause: Duration,
}

impl Known {
    const fn new() -> Self {
        Self { mark: None, next: None, pause: PAUSE }
    }
}

impl Exchange {
    /// The mark that a peer last gave.
    pub(crate) fn mark(&self, node: NodeId) -> Option<u64> {
        self.peers.get(&node)?.mark
    }

    /// An admitted peer gave its mark. Is an exchange wanted now?
    pub(crate) fn on_mark(&mut self, node: NodeId, mark: u64, own: u64, now: Instant) -> bool {
        let known = self.peers.entry(node).or_insert_with(Known::new);
        known.mark = Some(mark);
        if mark == own {
            known.next = None;
            known.pause = PAUSE;
            return false;
        }
        self.start(node, now)
    }

    /// A peer told its mark in an exchange that tells it ours.
    pub(crate) fn note(&mut self, node: NodeId, mark: u64) {
        self.peers.entry(node).or_insert_with(Known::new).mark = Some(mark);
    }

    /// May a statement of a peer be looked into?
    pub(crate) fn may_show(&mut self, node: NodeId, now: Instant) -> bool {
        self.shown.take(node, now)
    }

    /// May a sender be looked for, of a packet that nobody vouches for?
    pub(crate) fn may_look(&mut self, now: Instant) -> bool {
        let may = self.hint_after.is_none_or(|after| after <= now);
        if may {
            self.hint_after = Some(now + HINT_PAUSE);
        }
        may
    }

    /// Keys of this node changed: peers that waited for long need not wait.
    pub(crate) fn on_change(&mut self) {
        for known in self.peers.values_mut() {
            known.next = None;
            known.pause = PAUSE;
        }
    }

    /// Takes note that an exchange starts, unless the last one was just now.
    pub(crate) fn start(&mut self, node: NodeId, now: Instant) -> bool {
        let known = self.peers.entry(node).or_insert_with(Known::new);
        if known.next.is_some_and(|next| next > now) {
            return false;
        }
        known.next = Some(now + known.pause);
        known.pause = (known.pause * 2).min(MAX_PAUSE);
        true
    }

    /// A node is no longer listed.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_peer_whose_keys_stay_different_is_asked_ever_more_seldom_and_one_that_agrees_not_at_all() {
        let (node, start) = (NodeId::from_bytes([1; 16]), Instant::now());
        let mut exchange = Exchange::default();
        assert!(!exchange.on_mark(node, 7, 7, start));
        let mut asked = Vec::new();
        for second in 0..100 {
            if exchange.on_mark(node, 9, 7, start + Duration::from_secs(second)) {
                asked.push(second);
            }
        }
        assert_eq!(asked, [0, 1, 3, 7, 15, 31, 63]);
        assert!(!exchange.on_mark(node, 7, 7, start + Duration::from_secs(100)));
        assert!(exchange.on_mark(node, 8, 7, start + Duration::from_secs(101)));
        assert_eq!(exchange.mark(node), Some(8));
        exchange.on_change();
        assert!(exchange.on_mark(node, 8, 9, start + Duration::from_secs(101)));
        exchange.forget(node);
        assert_eq!(exchange.mark(node), None);
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn unreadable_packets_make_a_node_look_seldom() {
        let start = Instant::now();
        let mut exchange = Exchange::default();
        let looked = (0..2_000).filter(|ms| exchange.may_look(start + Duration::from_millis(*ms))).count();
        assert_eq!(looked, 4);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A packet with our mark, and with another.
        OwnMark,
        OtherMark,
        Noted,
        Started,
        OwnKeysChanged,
        Forgotten,
    }

    const STEPS: [Step; 6] =
        [Step::OwnMark, Step::OtherMark, Step::Noted, Step::Started, Step::OwnKeysChanged, Step::Forgotten];

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn every_input_moves_every_peer_as_the_table_says() {
        const YES: bool = true;
        const NO: bool = false;
        let (node, start) = (NodeId::from_bytes([1; 16]), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // Peers of whom nothing is known; that agree; whose mark is another, and who were asked just now, a second ago, and
        // for the seventh time just now: each with the time.
        let states = || {
            let asked = |times: &[u64]| {
                let mut exchange = Exchange::default();
                assert!(times.iter().all(|seconds| exchange.on_mark(node, 9, 7, at(*seconds))));
                exchange
            };
            let mut agreed = Exchange::default();
            agreed.on_mark(node, 7, 7, start);
            [
                ("unknown", Exchange::default(), at(0)),
                ("agreed", agreed, at(0)),
                ("asked", asked(&[0]), at(0)),
                ("asked before", asked(&[0]), at(1)),
                ("asked often", asked(&[0, 1, 3, 7, 15, 31, 63]), at(63)),
            ]
        };
        let (own, other, ninth) = (Some(7), Some(8), Some(9));
        // Does an exchange begin, which mark is known, and in how many seconds may the next begin?
        let table = |step| match step {
            Step::OwnMark => [(NO, own, 0), (NO, own, 0), (NO, own, 0), (NO, own, 0), (NO, own, 0)],
            Step::OtherMark => [(YES, other, 1), (YES, other, 1), (NO, other, 1), (YES, other, 2), (NO, other, 60)],
            Step::Noted => [(NO, other, 0), (NO, other, 0), (NO, other, 1), (NO, other, 0), (NO, other, 60)],
            Step::Started => [(YES, None, 1), (YES, own, 1), (NO, ninth, 1), (YES, ninth, 2), (NO, ninth, 60)],
            Step::OwnKeysChanged => [(NO, None, 0), (NO, own, 0), (NO, ninth, 0), (NO, ninth, 0), (NO, ninth, 0)],
            Step::Forgotten => [(NO, None, 0); 5],
        };
        for step in STEPS {
            for ((state, mut exchange, now), expected) in states().into_iter().zip(table(step)) {
                let mut begins = false;
                match step {
                    Step::OwnMark => begins = exchange.on_mark(node, 7, 7, now),
                    Step::OtherMark => begins = exchange.on_mark(node, 8, 7, now),
                    Step::Noted => exchange.note(node, 8),
                    Step::Started => begins = exchange.start(node, now),
                    Step::OwnKeysChanged => exchange.on_change(),
                    Step::Forgotten => exchange.forget(node),
                }
                let next = exchange.peers.get(&node).and_then(|known| known.next).map_or(now, |next| next.max(now));
                let after = (begins, exchange.mark(node), (next - now).as_secs());
                assert_eq!(after, expected, "{state}, {step:?}");
            }
        }
    }
}
