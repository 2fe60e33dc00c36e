use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use tokio::net::TcpStream;

use super::exchange::ExchangeError;
use crate::hop_body::HopBodyError;
use crate::inbound::LocalBody;

/// A request on its way to the application: its head, then its body as it comes over the hop.
pub(crate) struct Upload<B = LocalBody> {
    /// To be written.
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Some of it was written.
    begun: bool,
    /// `None` once all of it is queued.
    body: Option<(B, Framed)>,
}

/// How the application knows where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framed {
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

/// No more than this waits to be written, in bytes, but for one piece.
const QUEUE: usize = 64 * 1024;
/// Pieces that one call writes.
const SLICES: usize = 16;

impl<B: Body<Data = Bytes, Error = HopBodyError> + Unpin> Upload<B> {
    /// Of this encoded head, and of a body with its declared length, where there is one.
    pub(crate) fn new(head: Bytes, body: Option<(B, Option<u64>)>) -> Self {
        let body = body.map(|(body, length)| (body, length.map_or(Framed::Chunked, Framed::Length)));
        let mut upload = Self { queue: VecDeque::with_capacity(4), queued: 0, begun: false, body };
        upload.push(head);
        upload
    }

    /// Writes what is here, without waiting.
    ///
    /// # Errors
    /// If the connection does not take it. If nothing was written, this can be sent on another one.
    pub(super) fn begin(&mut self, stream: &TcpStream) -> Result<(), ExchangeError> {
        // A body is asked again, by somebody who waits for it.
        let _ = self.gather(&mut Context::from_waker(Waker::noop()))?;
        self.write(stream).map_err(ExchangeError::Write)
    }

    /// Goes on; ready once all is written.
    ///
    /// # Errors
    /// If the body breaks off, or the connection does not take it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, stream: &TcpStream) -> Poll<Result<(), ExchangeError>> {
        loop {
            let gathered = self.gather(cx)?;
            if self.queue.is_empty() {
                return gathered.map(Ok);
            }
            ready!(stream.poll_write_ready(cx)).map_err(ExchangeError::Write)?;
            self.write(stream).map_err(ExchangeError::Write)?;
        }
    }

    /// Was nothing written to a connection that failed with this error?
    pub(super) fn can_go_elsewhere(&self, error: &ExchangeError) -> bool {
        !self.begun && matches!(error, ExchangeError::Write(_))
    }

    /// Is all of it written?
    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty() && self.body.is_none()
    }

    /// Queues what has come of the body; ready once that is all of it.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, ExchangeError> {
        while self.queued < QUEUE {
            let Some((body, framed)) = &mut self.body else { return Ok(Poll::Ready(())) };
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else { return Ok(Poll::Pending) };
            match frame.transpose()?.map(http_body::Frame::into_data) {
                // An empty chunk would be the end.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    let start = framed.start(&data)?;
                    let is_chunk = *framed == Framed::Chunked;
                    start.into_iter().chain([data]).for_each(|bytes| self.push(bytes));
                    if is_chunk {
                        self.push(Bytes::from_static(b"\r\n"));
                    }
                }
                Some(Err(frame)) => self.end(frame.trailers_ref())?,
                None => self.end(None)?,
            }
        }
        // Whoever asks goes on writing, and asks again.
        Ok(Poll::Pending)
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), ExchangeError> {
        match self.body.take() {
            Some((_, Framed::Length(left))) if left > 0 => return Err(ExchangeError::Short(left)),
            Some((_, Framed::Chunked)) => {
                let mut end = BytesMut::from("0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                        end.extend_from_slice(part);
                    }
                }
                end.extend_from_slice(b"\r\n");
                self.push(end.freeze());
            }
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.queue.push_back(bytes);
    }

    fn write(&mut self, stream: &TcpStream) -> io::Result<()> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(bytes);
            }
            let count = self.queue.len().min(SLICES);
            match stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.on_written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn on_written(&mut self, mut written: usize) {
        self.queued -= written;
        self.begun = true;
        while let Some(first) = self.queue.front_mut() {
            let of_first = written.min(first.len());
            first.advance(of_first);
            written -= of_first;
            if !first.is_empty() {
                return;
            }
            self.queue.pop_front();
        }
    }
}

impl Framed {
    /// What stands before these bytes.
    fn start(&mut self, data: &Bytes) -> Result<Option<Bytes>, ExchangeError> {
        match self {
            Self::Length(left) => {
                // The rest would be taken for another request.
                *left = left.checked_sub(data.len() as u64).ok_or(ExchangeError::Long)?;
                Ok(None)
            }
            Self::Chunked => Ok(Some(format!("{:x}\r\n", data.len()).into())),
        }
    }
}

impl From<HopBodyError> for ExchangeError {
    fn from(error: HopBodyError) -> Self {
        Self::Body(error)
    }
}
