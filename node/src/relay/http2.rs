use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use super::{Sink, Source};

/// The two directions of a stream of HTTP/2.
pub(crate) const fn http2_ends(recv: RecvStream, send: SendStream<Bytes>) -> (impl Source, impl Sink) {
    (Http2Source(recv), Http2Sink(send))
}

struct Http2Source(RecvStream);

struct Http2Sink(SendStream<Bytes>);

impl Source for Http2Source {
    async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            let Some(data) = self.0.data().await else { return Ok(Bytes::new()) };
            let data = data.map_err(io::Error::other)?;
            let _ = self.0.flow_control().release_capacity(data.len());
            if !data.is_empty() {
                return Ok(data);
            }
        }
    }
}

impl Sink for Http2Sink {
    async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        send_data(&mut self.0, bytes, false).await.map_err(io::Error::other)
    }

    async fn end(&mut self) {
        let _ = self.0.send_data(Bytes::new(), true);
    }

    fn abort(mut self) {
        self.0.send_reset(Reason::CONNECT_ERROR);
    }
}

/// Sends as fast as the other side takes it, with the end of the stream if `end`.
///
/// # Errors
/// If the stream or its connection is gone.
pub(crate) async fn send_data(stream: &mut SendStream<Bytes>, data: Bytes, end: bool) -> Result<(), h2::Error> {
    match send_data_within(stream, data, end, Duration::MAX).await {
        // That is never.
        Ok(()) | Err(Untaken::Slow) => Ok(()),
        Err(Untaken::Gone(error)) => Err(error),
    }
}

/// Why data were not taken.
#[derive(Debug)]
pub(crate) enum Untaken {
    /// The stream or its connection is gone.
    Gone(h2::Error),
    /// The other side takes nothing.
    Slow,
}

impl From<h2::Error> for Untaken {
    fn from(error: h2::Error) -> Self {
        Self::Gone(error)
    }
}

/// Like [`send_data`], of which something must be taken so often.
///
/// # Errors
/// If it is not.
pub(crate) async fn send_data_within(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    end: bool,
    patience: Duration,
) -> Result<(), Untaken> {
    if data.is_empty() && end {
        return Ok(stream.send_data(data, true)?);
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = match stream.capacity() {
            0 => match tokio::time::timeout(patience, poll_fn(|cx| stream.poll_capacity(cx))).await {
                Ok(Some(room)) => room?,
                Ok(None) => return Err(h2::Error::from(Reason::CANCEL).into()),
                Err(_) => return Err(Untaken::Slow),
            },
            room => room,
        };
        let piece = data.split_to(room.min(data.len()));
        if !piece.is_empty() {
            stream.send_data(piece, end && data.is_empty())?;
        }
    }
    Ok(())
}
