use starling_proto::Generation;

/// Remembers which counters of one sender were seen: each (generation, counter) is accepted once.
///
/// A sliding window as in RFC 4303, section 3.4.3, of `64 * WORDS` counters below the highest; anything older is
/// refused, since it can't be told whether it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplayWindow<const WORDS: usize> {
    generation: Generation,
    /// The highest counter seen, or the floor.
    highest: u64,
    /// Nothing at or below it is accepted.
    floor: u64,
    /// Bit `counter % size`.
    seen: [u64; WORDS],
}

/// Why a counter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// Of a boot that is over.
    Generation,
    /// Seen, at or below the floor, or too old to tell.
    Counter,
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    const SIZE: u64 = 64 * WORDS as u64;

    /// Accepts counters above `floor` in `generation`, and any in later ones.
    pub(crate) const fn new(generation: Generation, floor: u64) -> Self {
        Self { generation, highest: floor, floor, seen: [0; WORDS] }
    }

    pub(crate) const fn generation(&self) -> Generation {
        self.generation
    }

    /// The highest counter seen, or the floor.
    pub(crate) const fn highest(&self) -> u64 {
        self.highest
    }

    /// Would it be accepted?
    pub(crate) fn check(&self, generation: Generation, counter: u64) -> Result<(), Stale> {
        if generation < self.generation {
            return Err(Stale::Generation);
        }
        if generation > self.generation {
            return if counter > 0 { Ok(()) } else { Err(Stale::Counter) };
        }
        let too_old = self.highest.saturating_sub(counter) >= Self::SIZE;
        let (word, bit) = Self::place(counter);
        // Above the highest the bits are those of counters that fell out of the window.
        let seen = counter <= self.highest && self.seen[word] & bit != 0;
        if counter <= self.floor || too_old || seen { Err(Stale::Counter) } else { Ok(()) }
    }

    /// Accepts it, if [`Self::check`] does. The first counter of a later generation is its floor: what was sent before
    /// it may have been captured while we did not listen.
    pub(crate) fn accept(&mut self, generation: Generation, counter: u64) -> Result<(), Stale> {
        self.check(generation, counter)?;
        if generation > self.generation {
            *self = Self::new(generation, counter - 1);
        }
        self.advance(counter);
        let (word, bit) = Self::place(counter);
        self.seen[word] |= bit;
        Ok(())
    }

    /// Moves the window up to `counter`, forgetting what falls out of it.
    fn advance(&mut self, counter: u64) {
        let steps = counter.saturating_sub(self.highest);
        if steps >= Self::SIZE {
            self.seen = [0; WORDS];
        } else {
            for step in 1..=steps {
                let (word, bit) = Self::place(self.highest + step);
                self.seen[word] &= !bit;
            }
        }
        self.highest = self.highest.max(counter);
    }

    #[allow(clippy::cast_possible_truncation)]
    const fn place(counter: u64) -> (usize, u64) {
        let at = counter % Self::SIZE;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const G: Generation = Generation(5);

    #[test]
    fn each_counter_is_accepted_once() {
        let mut window = ReplayWindow::<1>::new(G, 10);
        for (counter, good) in [(10, false), (11, true), (11, false), (13, true), (12, true), (12, false), (9, false)] {
            assert_eq!(window.accept(G, counter).is_ok(), good, "{counter}");
        }
    }

    #[test]
    fn what_is_too_old_to_tell_is_refused() {
        let mut window = ReplayWindow::<1>::new(G, 0);
        assert!(window.accept(G, 100).is_ok());
        assert_eq!(window.accept(G, 36), Err(Stale::Counter));
        assert_eq!(window.accept(G, 37), Ok(()));
        assert!(window.accept(G, u64::MAX).is_ok());
        assert_eq!(window.accept(G, 101), Err(Stale::Counter));
    }

    #[test]
    fn a_counter_is_not_mistaken_for_one_that_fell_out_of_the_window() {
        let mut window = ReplayWindow::<1>::new(G, 0);
        assert!(window.accept(G, 10).is_ok());
        assert!(window.accept(G, 74).is_ok());
        assert!(window.accept(G, 138).is_ok());
    }

    #[test]
    fn a_higher_generation_starts_anew_and_a_lower_one_is_over() {
        let mut window = ReplayWindow::<1>::new(G, 10);
        assert!(window.accept(Generation(6), 5).is_ok());
        assert_eq!(window.accept(Generation(6), 5), Err(Stale::Counter));
        assert_eq!(window.accept(Generation(6), 4), Err(Stale::Counter));
        assert_eq!(window.accept(Generation(6), 6), Ok(()));
        assert_eq!(window.accept(G, 11), Err(Stale::Generation));
        assert_eq!(window.check(Generation(7), 0), Err(Stale::Counter));
    }

    proptest! {
        #[test]
        fn nothing_is_ever_accepted_twice(counters in proptest::collection::vec(0_u64..400, 0..300)) {
            let mut window = ReplayWindow::<2>::new(G, 3);
            let mut accepted = BTreeSet::new();
            let mut highest = 3;
            for counter in counters {
                let good = counter > 3 && !accepted.contains(&counter) && counter + 128 > highest;
                prop_assert_eq!(window.accept(G, counter).is_ok(), good, "{}", counter);
                if good {
                    accepted.insert(counter);
                    highest = highest.max(counter);
                }
            }
            prop_assert_eq!(window.highest(), highest);
        }
    }
}
