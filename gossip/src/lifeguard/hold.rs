use std::collections::VecDeque;
use std::time::{Duration, Instant};

use starling_proto::NodeId;

/// In a smaller mesh nothing is ever held: two of three that fail are most likely two that failed.
const LEAST_MEMBERS: usize = 8;
/// Own probes that are looked at, each of another member.
const WINDOW: usize = 8;
/// When so many of them failed, the fault is more likely here.
const FAILED: usize = 6;
/// So many that are answered show that it is over.
const ANSWERED: u8 = 2;
/// And after this the others are taken for gone all the same.
const LONGEST: Duration = Duration::from_mins(1);
/// It is not held again for so long: one that is really alone must get to know it.
const REST: Duration = Duration::from_mins(5);
/// What was held goes down at most five a second, so that a wrong verdict can still be stopped.
const RELEASE_EVERY: Duration = Duration::from_millis(200);

/// Am I the one who is cut off? While it seems so, this node declares nobody down by its own timers.
#[derive(Debug)]
pub(crate) struct Hold {
    /// The last probe of each of the members that were probed last.
    recent: VecDeque<(NodeId, bool)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Watching,
    Holding { until: Instant, answered: u8 },
    Resting { until: Instant, next: Instant },
}

impl Hold {
    pub(crate) const fn new() -> Self {
        Self { recent: VecDeque::new(), state: State::Watching }
    }

    /// A probe was answered, or not, where `members` are up, this one included. True if a hold begins.
    pub(crate) fn on_probe(&mut self, of: NodeId, answered: bool, members: usize, now: Instant) -> bool {
        self.poll(now);
        self.recent.retain(|(known, _)| *known != of);
        self.recent.push_back((of, answered));
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        match &mut self.state {
            State::Watching => {
                let failed = self.recent.iter().filter(|(_, answered)| !answered).count();
                let begins = failed >= FAILED && members >= LEAST_MEMBERS;
                if begins {
                    self.state = State::Holding { until: now + LONGEST, answered: 0 };
                }
                begins
            }
            State::Holding { answered: count, .. } if answered => {
                *count += 1;
                if *count >= ANSWERED {
                    self.rest(now);
                }
                false
            }
            State::Holding { .. } | State::Resting { .. } => false,
        }
    }

    /// Does it hold?
    pub(crate) fn is_holding(&mut self, now: Instant) -> bool {
        self.poll(now);
        matches!(self.state, State::Holding { .. })
    }

    /// May a member be declared down now? If so, it counts as done.
    pub(crate) fn release(&mut self, now: Instant) -> bool {
        self.poll(now);
        match &mut self.state {
            State::Watching => true,
            State::Holding { .. } => false,
            State::Resting { next, .. } => {
                let may = *next <= now;
                if may {
                    *next = now + RELEASE_EVERY;
                }
                may
            }
        }
    }

    /// Before this no member may be declared down.
    pub(crate) const fn gate(&self) -> Option<Instant> {
        match self.state {
            State::Watching => None,
            State::Holding { until, .. } => Some(until),
            State::Resting { next, .. } => Some(next),
        }
    }

    fn poll(&mut self, now: Instant) {
        match self.state {
            State::Holding { until, .. } if until <= now => self.rest(now),
            State::Resting { until, .. } if until <= now => self.state = State::Watching,
            _ => {}
        }
    }

    fn rest(&mut self, now: Instant) {
        self.recent.clear();
        self.state = State::Resting { until: now + REST, next: now };
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    /// An input, and the state after it, from each state.
    type Row = (&'static str, fn(&mut Hold, Instant), [&'static str; 3]);

    const T: bool = true;
    const F: bool = false;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Probes of one member after another, answered or not, in a mesh of so many. Did a hold begin?
    fn probed(hold: &mut Hold, answers: &[bool], members: usize, now: Instant) -> bool {
        let begun = answers.iter().zip(1..).map(|(answered, n)| hold.on_probe(node(n), *answered, members, now));
        begun.fold(false, |any, begun| any | begun)
    }

