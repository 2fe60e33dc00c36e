//! The request body on its way out: streamed, and kept as far as the limit goes, so that it can be sent once more.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use starling_proto::ErrorCode;

use super::caller_body::CallerBodyError;

/// How much of a request body is kept for another try, in bytes (resilience.md).
pub(crate) const KEPT_LIMIT: usize = 64 * 1024;

/// In how many pieces at most: each costs some memory of its own, however small it is.
const KEPT_PIECES: usize = 64;

/// One piece of the body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    /// Bytes.
    Data(Bytes),
    /// What follows the body.
    Trailers(HeaderMap),
}

/// The caller's connection failed, or its body was malformed, in its library's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the caller's request body: {what}")]
pub(crate) struct CallerError {
    /// What the caller is told, if it is still there.
    pub(crate) code: ErrorCode,
    what: String,
}

/// Why a body breaks off, by its kind of body.
pub(crate) trait Broken: std::fmt::Display {
    /// What the caller is told.
    fn code(&self) -> ErrorCode;
}

impl Broken for CallerBodyError {
    fn code(&self) -> ErrorCode {
        self.code()
    }
}

#[derive(Debug)]
struct State<B> {
    body: B,
    kept: Vec<Piece>,
    kept_bytes: usize,
    total_bytes: u64,
    whole: bool,
    ended: bool,
    failed: Option<CallerError>,
}

/// A request body that several tries can read, one after the other. Each try has its own [`Cursor`].
#[derive(Debug)]
pub(crate) struct Upload<B> {
    state: Arc<Mutex<State<B>>>,
}

impl<B> Clone for Upload<B> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

/// How far one try has read.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    next: usize,
}

impl<B> Upload<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Broken,
{
    /// Wraps the body of a request.
    pub(crate) fn new(body: B) -> Self {
        let ended = body.is_end_stream();
        let state = State { body, kept: Vec::new(), kept_bytes: 0, total_bytes: 0, whole: true, ended, failed: None };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Can the body be sent from its beginning again?
    pub(crate) fn is_replayable(&self) -> bool {
        let state = self.lock();
        state.whole && state.failed.is_none()
    }

    /// Bytes of body data read from the caller so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.lock().total_bytes
    }

    /// The next piece for this try: first what was kept, then what the caller sends. `Ready(None)` is the end.
    pub(crate) fn poll_next(
        &self,
        cursor: &mut Cursor,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Piece, CallerError>>> {
        let mut state = self.lock();
        if let Some(piece) = state.kept.get(cursor.next) {
            cursor.next += 1;
            return Poll::Ready(Some(Ok(piece.clone())));
        }
        if let Some(error) = &state.failed {
            return Poll::Ready(Some(Err(error.clone())));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        match std::pin::Pin::new(&mut state.body).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                state.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let error = CallerError { code: error.code(), what: error.to_string() };
                state.failed = Some(error.clone());
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let piece = to_piece(frame);
                state.keep(&piece, cursor);
                Poll::Ready(Some(Ok(piece)))
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<B>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_piece(frame: Frame<Bytes>) -> Piece {
    match frame.into_data() {
        Ok(data) => Piece::Data(data),
        Err(frame) => Piece::Trailers(frame.into_trailers().unwrap_or_default()),
    }
}

impl<B: Body> State<B> {
    fn keep(&mut self, piece: &Piece, cursor: &mut Cursor) {
        if let Piece::Data(data) = piece {
            self.total_bytes += data.len() as u64;
            self.kept_bytes += data.len();
        }
        if self.body.is_end_stream() {
            self.ended = true;
        }
        if !self.whole {
            return;
        }
        if self.kept_bytes > KEPT_LIMIT || self.kept.len() >= KEPT_PIECES {
            self.whole = false;
            self.kept = Vec::new();
            cursor.next = 0;
        } else {
            self.kept.push(piece.clone());
            cursor.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::io;
    use std::pin::Pin;

    impl Broken for io::Error {
        fn code(&self) -> ErrorCode {
            ErrorCode::Cancelled
        }
    }

    /// A body whose pieces are all at hand.
    struct Pieces(VecDeque<io::Result<Frame<Bytes>>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn body(sizes: &[usize]) -> Pieces {
        Pieces(sizes.iter().map(|n| Ok(Frame::data(Bytes::from(vec![7; *n])))).collect())
    }

    fn drain<B>(upload: &Upload<B>) -> usize
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Broken,
    {
        let mut cursor = Cursor::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut total = 0;
        while let Poll::Ready(Some(Ok(piece))) = upload.poll_next(&mut cursor, &mut cx) {
            if let Piece::Data(data) = piece {
                total += data.len();
            }
        }
        total
    }

    #[test]
    fn a_small_body_can_be_sent_again_from_its_beginning() {
        let upload = Upload::new(body(&[10, 20, 30]));
        assert_eq!(drain(&upload), 60);
        assert!(upload.is_replayable());
        assert_eq!(drain(&upload), 60);
        assert_eq!(upload.bytes_read(), 60);
    }

    #[test]
    fn a_body_over_the_limit_streams_but_is_not_kept() {
        let upload = Upload::new(body(&[KEPT_LIMIT, 1, 5]));
        assert_eq!(drain(&upload), KEPT_LIMIT + 6);
        assert!(!upload.is_replayable());
        assert_eq!(drain(&upload), 0);
    }

    #[test]
    fn a_second_try_continues_where_the_caller_stands() {
        let upload = Upload::new(body(&[10, 20, 30]));
        let mut first = Cursor::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(upload.poll_next(&mut first, &mut cx), Poll::Ready(Some(Ok(_)))));
        assert_eq!(drain(&upload), 60);
    }

    #[test]
    fn a_caller_that_fails_makes_the_body_unrepeatable() {
        let pieces = [Ok(Frame::data(Bytes::from_static(b"x"))), Err(io::Error::other("gone"))];
        let upload = Upload::new(Pieces(pieces.into()));
        assert_eq!(drain(&upload), 1);
        assert!(!upload.is_replayable());
    }
}
