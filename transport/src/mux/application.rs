//! What the application does.

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use super::frame::{Direction, StreamId};
use super::incoming::{Incoming, Receiving};
use super::machine::{Mux, Stream};
use super::outgoing::{Outgoing, Sending};
use crate::stream::code;
use crate::{Lost, StreamError};

impl Mux {
    /// Opens a stream; `None` while as many are open as the far side allows.
    pub(crate) fn open(&mut self, direction: Direction) -> Result<Option<StreamId>, Lost> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        let kind = direction as usize;
        if self.opened[kind] >= self.may_open[kind] {
            return Ok(None);
        }
        let id = StreamId::new(self.is_dialer, direction, self.opened[kind]);
        self.opened[kind] += 1;
        let send = Some(Outgoing::new(self.initial_credit()));
        let recv = (direction == Direction::Both).then(|| Incoming::new(self.bounds.stream_window));
        self.streams.insert(id, Stream::new(send, recv, false));
        Ok(Some(id))
    }

    /// The next stream that the far side opened; `None` while there is none.
    pub(crate) fn accept(&mut self, direction: Direction) -> Result<Option<StreamId>, Lost> {
        match (self.arrived[direction as usize].pop_front(), &self.lost) {
            (_, Some(lost)) => Err(lost.clone()),
            (id, None) => Ok(id),
        }
    }

    /// Writes what there is room for; how many of `chunks` went whole. The first of the others may have lost its front.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        id: StreamId,
        chunks: &mut [Bytes],
    ) -> Poll<Result<usize, StreamError>> {
        if let Some(lost) = &self.lost {
            return Poll::Ready(Err(lost.clone().into()));
        }
        let shared = usize::try_from(self.credit - self.written).unwrap_or(usize::MAX);
        let shared = shared.min(self.bounds.queue.saturating_sub(self.queued));
        let Some(send) = self.streams.get_mut(&id).and_then(|stream| stream.send.as_mut()) else {
            return Poll::Ready(Err(StreamError::Closed));
        };
        if let Some(number) = send.stopped {
            return Poll::Ready(Err(StreamError::Reset(code(number.into()))));
        }
        if send.state != Sending::Open {
            return Poll::Ready(Err(StreamError::Closed));
        }
        let room = shared.min(send.room());
        if room == 0 {
            send.writer = Some(cx.waker().clone());
            if shared == 0 && !std::mem::replace(&mut send.is_blocked, true) {
                self.blocked.push(id);
            }
            return Poll::Pending;
        }
        let (whole, taken) = send.take(chunks, room);
        self.written += taken as u64;
        self.queued += taken;
        self.list(id);
        Poll::Ready(Ok(whole))
    }

    /// Ends a stream with what was written.
    pub(crate) fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        match self.streams.get_mut(&id).and_then(|stream| stream.send.as_mut()) {
            Some(send) if send.state == Sending::Open => send.state = Sending::Ending,
            _ => return Err(StreamError::Closed),
        }
        self.list(id);
        Ok(())
    }

    /// Gives up on a stream.
    pub(crate) fn reset(&mut self, id: StreamId, code: u32) {
        let send = self.streams.get_mut(&id).and_then(|stream| stream.send.as_mut());
        let given_up = send.map_or(0, |send| send.reset(code));
        self.give_up(given_up);
        self.list(id);
    }

    /// Completes when the far side wants no more of a stream, or has all of it.
    pub(crate) fn poll_stopped(&mut self, cx: &Context<'_>, id: StreamId) -> Poll<Result<(), StreamError>> {
        let Some(send) = self.streams.get_mut(&id).and_then(|stream| stream.send.as_mut()) else {
            return Poll::Ready(Ok(()));
        };
        if let Some(number) = send.stopped {
            return Poll::Ready(Err(StreamError::Reset(code(number.into()))));
        }
        match (send.state, &self.lost) {
            (Sending::Received | Sending::Resetting(_) | Sending::Reset, _) => Poll::Ready(Ok(())),
            (_, Some(lost)) => Poll::Ready(Err(lost.clone().into())),
            _ => {
                send.watch(cx.waker());
                Poll::Pending
            }
        }
    }

    /// The next bytes of a stream; `None` at its end.
    pub(crate) fn poll_read(&mut self, cx: &Context<'_>, id: StreamId) -> Poll<Result<Option<Bytes>, StreamError>> {
        let Some(recv) = self.streams.get_mut(&id).and_then(|stream| stream.recv.as_mut()) else {
            return Poll::Ready(Err(StreamError::Closed));
        };
        if recv.is_stopped {
            return Poll::Ready(Err(StreamError::Closed));
        }
        if let Some(chunk) = recv.next() {
            self.release(chunk.len() as u64);
            self.list(id);
            return Poll::Ready(Ok(Some(chunk)));
        }
        let end = match (recv.state, &self.lost) {
            (Receiving::Ended, _) => Ok(None),
            (Receiving::Reset(number), _) => Err(StreamError::Reset(code(number.into()))),
            (Receiving::Open, Some(lost)) => Err(lost.clone().into()),
            (Receiving::Open, None) => {
                recv.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        };
        recv.is_taken = true;
        self.settle(id);
        Poll::Ready(end)
    }

    /// Reads no more of a stream.
    pub(crate) fn stop(&mut self, id: StreamId, code: u32) {
        let recv = self.streams.get_mut(&id).and_then(|stream| stream.recv.as_mut());
        let released = recv.map_or(0, |recv| recv.stop(code));
        self.release(released);
        self.settle(id);
        self.list(id);
    }

    /// A half of a stream is not held any more.
    pub(crate) fn let_go(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.handles = stream.handles.saturating_sub(1);
        }
        self.settle(id);
    }

    /// Ends the connection: the far side is told why.
    pub(crate) fn close(&mut self, code: u32, reason: &str) {
        if self.lost.is_none() {
            self.due.close = Some((code, reason.to_owned()));
            self.handle_lost(Lost::Here);
        }
    }

    /// Makes the far side answer, and measures how long it takes.
    pub(crate) fn probe(&mut self, now: Instant) {
        // A measure that is under way goes on: probes may come faster than answers.
        let (number, _) = *self.ping.get_or_insert_with(|| {
            self.pings += 1;
            (self.pings, now)
        });
        self.due.ping = Some(number);
        self.wake_driver();
    }
}
