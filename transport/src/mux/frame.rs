//! ```text
//! | kind, 1 byte | length of the payload, 3 bytes | stream, 8 bytes | payload |
//! ```
//!
//! All numbers in network order. Frames of kinds that are not known are skipped.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Kind, length, stream.
pub(super) const HEADER: usize = 12;
/// The most that a payload may have: with its header it fits one TLS record.
pub(super) const MAX_PAYLOAD: usize = (16 << 10) - HEADER;
/// The most that a reason to close may have.
const MAX_REASON: usize = 256;

/// Which stream, as in RFC 9000, section 2.1: bit 0 tells who opened it, bit 1 whether it has one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(super) u64);

/// Does a stream carry both ways?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Both,
    One,
}

impl StreamId {
    pub(super) const fn new(by_dialer: bool, direction: Direction, index: u64) -> Self {
        Self(index << 2 | (direction as u64) << 1 | !by_dialer as u64)
    }

    pub(super) const fn is_by_dialer(self) -> bool {
        self.0 & 1 == 0
    }

    pub(super) const fn direction(self) -> Direction {
        if self.0 & 2 == 0 { Direction::Both } else { Direction::One }
    }

    /// The how manieth of its kind.
    pub(super) const fn index(self) -> u64 {
        self.0 >> 2
    }
}

/// What one side allows the other from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) stream_window: u32,
    pub(super) window: u64,
    pub(super) both: u32,
    pub(super) one: u32,
}

/// One message.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// The first one of each side, once.
    Settings(Settings),
    /// Bytes of a stream, in order; `fin`: the last ones.
    Data {
        stream: StreamId,
        bytes: BytesMut,
        fin: bool,
    },
    /// No more will come of this stream.
    Reset {
        stream: StreamId,
        code: u32,
    },
    /// No more is wanted of this stream.
    Stop {
        stream: StreamId,
        code: u32,
    },
    /// All of a stream that was ended is here.
    Received {
        stream: StreamId,
    },
    /// A stream may carry so many bytes since its beginning.
    StreamCredit {
        stream: StreamId,
        to: u64,
    },
    /// All streams may carry so many bytes since the beginning.
    Credit {
        to: u64,
    },
    /// So many streams of each kind may have been opened since the beginning.
    Streams {
        both: u64,
        one: u64,
    },
    /// To be answered with the same number.
    Ping(u64),
    Pong(u64),
    /// The end of the connection.
    Close {
        code: u32,
        reason: String,
    },
    /// Of a later version.
    Unknown,
}

/// Bytes that no peer of ours would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(pub(super) &'static str);

mod kind {
    pub(super) const SETTINGS: u8 = 1;
    pub(super) const DATA: u8 = 2;
    pub(super) const DATA_FIN: u8 = 3;
    pub(super) const RESET: u8 = 4;
    pub(super) const STOP: u8 = 5;
    pub(super) const RECEIVED: u8 = 6;
    pub(super) const STREAM_CREDIT: u8 = 7;
    pub(super) const CREDIT: u8 = 8;
    pub(super) const STREAMS: u8 = 9;
    pub(super) const PING: u8 = 10;
    pub(super) const PONG: u8 = 11;
    pub(super) const CLOSE: u8 = 12;
}

const SHORT: Broken = Broken("a frame is shorter than its kind");

