//! What the load saw, in numbers.

use std::time::{Duration, Instant};

use super::load::Sample;

/// A request slower than this, while nothing is wrong with the machine, met a failure on its way.
pub(super) const SLOW: Duration = Duration::from_millis(150);

/// The closing table's figures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    /// Requests that ended.
    pub(super) requests: usize,
    /// Of them, without a good answer.
    pub(super) failed: usize,
    /// Half of them were at most this slow.
    pub p50: Duration,
    /// 99 of 100 were at most this slow.
    pub p99: Duration,
    /// The slowest one.
    pub(super) max: Duration,
}

impl Figures {
    /// Of all requests that were due within `from..to`.
    #[must_use]
    pub(super) fn of(samples: &[Sample], from: Instant, to: Instant) -> Self {
        let chosen: Vec<&Sample> = samples.iter().filter(|s| s.due >= from && s.due < to).collect();
        let mut took: Vec<Duration> = chosen.iter().map(|s| s.took).collect();
        took.sort_unstable();
        let at = |permille: usize| took.get((took.len().saturating_sub(1)) * permille / 1000).copied();
        Self {
            requests: chosen.len(),
            failed: chosen.iter().filter(|s| s.result.is_err()).count(),
            p50: at(500).unwrap_or_default(),
            p99: at(990).unwrap_or_default(),
            max: at(1000).unwrap_or_default(),
        }
    }
}

/// How long after `fault` the load was served as before: the end of the last request, due after it and before `until`,
/// that failed or was slow. Zero if there was none.
#[must_use]
pub(super) fn time_to_route_around(samples: &[Sample], fault: Instant, until: Instant) -> Duration {
    samples
        .iter()
        .filter(|s| s.due + s.took >= fault && s.due < until)
        .filter(|s| s.result.is_err() || s.took > SLOW)
        .map(|s| (s.due + s.took).saturating_duration_since(fault))
        .max()
        .unwrap_or_default()
}

/// Has `host` answered for `service` in a request due within `from..to`?
#[must_use]
pub(super) fn answered(samples: &[Sample], service: &str, host: &str, from: Instant, to: Instant) -> bool {
    samples
        .iter()
        .filter(|s| s.due >= from && s.due < to)
        .filter_map(|s| s.result.as_ref().ok())
        .any(|chain| chain.iter().any(|(s, h)| s == service && h == host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(start: Instant, due_ms: u64, took_ms: u64, host: Option<&str>) -> Sample {
        Sample {
            due: start + Duration::from_millis(due_ms),
            took: Duration::from_millis(took_ms),
            result: host.map(|h| vec![("stock".to_owned(), h.to_owned())]).ok_or_else(|| "failed".to_owned()),
        }
    }

    #[test]
    fn the_figures_count_what_was_due_in_their_time() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let samples: Vec<Sample> = (0..100).map(|i| sample(start, i * 10, i + 1, (i != 50).then_some("b"))).collect();
        let figures = Figures::of(&samples, start, start + ms(1000));
        assert_eq!((figures.requests, figures.failed), (100, 1));
        assert_eq!((figures.p50, figures.p99, figures.max), (ms(50), ms(99), ms(100)));
        assert_eq!(Figures::of(&samples, start, start + ms(100)).requests, 10);
        assert_eq!(Figures::of(&[], start, start).requests, 0);
    }

    #[test]
    fn routing_around_ends_with_the_last_request_that_suffered() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let samples = [
            sample(start, 0, 5, Some("b")),
            sample(start, 100, 210, Some("c")),
            sample(start, 120, 50, None),
            sample(start, 400, 5, Some("c")),
        ];
        let fault = start + ms(90);
        assert_eq!(time_to_route_around(&samples, fault, start + ms(500)), ms(220));
        assert_eq!(time_to_route_around(&samples[3..], fault, start + ms(500)), ms(0));
        assert!(answered(&samples, "stock", "b", start, fault));
        assert!(!answered(&samples, "stock", "b", fault, start + ms(500)));
    }
}
