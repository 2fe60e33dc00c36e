use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::Bounds;
use super::frame::{Settings, StreamId};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::output::Due;
use crate::Lost;

/// All streams of one connection.
pub(crate) struct Mux {
    pub(super) is_dialer: bool,
    pub(super) bounds: Bounds,
    /// What the far side allowed from the start; none until it said so.
    pub(super) theirs: Option<Settings>,
    pub(super) streams: BTreeMap<StreamId, Stream>,
    /// Streams opened here so far, and how many may be; of both directions, of one.
    pub(super) opened: [u64; 2],
    pub(super) may_open: [u64; 2],
    /// Streams that the far side opened so far, and how many it may.
    pub(super) appeared: [u64; 2],
    pub(super) may_appear: [u64; 2],
    /// As far as it knows.
    pub(super) told: [u64; 2],
    pub(super) arrived: [VecDeque<StreamId>; 2],
    /// Bytes written so far on all streams, and how many may be.
    pub(super) written: u64,
    pub(super) credit: u64,
    /// Bytes received so far on all streams, no longer held, allowed.
    pub(super) received: u64,
    pub(super) released: u64,
    pub(super) allowed: u64,
    /// Bytes that wait for the socket.
    pub(super) queued: usize,
    /// Streams that wait for room that all share.
    pub(super) blocked: Vec<StreamId>,
    /// Streams with something to tell, in turn.
    pub(super) ready: VecDeque<StreamId>,
    pub(super) due: Due,
    pub(super) news: News,
    pub(super) driver: Option<Waker>,
    pub(super) ping: Option<(u64, Instant)>,
    pub(super) pings: u64,
    pub(super) rtt: Duration,
    pub(super) lost: Option<Lost>,
}

/// What changed that somebody may wait for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct News {
    /// More streams may be opened.
    pub(crate) may_open: bool,
    /// The far side opened a stream.
    pub(crate) arrived: bool,
    /// The connection is gone.
    pub(crate) is_lost: bool,
}

/// Both sides of one stream, as far as it has them.
pub(super) struct Stream {
    pub(super) send: Option<Outgoing>,
    pub(super) recv: Option<Incoming>,
    /// Halves that the application holds, or has yet to accept.
    pub(super) handles: u8,
    /// It is in [`Mux::ready`].
    pub(super) is_listed: bool,
    /// The far side opened it, and its place was not given back.
    pub(super) holds_place: bool,
}

/// What the far side allows is given back when at least this share of a window is there to give.
const SHARE: u64 = 4;

impl Mux {
    pub(crate) fn new(is_dialer: bool, bounds: Bounds) -> Self {
        Self {
            is_dialer,
            bounds,
            theirs: None,
            streams: BTreeMap::new(),
            opened: [0; 2],
            may_open: [0; 2],
            appeared: [0; 2],
            may_appear: [bounds.both.into(), bounds.one.into()],
            told: [bounds.both.into(), bounds.one.into()],
            arrived: [VecDeque::new(), VecDeque::new()],
            written: 0,
            credit: 0,
            received: 0,
            released: 0,
            allowed: bounds.window,
            queued: 0,
            blocked: Vec::new(),
            ready: VecDeque::new(),
            due: Due::at_start(),
            news: News::default(),
            driver: None,
            ping: None,
            pings: 0,
            rtt: Duration::ZERO,
            lost: None,
        }
    }

    // What is known.

    /// Has the far side said what it allows?
    pub(crate) fn is_ready(&self) -> bool {
        self.theirs.is_some()
    }

    pub(crate) fn lost(&self) -> Option<&Lost> {
        self.lost.as_ref()
    }

    /// The smoothed round trip.
    pub(crate) fn rtt(&self) -> Duration {
        self.rtt
    }

    /// The round trip was measured (RFC 6298, section 2: a share of one eighth).
    pub(crate) fn on_rtt(&mut self, measured: Duration) {
        self.rtt = if self.rtt.is_zero() { measured } else { (self.rtt * 7 + measured) / 8 };
    }

    /// What changed since the last call.
    pub(crate) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Whom to wake when there is output.
    pub(crate) fn set_driver(&mut self, waker: Option<&Waker>) {
        self.driver = waker.cloned();
    }

    pub(super) fn wake_driver(&mut self) {
        // Once is enough: it asks for all there is.
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    // Between the streams.

    /// What a new stream may carry from the start.
    pub(super) fn initial_credit(&self) -> u64 {
        self.theirs.map_or(0, |settings| settings.stream_window.into())
    }

    /// Puts a stream among those with something to tell, if it has.
    pub(super) fn list(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.is_listed && stream.has_output() {
            stream.is_listed = true;
            self.ready.push_back(id);
            self.wake_driver();
        }
    }

    /// Bytes that were received are held no more.
    pub(super) fn release(&mut self, bytes: u64) {
        self.released += bytes;
        let window = self.bounds.window;
        if !self.due.credit && (self.released + window - self.allowed) * SHARE >= window {
            self.due.credit = true;
            self.wake_driver();
        }
    }

    /// Bytes were written, and will never be sent.
    pub(super) fn give_up(&mut self, bytes: usize) {
        self.written -= bytes as u64;
        self.unqueue(bytes);
    }

    /// Bytes wait for the socket no more.
    pub(super) fn unqueue(&mut self, bytes: usize) {
        if bytes > 0 {
            self.queued = self.queued.saturating_sub(bytes);
            self.wake_blocked();
        }
    }

    pub(super) fn wake_blocked(&mut self) {
        for id in std::mem::take(&mut self.blocked) {
            if let Some(send) = self.streams.get_mut(&id).and_then(|stream| stream.send.as_mut()) {
                send.is_blocked = false;
                send.wake_writer();
            }
        }
    }

    /// Gives back the place of a stream that is over, and forgets it when nobody holds it.
    pub(super) fn settle(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let gives_place = stream.is_over() && std::mem::take(&mut stream.holds_place);
        if stream.handles == 0 && (self.lost.is_some() || (stream.is_over() && !stream.is_listed)) {
            self.streams.remove(&id);
        }
        if gives_place {
            let kind = id.direction() as usize;
            self.may_appear[kind] += 1;
            // It may well wait for the next output, unless the far side may soon run out.
            self.due.streams = true;
            let limit = [self.bounds.both, self.bounds.one][kind];
            if self.appeared[kind] + u64::from(limit) / 2 >= self.told[kind] {
                self.wake_driver();
            }
        }
    }
}

impl Stream {
    pub(super) fn new(send: Option<Outgoing>, recv: Option<Incoming>, holds_place: bool) -> Self {
        let handles = u8::from(send.is_some()) + u8::from(recv.is_some());
        Self { send, recv, handles, is_listed: false, holds_place }
    }

    pub(super) fn has_output(&self) -> bool {
        self.send.as_ref().is_some_and(Outgoing::has_output) || self.recv.as_ref().is_some_and(Incoming::has_output)
    }

    /// Nothing goes out or comes in any more, and the application has seen that.
    fn is_over(&self) -> bool {
        self.send.as_ref().is_none_or(Outgoing::is_over)
            && self.recv.as_ref().is_none_or(|recv| recv.is_over() && recv.is_taken)
    }
}
