use std::time::{Duration, Instant};

/// Where time begins for one node: atomics hold nanoseconds since then, never an `Instant`.
///
/// 64 bits of nanoseconds last 584 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    origin: Instant,
}

impl Timeline {
    /// A timeline that begins at `origin`.
    #[must_use]
    pub const fn starting(origin: Instant) -> Self {
        Self { origin }
    }

    /// Nanoseconds from the origin to `now`, at least 1: 0 is free to mean "never". An earlier `now` counts as the
    /// origin.
    #[must_use]
    pub fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin)).max(1)
    }

    /// Whole seconds from the origin to `now`.
    #[must_use]
    pub fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_secs()
    }
}

/// A duration in nanoseconds, saturating after 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_the_origin_counts_as_the_origin() {
        let origin = crate::testing::epoch();
        let later = origin + Duration::from_secs(3);
        assert_eq!(Timeline::starting(later).nanos(origin), 1);
        assert_eq!(Timeline::starting(origin).nanos(later), 3_000_000_000);
        assert_eq!(Timeline::starting(origin).seconds(later), 3);
    }
}
