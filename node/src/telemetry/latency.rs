use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Edges within one decade: ten from 1.0 to 2.0, twelve to 5.0, ten to 10.
const PER_DECADE: usize = 32;
/// From 10 us to 100 s: the nanoseconds where each decade begins.
const DECADES: [u64; 7] = [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000];
const LOWEST_DECADE: u32 = 4;
/// One below the range and one above it.
pub(crate) const BUCKETS: usize = DECADES.len() * PER_DECADE + 2;

/// The upper bounds that Prometheus is shown, in microseconds. Each is an edge of a bucket, so the counts are exact.
pub(crate) const BOUNDS: [u32; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Latencies counted in buckets that are at most an eighth wide, from 10 us to 100 s: plain atomics, so that a request
/// pays two additions.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum_nanos: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(crate) fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// The sum of all latencies, in nanoseconds. It has changed if anything was recorded.
    pub(crate) fn sum_nanos(&self) -> u64 {
        self.sum_nanos.load(Relaxed)
    }

    /// All counts now.
    pub(crate) fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|at| self.buckets[at].load(Relaxed))
    }
}

/// The bucket of a latency. A bucket has its upper edge and not its lower one, as Prometheus counts.
fn bucket(nanos: u64) -> usize {
    let below = nanos.saturating_sub(1).max(1);
    let Some(decade) = below.ilog10().checked_sub(LOWEST_DECADE) else { return 0 };
    let decade = decade as usize;
    let Some(unit) = DECADES.get(decade) else { return BUCKETS - 1 };
    // Twentieths of the decade's unit, 20 to 199: every edge is a whole number of them.
    #[allow(clippy::cast_possible_truncation)]
    let twentieths = (below * 20 / unit) as usize;
    let within = match twentieths {
        ..40 => (twentieths - 20) / 2,
        40..100 => 10 + (twentieths - 40) / 5,
        _ => 22 + (twentieths - 100) / 10,
    };
    1 + decade * PER_DECADE + within
}

/// The upper edge of a bucket, in nanoseconds; of the last one there is none, and 100 s stand for it.
pub(crate) fn upper_edge(bucket: usize) -> u64 {
    let Some(at) = bucket.checked_sub(1) else { return DECADES[0] };
    let within = at % PER_DECADE + 1;
    let Some(unit) = DECADES.get(at / PER_DECADE) else { return 100_000_000_000 };
    let twentieths = match within {
        ..=10 => 20 + within as u64 * 2,
        11..=22 => 40 + (within as u64 - 10) * 5,
        _ => 100 + (within as u64 - 22) * 10,
    };
    twentieths * unit / 20
}

/// The latency that a share `q` (0 to 1) of these counts stays at or below: the upper edge of its bucket, so at most an
/// eighth too high. `None`: nothing was counted.
pub(crate) fn quantile(counts: &[u64; BUCKETS], q: f64) -> Option<Duration> {
    let total: u64 = counts.iter().sum();
    // A count beyond 2^52 is not reached in a hundred years.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = ((total as f64 * q).ceil() as u64).max(1);
    let mut seen = 0;
    let at = counts.iter().position(|count| {
        seen += count;
        seen >= rank
    })?;
    Some(Duration::from_nanos(upper_edge(at)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for at in 0..BUCKETS - 1 {
            let edge = upper_edge(at);
            assert_eq!((bucket(edge), bucket(edge + 1)), (at, at + 1), "edge {edge} ns of bucket {at}");
        }
    }

    #[test]
    fn what_is_shown_to_prometheus_are_edges() {
        let edges: Vec<_> = (0..BUCKETS - 1).map(upper_edge).collect();
        for bound in BOUNDS {
            assert!(edges.contains(&(u64::from(bound) * 1_000)), "{bound} us");
        }
    }

    #[test]
    fn the_ends_of_the_range_take_what_is_beyond() {
        assert_eq!((bucket(0), bucket(1), bucket(10_000)), (0, 0, 0));
        assert_eq!((bucket(100_000_000_001), bucket(u64::MAX)), (BUCKETS - 1, BUCKETS - 1));
    }

    #[test]
    fn quantiles_are_at_most_an_eighth_too_high() {
        let histogram = Histogram::default();
        (1..=1_000).for_each(|n| histogram.record(Duration::from_micros(100 * n)));
        let counts = histogram.counts();
        for (q, micros) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.001, 100.0), (1.0, 100_000.0)] {
            let got = quantile(&counts, q).unwrap().as_secs_f64() * 1e6;
            assert!((micros..micros * 1.126).contains(&got), "p{q}: {got} us");
        }
        assert_eq!(histogram.sum_nanos(), 50_050_000_000);
        assert_eq!(quantile(&[0; BUCKETS], 0.5), None);
    }

    proptest! {
        #[test]
        fn a_latency_lies_in_its_bucket_which_is_at_most_an_eighth_wide(nanos in 10_001u64..100_000_000_000) {
            let at = bucket(nanos);
            let (low, high) = (upper_edge(at - 1), upper_edge(at));
            prop_assert!(low < nanos && nanos <= high);
            prop_assert!((high - low) * 8 <= low, "{}..{}", low, high);
        }
    }
}
