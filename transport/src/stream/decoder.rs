//! Cuts the bytes of a stream into a head and frames. No IO: bytes go in as they come, in any pieces.

use bytes::{Buf, Bytes, BytesMut};
use starling_proto::decode;
use starling_proto::frame::{HEADER_LEN, Kind, MAX_TRAILERS, parse_header};
use starling_proto::mesh::v1;

/// A piece of what follows a head.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A piece of the body, not necessarily as the sender cut it. Never empty.
    Data(Bytes),
    /// The end of the body, with what follows it.
    Trailers(v1::Trailers),
    /// The end of the stream.
    End,
}

/// Why bytes are no hop stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A head or trailers longer than allowed.
    #[error("{what} of {size} bytes: the limit is {limit}")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// What it claims, in bytes.
        size: usize,
        /// The most, in bytes.
        limit: usize,
    },
    /// Not the message it should be.
    #[error(transparent)]
    Message(#[from] decode::DecodeError),
    /// The stream ended within a head or frame.
    #[error("the stream ended within {0}")]
    Truncated(&'static str),
    /// Bytes after the trailers.
    #[error("bytes after the trailers")]
    AfterTrailers,
}

/// What has been read of the message at hand.
#[derive(Debug)]
enum State {
    /// Between messages: nothing, or the first bytes of the four that tell what comes.
    Start { bytes: [u8; HEADER_LEN], have: usize },
    /// A head that is cut.
    Head { have: BytesMut, len: usize },
    /// Within the payload of a DATA frame.
    Data { left: usize },
    /// Trailers that are cut.
    Trailers { have: BytesMut, len: usize },
    /// Within a frame of a kind that is not known.
    Skip { left: usize },
    /// After the trailers.
    Done,
}

const START: State = State::Start { bytes: [0; HEADER_LEN], have: 0 };
/// A peer's claim of a length makes us set aside no more than this before the bytes come.
const MAX_RESERVE: usize = 16 * 1024;

/// Bytes of a stream on their way to heads and frames.
#[derive(Debug)]
pub(super) struct Decoder {
    chunk: Bytes,
    state: State,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self { chunk: Bytes::new(), state: START }
    }

    /// Gives it the next bytes of the stream, once it asked for more.
    pub(super) fn handle_chunk(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "bytes are given when they are asked for");
        self.chunk = chunk;
    }

    /// Is nothing left of the bytes that it was given?
    pub(super) fn is_drained(&self) -> bool {
        self.chunk.is_empty()
    }

    /// The next head, without its length, or `None` for more bytes.
    pub(super) fn poll_head(&mut self, limit: usize) -> Result<Option<Bytes>, Malformed> {
        if let State::Start { .. } = self.state {
            let Some(len) = self.take_four() else { return Ok(None) };
            let len = u32::from_be_bytes(len) as usize;
            if len > limit {
                return Err(Malformed::TooLarge { what: "a head", size: len, limit });
            }
            if self.chunk.len() >= len {
                return Ok(Some(self.chunk.split_to(len)));
            }
            self.state = State::Head { have: BytesMut::with_capacity(len.min(MAX_RESERVE)), len };
        }
        let State::Head { have, len } = &mut self.state else { return Err(Malformed::AfterTrailers) };
        if !gather(have, *len, &mut self.chunk) {
            return Ok(None);
        }
        let head = std::mem::take(have).freeze();
        self.state = START;
        Ok(Some(head))
    }

    /// The next frame, or `None` for more bytes.
    pub(super) fn poll_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        loop {
            match &mut self.state {
                State::Start { .. } => match self.take_four() {
                    Some(header) => self.state = State::after(header)?,
                    None => return Ok(None),
                },
                State::Data { left: 0 } | State::Skip { left: 0 } => self.state = START,
                State::Data { .. } | State::Skip { .. } | State::Head { .. } if self.chunk.is_empty() => {
                    return Ok(None);
                }
                State::Data { left } => {
                    let data = self.chunk.split_to(self.chunk.len().min(*left));
                    *left -= data.len();
                    return Ok(Some(Frame::Data(data)));
                }
                State::Skip { left } => {
                    let skipped = self.chunk.len().min(*left);
                    self.chunk.advance(skipped);
                    *left -= skipped;
                }
                State::Trailers { have, len } => {
                    if !gather(have, *len, &mut self.chunk) {
                        return Ok(None);
                    }
                    let bytes = std::mem::take(have).freeze();
                    self.state = State::Done;
                    return Ok(Some(Frame::Trailers(decode::message("Trailers", bytes, MAX_TRAILERS)?)));
                }
                State::Done if self.chunk.is_empty() => return Ok(None),
                State::Done => return Err(Malformed::AfterTrailers),
                State::Head { .. } => return Err(Malformed::Truncated("a head")),
            }
        }
    }

    /// The next raw bytes, at most `max`, or `None` for more.
    pub(super) fn poll_raw(&mut self, max: usize) -> Option<Bytes> {
        let len = self.chunk.len().min(max);
        (len > 0).then(|| self.chunk.split_to(len))
    }

    /// The stream ended: may it, here?
    pub(super) fn handle_end(&self) -> Result<(), Malformed> {
        match &self.state {
            State::Start { have: 0, .. } | State::Data { left: 0 } | State::Skip { left: 0 } | State::Done => Ok(()),
            State::Start { .. } => Err(Malformed::Truncated("a length")),
            State::Head { .. } => Err(Malformed::Truncated("a head")),
            State::Data { .. } => Err(Malformed::Truncated("a piece of the body")),
            State::Trailers { .. } => Err(Malformed::Truncated("trailers")),
            State::Skip { .. } => Err(Malformed::Truncated("a frame")),
        }
    }

    /// The four bytes that begin a head or frame, once they are there.
    fn take_four(&mut self) -> Option<[u8; HEADER_LEN]> {
        let State::Start { bytes, have } = &mut self.state else { return None };
        let count = self.chunk.len().min(HEADER_LEN - *have);
        self.chunk.copy_to_slice(&mut bytes[*have..*have + count]);
        *have += count;
        if *have < HEADER_LEN {
            return None;
        }
        let bytes = *bytes;
        self.state = START;
        Some(bytes)
    }
}

