use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::frame::Broken;

/// A piece with fewer bytes is copied: it would keep a whole buffer of the connection from being freed.
const SMALL: usize = 8 << 10;
/// Credit is given back when a window has at least this share of it to give.
const SHARE: u64 = 4;

/// How the far side ended a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    /// It did not.
    Open,
    /// With its last byte.
    Ended,
    /// With a code.
    Reset(u32),
}

/// The receiving side of one stream.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is due, or not, by itself")]
pub(super) struct Incoming {
    pub(super) state: Receiving,
    chunks: VecDeque<BytesMut>,
    /// Bytes since the beginning: received, no longer held, allowed.
    received: u64,
    released: u64,
    allowed: u64,
    window: u64,
    /// The reader wants no more.
    pub(super) is_stopped: bool,
    /// The reader has seen the end.
    pub(super) is_taken: bool,
    /// To be told: that no more is wanted, that all is here, that there is room.
    pub(super) stop_due: Option<u32>,
    pub(super) received_due: bool,
    pub(super) credit_due: bool,
    pub(super) reader: Option<Waker>,
}

impl Incoming {
    pub(super) fn new(window: u32) -> Self {
        Self {
            state: Receiving::Open,
            chunks: VecDeque::new(),
            received: 0,
            released: 0,
            allowed: window.into(),
            window: window.into(),
            is_stopped: false,
            is_taken: false,
            stop_due: None,
            received_due: false,
            credit_due: false,
            reader: None,
        }
    }

    /// Takes bytes of the far side. How many of them are not held.
    pub(super) fn handle_data(&mut self, bytes: BytesMut, fin: bool) -> Result<u64, Broken> {
        if self.state != Receiving::Open {
            return Err(Broken("a stream goes on after its end"));
        }
        self.received += bytes.len() as u64;
        if self.received > self.allowed {
            return Err(Broken("a stream carries more than it may"));
        }
        let len = bytes.len() as u64;
        if !self.is_stopped {
            self.hold(bytes);
        }
        if fin {
            self.state = Receiving::Ended;
            self.received_due = true;
            self.credit_due = false;
        }
        self.wake();
        if self.is_stopped { Ok(self.release(len)) } else { Ok(0) }
    }

    fn hold(&mut self, bytes: BytesMut) {
        if bytes.is_empty() {
            return;
        }
        if bytes.len() >= SMALL {
            return self.chunks.push_back(bytes);
        }
        match self.chunks.back_mut() {
            Some(last) if last.len() + bytes.len() < SMALL => last.extend_from_slice(&bytes),
            _ => self.chunks.push_back(BytesMut::from(&bytes[..])),
        }
    }

    /// The next bytes that are here.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.release(chunk.len() as u64);
        Some(chunk.freeze())
    }

    /// These bytes are held no more.
    fn release(&mut self, bytes: u64) -> u64 {
        self.released += bytes;
        let wanted = self.state == Receiving::Open && !self.is_stopped;
        if wanted && (self.released + self.window - self.allowed) * SHARE >= self.window {
            self.credit_due = true;
        }
        bytes
    }

    /// How far the far side may go now.
    pub(super) fn take_credit(&mut self) -> u64 {
        self.credit_due = false;
        self.allowed = self.released + self.window;
        self.allowed
    }

    /// Ends the stream before its end. How many bytes were held of it.
    pub(super) fn handle_reset(&mut self, code: u32) -> Result<u64, Broken> {
        if self.state != Receiving::Open {
            return Err(Broken("a stream is reset after its end"));
        }
        self.state = Receiving::Reset(code);
        self.credit_due = false;
        self.stop_due = None;
        self.wake();
        Ok(self.drop_held())
    }

    /// The reader wants no more. How many bytes were held for it.
    pub(super) fn stop(&mut self, code: u32) -> u64 {
        if self.is_stopped {
            return 0;
        }
        self.is_stopped = true;
        self.is_taken = true;
        if self.state == Receiving::Open {
            self.stop_due = Some(code);
        }
        self.drop_held()
    }

    fn drop_held(&mut self) -> u64 {
        let held = std::mem::take(&mut self.chunks).iter().map(|chunk| chunk.len() as u64).sum();
        self.release(held)
    }

    /// Will nothing more come?
    pub(super) fn is_over(&self) -> bool {
        self.state != Receiving::Open
    }

    pub(super) fn has_output(&self) -> bool {
        self.stop_due.is_some() || self.received_due || self.credit_due
    }

    pub(super) fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
