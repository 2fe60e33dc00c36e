use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often something may be done: so many times at once, and once more each time this time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) each: Duration,
}

/// What is left of a [`Rate`], as one moment: the one at which all is back (GCRA, ITU-T I.371).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allowance {
    whole_at: Option<Instant>,
}

impl Allowance {
    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let whole_at = self.whole_at.map_or(now, |at| at.max(now)) + rate.each;
        let may = whole_at.duration_since(now) <= rate.each.saturating_mul(rate.burst);
        if may {
            self.whole_at = Some(whole_at);
        }
        may
    }

    /// Gives one back: it was well spent.
    pub(crate) fn give_back(&mut self, rate: Rate) {
        self.whole_at = self.whole_at.and_then(|at| at.checked_sub(rate.each));
    }

    /// Is nothing spent?
    pub(crate) fn is_whole(&self, now: Instant) -> bool {
        self.whole_at.is_none_or(|at| at <= now)
    }
}

/// One allowance for each of a bounded number of parties.
#[derive(Debug)]
pub(crate) struct Allowances<K> {
    rate: Rate,
    most: usize,
    spent: BTreeMap<K, Allowance>,
}

impl<K: Ord> Allowances<K> {
    /// At most `most` parties can have spent some of their `rate` at a time; beyond that, new ones have none.
    pub(crate) const fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, spent: BTreeMap::new() }
    }

    /// Takes one of this party's.
    pub(crate) fn take(&mut self, party: K, now: Instant) -> bool {
        if let Some(known) = self.spent.get_mut(&party) {
            return known.take(self.rate, now);
        }
        if self.spent.len() >= self.most {
            self.spent.retain(|_, allowance| !allowance.is_whole(now));
        }
        if self.spent.len() >= self.most {
            return false;
        }
        self.spent.entry(party).or_default().take(self.rate, now)
    }

    /// Gives one back to this party.
    pub(crate) fn give_back(&mut self, party: &K) {
        if let Some(known) = self.spent.get_mut(party) {
            known.give_back(self.rate);
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { burst: 3, each: Duration::from_secs(1) };

    #[test]
    fn so_many_at_once_then_one_at_a_time() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut allowance = Allowance::default();
        let taken = [0, 0, 0, 0, 999, 1_000, 1_000, 60_000, 60_000, 60_000, 60_000];
        let taken = taken.map(|at| allowance.take(RATE, after(at)));
        assert_eq!(taken, [true, true, true, false, false, true, false, true, true, true, false]);
    }

    #[test]
    fn what_was_given_back_can_be_taken_again() {
        let now = Instant::now();
        let mut allowance = Allowance::default();
        assert_eq!([(); 4].map(|()| allowance.take(RATE, now)), [true, true, true, false]);
        allowance.give_back(RATE);
        assert!(!allowance.is_whole(now));
        assert_eq!([(); 2].map(|()| allowance.take(RATE, now)), [true, false]);
        for _ in 0..10 {
            allowance.give_back(RATE);
        }
        assert!(allowance.is_whole(now));
        assert_eq!([(); 4].map(|()| allowance.take(RATE, now)), [true, true, true, false], "never more than the burst");
    }

    #[test]
    fn one_party_spends_nothing_of_another_and_their_number_is_bounded() {
        let now = Instant::now();
        let mut all = Allowances::new(RATE, 2);
        assert_eq!([1, 1, 1, 1, 2, 3].map(|party| all.take(party, now)), [true, true, true, false, true, false]);
        let later = now + Duration::from_secs(3);
        assert!(all.take(3, later), "whoever spent nothing lately is not remembered");
        assert_eq!(all.spent.len(), 1);
    }

    proptest! {
        #[test]
        fn no_more_is_ever_given_than_the_burst_and_what_came_back(steps in proptest::collection::vec(0_u64..3_000, 1..60)) {
            let start = Instant::now();
            let (mut allowance, mut now, mut taken) = (Allowance::default(), start, 0);
            for step in steps {
                now += Duration::from_millis(step);
                taken += u64::from(allowance.take(RATE, now));
                prop_assert!(taken <= 3 + (now - start).as_secs());
            }
        }
    }
}
