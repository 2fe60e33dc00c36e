use std::fmt;

use starling_proto::ErrorCode;
use starling_transport::{ConnectError, Lost, StreamError};

use crate::relay::RelayError;

/// What went wrong with a request: the word that users see, and words for a human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// What the far node said in place of an answer.
    pub(crate) fn told(word: &str, detail: String) -> Self {
        Self { code: ErrorCode::from_word(word).unwrap_or(ErrorCode::HopProtocol), detail }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<RelayError> for Failure {
    fn from(error: RelayError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<Lost> for Failure {
    /// The connection was gone before a stream could be opened: nothing was sent.
    fn from(error: Lost) -> Self {
        Self::new(ErrorCode::ConnectFailed, error.to_string())
    }
}

impl From<&ConnectError> for Failure {
    fn from(error: &ConnectError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
