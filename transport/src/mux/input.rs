//! What comes from the socket.

use std::time::Instant;

use bytes::BytesMut;
use starling_proto::ErrorCode;

use super::frame::{self, Broken, Direction, Frame, Settings, StreamId};
use super::incoming::Incoming;
use super::machine::{Mux, News, Stream};
use super::outgoing::Outgoing;
use crate::Lost;

impl Mux {
    /// Takes all whole frames out of `input`. A peer that breaks the rules is told so, and the connection is over.
    pub(crate) fn handle_input(&mut self, input: &mut BytesMut, now: Instant) {
        while self.lost.is_none() {
            let handled = match frame::parse(input) {
                Ok(Some(frame)) => self.handle_frame(frame, now),
                Ok(None) => return,
                Err(broken) => Err(broken),
            };
            if let Err(Broken(what)) = handled {
                self.due.close = Some((ErrorCode::HopProtocol.number(), what.to_owned()));
                self.handle_lost(Lost::Protocol(format!("the peer broke the rules of streams: {what}")));
            }
        }
    }

    /// The connection is gone, or is to be. What was received can still be read.
    pub(crate) fn handle_lost(&mut self, lost: Lost) {
        if self.lost.is_some() {
            return;
        }
        self.lost = Some(lost);
        self.news = News { may_open: true, arrived: true, is_lost: true };
        self.queued = 0;
        for stream in self.streams.values_mut() {
            stream.send.iter_mut().for_each(Outgoing::give_up);
            stream.recv.iter_mut().for_each(Incoming::wake);
        }
        self.wake_driver();
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Broken> {
        if self.theirs.is_none() && !matches!(frame, Frame::Settings(_) | Frame::Close { .. }) {
            return Err(Broken("settings do not come first"));
        }
        match frame {
            Frame::Settings(settings) => self.handle_settings(settings)?,
            Frame::Data { stream, bytes, fin } => self.handle_data(stream, bytes, fin)?,
            Frame::Reset { stream, code } => {
                let Some(recv) = self.receiving(stream)? else { return Err(Broken("a stream is reset after its end")) };
                let released = recv.handle_reset(code)?;
                self.release(released);
                self.settle(stream);
            }
            Frame::Stop { stream, code } => {
                let given_up = self.sending(stream)?.map_or(0, |send| send.handle_stop(code));
                self.give_up(given_up);
                self.list(stream);
            }
            Frame::Received { stream } => {
                self.sending(stream)?.into_iter().for_each(Outgoing::handle_received);
                self.settle(stream);
            }
            Frame::StreamCredit { stream, to } => {
                self.sending(stream)?.into_iter().for_each(|send| send.raise_credit(to));
            }
            Frame::Credit { to } => {
                self.credit = self.credit.max(to);
                self.wake_blocked();
            }
            Frame::Streams { both, one } => {
                self.may_open = [self.may_open[0].max(both), self.may_open[1].max(one)];
                self.news.may_open = true;
            }
            // Of several, the last one is answered.
            Frame::Ping(number) => self.due.pong = Some(number),
            Frame::Pong(number) => {
                if let Some((_, sent)) = self.ping.take_if(|(known, _)| *known == number) {
                    self.on_rtt(now.duration_since(sent));
                }
            }
            Frame::Close { code, reason } => {
                self.handle_lost(Lost::Closed { code: ErrorCode::from_number(code.into()), reason });
            }
            Frame::Unknown => {}
        }
        Ok(())
    }

    fn handle_settings(&mut self, settings: Settings) -> Result<(), Broken> {
        if self.theirs.replace(settings).is_some() {
            return Err(Broken("settings come twice"));
        }
        self.may_open = [settings.both.into(), settings.one.into()];
        self.credit = settings.window;
        self.news.may_open = true;
        Ok(())
    }

    fn handle_data(&mut self, id: StreamId, bytes: BytesMut, fin: bool) -> Result<(), Broken> {
        self.received += bytes.len() as u64;
        if self.received > self.allowed {
            return Err(Broken("the connection carries more than it may"));
        }
        let Some(recv) = self.receiving(id)? else { return Err(Broken("a stream goes on after its end")) };
        let released = recv.handle_data(bytes, fin)?;
        self.release(released);
        self.settle(id);
        self.list(id);
        Ok(())
    }

    /// The receiving side of a stream, which may be new. `None`: it is over and forgotten.
    fn receiving(&mut self, id: StreamId) -> Result<Option<&mut Incoming>, Broken> {
        self.appear(id)?;
        match self.streams.get_mut(&id) {
            Some(Stream { recv: None, .. }) => Err(Broken("a stream carries the wrong way")),
            Some(stream) => Ok(stream.recv.as_mut()),
            None => Ok(None),
        }
    }

    /// The sending side of a stream, which may be new. `None`: it is over and forgotten.
    fn sending(&mut self, id: StreamId) -> Result<Option<&mut Outgoing>, Broken> {
        self.appear(id)?;
        match self.streams.get_mut(&id) {
            Some(Stream { send: None, .. }) => Err(Broken("a stream carries the wrong way")),
            Some(stream) => Ok(stream.send.as_mut()),
            None => Ok(None),
        }
    }

    /// The far side names a stream: with it come those of its kind that were opened before (RFC 9000, section 3.2).
    fn appear(&mut self, id: StreamId) -> Result<(), Broken> {
        let kind = id.direction() as usize;
        if id.is_by_dialer() == self.is_dialer {
            return if id.index() < self.opened[kind] { Ok(()) } else { Err(Broken("a stream was never opened")) };
        }
        if id.index() >= self.may_appear[kind] {
            return Err(Broken("more streams than there may be"));
        }
        while self.appeared[kind] <= id.index() {
            let id = StreamId::new(!self.is_dialer, id.direction(), self.appeared[kind]);
            self.appeared[kind] += 1;
            let send = (id.direction() == Direction::Both).then(|| Outgoing::new(self.initial_credit()));
            let recv = Some(Incoming::new(self.bounds.stream_window));
            self.streams.insert(id, Stream::new(send, recv, true));
            self.arrived[kind].push_back(id);
            self.news.arrived = true;
        }
        Ok(())
    }
}
