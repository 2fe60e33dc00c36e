//! HTTP/2 with local applications, as a client, without TLS (RFC 9113, section 3.3).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Ping;
use h2::client::{Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};

use super::application::{Application, Names};
use super::local_http::LocalError;
use crate::fields;
use crate::wire::{Wire, unlock};

/// What an application may send of one answer before it is passed on, in bytes; and of all of them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What of a request waits for an application that reads slowly, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// Connections to one application. Each carries as many requests as the application allows.
const MOST_CONNECTIONS: usize = 16;
/// The application must have accepted and sent its settings within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection without requests is kept for so long.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

struct Kept {
    sender: SendRequest<Bytes>,
    /// Shared with each request under way.
    under_way: Arc<()>,
    used: Instant,
}

/// A connection for one request, which counts as under way on it while this lives.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<Bytes>,
    _under_way: Arc<()>,
}

/// The connections of one shard to applications that speak HTTP/2.
#[derive(Default)]
pub(crate) struct Http2Pool {
    kept: Mutex<BTreeMap<u64, Vec<Kept>>>,
}

impl Http2Pool {
    /// A connection that a request can be sent on now.
    ///
    /// # Errors
    /// If the application accepts none.
    pub(crate) async fn lease(&self, application: &Application, names: &Names) -> Result<Lease, LocalError> {
        if let Some(lease) = self.take(application.id()) {
            return Ok(lease);
        }
        let opened =
            Kept { sender: Box::pin(open(application, names)).await?, under_way: Arc::default(), used: Instant::now() };
        let lease = opened.lease();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = kept.entry(application.id()).or_default();
        if connections.len() < MOST_CONNECTIONS {
            connections.push(opened);
        }
        Ok(lease)
    }

    /// One with room for another request, or, if there can be no more, the one with the fewest.
    fn take(&self, application: u64) -> Option<Lease> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = kept.get_mut(&application)?;
        connections.retain_mut(Kept::is_open);
        let full = connections.len() >= MOST_CONNECTIONS;
        let least = connections.iter_mut().min_by_key(|kept| kept.under_way())?;
        if !full && least.under_way() >= least.sender.current_max_send_streams() {
            return None;
        }
        least.used = Instant::now();
        Some(least.lease())
    }

    /// Closes what has been idle for too long. Called now and then by the shard.
    pub(crate) fn expire(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for connections in kept.values_mut() {
            connections
                .retain_mut(|kept| kept.is_open() && (kept.used.elapsed() < IDLE_TIMEOUT || kept.under_way() > 0));
        }
        kept.retain(|_, connections| !connections.is_empty());
    }
}

impl Kept {
    fn lease(&self) -> Lease {
        Lease { sender: self.sender.clone(), _under_way: Arc::clone(&self.under_way) }
    }

    /// Requests under way.
    fn under_way(&self) -> usize {
        Arc::strong_count(&self.under_way) - 1
    }

    /// Not after the application closed it, or sent GOAWAY.
    fn is_open(&mut self) -> bool {
        !matches!(self.sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }
}

async fn open(application: &Application, names: &Names) -> Result<SendRequest<Bytes>, LocalError> {
    let failed = |source| LocalError::Connect { application: application.to_string(), source };
    let handshake = async {
        match application.connect(names).await? {
            Wire::Plain(stream) => begin(stream).await,
            Wire::Tls(stream) => begin(unlock(stream)).await,
        }
        .map_err(|error| failed(io::Error::other(error)))
    };
    let opened = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await;
    opened.unwrap_or_else(|_| Err(failed(io::ErrorKind::TimedOut.into())))
}

async fn begin<S>(stream: S) -> Result<SendRequest<Bytes>, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(fields::MAX_FIELDS).unwrap_or(u32::MAX))
        .enable_push(false);
    let (sender, mut connection) = builder.handshake(stream).await?;
    let ping = connection.ping_pong();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an application is over");
        }
    });
    // With the answer the application's settings are here too: how many requests it takes at a time, and of what kind.
    if let Some(mut ping) = ping {
        ping.ping(Ping::opaque()).await?;
    }
    Ok(sender)
}
