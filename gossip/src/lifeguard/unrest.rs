use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use starling_proto::NodeId;

use super::WITNESSES;

/// What is looked at.
const WINDOW: Duration = Duration::from_secs(30);
/// So many suspicions that it refuted within that time, one after another...
const REFUTED: usize = 3;
/// ... by so many members, or by all others where there are fewer, make a member flaky.
const ACCUSERS: usize = 4;
/// In a smaller mesh there is no third one who could tell which of two is at fault.
const LEAST_MEMBERS: usize = 3;
/// One that was not accused for so long is steady again.
const CALM: Duration = Duration::from_secs(30);
/// Accusations that are kept of one member.
const MOST: usize = 32;

/// Who accused a member lately, be it refuted or not. One that is suspected by one after another and refutes each time is
/// neither dead nor well: most packets to it get lost, or it stands still again and again. Plain SWIM lists it as alive
/// for ever (Rapid, Suresh et al., ATC 2018, section 2).
///
/// Only accusations count whose author had reason to think that the fault was not its own, so that a deaf node makes
/// nobody flaky; and only suspicions that were refuted, so that one cut, one pause or one restart makes nobody flaky.
#[derive(Debug, Default)]
pub(crate) struct Unrest {
    /// Oldest first.
    accused: VecDeque<Accused>,
    flaky: bool,
}

#[derive(Debug)]
struct Accused {
    by: NodeId,
    incarnation: u16,
    at: Instant,
}

impl Unrest {
    /// A member accuses it, as of an incarnation. False if that is nothing new, or if enough said the same.
    pub(crate) fn on_accused(&mut self, by: NodeId, incarnation: u16, now: Instant) -> bool {
        let same = || self.accused.iter().filter(|accused| accused.incarnation == incarnation);
        if same().any(|accused| accused.by == by) || same().count() >= WITNESSES {
            return false;
        }
        if self.accused.len() == MOST {
            self.accused.pop_front();
        }
        self.accused.push_back(Accused { by, incarnation, at: now });
        true
    }

    /// It is at this incarnation now, in a mesh of so many that are up. Gives whether it is flaky, if that changed.
    pub(crate) fn weigh(&mut self, incarnation: u16, members: usize, now: Instant) -> Option<bool> {
        while self.accused.front().is_some_and(|accused| accused.at + WINDOW <= now) {
            self.accused.pop_front();
        }
        let refuted = self.accused.iter().filter(|accused| accused.incarnation < incarnation);
        let (mut times, mut accusers) = (BTreeSet::new(), BTreeSet::new());
        for accused in refuted {
            times.insert(accused.incarnation);
            accusers.insert(accused.by);
        }
        let needed = ACCUSERS.min(members.saturating_sub(1));
        let restless = members >= LEAST_MEMBERS && times.len() >= REFUTED && accusers.len() >= needed;
        let before = self.flaky;
        self.flaky = restless || (before && self.calm_at().is_some_and(|at| at > now));
        (self.flaky != before).then_some(self.flaky)
    }

    pub(crate) const fn is_flaky(&self) -> bool {
        self.flaky
    }

