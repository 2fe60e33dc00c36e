//! What is to be written, one piece behind the other.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};

use crate::wire::Wire;

/// Pieces that one call writes.
const SLICES: usize = 16;

/// Pieces on their way into a connection, in their order.
#[derive(Debug)]
pub(crate) struct WriteQueue {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl WriteQueue {
    /// With room for what most messages have: a head, a body, and what stands around it.
    pub(crate) fn new() -> Self {
        Self { pieces: VecDeque::with_capacity(4), len: 0 }
    }

    /// One more piece, which must not be empty.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.len += piece.len();
        self.pieces.push_back(piece);
    }

    /// Is all written?
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes that are still to be written.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Writes some of it, by one call; ready once something was written.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, wire: &Wire) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        match ready!(wire.poll_write(cx, &slices[..self.pieces.len().min(SLICES)]))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => {
                self.on_written(written);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn on_written(&mut self, mut written: usize) {
        self.len -= written;
        while let Some(first) = self.pieces.front_mut() {
            let of_first = written.min(first.len());
            first.advance(of_first);
            written -= of_first;
            if !first.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
    }
}
