use std::collections::BTreeMap;
use std::time::Instant;

use rand::RngExt;
use rand::rngs::StdRng;
use starling_proto::NodeId;

use crate::Timings;

/// When members that are believed down are dialed: often at first, seldom later, each time with jitter, so that both
/// sides of a cut don't dial in step.
#[derive(Debug, Default)]
pub(crate) struct Redials {
    down: BTreeMap<NodeId, Redial>,
}

#[derive(Debug)]
struct Redial {
    since: Instant,
    next: Instant,
}

impl Redials {
    /// A member went down.
    pub(crate) fn on_down(&mut self, node: NodeId, timings: &Timings, rng: &mut StdRng, now: Instant) {
        let next = now + timings.redial_first.mul_f64(rng.random_range(0.5..1.0));
        self.down.entry(node).or_insert(Redial { since: now, next });
    }

    /// A member is up, left, or forgotten.
    pub(crate) fn on_gone(&mut self, node: NodeId) {
        self.down.remove(&node);
    }

    /// When the next one is to be dialed.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.down.values().map(|redial| redial.next).min()
    }

    /// The members to dial now.
    pub(crate) fn take_due(&mut self, timings: &Timings, rng: &mut StdRng, now: Instant) -> Vec<NodeId> {
        let mut due = Vec::new();
        for (node, redial) in &mut self.down {
            if redial.next <= now {
                let young = now.duration_since(redial.since) < timings.redial_first_for;
                let period = if young { timings.redial_first } else { timings.redial_later };
                redial.next = now + period.mul_f64(rng.random_range(0.8..1.2));
                due.push(*node);
            }
        }
        due
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::time::Duration;

    #[test]
    fn a_member_that_is_down_is_dialed_every_second_for_a_minute_then_every_ten() {
        let timings = Timings::default();
        let mut rng = StdRng::seed_from_u64(1);
        let mut redials = Redials::default();
        let start = Instant::now();
        let node = NodeId::of_key(b"a");
        redials.on_down(node, &timings, &mut rng, start);
        let mut dialed = Vec::new();
        while let Some(at) = redials.next().filter(|at| *at < start + Duration::from_secs(160)) {
            assert_eq!(redials.take_due(&timings, &mut rng, at), [node]);
            dialed.push(at);
        }
        let within = |from, to| {
            let (from, to) = (start + Duration::from_secs(from), start + Duration::from_secs(to));
            dialed.iter().filter(|at| (from..to).contains(at)).count()
        };
        assert!((50..=75).contains(&within(0, 60)), "{}", within(0, 60));
        assert!((8..=13).contains(&within(60, 160)), "{}", within(60, 160));
        redials.on_gone(node);
        assert_eq!(redials.next(), None);
    }
}
