//! Frames of a hop stream, after its head: four bytes, then the payload.
//!
//! ```text
//! | kind: u8 | length: u24, big-endian | payload |
//! ```
//!
//! DATA carries a piece of the body. TRAILERS carries a `mesh.v1.Trailers` and is the last frame. A stream that ends
//! after a DATA frame (or right after the head) has an empty trailer. An unknown kind is skipped.

/// Bytes before each payload.
pub const HEADER_LEN: usize = 4;
/// The most a frame's payload may have, in bytes: what 24 bits can say.
pub const MAX_PAYLOAD: usize = (1 << 24) - 1;
/// The most a `TRAILERS` payload may have, in bytes.
pub const MAX_TRAILERS: usize = 64 * 1024;
/// The most a `StreamHeader` or `ResponseHead` may have, in bytes: twice the usual header limit of HTTP servers.
pub const MAX_HEAD: usize = 128 * 1024;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A piece of the body.
    Data,
    /// The end of the body and what follows it.
    Trailers,
    /// Something newer than this node: to be skipped.
    Unknown(u8),
}

/// The four bytes before a payload.
///
/// # Panics
/// If `len` is over [`MAX_PAYLOAD`]: a sender splits before.
#[must_use]
pub fn header(kind: Kind, len: usize) -> [u8; HEADER_LEN] {
    assert!(len <= MAX_PAYLOAD, "a frame of {len} bytes");
    #[allow(clippy::cast_possible_truncation)]
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let kind = match kind {
        Kind::Data => 0,
        Kind::Trailers => 1,
        Kind::Unknown(kind) => kind,
    };
    [kind, a, b, c]
}

/// Reads what [`header`] writes.
#[must_use]
pub const fn parse_header(bytes: [u8; HEADER_LEN]) -> (Kind, usize) {
    let [kind, a, b, c] = bytes;
    let kind = match kind {
        0 => Kind::Data,
        1 => Kind::Trailers,
        other => Kind::Unknown(other),
    };
    (kind, u32::from_be_bytes([0, a, b, c]) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_header_survives_the_wire() {
        for kind in [Kind::Data, Kind::Trailers, Kind::Unknown(9)] {
            for len in [0, 1, 255, 65_536, MAX_PAYLOAD] {
                assert_eq!(parse_header(header(kind, len)), (kind, len));
            }
        }
    }
}
