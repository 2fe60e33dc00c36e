use std::time::{Duration, Instant};

use rand::Rng;
use starling_proto::ErrorCode;
use starling_proto::error_code::Processed;

use crate::RetryBudget;

/// Tries of one request in all, whatever else allows more.
pub const ATTEMPTS_MAX: u32 = 3;
/// The shortest pause before a try that has to wait.
pub const BACKOFF_MIN: Duration = Duration::from_millis(25);
/// The longest.
pub const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// How often a failed request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    retries: u32,
}

/// One try that failed, before any of its answer was passed on.
#[derive(Debug, Clone, Copy)]
// Each is one fact of the try, and none excludes another.
#[allow(clippy::struct_excessive_bools)]
pub struct Attempt {
    /// 0 for the first.
    pub number: u32,
    /// How it failed.
    pub error: ErrorCode,
    /// May the request be processed twice ([`is_idempotent`](crate::is_idempotent))?
    pub idempotent: bool,
    /// Can its body be sent again: is all that was sent of it still here?
    pub replayable: bool,
    /// Is there an endpoint that this request has not tried?
    pub elsewhere: bool,
    /// Endpoints of the service.
    pub endpoints: usize,
    /// The pause before this try; zero if there was none.
    pub pause: Duration,
    /// Time left until the deadline.
    pub left: Duration,
}

/// What to do about a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it again; the budget is charged.
    Retry {
        /// After this long; zero: at once.
        after: Duration,
        /// To another endpoint; otherwise to the same, there being no other.
        elsewhere: bool,
    },
    /// The caller gets the error.
    GiveUp(GiveUp),
}

/// Why a failed request is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GiveUp {
    /// Every endpoint would answer the same, or nobody waits for the answer.
    #[error("another try would end the same")]
    Final,
    /// It may have been processed, and its method is not idempotent.
    #[error("the request may have been processed, and its method is not idempotent")]
    MaybeProcessed,
    /// Its body was not kept whole.
    #[error("the request's body was too large to be kept")]
    BodyGone,
    /// As many tries as the policy allows were made.
    #[error("all tries are spent")]
    AttemptsSpent,
    /// No other endpoint is left, and this one may be processing it still.
    #[error("there is no other endpoint")]
    NowhereElse,
    /// It would come after the deadline.
    #[error("no time is left")]
    NoTime,
    /// Too many retries of late.
    #[error("the retry budget is spent")]
    BudgetSpent,
}

impl Default for RetryPolicy {
    /// One retry.
    fn default() -> Self {
        Self { retries: 1 }
    }
}

impl RetryPolicy {
    /// As many retries as a caller asks for (`starling-retries`), up to [`ATTEMPTS_MAX`] - 1. With 0 nothing is ever
    /// sent again.
    #[must_use]
    pub fn with_retries(retries: u32) -> Self {
        Self { retries: retries.min(ATTEMPTS_MAX - 1) }
    }

    /// Reads the value of a `starling-retries` header: one digit. `None` if it is none.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        match value {
            [digit @ b'0'..=b'9'] => Some(Self::with_retries(u32::from(digit - b'0'))),
            _ => None,
        }
    }

    /// May anything be sent again at all? If not, no body need be kept.
    #[must_use]
    pub const fn allows_retries(self) -> bool {
        self.retries > 0
    }

    /// Is a failed try made again? Its safety is judged first, and the budget is charged last, if all else allows it.
    ///
    /// - A request is sent again if it was provably not processed ([`ErrorCode::processed`]), or if it is idempotent.
    /// - As often as the policy says; if provably not processed and there are several endpoints, up to [`ATTEMPTS_MAX`] times: the one
    ///   that was slow before may be the only one that serves.
    /// - To another endpoint. If there is none, to the same, if it was provably not processed, or if nothing but the
    ///   connection failed: the next one may take another path.
    /// - At once for the first retry elsewhere; later ones after a pause with decorrelated jitter.
    #[must_use]
    pub fn verdict(self, attempt: &Attempt, budget: &RetryBudget, rng: &mut impl Rng, now: Instant) -> Verdict {
        if let Some(why) = self.objection(attempt) {
            return Verdict::GiveUp(why);
        }
        let first = attempt.number == 0;
        let after = if first && attempt.elsewhere { Duration::ZERO } else { backoff(attempt.pause, rng) };
        if after >= attempt.left {
            return Verdict::GiveUp(GiveUp::NoTime);
        }
        if !budget.withdraw(now) {
            return Verdict::GiveUp(GiveUp::BudgetSpent);
        }
        Verdict::Retry { after, elsewhere: attempt.elsewhere }
    }

    /// What forbids it, before time and budget are asked.
    fn objection(self, attempt: &Attempt) -> Option<GiveUp> {
        let unprocessed = attempt.error.processed() == Processed::No;
        if is_final(attempt.error) {
            Some(GiveUp::Final)
        } else if !unprocessed && !attempt.idempotent {
            Some(GiveUp::MaybeProcessed)
        } else if !attempt.replayable {
            Some(GiveUp::BodyGone)
        } else if attempt.number + 1 >= self.attempts(unprocessed, attempt.endpoints) {
            Some(GiveUp::AttemptsSpent)
        } else if !unprocessed && !attempt.elsewhere && attempt.error != ErrorCode::ConnectionLost {
            Some(GiveUp::NowhereElse)
        } else {
            None
        }
    }

    /// Tries in all.
    fn attempts(self, unprocessed: bool, endpoints: usize) -> u32 {
        if unprocessed && self.allows_retries() && endpoints > 1 { ATTEMPTS_MAX } else { 1 + self.retries }
    }
}

/// Would every endpoint answer so, or has the caller stopped waiting?
const fn is_final(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::BadRequest
            | ErrorCode::HeaderTooLarge
            | ErrorCode::NotAMeshName
            | ErrorCode::NoRoute
            | ErrorCode::NoSuchService
            | ErrorCode::NoEndpoint
            | ErrorCode::Refused
            | ErrorCode::Deadline
            | ErrorCode::Cancelled
    )
}

/// Decorrelated jitter: evenly between [`BACKOFF_MIN`] and three times the pause before, at most [`BACKOFF_MAX`].
/// (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015.)
fn backoff(before: Duration, rng: &mut impl Rng) -> Duration {
    let ceiling = (before * 3).clamp(BACKOFF_MIN * 3, BACKOFF_MAX);
    let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
    BACKOFF_MIN + ceiling.saturating_sub(BACKOFF_MIN).mul_f64(share)
}

#[cfg(test)]
mod tests;
