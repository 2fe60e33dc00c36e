//! The body of an answer to a local application.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use starling_proto::mesh::v1;
use starling_routing::{Outcome, Pick};
use starling_transport::Request;
use tokio::time::Sleep;

use crate::failure::Failure;
use crate::hop_body::{HopBody, HopBodyError, Observer};
use crate::record::Record;

/// Either the mesh's own words, or what comes over the hop.
pub(super) enum AnswerBody {
    /// At hand.
    Own(Option<Bytes>),
    /// Streamed.
    Hop(HopBody<Download>),
    /// Streamed, and to be whole before a deadline that the caller declared.
    Timed(HopBody<Download>, Pin<Box<Sleep>>),
}

/// What must live until the answer has been read: the endpoint counts it as in flight, its connection as
/// outstanding, and the log wants its size.
pub(super) struct Download {
    pub(super) pick: Pick,
    pub(super) record: Record,
    pub(super) _outstanding: Request,
}

/// What a field of an answer or of its trailers says of the endpoint, beside its status.
pub(super) fn outcome(name: &[u8], value: &[u8]) -> Option<Outcome> {
    if name != b"grpc-status" {
        return None;
    }
    Some(Outcome::of_grpc(std::str::from_utf8(value).ok()?.parse().ok()?))
}

impl Observer for Download {
    fn on_data(&mut self, bytes: usize) {
        self.record.on_answered(bytes);
    }

    fn on_trailers(&mut self, fields: &[v1::Header]) {
        if let Some(outcome) = fields.iter().find_map(|field| outcome(&field.name, &field.value)) {
            self.pick.on_outcome(outcome, std::time::Instant::now());
        }
    }

    fn on_end(&mut self, _: Option<v1::Load>) {
        self.record.on_done();
    }

    fn on_failure(&mut self, error: &HopBodyError) {
        let failure = Failure::new(error.code(), error.to_string());
        self.record.fail(&failure);
        self.pick.on_outcome(Outcome::of_error(failure.code), std::time::Instant::now());
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = HopBodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HopBodyError>>> {
        match &mut *self {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Hop(body) => Pin::new(body).poll_frame(cx),
            Self::Timed(body, deadline) => match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending if deadline.as_mut().poll(cx).is_ready() => {
                    Poll::Ready(Some(Err(body.cut(HopBodyError::Deadline))))
                }
                polled => polled,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Hop(body) | Self::Timed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Hop(body) | Self::Timed(body, _) => body.size_hint(),
        }
    }
}
