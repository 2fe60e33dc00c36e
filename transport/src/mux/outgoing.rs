use std::collections::VecDeque;
use std::task::Waker;

use bytes::Bytes;

use super::frame::MAX_PAYLOAD;

/// Where the sending side of a stream stands.
///
/// ```text
/// Open -> Ending -> Ended -> Received
///   \________\-> Resetting -> Reset
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    /// More may be written.
    Open,
    /// All was written, and not all is on its way.
    Ending,
    /// All is on its way.
    Ended,
    /// The far side has all.
    Received,
    /// It is to be told that no more comes.
    Resetting(u32),
    /// It was told.
    Reset,
}

/// The sending side of one stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) state: Sending,
    /// Written, and not on its way.
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Bytes written since the beginning.
    written: u64,
    /// Bytes that may be written since the beginning.
    credit: u64,
    /// The far side wants no more.
    pub(super) stopped: Option<u32>,
    /// It is among those who wait for what all streams share.
    pub(super) is_blocked: bool,
    pub(super) writer: Option<Waker>,
    watchers: Vec<Waker>,
}

impl Outgoing {
    pub(super) fn new(credit: u64) -> Self {
        Self {
            state: Sending::Open,
            queue: VecDeque::new(),
            queued: 0,
            written: 0,
            credit,
            stopped: None,
            is_blocked: false,
            writer: None,
            watchers: Vec::new(),
        }
    }

    /// Bytes that the far side has room for on this stream.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.credit.saturating_sub(self.written)).unwrap_or(usize::MAX)
    }

    pub(super) fn raise_credit(&mut self, to: u64) {
        if to > self.credit {
            self.credit = to;
            self.wake_writer();
        }
    }

    /// Takes at most `room` bytes off the front of `chunks`: how many chunks were taken whole, and how many bytes in all.
    pub(super) fn take(&mut self, chunks: &mut [Bytes], room: usize) -> (usize, usize) {
        let (mut whole, mut taken) = (0, 0);
        for chunk in chunks {
            let piece = chunk.split_to(chunk.len().min(room - taken));
            taken += piece.len();
            if !piece.is_empty() {
                self.queue.push_back(piece);
            }
            if !chunk.is_empty() {
                break;
            }
            whole += 1;
        }
        self.queued += taken;
        self.written += taken as u64;
        (whole, taken)
    }

    /// The pieces of the next frame, and whether the stream ends with it. `None`: there is nothing to tell.
    pub(super) fn next_frame(&mut self, pieces: &mut Vec<Bytes>) -> Option<bool> {
        let mut room = MAX_PAYLOAD;
        while room > 0
            && let Some(front) = self.queue.front_mut()
        {
            let piece = front.split_to(front.len().min(room));
            room -= piece.len();
            if front.is_empty() {
                self.queue.pop_front();
            }
            pieces.push(piece);
        }
        self.queued -= MAX_PAYLOAD - room;
        let fin = self.state == Sending::Ending && self.queue.is_empty();
        if fin {
            self.state = Sending::Ended;
        }
        (fin || room < MAX_PAYLOAD).then_some(fin)
    }

    pub(super) fn has_output(&self) -> bool {
        self.queued > 0 || matches!(self.state, Sending::Ending | Sending::Resetting(_))
    }

    /// Gives up what was not sent; the far side is to be told. How many bytes were given up.
    pub(super) fn reset(&mut self, code: u32) -> usize {
        if !matches!(self.state, Sending::Open | Sending::Ending) {
            return 0;
        }
        self.state = Sending::Resetting(code);
        self.queue = VecDeque::new();
        std::mem::take(&mut self.queued)
    }

    /// The far side wants no more. How many bytes were given up.
    pub(super) fn handle_stop(&mut self, code: u32) -> usize {
        if !matches!(self.state, Sending::Open | Sending::Ending | Sending::Ended) {
            return 0;
        }
        self.stopped = Some(code);
        let given_up = self.reset(code);
        self.wake();
        given_up
    }

    pub(super) fn handle_received(&mut self) {
        if self.state == Sending::Ended {
            self.state = Sending::Received;
            self.wake();
        }
    }

    /// Nothing more will be sent.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, Sending::Ended | Sending::Received | Sending::Reset)
    }

    /// To be woken when the far side has all, or wants no more.
    pub(super) fn watch(&mut self, waker: &Waker) {
        if !self.watchers.iter().any(|known| known.will_wake(waker)) {
            self.watchers.push(waker.clone());
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    pub(super) fn wake(&mut self) {
        self.wake_writer();
        self.watchers.drain(..).for_each(Waker::wake);
    }

    /// The connection is gone: nothing of it will be sent.
    pub(super) fn give_up(&mut self) {
        self.queue = VecDeque::new();
        self.queued = 0;
        self.wake();
    }
}
