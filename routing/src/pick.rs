use std::sync::Arc;
use std::time::Instant;

use starling_proto::{Endpoint, ErrorCode};

use crate::{Entry, Outcome, Timeline};

/// The endpoint that was chosen for one try. While it lives, the request counts as in flight there.
///
/// Dropped without an outcome it says nothing of the endpoint: a try that was cut must say
/// [`Cancelled`](ErrorCode::Cancelled) or what else happened.
#[derive(Debug)]
#[must_use = "the request counts as in flight only while this lives"]
pub struct Pick {
    entry: Entry,
    timeline: Timeline,
    started: u64,
    jitter: u16,
    answered: bool,
}

/// Why no endpoint could be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// The service has no endpoint now.
    #[error("the service has no endpoint now")]
    Empty,
    /// It has only those that this request has tried.
    #[error("every endpoint of the service was tried")]
    AllTried,
}

impl PickError {
    /// The word for it.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        ErrorCode::NoEndpoint
    }
}

impl Pick {
    pub(crate) fn new(entry: Entry, timeline: Timeline, started: u64, jitter: u16) -> Self {
        entry.stats().begin();
        Self { entry, timeline, started, jitter, answered: false }
    }

    /// Where the request goes.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        self.entry.endpoint()
    }

    /// What became of the request, at the head of the answer or at its failure: the time since the choice is the
    /// latency. What fails after that (in the body) may be said too, and counts as a failure only.
    pub fn on_outcome(&mut self, outcome: Outcome, now: Instant) {
        let now = self.timeline.nanos(now);
        self.entry.stats().on_outcome(outcome, self.answered, self.started, now, self.jitter);
        self.answered |= outcome == Outcome::Served;
    }

    /// The last that is to be said of it.
    pub fn finish(mut self, outcome: Outcome, now: Instant) {
        self.on_outcome(outcome, now);
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.entry.stats().end();
    }
}
