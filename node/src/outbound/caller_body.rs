//! The body of a request of a local program, in whichever version of HTTP it came.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use starling_proto::ErrorCode;

use super::http1::RequestBody;
use super::http2::Http2Body;
use crate::http1::BadFraming;
use crate::rejected::Rejected;

/// A request's body.
#[derive(Debug)]
pub(crate) enum CallerBody {
    /// None.
    None,
    /// Of HTTP/1.
    Http1(RequestBody),
    /// Of HTTP/2.
    Http2(Http2Body),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerBodyError {
    /// It is not what it should be.
    #[error("{0}")]
    Rejected(Rejected),
    /// The connection ended within it.
    #[error("the connection ended before the body did")]
    Cut,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    /// The stream was reset.
    #[error("the stream was reset: {0}")]
    Stream(#[from] h2::Error),
}

impl From<BadFraming> for CallerBodyError {
    fn from(error: BadFraming) -> Self {
        match error {
            BadFraming::Cut => Self::Cut,
            BadFraming::Chunk(_) | BadFraming::Trailers(_) => Self::Rejected(Rejected::BadBody),
        }
    }
}

impl CallerBodyError {
    /// What the caller is told, if it is still there.
    pub(crate) const fn code(&self) -> ErrorCode {
        match self {
            Self::Rejected(why) => why.code(),
            Self::Cut | Self::Connection(_) | Self::Stream(_) => ErrorCode::Cancelled,
        }
    }
}

impl Body for CallerBody {
    type Data = Bytes;
    type Error = CallerBodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CallerBodyError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
