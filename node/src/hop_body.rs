//! A body that comes over the hop, as the HTTP library wants it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame as BodyFrame, SizeHint};
use starling_proto::ErrorCode;
use starling_proto::mesh::v1;
use starling_transport::{Frame, RecvHalf, StreamError};

use crate::fields;

/// Told what a body did. Each call comes at most once, but for `on_data`.
pub(crate) trait Observer {
    /// A piece of so many bytes went by.
    fn on_data(&mut self, bytes: usize);
    /// These fields follow it.
    fn on_trailers(&mut self, _: &[v1::Header]) {}
    /// The body ended whole; the peer may have said its load.
    fn on_end(&mut self, load: Option<v1::Load>);
    /// The body broke off.
    fn on_failure(&mut self, error: &HopBodyError);
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HopBodyError {
    /// The stream failed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A trailer is no HTTP field.
    #[error(transparent)]
    Field(#[from] fields::BadField),
    /// It ended before the length that its head declared; so many bytes are missing.
    #[error("the body is {0} bytes shorter than its head says")]
    Short(u64),
    /// It goes on beyond that length.
    #[error("the body is longer than its head says")]
    Long,
    /// The caller's deadline, which covers the whole answer, has passed.
    #[error("the answer was not whole before the deadline")]
    Deadline,
}

impl HopBodyError {
    /// The word for the log.
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Stream(error) => error.code(),
            Self::Field(_) | Self::Short(_) | Self::Long => ErrorCode::HopProtocol,
            Self::Deadline => ErrorCode::Deadline,
        }
    }
}

/// What is left of a body, if its head declared its length. A peer must keep to it: beyond the next hop of HTTP/1.1 what is missing would be
/// taken from the next message, and what is too much for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left(Option<u64>);

impl Left {
    fn on_data(&mut self, len: usize) -> Result<(), HopBodyError> {
        if let Some(left) = &mut self.0 {
            *left = left.checked_sub(len as u64).ok_or(HopBodyError::Long)?;
        }
        Ok(())
    }

    fn on_end(self) -> Result<(), HopBodyError> {
        self.0.filter(|left| *left > 0).map_or(Ok(()), |left| Err(HopBodyError::Short(left)))
    }

    fn is_nothing(self) -> bool {
        self.0 == Some(0)
    }
}

/// A body whose pieces are the frames of a hop stream. Dropped before its end, it tells the peer to stop.
pub(crate) struct HopBody<O: Observer> {
    recv: Option<RecvHalf>,
    left: Left,
    observer: O,
}

impl<O: Observer> HopBody<O> {
    /// A body that follows the head just read from `recv`; `length` if the head declared one.
    pub(crate) fn new(recv: RecvHalf, length: Option<u64>, observer: O) -> Self {
        Self { recv: Some(recv), left: Left(length), observer }
    }

    /// No body at all.
    pub(crate) fn empty(mut observer: O) -> Self {
        observer.on_end(None);
        Self { recv: None, left: Left(Some(0)), observer }
    }

    /// Gives up on what has not come yet.
    pub(crate) fn cut(&mut self, error: HopBodyError) -> HopBodyError {
        if let Some(mut recv) = self.recv.take() {
            recv.stop(error.code());
            self.observer.on_failure(&error);
        }
        error
    }

    fn end(&mut self, load: Option<v1::Load>) {
        self.recv = None;
        self.observer.on_end(load);
    }
}

impl<O: Observer + Unpin> Body for HopBody<O> {
    type Data = Bytes;
    type Error = HopBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, HopBodyError>>> {
        let this = &mut *self;
        let Some(recv) = &mut this.recv else { return Poll::Ready(None) };
        match recv.poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Frame::Data(data))) => {
                this.observer.on_data(data.len());
                if let Err(error) = this.left.on_data(data.len()) {
                    return Poll::Ready(Some(Err(this.cut(error))));
                }
                if this.left.is_nothing() {
                    // The reader of a body of known length may not ask again: the end is usually here already.
                    match recv.poll_frame(cx) {
                        Poll::Ready(Ok(Frame::End)) => this.end(None),
                        Poll::Ready(Ok(Frame::Trailers(trailers))) => this.end(trailers.load),
                        Poll::Ready(Ok(Frame::Data(more))) if !more.is_empty() => {
                            return Poll::Ready(Some(Err(this.cut(HopBodyError::Long))));
                        }
                        _ => {}
                    }
                }
                Poll::Ready(Some(Ok(BodyFrame::data(data))))
            }
            Poll::Ready(Ok(Frame::End)) => {
                if let Err(error) = this.left.on_end() {
                    return Poll::Ready(Some(Err(this.cut(error))));
                }
                this.end(None);
                Poll::Ready(None)
            }
            Poll::Ready(Ok(Frame::Trailers(trailers))) => {
                if let Err(error) = this.left.on_end() {
                    return Poll::Ready(Some(Err(this.cut(error))));
                }
                this.observer.on_trailers(&trailers.headers);
                this.end(trailers.load);
                if trailers.headers.is_empty() {
                    return Poll::Ready(None);
                }
                let headers = fields::from_wire(trailers.headers, 0)?;
                Poll::Ready(Some(Ok(BodyFrame::trailers(headers))))
            }
            Poll::Ready(Err(error)) => {
                this.recv = None;
                let error = error.into();
                this.observer.on_failure(&error);
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.recv.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.recv, self.left.0) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

impl<O: Observer> Drop for HopBody<O> {
    fn drop(&mut self) {
        let Some(mut recv) = self.recv.take() else { return };
        if self.left.is_nothing() {
            self.observer.on_end(None);
        } else {
            recv.stop(ErrorCode::Cancelled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes pieces of these sizes, and then the end.
    fn read(length: Option<u64>, pieces: &[usize]) -> Result<(), String> {
        let mut left = Left(length);
        let all = pieces.iter().try_for_each(|len| left.on_data(*len)).and_then(|()| left.on_end());
        all.map_err(|error| error.to_string())
    }

    #[test]
    fn a_body_has_the_length_that_its_head_declared_or_is_none() {
        assert_eq!(read(Some(5), &[2, 0, 3]), Ok(()));
        assert_eq!(read(None, &[2, 3]), Ok(()));
        assert_eq!(read(Some(0), &[]), Ok(()));
        assert_eq!(read(Some(5), &[2]), Err("the body is 3 bytes shorter than its head says".to_owned()));
        assert_eq!(read(Some(5), &[2, 4]), Err("the body is longer than its head says".to_owned()));
        assert_eq!(HopBodyError::Long.code(), ErrorCode::HopProtocol);
    }
}