    #[test]
    fn six_of_eight_members_that_do_not_answer_begin_it_and_fewer_do_not() {
        let now = Instant::now();
        let cases: [(&[bool], usize, bool); 7] = [
            (&[F, F, F, F, F, F], 8, true),
            (&[F, F, F, F, F, F], 7, false),
            (&[F, F, F, F, F], 250, false),
            (&[T, T, F, F, F, F, F, F], 250, true),
            (&[F, F, T, T, T, F, F, F], 250, false),
            (&[T, F, T, F, T, F, T, F, T, F, T, F], 250, false),
            (&[T, T, T, T, F, F, F, F, F, F], 250, true),
        ];
        for (answers, members, begins) in cases {
            let mut hold = Hold::new();
            assert_eq!(probed(&mut hold, answers, members, now), begins, "{answers:?} of {members}");
            assert_eq!(hold.is_holding(now), begins);
            assert_eq!(hold.release(now), !begins);
        }
    }

    #[test]
    fn one_member_that_fails_again_and_again_counts_once() {
        let (mut hold, now) = (Hold::new(), Instant::now());
        assert!(!(0..20).any(|_| hold.on_probe(node(1), false, 250, now)));
    }

    /// A machine in each state, begun at `now`.
    fn states(now: Instant) -> [(&'static str, Hold); 3] {
        let (watching, mut holding, mut resting) = (Hold::new(), Hold::new(), Hold::new());
        assert!(probed(&mut holding, &[false; 6], 8, now) && probed(&mut resting, &[false; 6], 8, now));
        probed(&mut resting, &[true; 2], 8, now);
        [("watching", watching), ("holding", holding), ("resting", resting)]
    }

    fn name(hold: &Hold) -> &'static str {
        match hold.state {
            State::Watching => "watching",
            State::Holding { .. } => "holding",
            State::Resting { .. } => "resting",
        }
    }

    #[test]
    fn every_input_moves_every_state_as_the_table_says() {
        let start = Instant::now();
        let steps: [Row; 7] = [
            (
                "answered",
                |hold, now| assert!(!hold.on_probe(node(9), true, 8, now)),
                ["watching", "holding", "resting"],
            ),
            (
                "answered twice",
                |hold, now| assert!(!probed(hold, &[true, true], 8, now)),
                ["watching", "resting", "resting"],
            ),
            ("failed", |hold, now| assert!(!hold.on_probe(node(9), false, 8, now)), ["watching", "holding", "resting"]),
            ("six failed", |hold, now| _ = probed(hold, &[false; 6], 8, now), ["holding", "holding", "resting"]),
            ("59 s", |hold, now| _ = hold.is_holding(now + secs(59)), ["watching", "holding", "resting"]),
            ("60 s", |hold, now| assert!(hold.release(now + secs(60))), ["watching", "resting", "resting"]),
            ("300 s", |hold, now| assert!(hold.release(now + secs(300))), ["watching", "resting", "watching"]),
        ];
        for (input, step, after) in steps {
            for ((before, mut hold), after) in states(start).into_iter().zip(after) {
                step(&mut hold, start);
                assert_eq!(name(&hold), after, "{before}, {input}");
            }
        }
    }

    #[test]
    fn what_was_held_is_released_five_a_second() {
        let start = Instant::now();
        let [_, (_, mut hold), _] = states(start);
        assert_eq!(hold.gate(), Some(start + secs(60)));
        let mut released = 0;
        let mut now = start + secs(60);
        while now < start + secs(62) {
            released += usize::from(hold.release(now));
            now += Duration::from_millis(1);
        }
        assert_eq!(released, 10);
        assert!(hold.gate().is_some_and(|gate| gate >= now && gate < now + secs(1)));
    }

    #[test]
    fn it_does_not_hold_again_for_five_minutes() {
        let start = Instant::now();
        let [_, _, (_, mut hold)] = states(start);
        assert!(!probed(&mut hold, &[false; 8], 250, start + secs(299)));
        assert!(probed(&mut hold, &[false; 8], 250, start + secs(300)));
    }
}
