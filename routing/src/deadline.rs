use std::time::{Duration, Instant};

/// How long a request may take of which nobody said it: what most callers wait before they give up themselves.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(15);
/// The longest one try may go unanswered before another endpoint is asked: a healthy service answers far sooner, and
/// one that hangs leaves most of the deadline to the next.
pub const TRY_TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// Below this a try has all that is left: cutting it short would blame endpoints for a caller's impatience.
const TRY_TIMEOUT_MIN: Duration = Duration::from_millis(250);
/// The longest that a connection to a node may take: one round trip and one lost packet (QUIC resends its first packet
/// after a second, RFC 9002 section 6.2.2).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request waits for a connection while another endpoint could be asked: two round trips across an ocean.
/// Two that fail so are over within a second. The dial itself goes on, for those who come later.
pub const CONNECT_WAIT: Duration = Duration::from_millis(400);

/// Until when a request must be answered. It is only ever narrowed.
///
/// A deadline that the caller declared covers the whole exchange. The default covers it up to the head of the answer:
/// a body may stream for hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    declared: bool,
}

impl Deadline {
    /// [`DEFAULT_DEADLINE`] from now.
    #[must_use]
    pub fn default_at(now: Instant) -> Self {
        Self::default_within(DEFAULT_DEADLINE, now)
    }

    /// The default of a node that is configured otherwise: `timeout` from now, and nobody declared it.
    #[must_use]
    pub fn default_within(timeout: Duration, now: Instant) -> Self {
        Self { at: later(now, timeout), declared: false }
    }

    /// What a caller declared (`starling-timeout`), from now.
    #[must_use]
    pub fn declared(timeout: Duration, now: Instant) -> Self {
        Self { at: later(now, timeout), declared: true }
    }

    /// What is left at the hop before, as a `StreamHeader` carries it: milliseconds, 0 for none. It counts as not
    /// declared: the hop before watches over the body, and ends the stream when it must.
    #[must_use]
    pub fn of_hop(deadline_ms: u32, now: Instant) -> Self {
        if deadline_ms == 0 {
            Self::default_at(now)
        } else {
            Self::default_within(Duration::from_millis(deadline_ms.into()), now)
        }
    }

    /// What holds once the request has been sent whole: a deadline that nobody declared begins only then, since a body may
    /// take its time.
    #[must_use]
    pub fn of_answer(self, timeout: Duration, now: Instant) -> Self {
        if self.declared { self } else { Self::default_within(timeout, now) }
    }

    /// The earlier of the two.
    #[must_use]
    pub fn narrowed(self, other: Self) -> Self {
        let declared = self.declared || other.declared;
        Self { at: self.at.min(other.at), declared }
    }

    /// The moment itself, for a timer.
    #[must_use]
    pub const fn at(self) -> Instant {
        self.at
    }

    /// Did a caller declare it?
    #[must_use]
    pub const fn is_declared(self) -> bool {
        self.declared
    }

    /// Time left; zero when it has passed.
    #[must_use]
    pub fn left(self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }

    /// Is it over?
    #[must_use]
    pub fn is_past(self, now: Instant) -> bool {
        now >= self.at
    }

    /// Time left as a `StreamHeader` carries it: milliseconds, rounded down so that no hop extends it. Zero would say
    /// "none": a deadline with less than a millisecond left says 1.
    #[must_use]
    pub fn for_hop(self, now: Instant) -> u32 {
        u32::try_from(self.left(now).as_millis()).unwrap_or(u32::MAX).max(1)
    }

    /// When to ask another endpoint if this try has not been answered: half of what is left, at most
    /// [`TRY_TIMEOUT_MAX`]; `None` if half is so little that the try may as well have it all.
    ///
    /// When it passes, [`Tries::on_failure`](crate::Tries::on_failure) is asked about
    /// [`TryTimeout`](starling_proto::ErrorCode::TryTimeout). The try is cut only if that says to retry: one that
    /// nobody replaces goes on until the deadline.
    #[must_use]
    pub fn try_until(self, now: Instant) -> Option<Instant> {
        self.try_until_within(TRY_TIMEOUT_MAX, now)
    }

    /// The same, with another limit than [`TRY_TIMEOUT_MAX`].
    #[must_use]
    pub fn try_until_within(self, most: Duration, now: Instant) -> Option<Instant> {
        let half = self.left(now) / 2;
        (half >= TRY_TIMEOUT_MIN).then(|| now + half.min(most))
    }

    /// How long to wait for a connection: [`CONNECT_WAIT`] if another endpoint could be asked (`elsewhere`), else
    /// [`CONNECT_TIMEOUT`]; never past the deadline.
    #[must_use]
    pub fn connect_wait(self, elsewhere: bool, now: Instant) -> Duration {
        self.left(now).min(if elsewhere { CONNECT_WAIT } else { CONNECT_TIMEOUT })
    }
}

/// A caller may ask for more than the clock can say.
fn later(now: Instant, by: Duration) -> Instant {
    const DAY: Duration = Duration::from_hours(24);
    now + by.min(DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::epoch;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_try_has_half_of_what_is_left_and_at_most_two_seconds() {
        let now = epoch();
        for (left, try_for) in [
            (15_000, Some(2_000)),
            (4_000, Some(2_000)),
            (3_000, Some(1_500)),
            (500, Some(250)),
            (499, None),
            (0, None),
        ] {
            let deadline = Deadline::declared(ms(left), now);
            assert_eq!(deadline.try_until(now), try_for.map(|millis| now + ms(millis)), "{left} ms left");
        }
    }

    #[test]
    fn a_connection_is_waited_for_less_when_there_is_elsewhere_to_go() {
        let now = epoch();
        let deadline = Deadline::default_at(now);
        assert_eq!(deadline.connect_wait(true, now), CONNECT_WAIT);
        assert_eq!(deadline.connect_wait(false, now), CONNECT_TIMEOUT);
        assert_eq!(Deadline::declared(ms(100), now).connect_wait(true, now), ms(100));
        assert_eq!(Deadline::declared(ms(100), now).connect_wait(false, now + ms(200)), ms(0));
    }

    #[test]
    fn a_hop_is_told_what_is_left_and_zero_means_nothing_was_said() {
        let now = epoch();
        let deadline = Deadline::declared(ms(1_500), now);
        assert_eq!(deadline.for_hop(now + Duration::from_micros(300_900)), 1_199);
        assert_eq!(deadline.for_hop(now + ms(2_000)), 1);
        assert_eq!(Deadline::of_hop(0, now), Deadline::default_at(now));
        assert_eq!(Deadline::of_hop(70, now), Deadline::default_within(ms(70), now));
        assert!(deadline.is_declared() && !Deadline::of_hop(70, now).is_declared());
    }

    proptest! {
        #[test]
        fn a_deadline_is_never_extended(first in 0u64..u64::MAX, steps in prop::collection::vec((0u64..5_000, 0u64..100_000), 0..20)) {
            let mut now = epoch();
            let mut deadline = Deadline::declared(ms(first), now);
            for (pause, other) in steps {
                now += ms(pause);
                let next = deadline.narrowed(Deadline::declared(ms(other), now)).narrowed(Deadline::default_at(now));
                prop_assert!(next.at() <= deadline.at());
                // What the next hop makes of it is no later either, but for the last millisecond.
                prop_assert!(Deadline::of_hop(next.for_hop(now), now).at() <= next.at().max(now + ms(1)));
                prop_assert!(next.try_until(now).is_none_or(|until| until <= next.at()));
                prop_assert!(now + next.connect_wait(false, now) <= next.at().max(now));
                deadline = next;
            }
        }
    }
}
