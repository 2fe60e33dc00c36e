use std::time::{Duration, Instant};

/// How often it looks.
pub(super) const PERIOD: Duration = Duration::from_millis(250);
/// A loop that is late by this much stands still: others suspect this node after some seconds.
pub(super) const LIMIT: Duration = Duration::from_secs(2);
/// A look that comes later than this says that the process did not run, and nothing of the loop.
const PAUSE: Duration = Duration::from_secs(1);

/// Does a loop turn? Told of how late it is, at every look.
#[derive(Debug)]
pub(super) struct Watch {
    last: Instant,
    /// After the process did not run, the loop has until then to catch up.
    patient_until: Instant,
    stalled: bool,
}

/// What is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    None,
    /// The process did not run for so long.
    Paused(Duration),
    Stalled,
    Recovered,
}

impl Watch {
    pub(super) const fn new(now: Instant) -> Self {
        Self { last: now, patient_until: now, stalled: false }
    }

    pub(super) const fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// A look: the loop is late by `late`.
    pub(super) fn poll(&mut self, late: Duration, now: Instant) -> News {
        let since = now.saturating_duration_since(self.last);
        self.last = now;
        if since > PERIOD + PAUSE {
            self.patient_until = now + LIMIT;
            return News::Paused(since);
        }
        match (self.stalled, late >= LIMIT) {
            (false, true) if now >= self.patient_until => {
                self.stalled = true;
                News::Stalled
            }
            (true, false) => {
                self.stalled = false;
                News::Recovered
            }
            _ => News::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Each look: when (ms), how late the loop is (ms), and what is new.
    fn look(looks: &[(u64, u64, News)]) {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        for (at, late, news) in looks {
            assert_eq!(watch.poll(MS(*late), start + MS(*at)), *news, "at {at}, late by {late}");
        }
    }

    #[test]
    fn a_loop_stands_still_from_the_limit_on_until_it_is_back() {
        look(&[
            (250, 0, News::None),
            (500, 1_999, News::None),
            (750, 2_000, News::Stalled),
            (1_000, 2_250, News::None),
            (1_250, 0, News::Recovered),
            (1_500, 0, News::None),
            (1_750, 5_000, News::Stalled),
        ]);
    }

    #[test]
    fn after_a_pause_of_the_whole_process_the_loop_has_time_to_catch_up() {
        look(&[
            (250, 0, News::None),
            (60_000, 59_000, News::Paused(MS(59_750))),
            (60_250, 59_250, News::None),
            (60_500, 0, News::None),
            (60_750, 0, News::None),
        ]);
    }

    #[test]
    fn a_loop_that_does_not_catch_up_after_a_pause_stands_still() {
        look(&[
            (60_000, 59_000, News::Paused(MS(60_000))),
            (61_000, 60_000, News::None),
            (61_999, 60_999, News::None),
            (62_000, 61_000, News::Stalled),
        ]);
    }

    #[test]
    fn a_stall_goes_on_through_a_pause() {
        look(&[
            (250, 3_000, News::Stalled),
            (9_000, 12_000, News::Paused(MS(8_750))),
            (9_250, 12_250, News::None),
            (9_500, 0, News::Recovered),
        ]);
    }
}
