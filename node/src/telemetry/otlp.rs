//! Spans of sampled requests, sent to a collector: OTLP over HTTP with protobuf (OpenTelemetry protocol 1.x).

mod encode;
mod post;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::Uri;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::RequestRecord;
use encode::Resource;
use post::Collector;
pub use post::CollectorError;

/// Spans that wait for the exporter, at most.
const QUEUE: usize = 2_048;
/// Spans sent at once, at most: what the SDKs of OpenTelemetry do.
const BATCH: usize = 512;
/// The longest that a span waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(5);
/// The longest that a collector may take for one batch; meanwhile the queue takes what comes.
const POST_TIMEOUT: Duration = Duration::from_secs(5);

/// The request path's side: takes spans as long as there is room.
#[derive(Debug, Clone)]
pub struct SpanSender {
    queue: mpsc::Sender<RequestRecord>,
    counts: Arc<SpanCounts>,
}

/// Spans since the start.
#[derive(Debug, Default)]
pub(crate) struct SpanCounts {
    exported: AtomicU64,
    dropped_full: AtomicU64,
    dropped_collector: AtomicU64,
}

/// The exporter: a task on the runtime of gossip and admin.
#[derive(Debug)]
#[must_use = "spans are exported while it runs"]
pub struct SpanExporter {
    queue: mpsc::Receiver<RequestRecord>,
    counts: Arc<SpanCounts>,
    collector: Collector,
    resource: Resource,
    is_away: bool,
}

/// The two sides of an exporter that sends to `collector` (`http://host:4318`, with a path before `/v1/traces` if it has
/// one) what the node `node` of this `version` did.
///
/// # Errors
/// If the address is not plain HTTP or names no host.
pub(crate) fn exporter(
    collector: &Uri,
    node: &str,
    version: &str,
) -> Result<(SpanSender, SpanExporter), CollectorError> {
    let (sender, queue) = mpsc::channel(QUEUE);
    let counts = Arc::new(SpanCounts::default());
    let exporter = SpanExporter {
        queue,
        counts: counts.clone(),
        collector: Collector::try_new(collector)?,
        resource: Resource::new(node, version),
        is_away: false,
    };
    Ok((SpanSender { queue: sender, counts }, exporter))
}

impl SpanSender {
    /// Hands a sampled request over. If the queue is full it is dropped and counted.
    pub(crate) fn send(&self, record: RequestRecord) {
        if self.queue.try_send(record).is_err() {
            self.counts.dropped_full.fetch_add(1, Relaxed);
        }
    }

    /// (exported, dropped since the queue was full, dropped since the collector did not take them)
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let SpanCounts { exported, dropped_full, dropped_collector } = &*self.counts;
        (exported.load(Relaxed), dropped_full.load(Relaxed), dropped_collector.load(Relaxed))
    }
}

impl SpanExporter {
    /// Sends batch after batch, until every [`SpanSender`] is gone and the rest is sent.
    pub async fn run(mut self) {
        while let Some(batch) = next_batch(&mut self.queue).await {
            let body = encode::request(&self.resource, &batch);
            let posted = timeout(POST_TIMEOUT, self.collector.post(body)).await;
            let (counter, error) = match posted {
                Ok(Ok(())) => (&self.counts.exported, None),
                Ok(Err(error)) => (&self.counts.dropped_collector, Some(error.to_string())),
                Err(_) => (&self.counts.dropped_collector, Some(format!("no answer within {POST_TIMEOUT:?}"))),
            };
            counter.fetch_add(batch.len() as u64, Relaxed);
            self.tell(error);
        }
    }

    /// Spans that wait to be sent.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// One line when the collector goes away, one when it is back.
    fn tell(&mut self, error: Option<String>) {
        let was_away = std::mem::replace(&mut self.is_away, error.is_some());
        match error {
            Some(error) if !was_away => {
                tracing::warn!(collector = %self.collector, %error, "spans are dropped: the collector does not take them");
            }
            None if was_away => tracing::info!(collector = %self.collector, "the collector takes spans again"),
            _ => {}
        }
    }
}

/// What came within [`BATCH_DELAY`] of the first, at most [`BATCH`]; `None` when no more can come.
async fn next_batch(queue: &mut mpsc::Receiver<RequestRecord>) -> Option<Vec<RequestRecord>> {
    let mut batch = vec![queue.recv().await?];
    let until = Instant::now() + BATCH_DELAY;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        match timeout_at(until, queue.recv_many(&mut batch, room)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    Some(batch)
}

#[cfg(test)]
mod tests;
