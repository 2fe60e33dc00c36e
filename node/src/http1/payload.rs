use bytes::{Bytes, BytesMut};
use starling_proto::mesh::v1;

use super::BadFraming;
use super::chunked::Chunked;

/// A part of a body.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece {
    /// Bytes; never none.
    Data(Bytes),
    /// The end, with fields.
    Trailers(v1::Trailers),
    /// The end.
    End,
}

/// What is still to come of a body, and how its end is known (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing.
    Over,
    /// So many bytes; never 0.
    Length(u64),
    /// All that comes until the connection ends.
    ToClose,
    /// What the chunked coding says.
    Chunked(Chunked),
}

impl Payload {
    pub(crate) fn of_length(length: u64) -> Self {
        if length == 0 { Self::Over } else { Self::Length(length) }
    }

    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunked::Size)
    }

    /// The next piece of what was read; `None` if more is needed.
    pub(crate) fn take(&mut self, read: &mut BytesMut) -> Result<Option<Piece>, BadFraming> {
        let piece = match self {
            Self::Over => Some(Piece::End),
            Self::Length(_) | Self::ToClose if read.is_empty() => None,
            Self::Length(left) => {
                let here = usize::try_from(*left).map_or(read.len(), |left| left.min(read.len()));
                *left -= here as u64;
                if *left == 0 {
                    *self = Self::Over;
                }
                Some(Piece::Data(read.split_to(here).freeze()))
            }
            Self::ToClose => Some(Piece::Data(read.split().freeze())),
            Self::Chunked(chunked) => {
                let piece = chunked.take(read)?;
                if matches!(piece, Some(Piece::End | Piece::Trailers(_))) {
                    *self = Self::Over;
                }
                piece
            }
        };
        Ok(piece)
    }

    /// Is it over, as far as can be seen without reading more?
    pub(crate) fn is_over(&mut self, read: &mut BytesMut) -> bool {
        if let Self::Chunked(chunked) = self
            && chunked.take_end(read)
        {
            *self = Self::Over;
        }
        *self == Self::Over
    }

    /// The connection ended.
    ///
    /// # Errors
    /// If more should have come.
    pub(crate) fn on_close(&mut self) -> Result<(), BadFraming> {
        match self {
            Self::Over => Ok(()),
            Self::ToClose => {
                *self = Self::Over;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(BadFraming::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &'static str) -> Piece {
        Piece::Data(Bytes::from_static(text.as_bytes()))
    }

    /// Each state, and what it makes of bytes, of no bytes, and of the connection's end.
    #[test]
    fn every_input_in_every_state_does_what_the_rfc_says() {
        let chunk = Payload::Chunked(Chunked::Data(2));
        let table = [
            (Payload::Over, Some(Piece::End), Some(Piece::End), Ok(())),
            (Payload::Length(2), Some(data("ab")), None, Err(BadFraming::Cut)),
            (Payload::Length(9), Some(data("abc")), None, Err(BadFraming::Cut)),
            (Payload::ToClose, Some(data("abc")), None, Ok(())),
            (chunk, Some(data("ab")), None, Err(BadFraming::Cut)),
        ];
        for (state, of_bytes, of_none, of_close) in table {
            assert_eq!(state.clone().take(&mut BytesMut::from("abc")), Ok(of_bytes), "{state:?}");
            assert_eq!(state.clone().take(&mut BytesMut::new()), Ok(of_none), "{state:?}");
            assert_eq!(state.clone().on_close(), of_close, "{state:?}");
        }
    }

    #[test]
    fn what_follows_a_body_is_left_where_it_is() {
        let (mut payload, mut read) = (Payload::of_length(2), BytesMut::from("okHTTP"));
        assert_eq!(payload.take(&mut read), Ok(Some(data("ok"))));
        assert!(payload.is_over(&mut read));
        assert_eq!(&read[..], b"HTTP");
        assert_eq!(Payload::of_length(0), Payload::Over);
    }
}
