use starling_proto::ErrorCode;
use starling_proto::error_code::Processed;

use super::Malformed;
use crate::Lost;

/// Why a stream ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer gave up on it and said why.
    #[error("reset by the peer: {0}")]
    Reset(ErrorCode),
    /// The connection below it is gone.
    #[error("connection lost: {0}")]
    ConnectionLost(#[from] Lost),
    /// The peer's bytes are no hop stream.
    #[error("the peer broke the hop's format: {0}")]
    Malformed(#[from] Malformed),
    /// This half was finished, reset or stopped here before.
    #[error("this half of the stream is closed")]
    Closed,
}

impl StreamError {
    /// What the user sees.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Reset(code) => *code,
            Self::ConnectionLost(_) => ErrorCode::ConnectionLost,
            Self::Malformed(_) => ErrorCode::HopProtocol,
            Self::Closed => ErrorCode::Internal,
        }
    }

    /// May the request have reached the far application? Given that its head was sent.
    #[must_use]
    pub const fn processed(&self) -> Processed {
        self.code().processed()
    }
}
