//! The halves of a stream of either kind.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::{ReadError, StoppedError, VarInt, WriteError};

use crate::StreamError;
use crate::stream::code;
use crate::tcp;

/// The half that is written.
#[derive(Debug)]
pub(crate) enum SendStream {
    Quic(quinn::SendStream),
    Tcp(tcp::SendStream),
}

/// The half that is read.
#[derive(Debug)]
pub(crate) enum RecvStream {
    Quic(quinn::RecvStream),
    Tcp(tcp::RecvStream),
}

impl SendStream {
    /// Writes what there is room for; how many chunks went whole. The first of the others may have lost its front.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<usize, StreamError>> {
        match self {
            Self::Quic(stream) => {
                // The future holds nothing between polls: quinn keeps the waker with the stream.
                let written = pin!(stream.write_chunks(chunks)).poll(cx);
                written.map_ok(|written| written.chunks).map_err(of_write)
            }
            Self::Tcp(stream) => stream.poll_write(cx, chunks),
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), StreamError> {
        match self {
            Self::Quic(stream) => stream.finish().map_err(|_| StreamError::Closed),
            Self::Tcp(stream) => stream.finish(),
        }
    }

    pub(crate) fn reset(&mut self, number: u32) {
        match self {
            Self::Quic(stream) => drop(stream.reset(VarInt::from_u32(number))),
            Self::Tcp(stream) => stream.reset(number),
        }
    }

    pub(crate) async fn stopped(&self) -> Result<(), StreamError> {
        match self {
            Self::Quic(stream) => match stream.stopped().await {
                Ok(None) => Ok(()),
                Ok(Some(number)) => Err(StreamError::Reset(code(number.into_inner()))),
                Err(StoppedError::ConnectionLost(error)) => Err(StreamError::ConnectionLost(error.into())),
                Err(StoppedError::ZeroRttRejected) => Err(StreamError::Closed),
            },
            Self::Tcp(stream) => stream.stopped().await,
        }
    }
}

impl RecvStream {
    /// The next bytes; `None` at the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        match self {
            Self::Quic(stream) => {
                let chunk = pin!(stream.read_chunk(usize::MAX, true)).poll(cx);
                chunk.map_ok(|chunk| chunk.map(|chunk| chunk.bytes)).map_err(of_read)
            }
            Self::Tcp(stream) => stream.poll_read(cx),
        }
    }

    pub(crate) fn stop(&mut self, number: u32) {
        match self {
            Self::Quic(stream) => drop(stream.stop(VarInt::from_u32(number))),
            Self::Tcp(stream) => stream.stop(number),
        }
    }
}

fn of_write(error: WriteError) -> StreamError {
    match error {
        WriteError::Stopped(number) => StreamError::Reset(code(number.into_inner())),
        WriteError::ConnectionLost(error) => StreamError::ConnectionLost(error.into()),
        WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamError::Closed,
    }
}

fn of_read(error: ReadError) -> StreamError {
    match error {
        ReadError::Reset(number) => StreamError::Reset(code(number.into_inner())),
        ReadError::ConnectionLost(error) => StreamError::ConnectionLost(error.into()),
        ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => StreamError::Closed,
    }
}
