//! Opaque bytes between a local connection and a hop stream, both ways at once, each direction closed on its own.

mod edge;
mod http2;
mod tcp;
mod wire;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use starling_proto::ErrorCode;
use starling_transport::{RecvHalf, SendHalf, StreamError};

use crate::blocks;
use crate::vigil::Vigil;

pub(crate) use http2::{Untaken, http2_ends, send_data, send_data_within};
pub(crate) use wire::wire_ends;

/// Bytes that went by, readable while the relay runs.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// From the local connection into the mesh.
    pub(crate) sent: AtomicU64,
    /// From the mesh to the local connection.
    pub(crate) received: AtomicU64,
}

impl Counts {
    /// Bytes of both directions.
    pub(crate) fn total(&self) -> u64 {
        self.sent.load(Ordering::Relaxed) + self.received.load(Ordering::Relaxed)
    }
}

/// Why a relay ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// The local connection failed.
    #[error("local connection: {0}")]
    Local(#[source] io::Error),
    /// The stream failed.
    #[error("hop stream: {0}")]
    Hop(#[source] StreamError),
}

impl RelayError {
    /// The word for the log.
    #[must_use]
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Local(_) => ErrorCode::Cancelled,
            Self::Hop(error) => error.code(),
        }
    }
}

/// What comes from a local connection.
pub(crate) trait Source: Send {
    /// The next bytes; none at its end. `early` pieces are never empty.
    fn next(&mut self) -> impl Future<Output = io::Result<Bytes>> + Send;
}

/// What goes to a local connection.
pub(crate) trait Sink: Send {
    /// Sends all of it.
    fn send(&mut self, bytes: Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Ends this direction: all was sent.
    fn end(&mut self) -> impl Future<Output = ()> + Send;

    /// Breaks the connection off, so that a broken stream is not taken for a whole one.
    fn abort(self);
}

/// Carries bytes until both directions have ended; `early` came of the local connection before. An end of one direction is
/// passed on as such (half-close); a failure of either ends both: the stream is reset, the local connection broken off.
///
/// # Errors
/// What failed first.
pub(crate) async fn relay(
    (mut source, mut sink): (impl Source, impl Sink),
    early: Bytes,
    mut send: SendHalf,
    mut recv: RecvHalf,
    counts: &Arc<Counts>,
) -> Result<(), RelayError> {
    let (vigil, connection) = (Vigil::default(), recv.connection().clone());
    let ended = {
        let up = upwards(&mut source, early, &mut send, counts, &vigil);
        let down = downwards(&mut recv, &mut sink, counts, &vigil);
        let both = async {
            tokio::pin!(up, down);
            tokio::select! {
                end = &mut up => match end {
                    Ok(()) => down.await,
                    error => error,
                },
                end = &mut down => match end {
                    Ok(()) => up.await,
                    error => error,
                },
            }
        };
        tokio::select! {
            biased;
            ended = both => ended,
            never = vigil.keep(&connection, counts) => match never {},
        }
    };
    match &ended {
        // What is still on its way must arrive before this counts as done: the node may be about to stop.
        Ok(()) => drop(send.stopped().await),
        // Dropped before their ends, the halves of the stream tell the peer that it was cancelled.
        Err(_) => sink.abort(),
    }
    ended
}

async fn upwards(
    source: &mut impl Source,
    early: Bytes,
    send: &mut SendHalf,
    counts: &Counts,
    vigil: &Vigil,
) -> Result<(), RelayError> {
    counts.sent.fetch_add(early.len() as u64, Ordering::Relaxed);
    vigil.note();
    send.write_raw(early).await.map_err(RelayError::Hop)?;
    loop {
        let bytes = source.next().await.map_err(RelayError::Local)?;
        if bytes.is_empty() {
            return send.finish().map_err(RelayError::Hop);
        }
        counts.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        vigil.note();
        send.write_raw(bytes).await.map_err(RelayError::Hop)?;
    }
}

async fn downwards(
    recv: &mut RecvHalf,
    sink: &mut impl Sink,
    counts: &Counts,
    vigil: &Vigil,
) -> Result<(), RelayError> {
    while let Some(chunk) = recv.read_raw(blocks::READ_SIZE).await.map_err(RelayError::Hop)? {
        counts.received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        vigil.note();
        sink.send(chunk).await.map_err(RelayError::Local)?;
    }
    // The peer may have gone already: its end is then known by the other direction.
    sink.end().await;
    Ok(())
}