/// Cuts the next frame off; `None`: more bytes are needed.
pub(super) fn parse(input: &mut BytesMut) -> Result<Option<Frame>, Broken> {
    let Some(mut header) = input.get(..HEADER) else { return Ok(None) };
    let first = header.get_u32();
    let (kind, len) = ((first >> 24) as u8, (first & 0x00ff_ffff) as usize);
    let stream = StreamId(header.get_u64());
    if len > MAX_PAYLOAD {
        return Err(Broken("a frame is too long"));
    }
    if input.len() < HEADER + len {
        return Ok(None);
    }
    input.advance(HEADER);
    let mut payload = input.split_to(len);
    let short = |_| SHORT;
    Ok(Some(match kind {
        kind::SETTINGS => Frame::Settings(Settings {
            stream_window: payload.try_get_u32().map_err(short)?,
            window: payload.try_get_u64().map_err(short)?,
            both: payload.try_get_u32().map_err(short)?,
            one: payload.try_get_u32().map_err(short)?,
        }),
        kind::DATA if len == 0 => return Err(Broken("a frame says nothing")),
        kind::DATA | kind::DATA_FIN => Frame::Data { stream, bytes: payload, fin: kind == kind::DATA_FIN },
        kind::RESET => Frame::Reset { stream, code: payload.try_get_u32().map_err(short)? },
        kind::STOP => Frame::Stop { stream, code: payload.try_get_u32().map_err(short)? },
        kind::RECEIVED => Frame::Received { stream },
        kind::STREAM_CREDIT => Frame::StreamCredit { stream, to: payload.try_get_u64().map_err(short)? },
        kind::CREDIT => Frame::Credit { to: payload.try_get_u64().map_err(short)? },
        kind::STREAMS => {
            Frame::Streams { both: payload.try_get_u64().map_err(short)?, one: payload.try_get_u64().map_err(short)? }
        }
        kind::PING => Frame::Ping(payload.try_get_u64().map_err(short)?),
        kind::PONG => Frame::Pong(payload.try_get_u64().map_err(short)?),
        kind::CLOSE => {
            let code = payload.try_get_u32().map_err(short)?;
            payload.truncate(MAX_REASON);
            Frame::Close { code, reason: String::from_utf8_lossy(&payload).into_owned() }
        }
        _ => Frame::Unknown,
    }))
}

fn put(out: &mut BytesMut, kind: u8, stream: StreamId, len: usize) {
    out.reserve(HEADER + len);
    // A payload of ours has at most MAX_PAYLOAD bytes.
    #[allow(clippy::cast_possible_truncation)]
    out.put_u32(u32::from(kind) << 24 | len as u32);
    out.put_u64(stream.0);
}

const NO_STREAM: StreamId = StreamId(0);

pub(super) fn put_settings(out: &mut BytesMut, settings: Settings) {
    put(out, kind::SETTINGS, NO_STREAM, 20);
    out.put_u32(settings.stream_window);
    out.put_u64(settings.window);
    out.put_u32(settings.both);
    out.put_u32(settings.one);
}

/// Bytes of a stream: at most [`MAX_PAYLOAD`], as pieces.
pub(super) fn put_data(out: &mut BytesMut, stream: StreamId, pieces: &[Bytes], fin: bool) {
    let len = pieces.iter().map(Bytes::len).sum();
    put(out, if fin { kind::DATA_FIN } else { kind::DATA }, stream, len);
    for piece in pieces {
        out.put_slice(piece);
    }
}

pub(super) fn put_reset(out: &mut BytesMut, stream: StreamId, code: u32) {
    put(out, kind::RESET, stream, 4);
    out.put_u32(code);
}

pub(super) fn put_stop(out: &mut BytesMut, stream: StreamId, code: u32) {
    put(out, kind::STOP, stream, 4);
    out.put_u32(code);
}

pub(super) fn put_received(out: &mut BytesMut, stream: StreamId) {
    put(out, kind::RECEIVED, stream, 0);
}

pub(super) fn put_stream_credit(out: &mut BytesMut, stream: StreamId, to: u64) {
    put(out, kind::STREAM_CREDIT, stream, 8);
    out.put_u64(to);
}

pub(super) fn put_credit(out: &mut BytesMut, to: u64) {
    put(out, kind::CREDIT, NO_STREAM, 8);
    out.put_u64(to);
}

pub(super) fn put_streams(out: &mut BytesMut, both: u64, one: u64) {
    put(out, kind::STREAMS, NO_STREAM, 16);
    out.put_u64(both);
    out.put_u64(one);
}

pub(super) fn put_ping(out: &mut BytesMut, number: u64) {
    put(out, kind::PING, NO_STREAM, 8);
    out.put_u64(number);
}

pub(super) fn put_pong(out: &mut BytesMut, number: u64) {
    put(out, kind::PONG, NO_STREAM, 8);
    out.put_u64(number);
}

pub(super) fn put_close(out: &mut BytesMut, code: u32, reason: &str) {
    let reason = &reason.as_bytes()[..reason.len().min(MAX_REASON)];
    put(out, kind::CLOSE, NO_STREAM, 4 + reason.len());
    out.put_u32(code);
    out.put_slice(reason);
}
