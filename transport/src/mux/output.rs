//! What goes out, and in which order: first what is about the connection, then the streams in turn.

use bytes::BytesMut;

use super::frame::{self, Settings, StreamId};
use super::machine::Mux;
use super::outgoing::Sending;

/// What is to be told about the connection. Each thing at most once: nothing that a peer does makes it grow.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) settings: bool,
    pub(super) pong: Option<u64>,
    pub(super) ping: Option<u64>,
    pub(super) credit: bool,
    pub(super) streams: bool,
    pub(super) close: Option<(u32, String)>,
}

impl Due {
    pub(super) fn at_start() -> Self {
        Self { settings: true, ..Self::default() }
    }
}

/// Output is made in pieces of about so many bytes.
const OUTPUT: usize = 64 << 10;

impl Mux {
    /// Appends what is to be sent, a piece of it; nothing if there is nothing.
    pub(crate) fn poll_output(&mut self, out: &mut BytesMut) {
        if std::mem::take(&mut self.due.settings) {
            let super::Bounds { stream_window, window, both, one, .. } = self.bounds;
            frame::put_settings(out, Settings { stream_window, window, both, one });
        }
        if self.lost().is_some() {
            if let Some((code, reason)) = self.due.close.take() {
                frame::put_close(out, code, &reason);
            }
            return;
        }
        if let Some(number) = self.due.pong.take() {
            frame::put_pong(out, number);
        }
        if let Some(number) = self.due.ping.take() {
            frame::put_ping(out, number);
        }
        if std::mem::take(&mut self.due.credit) {
            self.allowed = self.released + self.bounds.window;
            frame::put_credit(out, self.allowed);
        }
        if std::mem::take(&mut self.due.streams) {
            self.told = self.may_appear;
            let [both, one] = self.told;
            frame::put_streams(out, both, one);
        }
        while out.len() < OUTPUT
            && let Some(id) = self.ready.pop_front()
        {
            self.put_stream(id, out);
        }
    }

    /// What one stream has to tell, and one piece of what it carries; then it is the others' turn.
    fn put_stream(&mut self, id: StreamId, out: &mut BytesMut) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.is_listed = false;
        if let Some(recv) = &mut stream.recv {
            if let Some(code) = recv.stop_due.take() {
                frame::put_stop(out, id, code);
            }
            if std::mem::take(&mut recv.received_due) {
                frame::put_received(out, id);
            }
            if recv.credit_due {
                frame::put_stream_credit(out, id, recv.take_credit());
            }
        }
        let mut sent = 0;
        if let Some(send) = &mut stream.send {
            let mut pieces = Vec::new();
            if let Sending::Resetting(code) = send.state {
                send.state = Sending::Reset;
                frame::put_reset(out, id, code);
            } else if let Some(fin) = send.next_frame(&mut pieces) {
                sent = pieces.iter().map(bytes::Bytes::len).sum();
                frame::put_data(out, id, &pieces, fin);
            }
        }
        self.unqueue(sent);
        self.settle(id);
        self.list(id);
    }
}
