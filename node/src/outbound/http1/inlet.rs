//! What a local client sends on a connection of HTTP/1: heads for the connection, bodies for whoever carries them off.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::request::{Head, HeadScan};
use crate::config::Limits;
use crate::fields;
use crate::http1::{Payload, Piece};
use crate::outbound::caller_body::CallerBodyError;
use crate::outbound::http2::PREFACE;
use crate::outbound::peer_socket;
use crate::rejected::Rejected;
use crate::telemetry::Telemetry;
use crate::wire::Wire;

/// The reading side of a connection. Its clones read one after the other, never at once.
#[derive(Debug, Clone)]
pub(in crate::outbound) struct Inlet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    wire: Arc<Wire>,
    /// A client that ends its direction has gone.
    end_is_gone: bool,
    state: Mutex<State>,
    /// The body at hand is over, or nobody reads it any more.
    released: Notify,
}

#[derive(Debug)]
struct State {
    read: BytesMut,
    scan: HeadScan,
    payload: Payload,
    /// No head has been read yet.
    is_first: bool,
    /// The client sends no more.
    ended: bool,
    /// Of the body at hand.
    fate: Fate,
    /// Who waits for more of the body at hand, to be told of that.
    reader: Option<Waker>,
}

/// What becomes of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Somebody reads it, or may.
    Wanted,
    /// Nobody reads it.
    Abandoned,
    /// The connection is given up: whoever still reads it gets no more.
    Cut,
}

/// Why no head came.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The client has gone, or the connection broke.
    Gone,
    /// What came is none.
    Rejected(Rejected),
    /// The client speaks HTTP/2.
    Http2,
}

/// What is read ahead while a request is answered, in bytes: requests that a client sends one behind the other.
const READ_AHEAD: usize = 64 * 1024;
/// Of a body that nobody wants, no more than this is read to keep its connection, in bytes.
const DISCARD: usize = 256 * 1024;
/// How often it is looked whether a client that ended its own direction still waits for its answer: first, and later.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_secs(1);

