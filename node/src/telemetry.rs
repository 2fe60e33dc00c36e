//! What a node tells of itself: metrics, access log, traces, and the summary behind `starling stat`.
//!
//! One [`Telemetry`] a node, shared by its shards. The request path hands over one [`RequestRecord`] when a request is
//! over; it is counted by a few atomic additions, and its line appended to a buffer. Writing and sending are done elsewhere.

mod access_log;
mod exposition;
mod latency;
mod otlp;
mod record;
mod route;
mod routes;
mod summary;
#[cfg(test)]
pub(crate) mod testing;
mod trace;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::BuildError;
use starling_proto::{ErrorCode, ServiceName};

use crate::config;
use exposition::Exposition;
use summary::LatencySummary;

use crate::rejected::Rejected;

pub use access_log::{AccessLog, AccessLogCounts};
pub use otlp::{CollectorError, SpanExporter, SpanSender};
pub use record::{Peer, RequestRecord};
pub use route::{Direction, Route, RouteKey};
pub use routes::Routes;
pub use summary::{RouteStats, WINDOW_MAX, WindowStats};
pub use trace::{Hop, Sampler, SpanId, TRACEPARENT, TRACESTATE, TraceContext, TraceId, TraceParentError};

/// All telemetry of one node.
pub struct Telemetry {
    exposition: Exposition,
    routes: Routes,
    summary: Mutex<LatencySummary>,
    access_log: Option<AccessLog>,
    spans: Option<SpanSender>,
    sampler: Sampler,
    version: &'static str,
    /// Streams that were refused, by the place of their code in [`ErrorCode::ALL`].
    refused: Box<[AtomicU64]>,
    /// What local clients sent and was refused, by reason.
    rejected: [AtomicU64; Rejected::ALL.len()],
    /// Flows of datagrams open now.
    flows: Arc<AtomicU64>,
    /// Datagrams that went to other nodes, by what carried them.
    datagrams: [AtomicU64; Vehicle::ALL.len()],
    /// Datagrams that were dropped, by reason.
    dropped: [AtomicU64; DroppedDatagram::ALL.len()],
    observers: Mutex<Vec<Observer>>,
}

/// Publishes metrics by the macros of `metrics` each time somebody asks for them.
type Observer = Box<dyn Fn() + Send>;

