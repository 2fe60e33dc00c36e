use bytes::{Buf, BytesMut};
use starling_proto::mesh::v1;

use super::BadFraming;
use super::payload::Piece;
use super::token;
use crate::fields::MAX_FIELDS;

/// The chunked transfer coding, read piece by piece (RFC 9112, section 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// The line with the size of a chunk comes next.
    Size,
    /// So many bytes of a chunk are still to come; never 0.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    /// The last chunk was read: fields, and an empty line.
    Trailers,
}

/// What one look at the bytes gives.
enum Step {
    /// Another state, which looks for itself.
    Again,
    Data(BytesMut),
    /// Trailers, or the end.
    End(Piece),
    /// More bytes are needed.
    More,
}

/// A line with a size is at most so long, in bytes; extensions of chunks, which are passed over, rarely exist.
const MAX_SIZE_LINE: usize = 1024;
/// Hexadecimal digits of a size: more cannot be counted.
const MAX_DIGITS: usize = 15;
/// A chunk of fewer bytes is gathered with those that follow it …
const SMALL: usize = 1024;
/// … until there are so many.
const ENOUGH: usize = 16 * 1024;
/// Fields that trailers may have, at most.
const MOST_TRAILERS: usize = 100;

impl Chunked {
    /// The next piece of what was read; `None` if more is needed. After a piece that is no data nothing follows. Small
    /// chunks come together, so that a body of very many costs no more than its bytes.
    pub(crate) fn take(&mut self, read: &mut BytesMut) -> Result<Option<Piece>, BadFraming> {
        let mut gathered = BytesMut::new();
        loop {
            // What is wrong, or comes after the data, is found again once the data has been taken.
            let step = match self.step(read) {
                Ok(Step::Again) if *self != Self::Trailers || gathered.is_empty() => continue,
                Ok(Step::Data(data)) if gathered.is_empty() && (data.len() >= SMALL || read.is_empty()) => {
                    return Ok(Some(Piece::Data(data.freeze())));
                }
                Ok(Step::Data(data)) => {
                    gathered.extend_from_slice(&data);
                    if gathered.len() < ENOUGH {
                        continue;
                    }
                    Ok(None)
                }
                Ok(Step::Again | Step::More) => Ok(None),
                Ok(Step::End(piece)) => Ok(Some(piece)),
                Err(error) => Err(error),
            };
            return if gathered.is_empty() { step } else { Ok(Some(Piece::Data(gathered.freeze()))) };
        }
    }

    fn step(&mut self, read: &mut BytesMut) -> Result<Step, BadFraming> {
        match self {
            Self::Size => {
                let Some(size) = take_size(read)? else { return Ok(Step::More) };
                *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                Ok(Step::Again)
            }
            Self::Data(_) if read.is_empty() => Ok(Step::More),
            Self::Data(left) => {
                let here = usize::try_from(*left).map_or(read.len(), |left| left.min(read.len()));
                *left -= here as u64;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                Ok(Step::Data(read.split_to(here)))
            }
            Self::DataEnd => {
                if !b"\r\n".starts_with(&read[..read.len().min(2)]) {
                    return Err(BadFraming::Chunk("a chunk is longer than its size"));
                }
                if read.len() < 2 {
                    return Ok(Step::More);
                }
                read.advance(2);
                *self = Self::Size;
                Ok(Step::Again)
            }
            Self::Trailers => Ok(take_trailers(read)?.map_or(Step::More, Step::End)),
        }
    }

    /// Is the end all that follows, and here? It is taken then.
    pub(crate) fn take_end(self, read: &mut BytesMut) -> bool {
        let end: &[u8] = match self {
            Self::DataEnd => b"\r\n0\r\n\r\n",
            Self::Size => b"0\r\n\r\n",
            Self::Trailers => b"\r\n",
            Self::Data(_) => return false,
        };
        let is_here = read.starts_with(end);
        if is_here {
            read.advance(end.len());
        }
        is_here
    }
}

/// `SIZE[;extensions]CRLF`
fn take_size(read: &mut BytesMut) -> Result<Option<u64>, BadFraming> {
    let Some(end) = read.iter().position(|byte| *byte == b'\n') else {
        return if read.len() > MAX_SIZE_LINE {
            Err(BadFraming::Chunk("a line with a size has no end"))
        } else {
            Ok(None)
        };
    };
    let line = read[..end].strip_suffix(b"\r").ok_or(BadFraming::Chunk("a line with a size ends without CR"))?;
    if line.len() > MAX_SIZE_LINE || line.contains(&b'\r') {
        return Err(BadFraming::Chunk("a line with a size is too long or holds a CR"));
    }
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    if digits == 0 || digits > MAX_DIGITS || !(rest.is_empty() || rest[0] == b';') {
        return Err(BadFraming::Chunk("a size is no hexadecimal number"));
    }
    let digit = |byte: &u8| u64::from(char::from(*byte).to_digit(16).unwrap_or(0));
    let size = line[..digits].iter().fold(0, |size, byte| size * 16 + digit(byte));
    read.advance(end + 1);
    Ok(Some(size))
}

