//! HTTP/1.1 with local applications, as a client (RFC 9112). It is written for what a node does: a request's head goes from
//! the hop to the application and an answer's head back without becoming a map of fields in between, no task and no
//! buffer belongs to a connection. What it costs beside the library is in `docs/performance.md`.

use std::io;

use starling_proto::ErrorCode;

use crate::failure::Failure;
use crate::http1::BadFraming;

mod answer_head;
mod connection;
mod exchange;
mod pool;
mod request_head;
mod upload;

pub(crate) use answer_head::AnswerHead;
pub(crate) use exchange::{Asked, Exchange, ExchangeError};
pub(crate) use pool::LocalPool;
pub(crate) use request_head::RequestHead;
pub(crate) use upload::Upload;

/// An answer that is no HTTP/1.1, or more than an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAnswer {
    /// Its head cannot be read.
    #[error("its answer is not HTTP/1.1: {0}")]
    Head(httparse::Error),
    /// Its head is too long, in bytes.
    #[error("its answer's head has over {0} bytes")]
    HeadSize(usize),
    /// It switched to another protocol, which nobody asked for.
    #[error("it switches protocols unasked")]
    Switched,
    /// Several lengths that differ, or one that is no number.
    #[error("its answer's Content-Length is ambiguous or not a number")]
    Length,
    /// The connection ended within its head.
    #[error("its answer was cut off")]
    Cut,
    /// Its body.
    #[error("its answer: {0}")]
    Body(#[from] BadFraming),
}

/// Why a local application gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// It accepted no connection: the request was not processed.
    #[error("{application} accepted no connection: {source}")]
    Connect {
        /// Where it is.
        application: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The request may have been processed, but no complete answer came.
    #[error("{application}: {source}")]
    Exchange {
        /// Where it is.
        application: String,
        /// What went wrong.
        source: ExchangeError,
    },
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        let code = match &error {
            LocalError::Connect { .. } => ErrorCode::UpstreamConnect,
            LocalError::Exchange { source, .. } => source.code(),
        };
        Self::new(code, error.to_string())
    }
}
