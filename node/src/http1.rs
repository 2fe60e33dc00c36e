//! How HTTP/1.1 frames bodies and which bytes it allows where (RFC 9112), for both ends of a node: the server of local
//! callers and the client of local applications.

use std::ops::Range;

mod chunked;
mod payload;
pub(crate) mod token;

pub(crate) use payload::{Payload, Piece};

/// A body that is not framed as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFraming {
    /// The framing of a chunk.
    #[error("the body is not chunked as RFC 9112, section 7.1, says: {0}")]
    Chunk(&'static str),
    /// The fields after the last chunk.
    #[error("the trailers cannot be read: {0}")]
    Trailers(httparse::Error),
    /// The connection ended before the body did.
    #[error("the body was cut off")]
    Cut,
}

/// Where `part` stands in `whole`, of which it is a part.
pub(crate) fn place(part: &[u8], whole: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}
