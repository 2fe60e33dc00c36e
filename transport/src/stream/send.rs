use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use starling_proto::ErrorCode;
use starling_proto::frame::{Kind, MAX_PAYLOAD, MAX_TRAILERS, header};
use starling_proto::head::Head;
use starling_proto::mesh::v1;

use super::{Malformed, StreamError};
use crate::carrier::SendStream;

/// The half of a stream that is written. Dropped before [`Self::finish`], it tells the peer
/// [`ErrorCode::Cancelled`]: a body that was cut never looks whole.
///
/// Writing waits while the reader is behind by its window.
#[derive(Debug)]
pub struct SendHalf {
    stream: SendStream,
    over: bool,
    /// What the reader has no room for yet.
    unsent: Vec<Bytes>,
    /// To be ended once that is sent.
    ends: bool,
    /// Not told yet.
    broken: Option<StreamError>,
}

thread_local! {
    /// Heads and frame headers of one shard are encoded one behind the other, so that few need an allocation.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(SCRATCH_LEN));
}

/// Some tens of heads. A block is free again when the peers acknowledged all that was cut from it.
const SCRATCH_LEN: usize = 16 * 1024;
/// Bytes of the length before a head.
const LEN: usize = 4;
/// What is usually enough for one.
const ONE: usize = 1024;

/// Encodes something small; what it cuts off shares a block with its neighbours.
fn encoded(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.capacity() < ONE && !scratch.try_reclaim(SCRATCH_LEN) {
            *scratch = BytesMut::with_capacity(SCRATCH_LEN);
        }
        encode(scratch);
        scratch.split().freeze()
    })
}

impl SendHalf {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, over: false, unsent: Vec::new(), ends: false, broken: None }
    }

    /// Sends a head, with its length before it.
    pub fn send_head(&mut self, head: impl Head) -> Sent<'_> {
        self.send_head_and(head, Bytes::new(), false)
    }

    /// Sends a head, the first piece of the body (none if empty), and the end of the stream if `fin`: one write.
    pub fn send_head_and(&mut self, head: impl Head, mut data: Bytes, fin: bool) -> Sent<'_> {
        let first = data.split_to(data.len().min(MAX_PAYLOAD));
        let start = encoded(|buffer| {
            buffer.put_u32(0);
            head.encode_to(buffer);
            let len = u32::try_from(buffer.len() - LEN).expect("a head is far below 4 GiB");
            buffer[..LEN].copy_from_slice(&len.to_be_bytes());
            if !first.is_empty() {
                buffer.put_slice(&header(Kind::Data, first.len()));
            }
        });
        if first.is_empty() {
            self.write(&mut [start]);
        } else {
            self.write(&mut [start, first]);
        }
        self.write_frames(data);
        self.end_if(fin);
        Sent(self)
    }

    /// Sends a piece of the body, of any length, as one frame or more. Waits while the reader is behind.
    pub fn send_data(&mut self, data: Bytes) -> Sent<'_> {
        self.write_frames(data);
        Sent(self)
    }

    /// Sends the trailers and ends the stream. If they are over [`MAX_TRAILERS`], nothing is sent.
    pub fn send_trailers(&mut self, trailers: &v1::Trailers) -> Sent<'_> {
        let len = trailers.encoded_len();
        if len > MAX_TRAILERS {
            let error = Malformed::TooLarge { what: "trailers", size: len, limit: MAX_TRAILERS };
            self.broken.get_or_insert(error.into());
            return Sent(self);
        }
        let frame = encoded(|buffer| {
            buffer.put_slice(&header(Kind::Trailers, len));
            trailers.encode(buffer).expect("a BytesMut grows");
        });
        self.write(&mut [frame]);
        self.end_if(true);
        Sent(self)
    }

    /// Sends raw bytes. Waits while the reader is behind.
    pub fn write_raw(&mut self, bytes: Bytes) -> Sent<'_> {
        if !bytes.is_empty() {
            self.write(&mut [bytes]);
        }
        Sent(self)
    }

    /// Ends the stream: all was sent.
    ///
    /// # Errors
    /// If it was ended or reset here before.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        self.end_if(true);
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Gives up on the stream and tells the peer why. What it has not yet received is dropped.
    pub fn reset(&mut self, code: ErrorCode) {
        self.over = true;
        self.stream.reset(code.number());
    }

    /// Completes when the peer wants no more of this stream (`Err` with its reason), or has received all of a finished
    /// one.
    ///
    /// # Errors
    /// If the peer stopped the stream, or the connection is lost.
    pub async fn stopped(&self) -> Result<(), StreamError> {
        self.stream.stopped().await
    }

    fn write_frames(&mut self, mut data: Bytes) {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(MAX_PAYLOAD));
            let start = encoded(|buffer| buffer.put_slice(&header(Kind::Data, piece.len())));
            self.write(&mut [start, piece]);
        }
    }

    /// Writes what the reader has room for; the rest is kept for whoever awaits [`Sent`].
    fn write(&mut self, mut chunks: &mut [Bytes]) {
        if self.over {
            self.broken.get_or_insert(StreamError::Closed);
        }
        if self.broken.is_some() {
            return;
        }
        // Whoever waits for room asks again, and is woken then.
        let mut nobody = Context::from_waker(Waker::noop());
        while self.unsent.is_empty() && !chunks.is_empty() {
            match self.stream.poll_write(&mut nobody, chunks) {
                Poll::Ready(Ok(written)) => chunks = &mut chunks[written..],
                Poll::Ready(Err(error)) => return self.broken = Some(error),
                Poll::Pending => break,
            }
        }
        self.unsent.extend(chunks.iter_mut().map(std::mem::take));
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        while self.broken.is_none() && !self.unsent.is_empty() {
            match ready!(self.stream.poll_write(cx, &mut self.unsent)) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) => self.broken = Some(error),
            }
        }
        if self.ends {
            self.end_if(true);
        }
        Poll::Ready(self.broken.take().map_or(Ok(()), Err))
    }

    fn end_if(&mut self, fin: bool) {
        if !fin || self.broken.is_some() {
            return;
        }
        if self.over {
            self.broken = Some(StreamError::Closed);
        } else if !self.unsent.is_empty() {
            self.ends = true;
        } else {
            self.over = true;
            self.ends = false;
            if let Err(error) = self.stream.finish() {
                self.broken = Some(error);
            }
        }
    }
}

/// Completes when the reader has room for all that was given to a stream. Most often it had: what is sent is on its way
/// before this is awaited, so that nothing need be carried along. Dropped earlier, nothing is lost: the rest goes before
/// whatever is sent next.
///
/// # Errors
/// If the peer stopped the stream, or the connection is lost, or the stream was ended before.
#[must_use = "what the reader has no room for is sent only while this is awaited"]
#[derive(Debug)]
pub struct Sent<'s>(&'s mut SendHalf);

impl Future for Sent<'_> {
    type Output = Result<(), StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_sent(cx)
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.over {
            self.reset(ErrorCode::Cancelled);
        }
    }
}
