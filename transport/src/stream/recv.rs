use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use prost::Message;
use starling_proto::{ErrorCode, decode};

use super::decoder::Decoder;
use super::{Frame, Malformed, StreamError};
use crate::carrier::RecvStream;
use crate::{Connection, DatagramRecv, DatagramSend};

/// The half of a stream that is read. Dropped before its end, it tells the peer [`ErrorCode::Cancelled`].
#[derive(Debug)]
pub struct RecvHalf {
    stream: RecvStream,
    decoder: Decoder,
    connection: Connection,
    /// Nothing more will come: read to the end, reset, or stopped here.
    over: bool,
}

impl RecvHalf {
    pub(crate) fn new(stream: RecvStream, connection: Connection) -> Self {
        Self { stream, decoder: Decoder::new(), connection, over: false }
    }

    /// Reads a head of at most `limit` bytes. Its `Bytes` fields share the buffer of the packet it came in.
    ///
    /// # Errors
    /// If the stream or connection is lost, the head is too long or malformed, or the stream ends before it does.
    pub async fn recv_head<M: Message + Default>(&mut self, limit: usize) -> Result<M, StreamError> {
        let head = poll_fn(|cx| self.poll_head(cx, limit)).await?;
        Ok(decode::message("a head", head, limit).map_err(Malformed::from)?)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<Bytes, StreamError>> {
        loop {
            if let Some(head) = self.decoder.poll_head(limit)? {
                return Poll::Ready(Ok(head));
            }
            if !ready!(self.poll_more(cx))? {
                self.decoder.handle_end()?;
                return Poll::Ready(Err(Malformed::Truncated("a head").into()));
            }
        }
    }

    /// Reads what follows the head, piece by piece. After [`Frame::End`] it is `End` again.
    ///
    /// # Errors
    /// If the stream or connection is lost, or the bytes are no frames.
    pub async fn recv_frame(&mut self) -> Result<Frame, StreamError> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Like [`Self::recv_frame`], for a body that is polled.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, StreamError>> {
        loop {
            if let Some(frame) = self.decoder.poll_frame()? {
                return Poll::Ready(Ok(frame));
            }
            if !ready!(self.poll_more(cx))? {
                self.decoder.handle_end()?;
                return Poll::Ready(Ok(Frame::End));
            }
        }
    }

    /// Reads at most `max` raw bytes; `None` at the end of the stream.
    ///
    /// # Errors
    /// If the stream or connection is lost.
    pub async fn read_raw(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|cx| self.poll_raw(cx, max)).await
    }

    /// Like [`Self::read_raw`], polled.
    pub fn poll_raw(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<Option<Bytes>, StreamError>> {
        loop {
            if let Some(bytes) = self.decoder.poll_raw(max) {
                return Poll::Ready(Ok(Some(bytes)));
            }
            if !ready!(self.poll_more(cx))? {
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// The connection that it belongs to.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Datagrams that belong to this stream, sent and received beside it, from now on; `None` over TCP, which has none. To be
    /// asked for once a stream.
    #[must_use]
    pub fn datagrams(&self) -> Option<(DatagramSend, DatagramRecv)> {
        self.connection.datagrams(&self.stream)
    }

    /// Tells the peer to send no more, and why. What was not read is dropped.
    pub fn stop(&mut self, code: ErrorCode) {
        if !self.over {
            self.over = true;
            self.stream.stop(code.number());
        }
    }

    /// Fetches the next bytes for the decoder; false at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, StreamError>> {
        Poll::Ready(match ready!(self.stream.poll_read(cx)) {
            Ok(Some(chunk)) => {
                self.decoder.handle_chunk(chunk);
                Ok(true)
            }
            Ok(None) => {
                self.over = true;
                Ok(false)
            }
            Err(error) => {
                self.over = true;
                match error {
                    StreamError::Reset(ErrorCode::Draining) => self.connection.on_leaving(),
                    StreamError::Reset(_) => self.connection.on_reset(),
                    _ => {}
                }
                Err(error)
            }
        })
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        // The end has most often come by now and was only not read; a STOP_SENDING would then be a packet for nothing.
        if !self.over && self.decoder.is_drained() {
            let _ = self.poll_more(&mut Context::from_waker(Waker::noop()));
        }
        self.stop(ErrorCode::Cancelled);
    }
}
