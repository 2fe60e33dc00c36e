use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::Method;
use serde::Serialize;
use starling_proto::ServiceName;

use super::latency::Histogram;

/// Which way a request goes, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It leaves a local application.
    Outbound,
    /// It reaches a local application.
    Inbound,
}

impl Direction {
    /// The word in labels and log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// The methods that have a label of their own; any other is `other`, since a caller may invent as many as it likes.
pub(crate) const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];

/// `0xx` is what has no status.
pub(crate) const STATUS_CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The class of server errors: what a success rate counts as failed.
pub(crate) const FAILED_CLASS: usize = 5;

fn method_class(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::DELETE => 4,
        Method::CONNECT => 5,
        Method::OPTIONS => 6,
        Method::TRACE => 7,
        Method::PATCH => 8,
        _ => METHODS.len() - 1,
    }
}

fn status_class(status: u16) -> usize {
    usize::from(status / 100).min(FAILED_CLASS)
}

/// One way of traffic through this node: who calls whom, and whether it leaves or arrives here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// Which way.
    pub direction: Direction,
    /// Who calls; `None`: not known, or the node itself.
    pub src: Option<ServiceName>,
    /// Who is called; `None`: one of those beyond the limit of routes.
    pub dst: Option<ServiceName>,
}

impl RouteKey {
    /// The caller as a label.
    pub(crate) fn src_label(&self) -> String {
        label(self.src.as_ref(), "unknown")
    }

    /// The called as a label.
    pub(crate) fn dst_label(&self) -> String {
        label(self.dst.as_ref(), "other")
    }
}

fn label(service: Option<&ServiceName>, none: &str) -> String {
    service.map_or_else(|| none.to_owned(), ToString::to_string)
}

/// What is counted of one route: plain atomics, so that a request pays three additions and nothing is looked up,
/// formatted or locked. The metrics of Prometheus are made from them when somebody asks.
#[derive(Debug)]
pub struct Route {
    key: RouteKey,
    /// By method, status class, and whether it went over a hop (0: answered by this node itself).
    requests: [[[AtomicU64; 2]; STATUS_CLASSES.len()]; METHODS.len()],
    latency: Histogram,
    retries: AtomicU64,
    connections: AtomicU64,
    open_connections: AtomicU64,
    read_bytes: AtomicU64,
    write_bytes: AtomicU64,
}

/// One counter of requests and its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestCount {
    pub(crate) method: &'static str,
    pub(crate) status_class: &'static str,
    pub(crate) tls: bool,
    pub(crate) count: u64,
}

/// What is counted of opaque TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TcpCount {
    pub(crate) connections: u64,
    pub(crate) open: u64,
    pub(crate) read_bytes: u64,
    pub(crate) write_bytes: u64,
}

impl Route {
    pub(crate) fn new(key: RouteKey) -> Self {
        Self {
            key,
            requests: Default::default(),
            latency: Histogram::default(),
            retries: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open_connections: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            write_bytes: AtomicU64::new(0),
        }
    }

    /// Which route it is.
    #[must_use]
    pub const fn key(&self) -> &RouteKey {
        &self.key
    }

    /// A request was answered. `hop`: it went over a connection between nodes, which is always mutual TLS.
    pub fn on_request(&self, method: &Method, status: u16, hop: bool, latency: Duration) {
        self.requests[method_class(method)][status_class(status)][usize::from(hop)].fetch_add(1, Relaxed);
        self.latency.record(latency);
    }

    /// Tries were made beyond the first.
    pub fn on_retries(&self, retries: u64) {
        if retries > 0 {
            self.retries.fetch_add(retries, Relaxed);
        }
    }

    /// A TCP connection was opened.
    pub(crate) fn on_open(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.open_connections.fetch_add(1, Relaxed);
    }

    /// A TCP connection was closed.
    pub(crate) fn on_close(&self) {
        self.open_connections.fetch_sub(1, Relaxed);
    }

    /// Bytes of a TCP connection, from the application and to it.
    pub(crate) fn on_bytes(&self, read: u64, written: u64) {
        self.read_bytes.fetch_add(read, Relaxed);
        self.write_bytes.fetch_add(written, Relaxed);
    }

    pub(crate) const fn latency(&self) -> &Histogram {
        &self.latency
    }

    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    pub(crate) fn tcp(&self) -> TcpCount {
        TcpCount {
            connections: self.connections.load(Relaxed),
            open: self.open_connections.load(Relaxed),
            read_bytes: self.read_bytes.load(Relaxed),
            write_bytes: self.write_bytes.load(Relaxed),
        }
    }

    /// The counters that are not zero.
    pub(crate) fn requests(&self) -> impl Iterator<Item = RequestCount> {
        let counts = METHODS.into_iter().zip(&self.requests).flat_map(|(method, classes)| {
            STATUS_CLASSES.into_iter().zip(classes).flat_map(move |(status_class, hops)| {
                [false, true].into_iter().zip(hops).map(move |(tls, count)| RequestCount {
                    method,
                    status_class,
                    tls,
                    count: count.load(Relaxed),
                })
            })
        });
        counts.filter(|counter| counter.count > 0)
    }

    /// (all requests, those that failed: 5xx)
    pub(crate) fn totals(&self) -> (u64, u64) {
        self.requests().fold((0, 0), |(all, failed), counter| {
            let is_failed = counter.status_class == STATUS_CLASSES[FAILED_CLASS];
            (all + counter.count, failed + if is_failed { counter.count } else { 0 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route::new(RouteKey { direction: Direction::Outbound, src: None, dst: "orders".parse().ok() })
    }

    #[test]
    fn a_method_that_someone_invented_is_other_and_so_is_a_status() {
        let route = route();
        let invented = Method::from_bytes(b"BREW").unwrap();
        for (method, status) in [(Method::GET, 204), (invented, 700), (Method::PATCH, 499), (Method::HEAD, 0)] {
            route.on_request(&method, status, true, Duration::from_millis(1));
        }
        let seen: Vec<_> = route.requests().map(|c| (c.method, c.status_class, c.tls, c.count)).collect();
        let expected =
            [("GET", "2xx", true, 1), ("HEAD", "0xx", true, 1), ("PATCH", "4xx", true, 1), ("other", "5xx", true, 1)];
        assert_eq!(seen, expected);
        assert_eq!(route.totals(), (4, 1));
    }

    #[test]
    fn what_this_node_answered_itself_is_told_from_what_went_over_a_hop() {
        let route = route();
        route.on_request(&Method::GET, 503, false, Duration::ZERO);
        route.on_request(&Method::GET, 200, true, Duration::ZERO);
        let tls: Vec<_> = route.requests().map(|counter| (counter.status_class, counter.tls)).collect();
        assert_eq!(tls, [("2xx", true), ("5xx", false)]);
    }
}
