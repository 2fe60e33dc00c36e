use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;

use super::connection::LocalConnection;
use super::exchange::ExchangeError;
use crate::hop_body::HopBodyError;
use crate::inbound::LocalBody;
use crate::write_queue::WriteQueue;

/// A request on its way to the application: its head, then its body as it comes over the hop.
pub(crate) struct Upload<B = LocalBody> {
    /// What is still to be written of a head that nothing follows.
    head: Bytes,
    /// Some of the request was written.
    begun: bool,
    /// A head with a body.
    whole: Option<Box<Whole<B>>>,
}

struct Whole<B> {
    /// To be written.
    queue: WriteQueue,
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

impl<B: Body<Data = Bytes, Error = HopBodyError> + Unpin> Upload<B> {
    /// Of this encoded head, and of a body with its declared length, where there is one.
    pub(crate) fn new(head: Bytes, body: Option<(B, Option<u64>)>) -> Self {
        let Some((body, length)) = body else { return Self { head, begun: false, whole: None } };
        let body = Some((body, length.map_or(Framed::Chunked, Framed::Length)));
        let mut whole = Box::new(Whole { queue: WriteQueue::new(), body });
        whole.queue.push(head);
        Self { head: Bytes::new(), begun: false, whole: Some(whole) }
    }

    /// Writes what is here, without waiting.
    ///
    /// # Errors
    /// If the connection does not take it, or the body breaks off.
    pub(super) fn begin(&mut self, connection: &LocalConnection) -> Result<(), ExchangeError> {
        // Whoever waits asks again.
        let mut nobody = Context::from_waker(Waker::noop());
        if let Some(whole) = &mut self.whole {
            let _ = whole.gather(&mut nobody)?;
        }
        let _ = self.poll_write(&mut nobody, connection)?;
        Ok(())
    }

    /// Goes on; ready once all is written.
    ///
    /// # Errors
    /// If the body breaks off, or the connection does not take it.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &LocalConnection,
    ) -> Poll<Result<(), ExchangeError>> {
        while !self.is_done() {
            let gathered = self.whole.as_mut().map_or(Ok(Poll::Ready(())), |whole| whole.gather(cx))?;
            if self.whole.as_ref().is_some_and(|whole| whole.queue.is_empty()) {
                ready!(gathered);
                continue;
            }
            ready!(self.poll_write(cx, connection))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Was nothing written to a connection that failed with this error?
    pub(super) fn can_go_elsewhere(&self, error: &ExchangeError) -> bool {
        !self.begun && matches!(error, ExchangeError::Write(_))
    }

    /// Is all of it written?
    pub(super) fn is_done(&self) -> bool {
        self.head.is_empty() && self.whole.as_ref().is_none_or(|whole| whole.queue.is_empty() && whole.body.is_none())
    }

    /// Nothing more is sent.
    pub(super) fn give_up(&mut self) {
        (self.head, self.whole) = (Bytes::new(), None);
    }

    /// Writes what is at hand.
    fn poll_write(&mut self, cx: &mut Context<'_>, connection: &LocalConnection) -> Poll<Result<(), ExchangeError>> {
        loop {
            let written = match &mut self.whole {
                Some(whole) if !whole.queue.is_empty() => ready!(whole.queue.poll_write(cx, &connection.wire)),
                None if !self.head.is_empty() => {
                    match ready!(connection.wire.poll_write(cx, &[IoSlice::new(&self.head)])) {
                        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                        written => written.map(|len| self.head.advance(len)),
                    }
                }
                _ => return connection.wire.poll_flush(cx).map_err(ExchangeError::Write),
            };
            written.map_err(ExchangeError::Write)?;
            self.begun = true;
        }
    }
}

impl<B: Body<Data = Bytes, Error = HopBodyError> + Unpin> Whole<B> {
    /// Queues what has come of the body; ready once that is all of it.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, ExchangeError> {
        while self.queue.len() < QUEUE {
            let Some((body, framed)) = &mut self.body else { return Ok(Poll::Ready(())) };
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else { return Ok(Poll::Pending) };
            match frame.transpose()?.map(http_body::Frame::into_data) {
                // An empty chunk would be the end.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    let start = framed.start(&data)?;
                    let is_chunk = *framed == Framed::Chunked;
                    start.into_iter().chain([data]).for_each(|bytes| self.queue.push(bytes));
                    if is_chunk {
                        self.queue.push(Bytes::from_static(b"\r\n"));
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
                self.queue.push(end.freeze());
            }
            _ => {}
        }
        Ok(())
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
