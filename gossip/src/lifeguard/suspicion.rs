use std::time::{Duration, Instant};

/// So many others are expected to confirm a suspicion (memberlist: suspicion multiplier - 2).
const CONFIRMATIONS: u32 = 3;
/// So many accusers of one incarnation change anything anywhere: one who suspects it, and those who confirm that. What
/// more of them say need not be told.
pub(crate) const WITNESSES: usize = CONFIRMATIONS as usize + 1;

/// How many others are expected to confirm a suspicion, where `up` members are up, this one and the suspect included:
/// fewer where there are not as many to ask.
pub(crate) fn expected(up: usize) -> u32 {
    u32::try_from(up.saturating_sub(2)).unwrap_or(u32::MAX).min(CONFIRMATIONS)
}

/// How long a suspect has to refute (Lifeguard, section IV.B): `max` while nobody but this node suspects it, less the
/// more do, and `min` once as many as expected do.
pub(crate) fn timeout(confirmed: u32, expected: u32, min: Duration, max: Duration) -> Duration {
    if confirmed >= expected {
        return min;
    }
    let share = f64::from(confirmed + 1).ln() / f64::from(expected + 1).ln();
    let millis = (max.as_secs_f64() - share * (max.saturating_sub(min)).as_secs_f64()) * 1_000.0;
    // Not negative, since `share` is at most one; whole milliseconds, as memberlist has it.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Duration::from_millis(millis.floor() as u64).clamp(min, max.max(min))
}

/// A suspicion of one member, begun by a probe of this node's own that failed. It ends when the member refutes it, which
/// drops it, or when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suspicion {
    since: Instant,
    /// How many others confirmed it.
    confirmed: u32,
}

impl Suspicion {
    pub(crate) const fn new(now: Instant, confirmed: u32) -> Self {
        Self { since: now, confirmed }
    }

    /// So many others say the same by now. Never fewer than before.
    pub(crate) fn confirm(&mut self, by: u32) {
        self.confirmed = self.confirmed.max(by);
    }

    /// The member showed that it is there, or this node was not: it has all of its time again.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.since = self.since.max(now);
    }

    /// This node stood still for so long.
    pub(crate) fn shift(&mut self, pause: Duration) {
        self.since += pause;
    }

    /// When the member is down, unless it refutes. Moves as others confirm it, and with this node's own health.
    pub(crate) fn due(&self, expected: u32, min: Duration, max: Duration) -> Instant {
        self.since + timeout(self.confirmed, expected, min, max)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An input, and when it is due after that, in milliseconds: confirmed by none, one and three before.
    type Row = (&'static str, fn(&mut Suspicion, Instant), [u64; 3]);

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// What is left, in milliseconds: negative once it is due.
    fn left(confirmed: u32, elapsed: Duration) -> i128 {
        let timeout = timeout(confirmed, 3, secs(2), secs(30));
        timeout.as_millis().cast_signed() - elapsed.as_millis().cast_signed()
    }

    #[test]
    fn memberlists_vectors_hold() {
        assert_eq!(left(0, secs(0)), 30_000);
        assert_eq!(left(1, secs(2)), 14_000);
        assert_eq!(left(2, secs(3)), 4_810);
        assert_eq!(left(3, secs(4)), -2_000);
        assert_eq!(left(4, secs(5)), -3_000);
        assert_eq!(left(5, secs(10)), -8_000);
    }

    #[test]
    fn memberlists_timer_cases_hold() {
        let (min, max) = (Duration::from_millis(500), secs(2));
        for (confirmed, millis) in [(0, 2_000), (1, 1_250), (2, 811), (3, 500), (4, 500)] {
            let timeout = timeout(confirmed, 3, min, max).as_millis();
            assert!(timeout.abs_diff(millis) <= 1, "{confirmed}: {timeout}");
        }
        // Nobody is there who could confirm it.
        assert_eq!(timeout(0, 0, Duration::from_millis(25), secs(30)), Duration::from_millis(25));
    }

    #[test]
    fn memberlists_dogpile_cases_hold() {
        // Peers beside this node, how many confirm it, and what a suspect then has: 500 ms to 1 s.
        let (min, max) = (Duration::from_millis(500), secs(1));
        let cases = [
            (1, 0, 500),
            (4, 0, 1_000),
            (5, 0, 1_000),
            (5, 1, 750),
            (5, 2, 603),
            (5, 3, 500),
            (5, 4, 500),
            // Where memberlist expects nobody to confirm it below five members, here as many as there are.
            (2, 0, 1_000),
            (2, 1, 500),
            (3, 0, 1_000),
            (3, 1, 684),
            (3, 2, 500),
        ];
        for (peers, confirmed, millis) in cases {
            let timeout = timeout(confirmed, expected(peers + 1), min, max).as_millis();
            assert!(timeout.abs_diff(millis) <= 1, "{peers} peers, {confirmed} confirm: {timeout}");
        }
    }

    #[test]
    fn as_many_are_expected_as_there_are() {
        let expected: Vec<_> = (0..=7).map(expected).collect();
        assert_eq!(expected, [0, 0, 0, 1, 2, 3, 3, 3]);
    }

    #[test]
    fn a_confirmation_after_the_time_it_leaves_makes_it_due_at_once() {
        let start = Instant::now();
        let mut suspicion = Suspicion::new(start, 0);
        assert_eq!(suspicion.due(1, secs(1), secs(30)), start + secs(30));
        suspicion.confirm(1);
        assert!(suspicion.due(1, secs(1), secs(30)) < start + secs(2));
    }

    #[test]
    fn every_input_moves_it_as_the_table_says() {
        let start = Instant::now();
        let steps: [Row; 6] = [
            ("nothing", |_, _| {}, [7_000, 4_100, 1_200]),
            ("confirmed by none", |suspicion, _| suspicion.confirm(0), [7_000, 4_100, 1_200]),
            ("confirmed by one", |suspicion, _| suspicion.confirm(1), [4_100, 4_100, 1_200]),
            ("confirmed by three", |suspicion, _| suspicion.confirm(3), [1_200, 1_200, 1_200]),
            ("restarted", |suspicion, start| suspicion.restart(start + secs(2)), [9_000, 6_100, 3_200]),
            ("shifted", |suspicion, _| suspicion.shift(secs(5)), [12_000, 9_100, 6_200]),
        ];
        for (name, step, dues) in steps {
            for (confirmed, due) in [0, 1, 3].into_iter().zip(dues) {
                let mut suspicion = Suspicion::new(start, confirmed);
                step(&mut suspicion, start);
                let at = suspicion.due(3, Duration::from_millis(1_200), secs(7)) - start;
                assert_eq!(at.as_millis(), due.into(), "{name}, {confirmed} confirmed");
            }
        }
    }

    #[test]
    fn an_earlier_restart_takes_no_time_away() {
        let start = Instant::now();
        let mut suspicion = Suspicion::new(start + secs(3), 0);
        suspicion.restart(start);
        assert_eq!(suspicion.due(3, secs(1), secs(7)), start + secs(10));
    }

    proptest! {
        #[test]
        fn more_confirmations_never_give_more_time(
            confirmed in 0..300_u32, expected in 0..300_u32, min in 0..10_000_u64, more in 0..60_000_u64,
        ) {
            let (min, max) = (Duration::from_millis(min), Duration::from_millis(min + more));
            let (now, then) = (timeout(confirmed, expected, min, max), timeout(confirmed + 1, expected, min, max));
            prop_assert!(then <= now && min <= then && now <= max);
        }
    }
}
