use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use starling_proto::ErrorCode;

use super::connection::LocalConnection;
use super::{AnswerHead, BadAnswer, Upload};
use crate::hop_body::HopBodyError;
use crate::http1::{BadFraming, Payload, Piece};
use crate::inbound::LocalBody;
use crate::wire::Wire;

/// Why an exchange with an application broke off. The request may have been processed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// Its answer is none.
    #[error(transparent)]
    Answer(#[from] BadAnswer),
    /// It closed the connection before it answered.
    #[error("it closed the connection before it answered")]
    Closed,
    /// The connection failed.
    #[error("its connection failed: {0}")]
    Read(#[source] io::Error),
    /// The connection does not take the request.
    #[error("it takes no more of the request: {0}")]
    Write(#[source] io::Error),
    /// The request's body broke off on the way here.
    #[error("the request's body: {0}")]
    Body(#[source] HopBodyError),
    /// The request's body ended early, by so many bytes.
    #[error("the request's body is {0} bytes shorter than it said")]
    Short(u64),
    /// The request's body did not end.
    #[error("the request's body is longer than it said")]
    Long,
}

impl ExchangeError {
    /// The word that the caller gets.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Answer(BadAnswer::Cut | BadAnswer::Body(BadFraming::Cut))
            | Self::Closed
            | Self::Read(_)
            | Self::Write(_) => ErrorCode::UpstreamReset,
            Self::Answer(_) => ErrorCode::UpstreamProtocol,
            Self::Body(error) => error.code(),
            Self::Short(_) | Self::Long => ErrorCode::HopProtocol,
        }
    }
}

/// What of a request says how its answer is read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    /// The answer has no body, whatever it says.
    pub(crate) is_head: bool,
    /// The application may switch to the protocol that was asked for.
    pub(crate) switches: bool,
}

/// A request to an application, and its answer. It goes on only while somebody who waits for a part of it polls it, on
/// the task of the request.
pub(crate) struct Exchange<B = LocalBody> {
    connection: LocalConnection,
    /// The application may answer before it has read everything.
    upload: Upload<B>,
    payload: Payload,
    /// The connection can serve another request after this one.
    keeps: bool,
    asked: Asked,
    /// A part of the answer was read, and nothing waited for since.
    is_begun: bool,
    /// The connection took no more of the request. It may have been reset, which the system tells once.
    is_broken: bool,
}

impl<B: Body<Data = Bytes, Error = HopBodyError> + Unpin> Exchange<B> {
    /// Sends what is here of the request.
    ///
    /// # Errors
    /// With the request, if the connection took nothing of it.
    pub(super) fn begin(
        connection: LocalConnection,
        mut upload: Upload<B>,
        asked: Asked,
    ) -> Result<Self, (Upload<B>, ExchangeError)> {
        match upload.begin(&connection) {
            Ok(()) => Ok(Self {
                connection,
                upload,
                payload: Payload::Over,
                keeps: true,
                asked,
                is_begun: false,
                is_broken: false,
            }),
            Err(error) => Err((upload, error)),
        }
    }

    /// Waits for the head of the answer, or of an interim one (1xx), after which another head follows.
    ///
    /// # Errors
    /// If none comes.
    pub(crate) async fn head(&mut self) -> Result<AnswerHead, ExchangeError> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, ExchangeError>> {
        self.poll_upload(cx)?;
        loop {
            if !self.connection.read.is_empty()
                && let Some(head) = AnswerHead::take(&mut self.connection.read, self.asked.is_head)?
            {
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    if !self.asked.switches {
                        return Poll::Ready(Err(BadAnswer::Switched.into()));
                    }
                    self.keeps = false;
                } else if !head.status.is_informational() {
                    self.payload = head.payload;
                    self.keeps &= head.keeps_alive;
                }
                return Poll::Ready(Ok(head));
            }
            if ready!(self.poll_more(cx)).map_err(ExchangeError::Read)? == 0 {
                let nothing = self.connection.read.is_empty();
                return Poll::Ready(Err(if nothing { ExchangeError::Closed } else { BadAnswer::Cut.into() }));
            }
        }
    }

    /// The connection after an answer that switched it to another protocol, with what was read of that.
    pub(crate) fn into_switched(self) -> (Wire, Bytes) {
        (self.connection.wire, self.connection.read.freeze())
    }

    /// Waits for the next piece of the answer's body.
    ///
    /// # Errors
    /// If the answer breaks off, or the request.
    pub(crate) async fn piece(&mut self) -> Result<Piece, ExchangeError> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// The next piece of the answer's body, if it is here already.
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn piece_at_hand(&mut self) -> Result<Option<Piece>, ExchangeError> {
        // Nothing is read for it: what came with the head is all that can be sent with it.
        Ok(self.payload.take(&mut self.connection.read).map_err(BadAnswer::Body)?)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, ExchangeError>> {
        self.poll_upload(cx)?;
        loop {
            if let Some(piece) = self.payload.take(&mut self.connection.read).map_err(BadAnswer::Body)? {
                return Poll::Ready(Ok(piece));
            }
            if ready!(self.poll_more(cx)).map_err(ExchangeError::Read)? == 0 {
                // After a reset, the end of the connection is not the end of its answer.
                if self.is_broken && self.payload == Payload::ToClose {
                    return Poll::Ready(Err(BadAnswer::Cut.into()));
                }
                self.payload.on_close().map_err(BadAnswer::Body)?;
            }
        }
    }

    /// Reads more of the answer. An application that writes it in small parts (a head, then a body) sends each only once the
    /// one before was acknowledged, unless it switched that off (RFC 896); the system would wait up to 40 ms with it, for
    /// something to send along.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = self.connection.poll_read(cx);
        if polled.is_pending() && self.is_begun {
            self.connection.wire.acknowledge();
        }
        self.is_begun = polled.is_ready();
        polled
    }

    /// Is the answer over, as far as can be seen without reading more?
    pub(crate) fn is_over(&mut self) -> bool {
        self.payload.is_over(&mut self.connection.read)
    }

    /// Awaits `future`, such as one that passes on a piece of the answer, while the request goes on.
    ///
    /// # Errors
    /// If the request breaks off.
    pub(crate) async fn run<F: Future>(&mut self, future: F) -> Result<F::Output, ExchangeError> {
        if self.upload.is_done() {
            return Ok(future.await);
        }
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll_upload(cx)?;
            future.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), ExchangeError> {
        match self.upload.poll(cx, &self.connection) {
            // An application that reads no more may have answered nevertheless.
            Poll::Ready(Err(ExchangeError::Write(_))) => {
                self.keeps = false;
                self.is_broken = true;
                self.upload.give_up();
                Ok(())
            }
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// The connection, for another request, once the answer was read. Waits for that part of the request that is still to
    /// be sent, unless the application wants no more of it.
    pub(super) async fn end(mut self) -> Option<LocalConnection> {
        if !self.keeps {
            return None;
        }
        if !self.upload.is_done() {
            let rest = poll_fn(|cx| match self.poll_upload(cx) {
                Ok(()) if !self.upload.is_done() => self.poll_hangup(cx),
                ended => Poll::Ready(ended.is_ok()),
            });
            if !rest.await {
                return None;
            }
        }
        (self.keeps && self.connection.is_ready()).then_some(self.connection)
    }

    #[cfg(test)]
    pub(super) fn acknowledges_at_once(&self) -> bool {
        let Wire::Plain(stream) = &self.connection.wire else { return false };
        stream.quickack().unwrap()
    }

    /// An application that says more now, or hangs up, reads no more.
    fn poll_hangup(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.connection.poll_read(cx).map(|_| false)
    }
}
