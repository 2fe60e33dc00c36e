use std::io;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::LocalError;
use crate::inbound::application::{Application, Names};
use crate::wire::Wire;

/// A connection to a local application. Nobody looks at an idle one until it is asked for.
#[derive(Debug)]
pub(super) struct LocalConnection {
    pub(super) wire: Wire,
    /// Read, and not yet understood.
    pub(super) read: BytesMut,
}

impl LocalConnection {
    /// A connection to the application.
    ///
    /// # Errors
    /// If it accepts none in time.
    pub(super) async fn open(application: &Application, names: &Names) -> Result<Self, LocalError> {
        Ok(Self { wire: application.connect(names).await?, read: BytesMut::new() })
    }

    /// Reads more; 0 if the application sends no more.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.wire.poll_fill(cx, &mut self.read)
    }

    /// Can a request be sent on it? Not if the application closed it, or said something that nobody asked.
    pub(super) fn is_ready(&self) -> bool {
        self.read.is_empty() && self.wire.is_quiet()
    }
}
