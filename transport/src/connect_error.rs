use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use starling_proto::{ErrorCode, SpiffeId};

use crate::refusal::RefusedCertificate;
use crate::tls::RefusedPeer;

/// Why no connection was made. Nothing was sent to any application in any of these cases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No answer in time: the host is down or cut off, or nothing listens there.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The peer's certificate is not good enough for us.
    #[error("the peer's certificate is refused: {0}")]
    Untrusted(RefusedCertificate),
    /// Somebody else of this mesh answers there.
    #[error("'{found}' answers there, not '{expected}'")]
    WrongPeer {
        /// Who was dialed.
        expected: SpiffeId,
        /// Who answered.
        found: SpiffeId,
    },
    /// The peer refused us, in its words: most often our certificate.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The peer takes no new connections now: it drains, or is full.
    #[error("the peer takes no new connections now")]
    Busy,
    /// The handshake failed otherwise.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// The address cannot be dialed from here.
    #[error("cannot dial {address}: {reason}")]
    Address {
        /// What was dialed.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// The dialer is closed.
    #[error("this node stops")]
    Closed,
}

impl ConnectError {
    /// What the user sees.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Timeout(_) => ErrorCode::ConnectTimeout,
            _ => ErrorCode::ConnectFailed,
        }
    }

    pub(crate) fn refused(refused: RefusedPeer) -> Self {
        match refused {
            RefusedPeer::Certificate(refused) => Self::Untrusted(refused),
            RefusedPeer::Name { expected, found } => Self::WrongPeer { expected, found },
        }
    }

    pub(crate) fn at_start(error: quinn::ConnectError, address: SocketAddr) -> Self {
        match error {
            quinn::ConnectError::EndpointStopping => Self::Closed,
            other => Self::Address { address, reason: other.to_string() },
        }
    }

    pub(crate) fn in_handshake(error: quinn::ConnectionError, timeout: Duration) -> Self {
        use quinn::ConnectionError;
        match error {
            ConnectionError::TimedOut => Self::Timeout(timeout),
            ConnectionError::ConnectionClosed(close) => {
                if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED {
                    return Self::Busy;
                }
                let words = String::from_utf8_lossy(&close.reason).into_owned();
                Self::Refused(if words.is_empty() { close.error_code.to_string() } else { words })
            }
            ConnectionError::ApplicationClosed(close) => {
                Self::Refused(String::from_utf8_lossy(&close.reason).into_owned())
            }
            ConnectionError::LocallyClosed => Self::Closed,
            other => Self::Handshake(other.to_string()),
        }
    }
}

/// A dialer could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind UDP {address} to dial from: {source}")]
pub struct DialerError {
    pub(crate) address: SocketAddr,
    pub(crate) source: io::Error,
}