impl State {
    fn after(header: [u8; HEADER_LEN]) -> Result<Self, Malformed> {
        Ok(match parse_header(header) {
            (Kind::Data, left) => Self::Data { left },
            (Kind::Unknown(_), left) => Self::Skip { left },
            (Kind::Trailers, len) if len > MAX_TRAILERS => {
                return Err(Malformed::TooLarge { what: "trailers", size: len, limit: MAX_TRAILERS });
            }
            (Kind::Trailers, len) => Self::Trailers { have: BytesMut::with_capacity(len.min(MAX_RESERVE)), len },
        })
    }
}

/// Moves bytes of `chunk` to `have` until it holds `len`. True once it does.
fn gather(have: &mut BytesMut, len: usize, chunk: &mut Bytes) -> bool {
    let count = chunk.len().min(len - have.len());
    have.extend_from_slice(&chunk.split_to(count));
    have.len() == len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;
    use starling_proto::frame::header;

    #[derive(Debug, Clone)]
    enum Part {
        Data(Vec<u8>),
        Unknown(u8, Vec<u8>),
    }

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        let part = prop_oneof![bytes().prop_map(Part::Data), (2_u8.., bytes()).prop_map(|(k, b)| Part::Unknown(k, b))];
        proptest::collection::vec(part, 0..8)
    }

    fn trailers() -> v1::Trailers {
        let header = v1::Header { name: Bytes::from_static(b"x-sum"), value: Bytes::from_static(b"7") };
        v1::Trailers { headers: vec![header], load: None }
    }

    fn encoded(head: &[u8], parts: &[Part], trailers: Option<&v1::Trailers>) -> Vec<u8> {
        let mut wire = u32::try_from(head.len()).unwrap().to_be_bytes().to_vec();
        wire.extend_from_slice(head);
        let mut frame = |kind, payload: &[u8]| {
            wire.extend(header(kind, payload.len()));
            wire.extend_from_slice(payload);
        };
        for part in parts {
            match part {
                Part::Data(bytes) => frame(Kind::Data, bytes),
                Part::Unknown(kind, bytes) => frame(Kind::Unknown(*kind), bytes),
            }
        }
        if let Some(trailers) = trailers {
            frame(Kind::Trailers, &trailers.encode_to_vec());
        }
        wire
    }

    /// What comes out: head, body, trailers.
    type Read = (Bytes, Vec<u8>, Option<v1::Trailers>);

    fn read(wire: &[u8], cuts: &[usize]) -> Result<Read, Malformed> {
        let mut rest = Bytes::copy_from_slice(wire);
        let mut cuts = cuts.iter().cycle();
        let mut decoder = Decoder::new();
        let (mut head, mut body, mut trailers) = (None, Vec::new(), None);
        loop {
            while head.is_none() {
                match decoder.poll_head(1000)? {
                    Some(bytes) => head = Some(bytes),
                    None => break,
                }
            }
            while head.is_some() {
                match decoder.poll_frame()? {
                    Some(Frame::Data(bytes)) => {
                        assert!(!bytes.is_empty());
                        body.extend_from_slice(&bytes);
                    }
                    Some(Frame::Trailers(found)) => trailers = Some(found),
                    Some(Frame::End) | None => break,
                }
            }
            if rest.is_empty() {
                decoder.handle_end()?;
                return Ok((head.ok_or(Malformed::Truncated("a head"))?, body, trailers));
            }
            let cut = (*cuts.next().unwrap()).clamp(1, rest.len());
            decoder.handle_chunk(rest.split_to(cut));
        }
    }

    proptest! {
        #[test]
        fn a_stream_reads_the_same_wherever_it_is_cut(
            head in proptest::collection::vec(any::<u8>(), 0..200),
            parts in parts(),
            with_trailers in any::<bool>(),
            cuts in proptest::collection::vec(1_usize..40, 1..20),
        ) {
            let trailers = with_trailers.then(trailers);
            let wire = encoded(&head, &parts, trailers.as_ref());
            let (found_head, found_body, found_trailers) = read(&wire, &cuts).unwrap();
            let body: Vec<u8> =
                parts.iter().filter_map(|part| if let Part::Data(b) = part { Some(b.clone()) } else { None }).flatten().collect();
            prop_assert_eq!(&found_head[..], &head[..]);
            prop_assert_eq!(found_body, body);
            prop_assert_eq!(found_trailers, trailers);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            wire in proptest::collection::vec(any::<u8>(), 0..400),
            cuts in proptest::collection::vec(1_usize..40, 1..20),
        ) {
            let _ = read(&wire, &cuts);
        }
    }

    #[test]
    fn a_stream_that_ends_within_a_head_or_frame_is_noticed() {
        let wire = encoded(b"head", &[Part::Data(vec![1; 20]), Part::Data(vec![2; 20])], None);
        for cut in 1..=wire.len() {
            let at_border = [8, 32, 56].contains(&cut);
            assert_eq!(read(&wire[..cut], &[7]).is_ok(), at_border, "{cut}");
        }
    }

    #[test]
    fn a_whole_head_and_body_are_not_copied() {
        let wire = Bytes::from(encoded(b"head", &[Part::Data(vec![7; 100])], None));
        let range = wire.as_ptr_range();
        let mut decoder = Decoder::new();
        decoder.handle_chunk(wire.clone());
        let head = decoder.poll_head(100).unwrap().unwrap();
        assert!(range.contains(&head.as_ptr()));
        let Some(Frame::Data(data)) = decoder.poll_frame().unwrap() else { panic!("no data") };
        assert!(range.contains(&data.as_ptr()));
    }

    #[test]
    fn a_head_over_its_limit_is_refused_by_its_length_alone() {
        let mut decoder = Decoder::new();
        decoder.handle_chunk(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]));
        let error = decoder.poll_head(1000).unwrap_err();
        assert_eq!(error, Malformed::TooLarge { what: "a head", size: 0xffff_ffff, limit: 1000 });
    }

    #[test]
    fn nothing_may_follow_the_trailers() {
        let mut wire = encoded(b"", &[], Some(&trailers()));
        wire.extend(header(Kind::Data, 0));
        assert_eq!(read(&wire, &[1000]).unwrap_err(), Malformed::AfterTrailers);
    }
}
