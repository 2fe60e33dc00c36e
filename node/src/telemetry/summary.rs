use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::latency::{BUCKETS, quantile};
use super::route::{Direction, Route, RouteKey};

/// How far back a summary can look, in seconds.
pub const WINDOW_MAX: u64 = 60;

/// What went over a route: what `starling stat` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteStats {
    /// Which way.
    pub direction: Direction,
    /// Who called; empty: not known.
    pub src: String,
    /// Who was called.
    pub dst: String,
    /// Requests since the node started.
    pub requests: u64,
    /// Of those, answered with 5xx.
    pub failed: u64,
    /// Tries beyond the first since the node started.
    pub retries: u64,
    /// The last ten whole seconds.
    pub last_10s: WindowStats,
    /// The last sixty whole seconds.
    pub last_60s: WindowStats,
    /// TCP connections open now.
    pub tcp_open: u64,
    /// TCP connections since the node started.
    pub tcp_connections: u64,
    /// Bytes read from the application over TCP since the node started.
    pub tcp_read_bytes: u64,
    /// Bytes written to the application over TCP since the node started.
    pub tcp_write_bytes: u64,
}

/// The requests of some seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct WindowStats {
    /// How many.
    pub requests: u64,
    /// The share that was not answered with 5xx, 0 to 1; none without requests.
    pub success: Option<f64>,
    /// Requests a second.
    pub rps: f64,
    /// The median latency in seconds, at most an eighth too high; none without requests.
    pub p50: Option<f64>,
    /// The 99th percentile of latency in seconds, likewise.
    pub p99: Option<f64>,
}

/// What happened on each route in each of the last sixty seconds: fed once a second from the routes' counters, so that
/// requests pay nothing for it.
#[derive(Debug)]
pub(crate) struct LatencySummary {
    began: Instant,
    /// The number of the last second that is over.
    last: u64,
    routes: BTreeMap<RouteKey, History>,
}

/// One route: what its counters were at the last tick, and the seconds before.
#[derive(Debug)]
struct History {
    sum_nanos: u64,
    counts: Box<[u64; BUCKETS]>,
    totals: (u64, u64),
    seconds: VecDeque<Second>,
}

/// What was counted until this second, since the one before; only buckets that grew.
#[derive(Debug)]
struct Second {
    number: u64,
    buckets: Box<[(u8, u64)]>,
    requests: u64,
    failed: u64,
}

impl LatencySummary {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { began: now, last: 0, routes: BTreeMap::new() }
    }

    /// A second is over. Late ticks are well: what was counted since the last goes to the second that ends now.
    pub(crate) fn tick<'r>(&mut self, routes: impl Iterator<Item = &'r Route>, now: Instant) {
        // Ticks come a little before or after the full second: rounded, each has its own number.
        let number = (now.saturating_duration_since(self.began) + Duration::from_millis(500)).as_secs();
        self.last = number;
        for route in routes {
            if !self.routes.contains_key(route.key()) {
                self.routes.insert(route.key().clone(), History::default());
            }
            self.routes.get_mut(route.key()).expect("inserted").feed(route, number);
        }
    }

    /// What is known of a route, as of the last tick; what is counted since the start, as of now.
    pub(crate) fn stats(&self, route: &Route) -> RouteStats {
        let number = self.last;
        let history = self.routes.get(route.key());
        let window = |seconds| history.map_or_else(WindowStats::default, |history| history.window(number, seconds));
        let ((requests, failed), tcp) = (route.totals(), route.tcp());
        RouteStats {
            direction: route.key().direction,
            src: route.key().src.as_ref().map(ToString::to_string).unwrap_or_default(),
            dst: route.key().dst_label(),
            requests,
            failed,
            retries: route.retries(),
            last_10s: window(10),
            last_60s: window(WINDOW_MAX),
            tcp_open: tcp.open,
            tcp_connections: tcp.connections,
            tcp_read_bytes: tcp.read_bytes,
            tcp_write_bytes: tcp.write_bytes,
        }
    }
}

impl Default for History {
    fn default() -> Self {
        Self { sum_nanos: 0, counts: Box::new([0; BUCKETS]), totals: (0, 0), seconds: VecDeque::new() }
    }
}

