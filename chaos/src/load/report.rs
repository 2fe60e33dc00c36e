use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Failures that are told one by one; the others are counted.
const MOST_TOLD: usize = 1000;

pub(super) struct Record {
    pub(super) at: Duration,
    pub(super) latency: Duration,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    Answered(u16),
    Failed(String),
}

/// What became of a load. Latencies count from the moment a request was due, failed requests included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// When the first request was due, in milliseconds of Unix time.
    pub started_unix_ms: u64,
    /// Requests that were due.
    pub sent: u64,
    /// Those without an answer of status 2xx.
    pub failed: u64,
    /// Half of all took at most this, in milliseconds.
    pub p50_ms: f64,
    /// 99 % took at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// When the longest was due, in milliseconds since the start.
    pub max_at_ms: f64,
    /// The first failures in the order they were due, at most 1,000.
    pub failures: Vec<Failure>,
    /// Of every request in the order they were due: milliseconds since the start, latency in milliseconds, status
    /// (0 if it failed).
    pub requests: Vec<(f64, f64, u16)>,
}

/// One request that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When it was due, in milliseconds since the start.
    pub at_ms: f64,
    /// How long it took to fail.
    pub latency_ms: f64,
    /// Why.
    pub error: String,
}

impl Report {
    pub(super) fn of(started: SystemTime, mut records: Vec<Record>) -> Self {
        records.sort_by_key(|record| record.at);
        let mut latencies: Vec<Duration> = records.iter().map(|record| record.latency).collect();
        latencies.sort_unstable();
        let failures = records.iter().filter_map(|record| match &record.outcome {
            Outcome::Answered(_) => None,
            Outcome::Failed(error) => {
                Some(Failure { at_ms: ms(record.at), latency_ms: ms(record.latency), error: error.clone() })
            }
        });
        let requests = records.iter().map(|record| {
            let status = if let Outcome::Answered(status) = record.outcome { status } else { 0 };
            (ms(record.at), ms(record.latency), status)
        });
        let longest = records.iter().max_by_key(|record| record.latency);
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started_unix_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
            sent: records.len() as u64,
            failed: failures.clone().count() as u64,
            p50_ms: percentile(&latencies, 50),
            p99_ms: percentile(&latencies, 99),
            max_ms: longest.map_or(0.0, |record| ms(record.latency)),
            max_at_ms: longest.map_or(0.0, |record| ms(record.at)),
            failures: failures.take(MOST_TOLD).collect(),
            requests: requests.collect(),
        }
    }

    /// When a request was due, in milliseconds of Unix time: to set it beside what else happened.
    pub fn unix_ms(&self, at_ms: f64) -> f64 {
        // 2^53 milliseconds are 285,000 years.
        #[allow(clippy::cast_precision_loss)]
        let started = self.started_unix_ms as f64;
        started + at_ms
    }

    /// The failures that were due later than this after the moment.
    pub fn failures_after(&self, moment: SystemTime, grace: Duration) -> Vec<&Failure> {
        let from = ms((moment + grace).duration_since(UNIX_EPOCH).unwrap_or_default());
        self.failures.iter().filter(|failure| self.unix_ms(failure.at_ms) > from).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, failed, p50_ms, p99_ms, max_ms, max_at_ms, .. } = self;
        writeln!(f, "{sent} requests, {failed} failed; p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms")?;
        writeln!(f, "longest {max_ms:.1} ms, due at {:.2} s", max_at_ms / 1000.0)?;
        for Failure { at_ms, latency_ms, error } in self.failures.iter().take(20) {
            writeln!(f, "at {:.2} s, after {latency_ms:.1} ms: {error}", at_ms / 1000.0)?;
        }
        Ok(())
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The smallest value that at least that share of all don't exceed (nearest rank).
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().map_or(0.0, ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_from_the_records() {
        let record = |at, latency, failed| Record {
            at: Duration::from_millis(at),
            latency: Duration::from_millis(latency),
            outcome: if failed { Outcome::Failed("gone".into()) } else { Outcome::Answered(200) },
        };
        let mut records: Vec<Record> = (0..100).map(|n| record(n * 10, n + 1, false)).collect();
        records.push(record(1000, 500, true));
        records.reverse();
        let started = UNIX_EPOCH + Duration::from_secs(100);
        let report = Report::of(started, records);
        assert_eq!((report.sent, report.failed, report.started_unix_ms), (101, 1, 100_000));
        assert!((report.p50_ms - 51.0).abs() < 1e-9, "{}", report.p50_ms);
        assert!((report.p99_ms - 100.0).abs() < 1e-9, "{}", report.p99_ms);
        assert!((report.max_ms - 500.0).abs() < 1e-9 && (report.max_at_ms - 1000.0).abs() < 1e-9);
        assert_eq!(report.failures[0].error, "gone");
        assert_eq!(report.failures_after(started, Duration::from_millis(900)).len(), 1);
        assert_eq!(report.failures_after(started, Duration::from_millis(1001)).len(), 0);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap().sent, 101);
    }
}
