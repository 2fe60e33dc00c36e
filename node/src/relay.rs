//! Opaque bytes between a local TCP connection and a hop stream, both ways at once, each direction closed on its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use socket2::SockRef;
use starling_proto::ErrorCode;
use starling_transport::{RecvHalf, SendHalf, StreamError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The most that one read takes from a local connection, in bytes.
const READ_SIZE: usize = 64 * 1024;

/// Bytes that went by, readable while the relay runs.
#[derive(Debug, Default)]
pub struct Counts {
    /// From the local connection into the mesh.
    pub sent: AtomicU64,
    /// From the mesh to the local connection.
    pub received: AtomicU64,
}

/// Why a relay ended early.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
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
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Local(_) => ErrorCode::Cancelled,
            Self::Hop(error) => error.code(),
        }
    }
}

/// Carries bytes until both directions have ended. An end of one direction is passed on as such (half-close); a failure
/// of either ends both: the stream is reset, the local connection gets an RST.
///
/// # Errors
/// What failed first.
pub async fn relay(local: TcpStream, send: SendHalf, recv: RecvHalf, counts: &Arc<Counts>) -> Result<(), RelayError> {
    let (reader, writer) = local.into_split();
    let up = upwards(reader, send, counts);
    let down = downwards(recv, writer, counts);
    tokio::pin!(up, down);
    let (mut up_done, mut down_done) = (None, None);
    let failure = loop {
        tokio::select! {
            end = &mut up, if up_done.is_none() => match end {
                Ok(reader) => up_done = Some(reader),
                Err(error) => break error,
            },
            end = &mut down, if down_done.is_none() => match end {
                Ok(writer) => down_done = Some(writer),
                Err(error) => break error,
            },
        }
        if up_done.is_some() && down_done.is_some() {
            return Ok(());
        }
    };
    Err(failure)
}

async fn upwards(
    mut reader: OwnedReadHalf,
    mut send: SendHalf,
    counts: &Counts,
) -> Result<OwnedReadHalf, RelayError> {
    let mut buffer = BytesMut::new();
    loop {
        // Wait without a buffer: an idle connection then costs none.
        if let Err(error) = reader.readable().await {
            send.reset(ErrorCode::Cancelled);
            return Err(RelayError::Local(error));
        }
        buffer.reserve(READ_SIZE);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => {
                send.finish().map_err(RelayError::Hop)?;
                return Ok(reader);
            }
            Ok(read) => {
                counts.sent.fetch_add(read as u64, Ordering::Relaxed);
                send.write_raw(buffer.split().freeze()).await.map_err(RelayError::Hop)?;
            }
            Err(error) => {
                send.reset(ErrorCode::Cancelled);
                return Err(RelayError::Local(error));
            }
        }
    }
}

async fn downwards(
    mut recv: RecvHalf,
    mut writer: OwnedWriteHalf,
    counts: &Counts,
) -> Result<OwnedWriteHalf, RelayError> {
    loop {
        match recv.read_raw(READ_SIZE).await {
            Ok(Some(chunk)) => {
                counts.received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                if let Err(error) = writer.write_all(&chunk).await {
                    recv.stop(ErrorCode::Cancelled);
                    return Err(RelayError::Local(error));
                }
            }
            Ok(None) => {
                // The peer may have gone already: its end is then known by the other direction.
                let _ = writer.shutdown().await;
                return Ok(writer);
            }
            Err(error) => {
                abort(&writer);
                return Err(RelayError::Hop(error));
            }
        }
    }
}

/// Makes the close of a local connection an RST, so that the application does not take a broken stream for a whole one.
fn abort(writer: &OwnedWriteHalf) {
    let _ = SockRef::from(writer.as_ref()).set_linger(Some(std::time::Duration::ZERO));
}