    /// When it is steady again, unless it is accused until then.
    pub(crate) fn calm_at(&self) -> Option<Instant> {
        self.accused.back().map(|accused| accused.at + CALM)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Who, as of which incarnation, after how many seconds.
    type Accusation = (u8, u16, u64);
    /// Its name, accusations, the incarnation by now, members; and is it flaky?
    type Case<'a> = (&'static str, &'a [Accusation], u16, usize, bool);

    fn accused(by: &[Accusation], start: Instant) -> Unrest {
        let mut unrest = Unrest::default();
        for (by, incarnation, at) in by {
            unrest.on_accused(node(*by), *incarnation, start + secs(*at));
        }
        unrest
    }

    #[test]
    fn three_suspicions_by_four_that_were_refuted_make_it_flaky_and_less_does_not() {
        let start = Instant::now();
        let four = [(1, 0, 0), (2, 1, 5), (3, 2, 10), (4, 2, 11)];
        let cases: [Case<'_>; 9] = [
            ("four, three times", &four, 3, 250, true),
            ("the last is not refuted", &four, 2, 250, false),
            ("three members", &four[..3], 3, 250, false),
            ("three members of four in all", &four[..3], 3, 4, true),
            ("two members of three in all", &[(1, 0, 0), (2, 1, 1), (1, 2, 2)], 3, 3, true),
            ("one of three in all", &[(1, 0, 0), (1, 1, 1), (1, 2, 2), (1, 3, 3)], 4, 3, false),
            ("the one other there is", &[(1, 0, 0), (1, 1, 1), (1, 2, 2), (1, 3, 3)], 4, 2, false),
            ("many, once", &[(1, 7, 0), (2, 7, 0), (3, 7, 1), (4, 7, 1), (5, 7, 2)], 8, 250, false),
            ("many, twice", &[(1, 7, 0), (2, 7, 0), (3, 8, 1), (4, 8, 1), (5, 8, 2)], 9, 250, false),
        ];
        for (name, by, incarnation, members, flaky) in cases {
            let mut unrest = accused(by, start);
            let changed = unrest.weigh(incarnation, members, start + secs(12));
            assert_eq!((changed, unrest.is_flaky()), (flaky.then_some(true), flaky), "{name}");
        }
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let start = Instant::now();
        let mut unrest = accused(&[(1, 0, 0), (2, 1, 5), (3, 2, 10), (4, 2, 29)], start);
        assert_eq!(unrest.weigh(3, 250, start + secs(30)), None);
        let mut unrest = accused(&[(1, 0, 1), (2, 1, 5), (3, 2, 10), (4, 2, 29)], start);
        assert_eq!(unrest.weigh(3, 250, start + secs(30)), Some(true));
    }

    #[test]
    fn a_fifth_accuser_of_one_suspicion_is_no_news_and_what_is_kept_is_bounded() {
        let now = Instant::now();
        let mut unrest = Unrest::default();
        let news: Vec<_> = [1, 1, 2, 3, 4, 5].map(|by| unrest.on_accused(node(by), 0, now)).into();
        assert_eq!(news, [true, false, true, true, true, false]);
        for incarnation in 1..100 {
            assert!(unrest.on_accused(node(1), incarnation, now));
        }
        assert_eq!(unrest.accused.len(), MOST);
    }

    /// An input, and whether it is flaky after it: calm, accused, flaky before.
    type Row = (&'static str, fn(&mut Unrest, Instant), [bool; 3]);

    #[test]
    fn every_input_moves_every_state_as_the_table_says() {
        let start = Instant::now();
        let now = start + secs(20);
        let states = || {
            let mut flaky = accused(&[(1, 0, 10), (2, 1, 12), (3, 2, 14), (4, 2, 16)], start);
            assert_eq!(flaky.weigh(3, 250, now), Some(true));
            [
                ("calm", Unrest::default()),
                ("accused", accused(&[(1, 0, 10), (2, 1, 12), (3, 3, 14)], start)),
                ("flaky", flaky),
            ]
        };
        let steps: [Row; 6] = [
            ("weighed", |unrest, now| _ = unrest.weigh(3, 250, now), [false, false, true]),
            ("refuted", |unrest, now| _ = unrest.weigh(4, 250, now), [false, false, true]),
            (
                "accused by a fourth, and refuted",
                |unrest, now| {
                    unrest.on_accused(node(4), 3, now);
                    unrest.weigh(4, 250, now);
                },
                [false, true, true],
            ),
            ("in a mesh of two", |unrest, now| _ = unrest.weigh(4, 2, now), [false, false, true]),
            ("25 s later", |unrest, now| _ = unrest.weigh(4, 250, now + secs(25)), [false, false, true]),
            ("26 s later", |unrest, now| _ = unrest.weigh(4, 250, now + secs(26)), [false, false, false]),
        ];
        for (input, step, after) in steps {
            for ((state, mut unrest), after) in states().into_iter().zip(after) {
                step(&mut unrest, now);
                assert_eq!(unrest.is_flaky(), after, "{state}, {input}");
            }
        }
    }

    #[test]
    fn it_is_steady_thirty_seconds_after_the_last_accusation() {
        let start = Instant::now();
        let mut unrest = accused(&[(1, 0, 0), (2, 1, 5), (3, 2, 10), (4, 2, 11)], start);
        assert_eq!(unrest.weigh(3, 250, start + secs(11)), Some(true));
        assert_eq!(unrest.calm_at(), Some(start + secs(41)));
        unrest.on_accused(node(5), 3, start + secs(40));
        assert_eq!(unrest.weigh(3, 250, start + secs(41)), None);
        assert_eq!(unrest.calm_at(), Some(start + secs(70)));
        assert_eq!(unrest.weigh(4, 250, start + secs(70)), Some(false));
        assert_eq!((unrest.weigh(4, 250, start + secs(71)), unrest.calm_at()), (None, None));
    }
}
