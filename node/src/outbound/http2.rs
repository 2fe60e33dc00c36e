//! HTTP/2 from local programs, without TLS (RFC 9113): by prior knowledge, or after an upgrade of HTTP/1.1. The library's
//! layer below hyper is used, since hyper passes neither interim answers nor the reason of a reset (decision 21).

mod answer;
mod body;
mod prefixed;
mod upgrade;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use self::answer::Gone;
use super::{Caller, Way};
use crate::config::Limits;
use crate::rejected::Rejected;
use crate::shard::Shard;
use crate::wire::{Wire, unlock};
use prefixed::Prefixed;

pub(crate) use body::Http2Body;
pub(super) use upgrade::{SWITCH, Upgrade};

/// What every client sends first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client may send of one request before it is read, in bytes; and of all of them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What of an answer waits for a client that reads slowly, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client reset before they were looked at: more end its connection (CVE-2023-44487).
const PENDING_RESETS: usize = 32;

/// A client that resets streams before their answers, one by one, has the work of each done in vain. So many are its affair …
const RESETS: usize = 500;
/// … and beyond that no more than one of so many.
const OF_STREAMS: usize = 2;

/// One connection, shared by its streams.
struct Shared {
    shard: Arc<Shard>,
    caller: Caller,
    way: Way,
    /// Under way.
    streams: AtomicUsize,
    /// Reset by the client before their answer.
    resets: AtomicUsize,
}

/// Serves one connection, of which `early` was read before.
pub(super) async fn serve_wire(shard: Arc<Shard>, wire: Wire, early: Bytes, way: Way, caller: Caller) {
    match wire {
        Wire::Plain(stream) => serve(shard, Prefixed::new(early, stream), way, caller).await,
        Wire::Tls(stream) => serve(shard, Prefixed::new(early, unlock(stream)), way, caller).await,
    }
}

/// Serves one connection until it ends; on drain, until its current requests are answered.
async fn serve<S>(shard: Arc<Shard>, stream: S, way: Way, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _holding = shard.plane.drain.hold();
    let limits = shard.plane.limits.clone();
    let handshake = builder(&limits).handshake::<_, Bytes>(stream);
    match tokio::time::timeout(limits.header_timeout, handshake).await {
        Ok(Ok(connection)) => {
            let shared =
                Arc::new(Shared { shard, caller, way, streams: AtomicUsize::new(0), resets: AtomicUsize::new(0) });
            accept(connection, &shared, &limits).await;
        }
        Ok(Err(error)) => count(&shard, &error),
        Err(_) => shard.plane.telemetry.on_rejected(Rejected::SlowHead),
    }
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    builder
}

async fn accept<S>(mut connection: Connection<S, Bytes>, shared: &Arc<Shared>, limits: &Limits)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut drain = shared.shard.plane.drain.clone();
    let (mut ends, mut idle) = (false, Duration::ZERO);
    let mut begun = 0;
    let period = limits.header_timeout;
    let mut looks = tokio::time::interval_at(Instant::now() + period, period);
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    idle = Duration::ZERO;
                    begun += 1;
                    let resets = shared.resets.load(Relaxed);
                    if resets > RESETS && resets > begun / OF_STREAMS && !ends {
                        ends = true;
                        shared.shard.plane.telemetry.on_rejected(Rejected::RapidReset);
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                        continue;
                    }
                    shared.streams.fetch_add(1, Relaxed);
                    let shared = Arc::clone(shared);
                    tokio::spawn(async move {
                        let Shared { shard, caller, way, .. } = &*shared;
                        match answer::serve(shard, caller, way, request, respond).await {
                            Ok(()) => {}
                            Err(Gone::Unanswered) => drop(shared.resets.fetch_add(1, Relaxed)),
                            Err(Gone::Answered) => tracing::trace!("a local client reset a stream within its answer"),
                        }
                        shared.streams.fetch_sub(1, Relaxed);
                    });
                }
                Some(Err(error)) => return count(&shared.shard, &error),
                None => return,
            },
            () = drain.started(), if !ends => {
                ends = true;
                connection.graceful_shutdown();
            }
            _ = looks.tick() => {
                if ends && shared.streams.load(Relaxed) == 0 {
                    // The client was told, and did not go.
                    return;
                }
                idle = if shared.streams.load(Relaxed) == 0 { idle + period } else { Duration::ZERO };
                // Where others wait for a place, those that only might be used again make room.
                let is_in_the_way = !idle.is_zero() && shared.shard.places.available_permits() == 0;
                if !ends && (idle > limits.idle_timeout || is_in_the_way) {
                    ends = true;
                    connection.graceful_shutdown();
                }
            }
        }
    }
}

/// A client that just goes away did nothing wrong.
fn count(shard: &Shard, error: &h2::Error) {
    if error.is_io() || error.is_remote() {
        return;
    }
    let why = match error.reason() {
        // The library does not say of what there was too much.
        Some(Reason::ENHANCE_YOUR_CALM) => Rejected::Http2Flood,
        Some(Reason::NO_ERROR) | None => return,
        Some(_) => Rejected::Http2,
    };
    shard.plane.telemetry.on_rejected(why);
    tracing::debug!(%error, "a local client broke the rules of HTTP/2");
}
