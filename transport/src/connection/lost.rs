use quinn::ConnectionError;
use starling_proto::ErrorCode;

/// Why a connection is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Nothing came for the idle timeout.
    #[error("nothing was heard for the idle timeout")]
    TimedOut,
    /// The peer does not know the connection: it restarted.
    #[error("the peer restarted")]
    Restarted,
    /// The peer closed it.
    #[error("closed by the peer{}{reason}", if .reason.is_empty() { "" } else { ": " })]
    Closed {
        /// Its reason, if it gave one that we know.
        code: Option<ErrorCode>,
        /// In its words; may be empty.
        reason: String,
    },
    /// This node closed it.
    #[error("closed here")]
    Here,
    /// QUIC or TLS failed.
    #[error("{0}")]
    Protocol(String),
}

impl From<ConnectionError> for Lost {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::LocallyClosed => Self::Here,
            ConnectionError::ApplicationClosed(close) => Self::Closed {
                code: ErrorCode::from_number(close.error_code.into_inner()),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::ConnectionClosed(close) => {
                Self::Closed { code: None, reason: String::from_utf8_lossy(&close.reason).into_owned() }
            }
            other => Self::Protocol(other.to_string()),
        }
    }
}