impl Inlet {
    /// Of a connection that nothing was read of but `early`.
    pub(in crate::outbound) fn new(wire: Arc<Wire>, early: Bytes, end_is_gone: bool) -> Self {
        let read = BytesMut::from(early);
        let state = State {
            read,
            scan: HeadScan::default(),
            payload: Payload::Over,
            is_first: true,
            ended: false,
            fate: Fate::Wanted,
            reader: None,
        };
        Self(Arc::new(Shared { wire, end_is_gone, state: Mutex::new(state), released: Notify::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next head. May be dropped and called again.
    ///
    /// # Errors
    /// If there is none.
    pub(super) async fn head(&self, limits: &Limits) -> Result<Head, NoHead> {
        poll_fn(|cx| {
            let state = &mut *self.lock();
            loop {
                if state.is_first && state.begins_http2() {
                    if state.read.len() >= PREFACE.len() {
                        return Poll::Ready(Err(NoHead::Http2));
                    }
                } else if let Some(head) = state.scan.take(&mut state.read, limits).map_err(NoHead::Rejected)? {
                    state.is_first = false;
                    state.payload = head.payload;
                    state.fate = Fate::Wanted;
                    return Poll::Ready(Ok(head));
                }
                if state.ended || ready!(self.poll_more(state, cx)).map_err(|_| NoHead::Gone)? == 0 {
                    return Poll::Ready(Err(NoHead::Gone));
                }
            }
        })
        .await
    }

    /// Has anything come of the next head?
    pub(super) fn has_begun(&self) -> bool {
        let state = self.lock();
        state.scan.has_begun(&state.read)
    }

    /// The body that follows the head just read; `None` if there is none.
    pub(super) fn body(&self, timeout: Duration, telemetry: &Arc<Telemetry>) -> Option<RequestBody> {
        let left = match self.lock().payload {
            Payload::Over => return None,
            Payload::Length(length) => Some(length),
            Payload::Chunked(_) | Payload::ToClose => None,
        };
        let (inlet, telemetry) = (self.clone(), Arc::clone(telemetry));
        Some(RequestBody { inlet, left, over: false, timeout, telemetry, patience: None })
    }

    /// Has the body at hand been read whole?
    pub(super) fn is_body_over(&self) -> bool {
        self.lock().payload == Payload::Over
    }

    /// Reads until there are so many bytes, or none follow; gives what there is then.
    pub(in crate::outbound) async fn read_until(&self, len: usize) -> Bytes {
        poll_fn(|cx| {
            let state = &mut *self.lock();
            while state.read.len() < len && !state.ended {
                if ready!(self.poll_more(state, cx)).is_err() {
                    break;
                }
            }
            Poll::Ready(Bytes::copy_from_slice(&state.read))
        })
        .await
    }

    /// What was read of the connection beyond the head, once nothing else reads it.
    pub(super) fn take_early(&self) -> Bytes {
        self.lock().read.split().freeze()
    }

    /// Waits until nobody reads the body at hand.
    pub(super) async fn released(&self) {
        loop {
            let released = self.0.released.notified();
            if self.lock().is_released() {
                return;
            }
            released.await;
        }
    }

    /// Waits until the client has gone. One that only ends its own direction is still there.
    pub(super) async fn gone(&self) {
        self.released().await;
        let broken = poll_fn(|cx| {
            let state = &mut *self.lock();
            while !state.ended && state.read.len() < READ_AHEAD {
                if ready!(self.poll_more(state, cx)).is_err() {
                    return Poll::Ready(true);
                }
            }
            Poll::Ready(false)
        });
        if !broken.await {
            if !self.lock().ended {
                // It sends so much that its end cannot be seen; a write will tell.
                return std::future::pending().await;
            }
            // Nobody tells when a socket that was half closed is closed.
            let Wire::Plain(stream) = &*self.0.wire else { return };
            if self.0.end_is_gone {
                return;
            }
            let mut look = FIRST_LOOK;
            while peer_socket::is_gone(stream) != Some(true) {
                tokio::time::sleep(look).await;
                look = (2 * look).min(LAST_LOOK);
            }
        }
    }

    /// Waits until nobody reads the body at hand, and passes over a short rest of it, if it comes within `patience`. Says whether the
    /// next head can follow.
    pub(super) async fn finish(&self, patience: Duration) -> bool {
        self.released().await;
        self.is_body_over() || tokio::time::timeout(patience, self.pass_over()).await == Ok(true)
    }

    async fn pass_over(&self) -> bool {
        let mut discarded = 0;
        poll_fn(|cx| {
            let state = &mut *self.lock();
            loop {
                match state.payload.take(&mut state.read) {
                    Ok(Some(Piece::Data(data))) => discarded += data.len(),
                    Ok(Some(Piece::End | Piece::Trailers(_))) => return Poll::Ready(true),
                    Err(_) => return Poll::Ready(false),
                    Ok(None) => {
                        if discarded > DISCARD || state.ended || ready!(self.poll_more(state, cx)).is_err() {
                            return Poll::Ready(false);
                        }
                    }
                }
            }
        })
        .await
    }

    /// Gives the connection up. The rest of a body that is still sent on while its answer is over breaks off: nobody could tell it from
    /// what is dropped from here on, and its reader would keep the connection open.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        state.fate = Fate::Cut;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Reads and drops what comes until the client has heard that the connection ends. Otherwise the system would answer it
    /// with a reset, which can overtake the last answer (RFC 9112, section 9.6).
    pub(super) async fn linger(&self) {
        let mut discarded = 0;
        poll_fn(|cx| {
            let state = &mut *self.lock();
            while discarded <= DISCARD && !state.ended {
                match ready!(self.poll_more(state, cx)) {
                    Ok(0) | Err(_) => break,
                    Ok(len) => discarded += len,
                }
                state.read.clear();
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Reads more; 0 at the end.
    fn poll_more(&self, state: &mut State, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(self.0.wire.poll_fill(cx, &mut state.read));
        state.ended = !matches!(read, Ok(len) if len > 0);
        Poll::Ready(read)
    }
}

impl State {
    /// Is what has come the beginning of HTTP/2, as far as it goes?
    fn begins_http2(&self) -> bool {
        let len = self.read.len().min(PREFACE.len());
        len > 0 && self.read[..len] == PREFACE[..len]
    }

    fn is_released(&self) -> bool {
        self.fate == Fate::Abandoned || self.payload == Payload::Over
    }
}

/// The body of a request, read while it is sent on. Dropped before its end, the rest of it is passed over.
#[derive(Debug)]
pub(crate) struct RequestBody {
    inlet: Inlet,
    /// What is left of a declared length.
    left: Option<u64>,
    over: bool,
    timeout: Duration,
    telemetry: Arc<Telemetry>,
    /// Nothing came since it was set.
    patience: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    fn end(&mut self) {
        self.over = true;
        self.inlet.0.released.notify_waiters();
    }

    /// Counts what the client did wrong.
    fn broken(&self, error: CallerBodyError) -> CallerBodyError {
        if let CallerBodyError::Rejected(why) = &error {
            self.telemetry.on_rejected(*why);
        }
        error
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, CallerBodyError>> {
        let inlet = self.inlet.clone();
        let state = &mut *inlet.lock();
        loop {
            if let Some(piece) = state.payload.take(&mut state.read).map_err(|error| self.broken(error.into()))? {
                if state.payload.is_over(&mut state.read) {
                    self.end();
                }
                self.patience = None;
                return Poll::Ready(Ok(piece));
            }
            if state.fate == Fate::Cut {
                return Poll::Ready(Err(CallerBodyError::Cut));
            }
            match inlet.poll_more(state, cx) {
                Poll::Ready(Ok(0)) => state.payload.on_close()?,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    state.reader = Some(cx.waker().clone());
                    let timeout = self.timeout;
                    let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                    ready!(patience.as_mut().poll(cx));
                    return Poll::Ready(Err(self.broken(CallerBodyError::Rejected(Rejected::SlowBody))));
                }
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = CallerBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallerBodyError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.poll_piece(cx)) {
            Ok(Piece::Data(data)) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(data.len() as u64);
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(Piece::Trailers(trailers)) => Some(match fields::from_wire(trailers.headers, 0) {
                Ok(headers) => Ok(Frame::trailers(headers)),
                Err(_) => Err(CallerBodyError::Rejected(Rejected::BadBody)),
            }),
            Ok(Piece::End) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.over {
            self.inlet.lock().fate = Fate::Abandoned;
            self.inlet.0.released.notify_waiters();
        }
    }
}