/// Why telemetry can't start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The access log can't be written.
    #[error("the access log: {0}")]
    AccessLog(#[source] io::Error),
    /// Not an address of a collector.
    #[error("the collector: {0}")]
    Collector(#[from] CollectorError),
    /// A fault of ours.
    #[error("the metrics: {0}")]
    Metrics(#[from] BuildError),
}

impl Telemetry {
    /// The telemetry of the node `node`. The [`SpanExporter`], if a collector is configured, must be run by the caller.
    ///
    /// # Errors
    /// If the access log can't be opened, or the collector's address is none.
    pub fn try_new(
        node: &str,
        access_log: Option<&config::AccessLog>,
        settings: &config::Telemetry,
        now: Instant,
    ) -> Result<(Self, Option<SpanExporter>), TelemetryError> {
        let version = env!("CARGO_PKG_VERSION");
        let exporter = settings.otlp.as_ref().map(|collector| otlp::exporter(collector, node, version)).transpose()?;
        let (spans, exporter) = exporter.unzip();
        let telemetry = Self {
            exposition: Exposition::try_new()?,
            routes: Routes::default(),
            summary: Mutex::new(LatencySummary::new(now)),
            access_log: access_log.map(AccessLog::try_open).transpose().map_err(TelemetryError::AccessLog)?,
            spans,
            sampler: Sampler::of_share(settings.sampling),
            version,
            refused: ErrorCode::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            rejected: std::array::from_fn(|_| AtomicU64::new(0)),
            flows: Arc::default(),
            datagrams: std::array::from_fn(|_| AtomicU64::new(0)),
            dropped: std::array::from_fn(|_| AtomicU64::new(0)),
            observers: Mutex::default(),
        };
        Ok((telemetry, exporter))
    }

    /// A request, or a TCP connection, is over.
    pub fn on_request(&self, record: &RequestRecord) {
        let route = self.routes.route(record.direction, record.src.as_ref(), &record.dst);
        if let Some(method) = &record.method {
            route.on_request(method, record.status, record.endpoint.is_some(), record.duration);
        }
        route.on_retries(record.attempts.saturating_sub(1).into());
        if let Some(spans) = &self.spans
            && record.trace.is_some_and(|hop| hop.context.is_sampled())
        {
            spans.send(record.clone());
        }
        if let Some(log) = &self.access_log {
            log.write(record);
        }
    }

    /// A TCP connection has begun: it counts as open while what is returned lives.
    #[must_use]
    pub fn on_tcp(&self, direction: Direction, src: Option<&ServiceName>, dst: &ServiceName) -> OpenConnection {
        let route = self.routes.route(direction, src, dst);
        route.on_open();
        OpenConnection { route }
    }

    /// A stream from another node was refused or malformed.
    pub fn on_refused(&self, code: ErrorCode) {
        if let Some(at) = ErrorCode::ALL.iter().position(|known| *known == code) {
            self.refused[at].fetch_add(1, Relaxed);
        }
    }

    /// A local client sent what is no request, or more than it may.
    pub fn on_rejected(&self, why: Rejected) {
        self.rejected[why as usize].fetch_add(1, Relaxed);
    }

    /// A flow of datagrams has begun: it counts as open while what is returned lives.
    #[must_use]
    pub fn on_flow(&self) -> OpenFlow {
        self.flows.fetch_add(1, Relaxed);
        OpenFlow(Arc::clone(&self.flows))
    }

    /// So many datagrams were dropped.
    pub fn on_dropped(&self, why: DroppedDatagram, count: u64) {
        self.dropped[why as usize].fetch_add(count, Relaxed);
    }

    /// A datagram went to another node.
    pub fn on_datagram(&self, by: Vehicle) {
        self.datagrams[by as usize].fetch_add(1, Relaxed);
    }

    /// Which of the traces that start here are recorded.
    #[must_use]
    pub const fn sampler(&self) -> Sampler {
        self.sampler
    }

    /// Runs `record` with this node's recorder of metrics: for what is rare enough that its series is looked up each
    /// time. A handle must not be kept (it may be let go of when idle).
    pub fn with<T>(&self, record: impl FnOnce() -> T) -> T {
        self.exposition.with(record)
    }

    /// Has `observer` publish metrics, by the macros of `metrics`, each time somebody asks for them.
    pub fn on_render(&self, observer: impl Fn() + Send + 'static) {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(observer));
    }

    /// To be called once a second: the windows of [`Telemetry::stats`] move on.
    pub fn tick(&self, now: Instant) {
        let routes = self.routes.all();
        self.summary.lock().unwrap_or_else(PoisonError::into_inner).tick(routes.iter().map(|route| &**route), now);
        self.exposition.upkeep();
    }

    /// What went over each route: by destination, then source.
    #[must_use]
    pub fn stats(&self) -> Vec<RouteStats> {
        let summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        self.routes.all().iter().map(|route| summary.stats(route)).collect()
    }

    /// All metrics in the text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.exposition.render(&self.routes.all(), || {
            self.publish();
            self.observers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|observer| observer());
        })
    }

    /// Opens the access log's file anew (SIGHUP).
    pub fn reopen(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    fn publish(&self) {
        gauge!("starling_build_info", "version" => self.version).set(1.0);
        for (code, count) in ErrorCode::ALL.iter().zip(&self.refused) {
            let count = count.load(Relaxed);
            if count > 0 {
                counter!("starling_refused_total", "reason" => code.as_str()).absolute(count);
            }
        }
        for why in Rejected::ALL {
            let count = self.rejected[*why as usize].load(Relaxed);
            if count > 0 {
                counter!("starling_bad_requests_total", "reason" => why.as_str()).absolute(count);
            }
        }
        gauge!("starling_udp_flows").set(self.flows.load(Relaxed) as f64);
        for by in Vehicle::ALL {
            let count = self.datagrams[*by as usize].load(Relaxed);
            if count > 0 {
                counter!("starling_udp_sent_total", "by" => by.as_str()).absolute(count);
            }
        }
        for why in DroppedDatagram::ALL {
            let count = self.dropped[*why as usize].load(Relaxed);
            if count > 0 {
                counter!("starling_udp_dropped_total", "reason" => why.as_str()).absolute(count);
            }
        }
        if let Some(log) = &self.access_log {
            let AccessLogCounts { written, dropped_full, dropped_write } = log.counts();
            counter!("starling_access_log_lines_total").absolute(written);
            counter!("starling_access_log_dropped_total", "reason" => "queue-full").absolute(dropped_full);
            counter!("starling_access_log_dropped_total", "reason" => "write-failed").absolute(dropped_write);
        }
        if let Some(spans) = &self.spans {
            let (exported, dropped_full, dropped_collector) = spans.counts();
            counter!("starling_spans_exported_total").absolute(exported);
            counter!("starling_spans_dropped_total", "reason" => "queue-full").absolute(dropped_full);
            counter!("starling_spans_dropped_total", "reason" => "collector").absolute(dropped_collector);
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A flow of datagrams: counted while it lives.
#[derive(Debug)]
pub struct OpenFlow(Arc<AtomicU64>);

impl Drop for OpenFlow {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What carries a datagram between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vehicle {
    /// A datagram of QUIC.
    Datagram,
    /// The stream of its flow.
    Stream,
}

impl Vehicle {
    /// Both of them.
    pub const ALL: &'static [Self] = &[Self::Datagram, Self::Stream];

    /// A stable word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Datagram => "datagram",
            Self::Stream => "stream",
        }
    }
}

/// Why a datagram of a local program was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DroppedDatagram {
    /// Its flow has more waiting than its stream takes.
    QueueFull,
    /// There are as many flows as `limits.flows` allows.
    TooManyFlows,
    /// Its service could not be reached.
    NoService,
}

impl DroppedDatagram {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::QueueFull, Self::TooManyFlows, Self::NoService];

    /// A stable word for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::TooManyFlows => "too-many-flows",
            Self::NoService => "no-service",
        }
    }
}

/// An open TCP connection: counted while it lives.
#[derive(Debug)]
pub struct OpenConnection {
    route: Arc<Route>,
}

impl OpenConnection {
    /// Bytes were carried since the last call: from the application, and to it. To be called now and then, not for
    /// each piece.
    pub fn on_bytes(&self, read: u64, written: u64) {
        self.route.on_bytes(read, written);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.route.on_close();
    }
}

#[cfg(test)]
mod tests;
