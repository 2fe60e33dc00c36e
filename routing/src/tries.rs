use std::time::{Duration, Instant};

use rand::Rng;
use starling_proto::{EndpointKey, ErrorCode};

use crate::{Attempt, Cluster, Deadline, RetryPolicy, Verdict};

/// The tries of one request: what was tried, and what comes next. Costs nothing until a try fails.
#[derive(Debug)]
pub struct Tries {
    policy: RetryPolicy,
    number: u32,
    pause: Duration,
    tried: Vec<EndpointKey>,
}

/// A try that failed, before any of its answer was passed on.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// Where it went.
    pub endpoint: &'a EndpointKey,
    /// How it failed.
    pub error: ErrorCode,
    /// May the request be processed twice ([`is_idempotent`](crate::is_idempotent))?
    pub idempotent: bool,
    /// Can its body be sent again: is all that was sent of it still here?
    pub replayable: bool,
}

impl Tries {
    /// Before the first try.
    #[must_use]
    pub const fn new(policy: RetryPolicy) -> Self {
        Self { policy, number: 0, pause: Duration::ZERO, tried: Vec::new() }
    }

    /// Which try this is; 0 is the first.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The endpoints that must not be chosen again: what [`Cluster::pick`] excludes.
    #[must_use]
    pub fn exclude(&self) -> &[EndpointKey] {
        &self.tried
    }

    /// If the try at `endpoint` fails unprocessed, is there another to go to? Says how long to wait for a connection
    /// ([`Deadline::connect_wait`]).
    #[must_use]
    pub fn has_elsewhere(&self, endpoint: &EndpointKey, cluster: &Cluster) -> bool {
        self.policy.allows_retries()
            && self.number + 1 < crate::ATTEMPTS_MAX
            && cluster.entries().iter().any(|entry| {
                let key = &entry.endpoint().key;
                key != endpoint && !self.tried.contains(key)
            })
    }

