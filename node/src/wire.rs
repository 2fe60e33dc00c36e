//! A TCP connection, plain or under TLS.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use starling_transport::edge::EdgeStream;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use crate::blocks;

/// A connection, read and written through a shared reference: each direction by one task at a time.
#[derive(Debug)]
pub(crate) enum Wire {
    /// As it is.
    Plain(TcpStream),
    /// Under TLS, whose two directions share one state.
    Tls(Box<Mutex<EdgeStream>>),
}

impl From<TcpStream> for Wire {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(stream)
    }
}

impl From<EdgeStream> for Wire {
    fn from(stream: EdgeStream) -> Self {
        Self::Tls(Box::new(Mutex::new(stream)))
    }
}

/// The stream under TLS, for whoever has its connection alone.
pub(crate) fn unlock(stream: Box<Mutex<EdgeStream>>) -> EdgeStream {
    stream.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock(stream: &Mutex<EdgeStream>) -> MutexGuard<'_, EdgeStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// Reads into `block`; 0 at the end.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, block: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => loop {
                match blocks::receive(stream, block) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_read_ready(cx))?,
                    read => return Poll::Ready(read),
                }
            },
            Self::Tls(stream) => poll_read_buf(Pin::new(&mut *lock(stream)), cx, block),
        }
    }

    /// Reads what there is behind what was read before; 0 at the end.
    pub(crate) fn poll_fill(&self, cx: &mut Context<'_>, read: &mut BytesMut) -> Poll<io::Result<usize>> {
        let (result, bytes) = blocks::read(|block| self.poll_read(cx, block));
        let result = ready!(result);
        if read.is_empty() {
            *read = bytes;
        } else {
            read.unsplit(bytes);
        }
        Poll::Ready(result)
    }

    /// Writes some of these pieces.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => loop {
                let written = match slices {
                    // One piece is cheaper to write than a list of one.
                    [only] => stream.try_write(only),
                    many => stream.try_write_vectored(many),
                };
                match written {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(stream.poll_write_ready(cx))?,
                    written => return Poll::Ready(written),
                }
            },
            Self::Tls(stream) => Pin::new(&mut *lock(stream)).poll_write_vectored(cx, slices),
        }
    }

    /// Sends on what was written; to be called when nothing more is at hand.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut *lock(stream)).poll_flush(cx),
        }
    }

    /// Is it open, with nothing to be read?
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = BytesMut::with_capacity(1);
        match self {
            Self::Plain(stream) => {
                stream.try_read_buf(&mut byte).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            // The end of a handshake may still be there to be read, which is none of ours.
            Self::Tls(_) => self.poll_read(&mut Context::from_waker(Waker::noop()), &mut byte).is_pending(),
        }
    }

    /// Ends the direction that is written.
    pub(crate) fn end(&self) {
        match self {
            Self::Plain(stream) => drop(SockRef::from(stream).shutdown(Shutdown::Write)),
            // What it says goes at once or not at all: there was room for the last answer.
            Self::Tls(stream) => {
                drop(Pin::new(&mut *lock(stream)).poll_shutdown(&mut Context::from_waker(Waker::noop())));
            }
        }
    }

    /// Makes the close of the connection an RST.
    pub(crate) fn abort(&self) {
        let abort = |stream: &TcpStream| drop(SockRef::from(stream).set_linger(Some(Duration::ZERO)));
        match self {
            Self::Plain(stream) => abort(stream),
            Self::Tls(stream) => abort(lock(stream).tcp()),
        }
    }

    /// Has what was received so far acknowledged at once. All that may be lost is time.
    pub(crate) fn acknowledge(&self) {
        match self {
            Self::Plain(stream) => drop(stream.set_quickack(true)),
            Self::Tls(stream) => drop(lock(stream).tcp().set_quickack(true)),
        }
    }
}
