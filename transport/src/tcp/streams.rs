use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::line::Line;
use crate::StreamError;
use crate::mux::StreamId;

/// The sending half of a stream.
#[derive(Debug)]
pub(crate) struct SendStream {
    line: Line,
    id: StreamId,
}

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct RecvStream {
    line: Line,
    id: StreamId,
}

impl SendStream {
    pub(super) fn new(line: Line, id: StreamId) -> Self {
        Self { line, id }
    }

    /// Writes what there is room for; how many chunks went whole. The first of the others may have lost its front.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<usize, StreamError>> {
        self.line.with(|mux| mux.poll_write(cx, self.id, chunks))
    }

    pub(crate) fn finish(&self) -> Result<(), StreamError> {
        self.line.with(|mux| mux.finish(self.id))
    }

    pub(crate) fn reset(&self, code: u32) {
        self.line.with(|mux| mux.reset(self.id, code));
    }

    pub(crate) async fn stopped(&self) -> Result<(), StreamError> {
        poll_fn(|cx| self.line.with(|mux| mux.poll_stopped(cx, self.id))).await
    }
}

impl RecvStream {
    pub(super) fn new(line: Line, id: StreamId) -> Self {
        Self { line, id }
    }

    pub(crate) fn poll_read(&self, cx: &Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        self.line.with(|mux| mux.poll_read(cx, self.id))
    }

    pub(crate) fn stop(&self, code: u32) {
        self.line.with(|mux| mux.stop(self.id, code));
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.line.with(|mux| mux.let_go(self.id));
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        self.line.with(|mux| mux.let_go(self.id));
    }
}
