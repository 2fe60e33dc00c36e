/// The worst the local health multiplier gets (Lifeguard: S = 8).
pub const MAX_HEALTH: u8 = 8;

/// The local health multiplier: how much this node doubts what it sees of others, by what it sees of itself
/// (Lifeguard, section IV.A). Zero is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    value: u8,
}

/// What tells a node of its own health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A probe was answered.
    ProbeAnswered,
    /// A probe was not, but all who were asked to probe as well said so in time: the fault is the other's.
    ProbeFailed,
    /// A probe was not, and of those who were asked one at least was silent too, or there was nobody to ask.
    ProbeUnclear,
    /// This node was suspected, and had to refute.
    Refuted,
    /// This node ran late.
    Stalled,
}

impl Health {
    pub(crate) const GOOD: Self = Self { value: 0 };

    pub(crate) const fn value(self) -> u8 {
        self.value
    }

    /// Timers take this many times as long.
    pub(crate) const fn factor(self) -> u32 {
        self.value as u32 + 1
    }

    pub(crate) fn observe(&mut self, sign: Sign) {
        self.value = match sign {
            Sign::ProbeAnswered => self.value.saturating_sub(1),
            Sign::ProbeFailed => self.value,
            Sign::ProbeUnclear | Sign::Refuted | Sign::Stalled => (self.value + 1).min(MAX_HEALTH),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_moves_every_value_as_the_table_says() {
        use Sign::{ProbeAnswered, ProbeFailed, ProbeUnclear, Refuted, Stalled};
        // Before, then after each sign, in the order above.
        let table = [
            (0, [0, 0, 1, 1, 1]),
            (1, [0, 1, 2, 2, 2]),
            (2, [1, 2, 3, 3, 3]),
            (3, [2, 3, 4, 4, 4]),
            (4, [3, 4, 5, 5, 5]),
            (5, [4, 5, 6, 6, 6]),
            (6, [5, 6, 7, 7, 7]),
            (7, [6, 7, 8, 8, 8]),
            (8, [7, 8, 8, 8, 8]),
        ];
        for (before, after) in table {
            for (sign, after) in [ProbeAnswered, ProbeFailed, ProbeUnclear, Refuted, Stalled].into_iter().zip(after) {
                let mut health = Health { value: before };
                health.observe(sign);
                assert_eq!(health.value(), after, "{before} {sign:?}");
                assert_eq!(health.factor(), u32::from(after) + 1);
            }
        }
    }

    #[test]
    fn it_neither_falls_below_zero_nor_rises_without_end() {
        // memberlist's cases: many of one sign, then back one by one.
        let mut health = Health::GOOD;
        (0..10).for_each(|_| health.observe(Sign::ProbeAnswered));
        assert_eq!(health.factor(), 1);
        (0..20).for_each(|_| health.observe(Sign::Refuted));
        assert_eq!(health.factor(), 9);
        let back: Vec<_> = (0..10)
            .map(|_| {
                health.observe(Sign::ProbeAnswered);
                health.factor()
            })
            .collect();
        assert_eq!(back, [8, 7, 6, 5, 4, 3, 2, 1, 1, 1]);
    }
}