    /// A try failed: what now? On [`Verdict::Retry`] the retry is counted, and the next [`Cluster::pick`] goes
    /// elsewhere: to one that was not tried, or to any but the one that failed last, or to the same endpoint when there is no other. On [`Verdict::GiveUp`] nothing changed: after
    /// [`TryTimeout`](ErrorCode::TryTimeout) the try may go on, and be asked about again.
    #[must_use]
    pub fn on_failure(
        &mut self,
        failure: Failure<'_>,
        cluster: &Cluster,
        deadline: Deadline,
        rng: &mut impl Rng,
        now: Instant,
    ) -> Verdict {
        let attempt = Attempt {
            number: self.number,
            error: failure.error,
            idempotent: failure.idempotent,
            replayable: failure.replayable,
            elsewhere: self.has_elsewhere(failure.endpoint, cluster),
            endpoints: cluster.len(),
            pause: self.pause,
            left: deadline.left(now),
        };
        let verdict = self.policy.verdict(&attempt, cluster.budget(), rng, now);
        if let Verdict::Retry { after, elsewhere } = verdict {
            self.number += 1;
            self.pause = after;
            if !elsewhere {
                self.tried.clear();
            }
            // Where all were tried, one that was slow a moment ago is better than the one that has just refused.
            if elsewhere || cluster.len() > 1 {
                self.tried.push(failure.endpoint.clone());
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, epoch, rng};
    use crate::{BACKOFF_MAX, BACKOFF_MIN, GiveUp, Outcome};

    fn fail(tries: &mut Tries, cluster: &Cluster, error: ErrorCode, now: Instant) -> (Verdict, EndpointKey) {
        let pick = cluster.pick(tries.exclude(), |_| false, &mut rng(7), now).unwrap();
        let key = pick.endpoint().key.clone();
        let failure = Failure { endpoint: &key, error, idempotent: true, replayable: true };
        let verdict = tries.on_failure(failure, cluster, Deadline::default_at(now), &mut rng(9), now);
        pick.finish(Outcome::of_error(error), now);
        (verdict, key)
    }

    #[test]
    fn a_request_to_a_silent_host_is_sent_elsewhere_at_once() {
        let now = epoch();
        let cluster = cluster(3, now);
        let mut tries = Tries::new(RetryPolicy::default());
        let (verdict, silent) = fail(&mut tries, &cluster, ErrorCode::ConnectionSilent, now);
        assert_eq!(verdict, Verdict::Retry { after: Duration::ZERO, elsewhere: true });
        assert_eq!((tries.number(), tries.exclude()), (1, &[silent][..]));
        let (verdict, _) = fail(&mut tries, &cluster, ErrorCode::ConnectionSilent, now);
        assert_eq!(verdict, Verdict::GiveUp(GiveUp::AttemptsSpent));
    }

    #[test]
    fn an_unprocessed_request_visits_three_endpoints_each_once_and_waits_before_the_third() {
        let now = epoch();
        let cluster = cluster(5, now);
        let mut tries = Tries::new(RetryPolicy::default());
        let (first, a) = fail(&mut tries, &cluster, ErrorCode::ConnectFailed, now);
        let (second, b) = fail(&mut tries, &cluster, ErrorCode::ConnectFailed, now);
        let (third, c) = fail(&mut tries, &cluster, ErrorCode::ConnectFailed, now);
        assert_eq!(first, Verdict::Retry { after: Duration::ZERO, elsewhere: true });
        assert!(
            matches!(second, Verdict::Retry { after, elsewhere: true } if (BACKOFF_MIN..=BACKOFF_MAX).contains(&after))
        );
        assert_eq!(third, Verdict::GiveUp(GiveUp::AttemptsSpent));
        assert!(a != b && b != c && a != c);
    }

    #[test]
    fn the_only_endpoint_is_asked_again_after_a_pause_if_it_did_nothing() {
        let now = epoch();
        let cluster = cluster(1, now);
        let mut tries = Tries::new(RetryPolicy::default());
        let (verdict, _) = fail(&mut tries, &cluster, ErrorCode::UpstreamConnect, now);
        assert!(matches!(verdict, Verdict::Retry { after, elsewhere: false } if after >= BACKOFF_MIN));
        assert!(tries.exclude().is_empty(), "it must be possible to choose it again");
        let mut tries = Tries::new(RetryPolicy::default());
        let (verdict, _) = fail(&mut tries, &cluster, ErrorCode::ConnectionLost, now);
        assert!(matches!(verdict, Verdict::Retry { elsewhere: false, .. }), "another connection may serve");
        let mut tries = Tries::new(RetryPolicy::default());
        let (verdict, _) = fail(&mut tries, &cluster, ErrorCode::ConnectionSilent, now);
        assert_eq!(verdict, Verdict::GiveUp(GiveUp::NowhereElse));
    }

    #[test]
    fn when_all_were_tried_the_last_one_that_failed_is_not_asked_again() {
        let now = epoch();
        let cluster = cluster(2, now);
        let mut tries = Tries::new(RetryPolicy::default());
        let (verdict, slow) = fail(&mut tries, &cluster, ErrorCode::TryTimeout, now);
        assert_eq!(verdict, Verdict::Retry { after: Duration::ZERO, elsewhere: true });
        let (verdict, dead) = fail(&mut tries, &cluster, ErrorCode::UpstreamConnect, now);
        assert!(matches!(verdict, Verdict::Retry { elsewhere: false, .. }), "{verdict:?}");
        assert_ne!(slow, dead);
        assert_eq!(tries.exclude(), [dead], "the slow one may answer now");
    }

    #[test]
    fn giving_up_leaves_the_tries_as_they_were() {
        let now = epoch();
        let cluster = cluster(1, now);
        let mut tries = Tries::new(RetryPolicy::default());
        let (verdict, _) = fail(&mut tries, &cluster, ErrorCode::TryTimeout, now);
        assert_eq!(verdict, Verdict::GiveUp(GiveUp::NowhereElse));
        assert_eq!((tries.number(), tries.exclude().len()), (0, 0));
        assert_eq!(cluster.budget().remaining(now), 10);
    }

    #[test]
    fn a_connection_is_waited_for_briefly_only_while_another_try_is_possible() {
        let now = epoch();
        let [one, two] = [1, 2].map(|n| cluster(n, now));
        let key = one.entries()[0].endpoint().key.clone();
        assert!(!Tries::new(RetryPolicy::default()).has_elsewhere(&key, &one));
        assert!(Tries::new(RetryPolicy::default()).has_elsewhere(&key, &two));
        assert!(!Tries::new(RetryPolicy::with_retries(0)).has_elsewhere(&key, &two));
    }
}
