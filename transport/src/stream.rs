//! One request on a connection: two halves, each one direction. Heads and frames are described in
//! `starling_proto::frame`; raw bytes serve opaque TCP.

mod decoder;
mod error;
mod recv;
mod send;

pub use self::decoder::{Frame, Malformed};
pub use self::error::StreamError;
pub use self::recv::RecvHalf;
pub use self::send::{SendHalf, Sent};

use starling_proto::ErrorCode;

/// What a peer meant by the number it reset a stream with.
pub(crate) fn code(number: u64) -> ErrorCode {
    match number {
        // A stream that is dropped without a word.
        0 => ErrorCode::Cancelled,
        other => ErrorCode::from_number(other).unwrap_or(ErrorCode::HopProtocol),
    }
}
