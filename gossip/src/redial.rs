use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use starling_proto::NodeId;

use crate::Timings;

/// From this many members on, each dials less often: one that is down need not be dialed by all at the full rate.
const FULL_RATE_UP_TO: u32 = 8;
/// With `n` members up, one that is down hears from one of them about this often.
const KNOCK: Duration = Duration::from_millis(400);

/// When members that are believed down are tried: dialed often at first and seldom later, each time with jitter, so
/// that both sides of a cut don't dial in step; and, since a datagram costs little, one of them is sent an announce now
/// and then, however long it has been down: a link that was cut for an hour heals as fast as one that was cut for
/// ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Redials {
    down: BTreeMap<NodeId, Redial>,
    /// When each is to be dialed next.
    due: BTreeSet<(Instant, NodeId)>,
    knock: Option<Instant>,
}

#[derive(Debug)]
struct Redial {
    since: Instant,
    next: Instant,
}

impl Redials {
    /// A member went down, where `up` members are up, this one included. The first tries of all of them are spread over
    /// the time that each takes between two: what goes down together must not be dialed by everybody at once.
    pub(crate) fn on_down(&mut self, node: NodeId, up: usize, timings: &Timings, rng: &mut StdRng, now: Instant) {
        let mut spread = |period: Duration| now + rng.random_range(timings.redial_first / 2..=period);
        let (next, knock) = (spread(often(up, timings)), spread(between_knocks(up, timings)));
        if let Entry::Vacant(vacant) = self.down.entry(node) {
            vacant.insert(Redial { since: now, next });
            self.due.insert((next, node));
        }
        self.knock.get_or_insert(knock);
    }

    /// A member is up, left, or forgotten.
    pub(crate) fn on_gone(&mut self, node: NodeId) {
        if let Some(redial) = self.down.remove(&node) {
            self.due.remove(&(redial.next, node));
        }
        if self.down.is_empty() {
            self.knock = None;
        }
    }

    /// When the next one is to be tried.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at).into_iter().chain(self.knock).min()
    }

    /// The members to dial now, where `up` members are up, this one included.
    pub(crate) fn take_due(&mut self, up: usize, timings: &Timings, rng: &mut StdRng, now: Instant) -> Vec<NodeId> {
        let mut due = Vec::new();
        while let Some((at, node)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, node));
            let Some(redial) = self.down.get_mut(&node) else { continue };
            let young = now.duration_since(redial.since) < timings.redial_first_for;
            let period = if young { often(up, timings) } else { timings.redial_later };
            redial.next = now + period.mul_f64(rng.random_range(0.8..1.2));
            self.due.insert((redial.next, node));
            due.push(node);
        }
        due
    }

    /// The member to send an announce to now.
    pub(crate) fn take_knock(
        &mut self,
        up: usize,
        timings: &Timings,
        rng: &mut StdRng,
        now: Instant,
    ) -> Option<NodeId> {
        self.knock.filter(|at| *at <= now)?;
        self.knock = Some(now + between_knocks(up, timings).mul_f64(rng.random_range(0.8..1.2)));
        self.down.keys().copied().choose(rng)
    }
}

/// How long one of `up` members waits between two dials of a member that went down of late.
fn often(up: usize, timings: &Timings) -> Duration {
    let share = u32::try_from(up).unwrap_or(u32::MAX).div_ceil(FULL_RATE_UP_TO).max(1);
    timings.redial_first.saturating_mul(share).min(timings.redial_later)
}

