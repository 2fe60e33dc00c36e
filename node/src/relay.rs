//! Opaque bytes between a local TCP connection and a hop stream, both ways at once, each direction closed on its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use starling_proto::ErrorCode;
use starling_transport::{RecvHalf, SendHalf, StreamError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::blocks;

/// Bytes that went by, readable while the relay runs.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// From the local connection into the mesh.
    pub(crate) sent: AtomicU64,
    /// From the mesh to the local connection.
    pub(crate) received: AtomicU64,
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

/// Carries bytes until both directions have ended; `early` was read of `local` before. An end of one direction is passed on as such (half-close); a failure
/// of either ends both: the stream is reset, the local connection gets an RST.
///
/// # Errors
/// What failed first.
pub(crate) async fn relay(
    local: TcpStream,
    early: Bytes,
    mut send: SendHalf,
    mut recv: RecvHalf,
    counts: &Arc<Counts>,
) -> Result<(), RelayError> {
    let (reader, mut writer) = local.into_split();
    let ended = {
        let up = upwards(&reader, early, &mut send, counts);
        let down = downwards(&mut recv, &mut writer, counts);
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
    match &ended {
        // What is still on its way must arrive before this counts as done: the node may be about to stop.
        Ok(()) => drop(send.stopped().await),
        // Dropped before their ends, the halves of the stream tell the peer that it was cancelled.
        Err(_) => abort(writer),
    }
    ended
}

async fn upwards(reader: &OwnedReadHalf, early: Bytes, send: &mut SendHalf, counts: &Counts) -> Result<(), RelayError> {
    counts.sent.fetch_add(early.len() as u64, Ordering::Relaxed);
    send.write_raw(early).await.map_err(RelayError::Hop)?;
    loop {
        reader.readable().await.map_err(RelayError::Local)?;
        match try_read(reader) {
            Ok(bytes) if bytes.is_empty() => return send.finish().map_err(RelayError::Hop),
            Ok(bytes) => {
                counts.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                send.write_raw(bytes).await.map_err(RelayError::Hop)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(RelayError::Local(error)),
        }
    }
}

/// What is there now; empty at the end.
fn try_read(reader: &OwnedReadHalf) -> io::Result<Bytes> {
    let (result, bytes) = blocks::read(|block| reader.try_read_buf(block));
    result.map(|_| bytes.freeze())
}

async fn downwards(recv: &mut RecvHalf, writer: &mut OwnedWriteHalf, counts: &Counts) -> Result<(), RelayError> {
    while let Some(chunk) = recv.read_raw(blocks::READ_SIZE).await.map_err(RelayError::Hop)? {
        counts.received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        writer.write_all(&chunk).await.map_err(RelayError::Local)?;
    }
    // The peer may have gone already: its end is then known by the other direction.
    let _ = writer.shutdown().await;
    Ok(())
}

/// Makes the close of a local connection an RST, so that the application does not take a broken stream for a whole one.
fn abort(writer: OwnedWriteHalf) {
    let _ = SockRef::from(writer.as_ref()).set_linger(Some(Duration::ZERO));
    // Dropped otherwise, it would first say FIN: that all was sent.
    writer.forget();
}
