use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use crate::outbound::caller_body::CallerBodyError;

/// The body of a request over HTTP/2, read while it is sent on.
#[derive(Debug)]
pub(crate) struct Http2Body {
    recv: RecvStream,
    /// All of its data has come.
    has_all_data: bool,
    ended: bool,
}

impl Http2Body {
    pub(super) const fn new(recv: RecvStream) -> Self {
        Self { recv, has_all_data: false, ended: false }
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = CallerBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallerBodyError>>> {
        let this = &mut *self;
        while !this.has_all_data {
            match ready!(this.recv.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Whoever asks for more has sent on what came before: the client may send as much again.
                    let _ = this.recv.flow_control().release_capacity(data.len());
                    this.ended = this.recv.is_end_stream();
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => this.has_all_data = true,
            }
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let trailers = ready!(this.recv.poll_trailers(cx));
        this.ended = true;
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(None) => None,
            Err(error) => Some(Err(error.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.recv.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
