use std::cell::RefCell;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use quinn::{StoppedError, WriteError};
use starling_proto::ErrorCode;
use starling_proto::frame::{Kind, MAX_PAYLOAD, MAX_TRAILERS, header};
use starling_proto::head::Head;
use starling_proto::mesh::v1;

use super::{Malformed, StreamError, code, number};

/// The half of a stream that is written. Dropped before [`Self::finish`], it tells the peer
/// [`ErrorCode::Cancelled`]: a body that was cut never looks whole.
///
/// Writing waits while the reader is behind by its window; dropping such a future leaves the stream usable only for
/// [`Self::reset`], since a part of the bytes may be on their way.
#[derive(Debug)]
pub struct SendHalf {
    stream: quinn::SendStream,
    over: bool,
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
    pub(crate) fn new(stream: quinn::SendStream) -> Self {
        Self { stream, over: false }
    }

    /// Sends a head, with its length before it.
    ///
    /// # Errors
    /// If the peer stopped the stream, or the connection is lost.
    pub async fn send_head(&mut self, head: impl Head) -> Result<(), StreamError> {
        self.send_head_and(head, Bytes::new(), false).await
    }

    /// Sends a head, the first piece of the body (none if empty), and the end of the stream if `fin`: one write.
    ///
    /// # Errors
    /// As [`Self::send_head`].
    pub fn send_head_and(
        &mut self,
        head: impl Head,
        mut data: Bytes,
        fin: bool,
    ) -> impl Future<Output = Result<(), StreamError>> + Send {
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
        // The head is encoded by now, so that it is not carried along while this waits.
        async move {
            if first.is_empty() {
                self.write(&mut [start]).await?;
            } else {
                self.write(&mut [start, first]).await?;
            }
            if !data.is_empty() {
                self.send_data(data).await?;
            }
            self.finish_if(fin)
        }
    }

    /// Sends a piece of the body, of any length, as one frame or more. Waits while the reader is behind.
    ///
    /// # Errors
    /// As [`Self::send_head`].
    pub async fn send_data(&mut self, mut data: Bytes) -> Result<(), StreamError> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(MAX_PAYLOAD));
            let start = encoded(|buffer| buffer.put_slice(&header(Kind::Data, piece.len())));
            self.write(&mut [start, piece]).await?;
        }
        Ok(())
    }

    /// Sends the trailers and ends the stream.
    ///
    /// # Errors
    /// As [`Self::send_head`], and if they are over [`MAX_TRAILERS`]: nothing is sent then.
    pub async fn send_trailers(&mut self, trailers: &v1::Trailers) -> Result<(), StreamError> {
        let len = trailers.encoded_len();
        if len > MAX_TRAILERS {
            return Err(Malformed::TooLarge { what: "trailers", size: len, limit: MAX_TRAILERS }.into());
        }
        let frame = encoded(|buffer| {
            buffer.put_slice(&header(Kind::Trailers, len));
            trailers.encode(buffer).expect("a BytesMut grows");
        });
        self.write(&mut [frame]).await?;
        self.finish_if(true)
    }

    /// Sends raw bytes. Waits while the reader is behind.
    ///
    /// # Errors
    /// As [`Self::send_head`].
    pub async fn write_raw(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if bytes.is_empty() { Ok(()) } else { self.write(&mut [bytes]).await }
    }

    /// Ends the stream: all was sent.
    ///
    /// # Errors
    /// If it was ended or reset here before.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        self.finish_if(true)
    }

    /// Gives up on the stream and tells the peer why. What it has not yet received is dropped.
    pub fn reset(&mut self, code: ErrorCode) {
        self.over = true;
        let _ = self.stream.reset(number(code));
    }

    /// Completes when the peer wants no more of this stream (`Err` with its reason), or has received all of a finished
    /// one.
    ///
    /// # Errors
    /// If the peer stopped the stream, or the connection is lost.
    pub async fn stopped(&self) -> Result<(), StreamError> {
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(number)) => Err(StreamError::Reset(code(number))),
            Err(StoppedError::ConnectionLost(error)) => Err(StreamError::ConnectionLost(error.into())),
            Err(StoppedError::ZeroRttRejected) => Err(StreamError::Closed),
        }
    }

    fn finish_if(&mut self, fin: bool) -> Result<(), StreamError> {
        if !fin {
            return Ok(());
        }
        if self.over {
            return Err(StreamError::Closed);
        }
        self.over = true;
        self.stream.finish().map_err(|_| StreamError::Closed)
    }

    async fn write(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamError> {
        if self.over {
            return Err(StreamError::Closed);
        }
        self.stream.write_all_chunks(chunks).await.map_err(|error| match error {
            WriteError::Stopped(number) => StreamError::Reset(code(number)),
            WriteError::ConnectionLost(error) => StreamError::ConnectionLost(error.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamError::Closed,
        })
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if !self.over {
            self.reset(ErrorCode::Cancelled);
        }
    }
}