/// How long one of `up` members waits between two announces to members that are down.
fn between_knocks(up: usize, timings: &Timings) -> Duration {
    let period = KNOCK.saturating_mul(u32::try_from(up).unwrap_or(u32::MAX));
    period.clamp(timings.redial_first, timings.redial_later)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// How many times a member is dialed and knocked at, in the first minute and the 100 s after it.
    fn tries(up: usize) -> [[usize; 2]; 2] {
        let timings = Timings::default();
        let mut rng = StdRng::seed_from_u64(1);
        let mut redials = Redials::default();
        let start = Instant::now();
        let node = NodeId::of_key(b"a");
        redials.on_down(node, up, &timings, &mut rng, start);
        let mut tries = [[0; 2]; 2];
        while let Some(at) = redials.next().filter(|at| *at < start + Duration::from_secs(160)) {
            let part = usize::from(at >= start + Duration::from_mins(1));
            tries[0][part] += redials.take_due(up, &timings, &mut rng, at).len();
            tries[1][part] += usize::from(redials.take_knock(up, &timings, &mut rng, at).is_some());
        }
        redials.on_gone(node);
        assert_eq!(redials.next(), None);
        tries
    }

    #[test]
    fn a_member_that_is_down_is_dialed_every_second_for_a_minute_then_every_ten() {
        let [[first, later], _] = tries(5);
        assert!((50..=75).contains(&first), "{first}");
        assert!((8..=13).contains(&later), "{later}");
    }

    #[test]
    fn it_hears_of_the_others_about_as_often_however_many_they_are() {
        let [_, [first, later]] = tries(5);
        assert!((25..=38).contains(&first), "{first}");
        assert!((42..=62).contains(&later), "{later}");
        let [[dialed, _], [knocked, _]] = tries(250);
        assert!(dialed <= 8 && knocked <= 8, "{dialed} {knocked}");
    }

    #[test]
    fn those_who_see_a_member_go_down_do_not_dial_it_all_at_once() {
        let timings = Timings::default();
        let (start, node) = (Instant::now(), NodeId::of_key(b"a"));
        let firsts = |up: usize| {
            let mut rng = StdRng::seed_from_u64(1);
            let mut firsts: Vec<_> = (0..up)
                .map(|_| {
                    let mut redials = Redials::default();
                    redials.on_down(node, up, &timings, &mut rng, start);
                    redials.next().expect("it is down") - start
                })
                .collect();
            firsts.sort_unstable();
            firsts
        };
        assert!(firsts(5).iter().all(|first| *first <= timings.redial_first));
        let many = firsts(250);
        let busiest = many
            .iter()
            .map(|from| many.iter().filter(|at| (*from..=*from + timings.redial_first).contains(at)).count());
        assert!(busiest.max() < Some(75), "{many:?}");
        assert!(many[249] <= timings.redial_later);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Down,
        Gone,
        /// The time for the next dial; for the next announce; and before either.
        Dial,
        Knock,
        TooEarly,
    }

    const STEPS: [Step; 5] = [Step::Down, Step::Gone, Step::Dial, Step::Knock, Step::TooEarly];

    /// Whether it is dialed or sent an announce, and when it is dialed after that.
    #[derive(Debug, PartialEq, Eq)]
    enum After {
        /// It is up, or nobody knows it.
        Never,
        /// As before.
        Same,
        /// It was sent an announce, and is dialed as before.
        Knocked,
        /// It was dialed, and is again within a second or so, or in ten.
        Soon,
        Late,
    }

    /// A member that is up, down since just now, for half a minute, and for two: at the moment before it is tried.
    fn states(
        node: NodeId,
        timings: &Timings,
        rng: &mut StdRng,
        start: Instant,
    ) -> [(&'static str, Redials, Instant); 4] {
        [("up", None), ("just down", Some(0)), ("down for 30 s", Some(30)), ("down for 120 s", Some(120))].map(
            |(name, seconds)| {
                let mut redials = Redials::default();
                let Some(seconds) = seconds else { return (name, redials, start) };
                redials.on_down(node, 5, timings, rng, start);
                while let Some(at) = redials.next().filter(|at| *at < start + Duration::from_secs(seconds)) {
                    redials.take_due(5, timings, rng, at);
                    redials.take_knock(5, timings, rng, at);
                }
                let now = redials.next().and_then(|at| at.checked_sub(Duration::from_millis(1))).expect("it is down");
                (name, redials, now)
            },
        )
    }

    #[test]
    fn every_input_moves_every_member_as_the_table_says() {
        use After::{Knocked, Late, Never, Same, Soon};
        let table = |step| match step {
            Step::Down => [Soon, Same, Same, Same],
            Step::Gone => [Never, Never, Never, Never],
            Step::Dial => [Never, Soon, Soon, Late],
            Step::Knock => [Never, Knocked, Knocked, Knocked],
            Step::TooEarly => [Never, Same, Same, Same],
        };
        let (node, timings, start) = (NodeId::of_key(b"a"), Timings::default(), Instant::now());
        let mut rng = StdRng::seed_from_u64(1);
        for step in STEPS {
            let states = states(node, &timings, &mut rng, start);
            for ((state, mut redials, now), expected) in states.into_iter().zip(table(step)) {
                let dial = |redials: &Redials| redials.down.get(&node).map(|redial| redial.next);
                let (before, mut at, mut knocked) = (dial(&redials), now, None);
                match step {
                    Step::Down => redials.on_down(node, 5, &timings, &mut rng, now),
                    Step::Gone => redials.on_gone(node),
                    Step::Dial => {
                        at = before.unwrap_or(now);
                        let dialed = redials.take_due(5, &timings, &mut rng, at);
                        assert_eq!(dialed, Vec::from_iter(before.map(|_| node)), "{state}");
                    }
                    Step::Knock => {
                        at = redials.knock.unwrap_or(now);
                        knocked = redials.take_knock(5, &timings, &mut rng, at);
                    }
                    Step::TooEarly => {
                        assert_eq!(redials.take_due(5, &timings, &mut rng, now), []);
                        assert_eq!(redials.take_knock(5, &timings, &mut rng, now), None);
                    }
                }
                let after = match dial(&redials) {
                    None => Never,
                    Some(next) if Some(next) == before => knocked.map_or(Same, |_| Knocked),
                    Some(next) if next <= at + Duration::from_millis(1_200) => Soon,
                    Some(next) => {
                        assert!((at + Duration::from_secs(8)..at + Duration::from_secs(12)).contains(&next));
                        Late
                    }
                };
                assert_eq!(after, expected, "{state}, {step:?}");
                let tried = (redials.due.len(), redials.knock.is_some());
                assert_eq!(tried, (redials.down.len(), !redials.down.is_empty()), "{state}, {step:?}");
            }
        }
    }
}
