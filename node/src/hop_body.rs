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
    /// The caller's deadline, which covers the whole answer, has passed.
    #[error("the answer was not whole before the deadline")]
    Deadline,
}

impl HopBodyError {
    /// The word for the log.
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Stream(error) => error.code(),
            Self::Field(_) => ErrorCode::HopProtocol,
            Self::Deadline => ErrorCode::Deadline,
        }
    }
}

/// A body whose pieces are the frames of a hop stream. Dropped before its end, it tells the peer to stop.
pub(crate) struct HopBody<O: Observer> {
    recv: Option<RecvHalf>,
    left: Option<u64>,
    observer: O,
}

impl<O: Observer> HopBody<O> {
    /// A body that follows the head just read from `recv`; `length` if the head declared one.
    pub(crate) fn new(recv: RecvHalf, length: Option<u64>, observer: O) -> Self {
        Self { recv: Some(recv), left: length, observer }
    }

    /// No body at all.
    pub(crate) fn empty(mut observer: O) -> Self {
        observer.on_end(None);
        Self { recv: None, left: Some(0), observer }
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
                if let Some(left) = &mut this.left {
                    *left = left.saturating_sub(data.len() as u64);
                    if *left == 0 {
                        // The reader of a body of known length may not ask again: the end is usually here already.
                        match recv.poll_frame(cx) {
                            Poll::Ready(Ok(Frame::End)) => this.end(None),
                            Poll::Ready(Ok(Frame::Trailers(trailers))) => this.end(trailers.load),
                            _ => {}
                        }
                    }
                }
                Poll::Ready(Some(Ok(BodyFrame::data(data))))
            }
            Poll::Ready(Ok(Frame::End)) => {
                this.end(None);
                Poll::Ready(None)
            }
            Poll::Ready(Ok(Frame::Trailers(trailers))) => {
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
        match (&self.recv, self.left) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(left)) => SizeHint::with_exact(left),
            (Some(_), None) => SizeHint::default(),
        }
    }
}

impl<O: Observer> Drop for HopBody<O> {
    fn drop(&mut self) {
        let Some(mut recv) = self.recv.take() else { return };
        if self.left == Some(0) {
            self.observer.on_end(None);
        } else {
            recv.stop(ErrorCode::Cancelled);
        }
    }
}
