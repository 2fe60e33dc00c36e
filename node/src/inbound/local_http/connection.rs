use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::LocalError;
use crate::{blocks, dial};

/// How long a local application may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection to a local application. Nobody looks at an idle one until it is asked for.
#[derive(Debug)]
pub(super) struct LocalConnection {
    pub(super) stream: TcpStream,
    /// Read, and not yet understood.
    pub(super) read: BytesMut,
}

impl LocalConnection {
    /// A connection to the application at `address`.
    ///
    /// # Errors
    /// If it accepts none within a second.
    pub(super) async fn open(address: SocketAddr) -> Result<Self, LocalError> {
        Ok(Self { stream: connect_tcp(address).await?, read: BytesMut::new() })
    }

    /// Reads more; 0 if the application sends no more.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (result, bytes) = blocks::read(|block| poll_read_buf(Pin::new(&mut self.stream), cx, block));
        let len = ready!(result)?;
        if self.read.is_empty() {
            self.read = bytes;
        } else {
            self.read.unsplit(bytes);
        }
        Poll::Ready(Ok(len))
    }

    /// Can a request be sent on it? Not if the application closed it, or said something that nobody asked.
    pub(super) fn is_ready(&self) -> bool {
        let nothing = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.read.is_empty() && self.stream.try_read(&mut [0]).as_ref().is_err_and(nothing)
    }
}

/// A TCP connection to a local application.
///
/// # Errors
/// If it does not accept one within a second.
pub(crate) async fn connect_tcp(address: SocketAddr) -> Result<TcpStream, LocalError> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, dial::own(address));
    let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = connected.map_err(|source| LocalError::Connect { address, source })?;
    // Small answers must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}