impl History {
    fn feed(&mut self, route: &Route, number: u64) {
        while self.seconds.front().is_some_and(|second| second.number + WINDOW_MAX <= number) {
            self.seconds.pop_front();
        }
        let (sum_nanos, totals) = (route.latency().sum_nanos(), route.totals());
        if (sum_nanos, totals) == (self.sum_nanos, self.totals) {
            return;
        }
        let counts = route.latency().counts();
        let grown = |(at, (now, before)): (usize, (&u64, &u64))| {
            let bucket = u8::try_from(at).expect("there are 226 buckets");
            (now > before).then(|| (bucket, now - before))
        };
        let buckets = counts.iter().zip(self.counts.iter()).enumerate().filter_map(grown).collect();
        let (requests, failed) = (totals.0 - self.totals.0, totals.1 - self.totals.1);
        self.seconds.push_back(Second { number, buckets, requests, failed });
        (self.sum_nanos, self.totals) = (sum_nanos, totals);
        *self.counts = counts;
    }

    // Counts beyond 2^52 are not reached in a minute.
    #[allow(clippy::cast_precision_loss)]
    fn window(&self, number: u64, seconds: u64) -> WindowStats {
        let mut counts = [0; BUCKETS];
        let (mut requests, mut failed) = (0, 0);
        for second in self.seconds.iter().filter(|second| second.number + seconds > number) {
            requests += second.requests;
            failed += second.failed;
            for (bucket, count) in &second.buckets {
                counts[usize::from(*bucket)] += count;
            }
        }
        let latency = |q| quantile(&counts, q).map(|latency| latency.as_secs_f64());
        WindowStats {
            requests,
            success: (requests > 0).then(|| 1.0 - failed as f64 / requests as f64),
            rps: requests as f64 / seconds.min(number.max(1)) as f64,
            p50: latency(0.5),
            p99: latency(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn route() -> Route {
        Route::new(RouteKey { direction: Direction::Outbound, src: None, dst: "orders".parse().ok() })
    }

    fn serve(route: &Route, n: usize, status: u16, millis: u64) {
        (0..n).for_each(|_| route.on_request(&Method::GET, status, true, Duration::from_millis(millis)));
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_window_holds_its_seconds_and_no_others() {
        let (start, route) = (Instant::now(), route());
        let mut summary = LatencySummary::new(start);
        serve(&route, 90, 200, 1);
        serve(&route, 10, 503, 100);
        summary.tick([&route].into_iter(), start + SECOND);
        serve(&route, 50, 200, 2);
        summary.tick([&route].into_iter(), start + 11 * SECOND);
        let stats = summary.stats(&route);
        assert_eq!((stats.requests, stats.failed), (150, 10));
        let last = stats.last_10s;
        assert_eq!(
            (last.requests, last.success, last.rps, last.p50, last.p99),
            (50, Some(1.0), 5.0, Some(0.002), Some(0.002))
        );
        let minute = stats.last_60s;
        assert_eq!((minute.requests, minute.p50, minute.p99), (150, Some(0.001), Some(0.1)));
        assert!((minute.success.unwrap() - 140.0 / 150.0).abs() < 1e-9);
    }

    #[test]
    fn without_requests_there_is_neither_success_nor_latency() {
        let (start, route) = (Instant::now(), route());
        let mut summary = LatencySummary::new(start);
        assert_eq!(summary.stats(&route).last_10s, WindowStats::default());
        serve(&route, 1, 200, 1);
        (1..=70).for_each(|n| summary.tick([&route].into_iter(), start + SECOND * n));
        let stats = summary.stats(&route);
        assert_eq!((stats.requests, stats.last_60s), (1, WindowStats::default()));
        assert!(summary.routes[route.key()].seconds.is_empty(), "what is out of the window is let go");
    }

    #[test]
    fn stats_are_readable_by_a_script() {
        let (start, route) = (Instant::now(), route());
        let json = serde_json::to_value(LatencySummary::new(start).stats(&route)).unwrap();
        assert_eq!((json["dst"].as_str(), json["direction"].as_str()), (Some("orders"), Some("outbound")));
        assert!(json["last_10s"]["p99"].is_null());
    }
}
