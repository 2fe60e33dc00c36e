use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::scenario::{Network, Plane, Way};

/// The network: whether and when a packet arrives.
#[derive(Debug)]
pub(super) struct Paths {
    network: Network,
    rules: Vec<Rule>,
}

/// What one fault does to packets that enter or leave a group of hosts.
#[derive(Debug)]
pub(super) struct Rule {
    /// The fault's number.
    pub(super) id: usize,
    /// Is a host in the group?
    pub(super) inside: Vec<bool>,
    pub(super) effect: Effect,
    pub(super) since: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Effect {
    Loss { ingress: f64, egress: f64 },
    Cut { way: Way, plane: Plane, flip: Option<Duration> },
}

impl Paths {
    pub(super) const fn new(network: Network) -> Self {
        Self { network, rules: Vec::new() }
    }

    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub(super) fn remove(&mut self, id: usize) {
        self.rules.retain(|rule| rule.id != id);
    }

    /// When a packet that leaves now arrives; `None` if it gets lost.
    pub(super) fn carry(
        &self,
        from: usize,
        to: usize,
        plane: Plane,
        now: Duration,
        rng: &mut StdRng,
    ) -> Option<Duration> {
        let passes = self.passes(from, to, plane, now);
        if passes < 1.0 && !rng.random_bool(passes) {
            return None;
        }
        Some(now + self.latency(rng))
    }

    /// A second copy of a datagram that got through, and how much later than usual a datagram is, if it is.
    pub(super) fn disorder(&self, rng: &mut StdRng) -> (Option<Duration>, Duration) {
        let Network { duplicate, late, .. } = self.network;
        let copy = (duplicate > 0.0 && rng.random_bool(duplicate)).then(|| self.latency(rng) * 2);
        let delay = late > 0.0 && rng.random_bool(late);
        (copy, if delay { Duration::from_secs(1).mul_f64(rng.random_range(0.0..1.0)) } else { Duration::ZERO })
    }

    /// Does nothing get through from one host to another?
    pub(super) fn is_cut(&self, from: usize, to: usize, plane: Plane, now: Duration) -> bool {
        from != to && self.rules.iter().any(|rule| rule.passes(from, to, plane, now) <= 0.0)
    }

    /// The share of packets that get through.
    fn passes(&self, from: usize, to: usize, plane: Plane, now: Duration) -> f64 {
        if from == to {
            return 1.0;
        }
        let passes = |rule: &Rule| rule.passes(from, to, plane, now);
        (1.0 - self.network.loss) * self.rules.iter().map(passes).product::<f64>()
    }

    fn latency(&self, rng: &mut StdRng) -> Duration {
        let [least, most] = self.network.latency;
        least.0 + most.0.saturating_sub(least.0).mul_f64(rng.random_range(0.0..1.0))
    }
}

impl Rule {
    fn passes(&self, from: usize, to: usize, plane: Plane, now: Duration) -> f64 {
        let (leaves, enters) = (self.inside[from], self.inside[to]);
        match self.effect {
            Effect::Loss { ingress, egress } => {
                let arrives = if enters { 1.0 - ingress } else { 1.0 };
                arrives * if leaves { 1.0 - egress } else { 1.0 }
            }
            Effect::Cut { way, plane: cut, flip } => {
                let meant = cut == Plane::All || plane == cut;
                let crosses = match way {
                    Way::Both => leaves != enters,
                    Way::In => enters && !leaves,
                    Way::Out => leaves && !enters,
                };
                let on = flip.is_none_or(|period| self.turns(period, now).is_multiple_of(2));
                if meant && crosses && on { 0.0 } else { 1.0 }
            }
        }
    }

    const fn turns(&self, period: Duration, now: Duration) -> u128 {
        now.saturating_sub(self.since).as_nanos() / period.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn paths(effect: Effect) -> Paths {
        let mut paths = Paths::new(Network::default());
        paths.add(Rule { id: 1, inside: vec![true, true, false, false], effect, since: Duration::from_secs(100) });
        paths
    }

    #[test]
    fn a_cut_parts_a_group_from_the_others_in_its_direction_and_its_plane() {
        let now = Duration::from_secs(100);
        for (way, plane, expected) in [
            (Way::Both, Plane::All, [true, true, true, true]),
            (Way::In, Plane::All, [false, false, true, true]),
            (Way::Out, Plane::Gossip, [true, false, false, false]),
        ] {
            let paths = paths(Effect::Cut { way, plane, flip: None });
            let cut = |from, to, plane| paths.is_cut(from, to, plane, now);
            let found = [(0, 2, Plane::Gossip), (0, 2, Plane::Quic), (2, 0, Plane::Gossip), (3, 1, Plane::Quic)];
            assert_eq!(found.map(|(from, to, plane)| cut(from, to, plane)), expected, "{way:?}");
            assert!(!cut(0, 1, Plane::Gossip) && !cut(2, 3, Plane::Gossip) && !cut(0, 0, Plane::Gossip));
        }
    }

    #[test]
    fn a_flip_flop_is_on_then_off_then_on() {
        let flip = Some(Duration::from_secs(20));
        let paths = paths(Effect::Cut { way: Way::In, plane: Plane::All, flip });
        let cut = |at| paths.is_cut(2, 0, Plane::Gossip, Duration::from_secs(at));
        assert_eq!([100, 119, 120, 139, 140].map(cut), [true, true, false, false, true]);
    }

    #[test]
    fn loss_takes_its_share() {
        let mut paths = paths(Effect::Loss { ingress: 0.8, egress: 0.0 });
        let mut rng = StdRng::seed_from_u64(1);
        let mut arrive = |paths: &Paths, from, to| {
            let carry = |_: &i32| paths.carry(from, to, Plane::Gossip, Duration::ZERO, &mut rng).is_some();
            (0..10_000).filter(carry).count()
        };
        assert_eq!(arrive(&paths, 0, 2), 10_000);
        let arrived = arrive(&paths, 2, 0);
        assert!((1_800..2_200).contains(&arrived), "{arrived}");
        paths.remove(1);
        assert_eq!(arrive(&paths, 2, 0), 10_000);
    }
}
