//! What to do with one request: which endpoint gets it, how long it may take, and whether it is tried again.
//!
//! Pure: no sockets, no clock, no randomness of its own. `now` and a generator are passed in, so that a run can be
//! replayed from its seed. The generator is any [`rand::Rng`]; a shard owns one small one (such as
//! `rand::rngs::SmallRng`), since it needs speed and no secrecy.
//!
//! The path of a request:
//! 1. [`Deadline`] says until when, [`Clusters`] gives the [`Cluster`] of the service, whose [`RetryBudget`] counts the
//!    request
//! 2. [`Cluster::pick`] chooses an endpoint (P2C over peak EWMA, ejected and silent ones left out) and gives a
//!    [`Pick`], which counts the request as in flight while it lives
//! 3. what became of it goes back by [`Pick::on_outcome`]
//! 4. after a failure, [`Tries::on_failure`] gives a [`Verdict`]: again, where and when, or the reason why not
//!
//! Everything that shards share ([`EndpointStats`], [`RetryBudget`]) is plain atomics; what is chosen from
//! ([`Clusters`]) is immutable and replaced as a whole when the services change.

mod balance;
mod budget;
mod cluster;
mod clusters;
mod deadline;
mod ejection;
mod latency;
mod method;
mod outcome;
mod pick;
mod retry;
mod stats;
#[cfg(test)]
mod testing;
mod timeline;
mod timeout;
mod tries;

pub use budget::{RETRIES_PER_SECOND, RETRY_SHARE, RetryBudget};
pub use cluster::{Cluster, Entry};
pub use clusters::Clusters;
pub use deadline::{CONNECT_TIMEOUT, CONNECT_WAIT, DEFAULT_DEADLINE, Deadline, TRY_TIMEOUT_MAX};
pub use ejection::{EJECTION_MAX, EJECTION_MIN, FAILURES_TO_EJECT};
pub use latency::{PENALTY_LASTS, PENALTY_MAX, PENALTY_MIN, TAU};
pub use method::is_idempotent;
pub use outcome::Outcome;
pub use pick::{Pick, PickError};
pub use retry::{ATTEMPTS_MAX, Attempt, BACKOFF_MAX, BACKOFF_MIN, GiveUp, RetryPolicy, Verdict};
pub use stats::{EndpointStats, StatsSnapshot};
pub use timeline::Timeline;
pub use timeout::{TimeoutError, parse_grpc_timeout, parse_timeout};
pub use tries::{Failure, Tries};