fn take_trailers(read: &mut BytesMut) -> Result<Option<Piece>, BadFraming> {
    if !token::has_whole_line_ends(read) {
        return Err(BadFraming::Chunk("a line of the trailers ends without CR or LF, or holds a NUL"));
    }
    let mut room = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    match httparse::parse_headers(read, &mut room).map_err(BadFraming::Trailers)? {
        httparse::Status::Partial if read.len() > MAX_FIELDS => Err(BadFraming::Chunk("the trailers are too long")),
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete((len, fields)) => {
            let header = |field: &httparse::Header<'_>| v1::Header {
                name: field.name.to_ascii_lowercase().into(),
                value: field.value.to_vec().into(),
            };
            let headers: Vec<_> = fields.iter().map(header).collect();
            read.advance(len);
            let none = headers.is_empty();
            Ok(Some(if none { Piece::End } else { Piece::Trailers(v1::Trailers { headers, load: None }) }))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes of these pieces: the data, and the names of the trailers if it ended.
    fn read_all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u8>, Option<Vec<String>>), BadFraming> {
        let (mut state, mut read, mut data) = (Chunked::Size, BytesMut::new(), Vec::new());
        for piece in pieces {
            read.extend_from_slice(piece);
            while let Some(piece) = state.take(&mut read)? {
                let name = |field: &v1::Header| String::from_utf8_lossy(&field.name).into_owned();
                match piece {
                    Piece::Data(bytes) => data.extend_from_slice(&bytes),
                    Piece::End => return Ok((data, Some(Vec::new()))),
                    Piece::Trailers(trailers) => return Ok((data, Some(trailers.headers.iter().map(name).collect()))),
                }
            }
        }
        Ok((data, None))
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read() {
        let text = b"3\r\nabc\r\n00A ;x=\"y\"\r\n0123456789\r\n0\r\nX-Sum: 1\r\ny: 2\r\n\r\n";
        let (data, trailers) = read_all([&text[..]]).unwrap();
        assert_eq!(data, b"abc0123456789");
        assert_eq!(trailers.unwrap(), ["x-sum", "y"]);
        assert_eq!(read_all([&b"1\r\nx\r\n"[..]]).unwrap(), (b"x".to_vec(), None));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let bad: [&[u8]; 11] = [
            b"\r\n",
            b"g\r\n",
            b"-1\r\n",
            b"0x1\r\nx\r\n",
            b"1\nx\r\n",
            b"1 1\r\nx",
            b"1\r\nxy\r\n",
            b"1\r\nx\n0\r\n",
            b"1\r\r\n",
            b"ffffffffffffffff1\r\n",
            b"0\r\nx y: 1\r\n\r\n",
        ];
        for text in bad {
            assert!(read_all([text]).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
        assert!(read_all([&vec![b'1'; 2 * MAX_SIZE_LINE][..]]).is_err());
        assert!(read_all([&b"0\r\n"[..], &vec![b'x'; MAX_FIELDS + 1]]).is_err());
    }

    #[test]
    fn an_end_that_is_here_is_seen_with_the_last_chunk() {
        for (state, end) in
            [(Chunked::DataEnd, &b"\r\n0\r\n\r\n"[..]), (Chunked::Size, b"0\r\n\r\n"), (Chunked::Trailers, b"\r\n")]
        {
            let mut read = BytesMut::from(end);
            assert!(state.take_end(&mut read) && read.is_empty());
            assert!(!state.take_end(&mut BytesMut::from(&end[..end.len() - 1])));
        }
        assert!(!Chunked::DataEnd.take_end(&mut BytesMut::from(&b"\r\n0\r\nx: 1\r\n\r\n"[..])));
        assert!(!Chunked::Data(1).take_end(&mut BytesMut::from(&b"\r\n"[..])));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_into_pieces_the_same_is_read(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(1_usize..9, 1..200),
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\nx: 1\r\n\r\n");
            let (mut rest, mut pieces) = (&text[..], Vec::new());
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(read_all(pieces).unwrap(), (chunks.concat(), Some(vec!["x".to_owned()])));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read_all([&text[..]]);
        }
    }
}
