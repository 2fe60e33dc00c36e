use proptest::prelude::*;

use super::*;
use crate::Timeline;
use crate::testing::{epoch, rng};

/// An idempotent first try of three endpoints that failed by silence.
const TRY: Attempt = Attempt {
    number: 0,
    error: ErrorCode::ConnectionSilent,
    idempotent: true,
    replayable: true,
    elsewhere: true,
    endpoints: 3,
    pause: Duration::ZERO,
    left: Duration::from_secs(10),
};

/// The same, provably not processed, and not idempotent.
const UNPROCESSED: Attempt = Attempt { error: ErrorCode::ConnectFailed, idempotent: false, ..TRY };

#[derive(Debug, PartialEq)]
enum Expect {
    AtOnce,
    AfterPause,
    Same,
    Not(GiveUp),
}

fn judge(policy: RetryPolicy, attempt: &Attempt) -> Expect {
    let now = epoch();
    let budget = RetryBudget::new(Timeline::starting(now));
    match policy.verdict(attempt, &budget, &mut rng(1), now) {
        Verdict::Retry { after: Duration::ZERO, elsewhere: true } => Expect::AtOnce,
        Verdict::Retry { elsewhere: true, .. } => Expect::AfterPause,
        Verdict::Retry { .. } => Expect::Same,
        Verdict::GiveUp(why) => Expect::Not(why),
    }
}

#[test]
fn each_kind_of_try_is_judged_as_the_table_says() {
    use Expect::{AfterPause, AtOnce, Not, Same};
    let one = RetryPolicy::default();
    let (never, two) = (RetryPolicy::with_retries(0), RetryPolicy::with_retries(2));
    for (name, policy, attempt, expected) in [
        ("idempotent", one, TRY, AtOnce),
        ("idempotent, second", one, Attempt { number: 1, ..TRY }, Not(GiveUp::AttemptsSpent)),
        ("idempotent, second of two", two, Attempt { number: 1, ..TRY }, AfterPause),
        ("idempotent, third of two", two, Attempt { number: 2, ..TRY }, Not(GiveUp::AttemptsSpent)),
        ("idempotent, nowhere else", one, Attempt { elsewhere: false, ..TRY }, Not(GiveUp::NowhereElse)),
        (
            "idempotent, nowhere else, its connection lost",
            one,
            Attempt { elsewhere: false, error: ErrorCode::ConnectionLost, ..TRY },
            Same,
        ),
        ("idempotent, body gone", one, Attempt { replayable: false, ..TRY }, Not(GiveUp::BodyGone)),
        ("idempotent, no time", one, Attempt { left: Duration::ZERO, ..TRY }, Not(GiveUp::NoTime)),
        ("idempotent, no retries", never, TRY, Not(GiveUp::AttemptsSpent)),
        ("other method", one, Attempt { idempotent: false, ..TRY }, Not(GiveUp::MaybeProcessed)),
        ("unprocessed", one, UNPROCESSED, AtOnce),
        ("unprocessed, second", one, Attempt { number: 1, ..UNPROCESSED }, AfterPause),
        ("unprocessed, third", one, Attempt { number: 2, ..UNPROCESSED }, Not(GiveUp::AttemptsSpent)),
        ("unprocessed, second of 2", one, Attempt { number: 1, endpoints: 2, elsewhere: false, ..UNPROCESSED }, Same),
        (
            "unprocessed, second of 1",
            one,
            Attempt { number: 1, endpoints: 1, elsewhere: false, ..UNPROCESSED },
            Not(GiveUp::AttemptsSpent),
        ),
        ("unprocessed, only one", one, Attempt { elsewhere: false, endpoints: 1, ..UNPROCESSED }, Same),
        ("unprocessed, body gone", one, Attempt { replayable: false, ..UNPROCESSED }, Not(GiveUp::BodyGone)),
        ("unprocessed, no retries", never, UNPROCESSED, Not(GiveUp::AttemptsSpent)),
        (
            "pause longer than what is left",
            one,
            Attempt { number: 1, left: Duration::from_millis(20), ..UNPROCESSED },
            Not(GiveUp::NoTime),
        ),
    ] {
        assert_eq!(judge(policy, &attempt), expected, "{name}");
    }
}

#[test]
fn each_error_is_retried_as_the_table_says() {
    use ErrorCode as E;
    for error in ErrorCode::ALL {
        let idempotent = judge(RetryPolicy::default(), &Attempt { error: *error, ..TRY });
        let other = judge(RetryPolicy::default(), &Attempt { error: *error, idempotent: false, ..TRY });
        let expected = match error {
            E::BadRequest
            | E::HeaderTooLarge
            | E::NotAMeshName
            | E::NoRoute
            | E::NoSuchService
            | E::NoEndpoint
            | E::Refused
            | E::Deadline
            | E::Cancelled => [Expect::Not(GiveUp::Final), Expect::Not(GiveUp::Final)],
            E::ConnectFailed
            | E::ConnectTimeout
            | E::NotServedHere
            | E::UpstreamConnect
            | E::UpstreamRefused
            | E::Draining
            | E::Overloaded => [Expect::AtOnce, Expect::AtOnce],
            _ => [Expect::AtOnce, Expect::Not(GiveUp::MaybeProcessed)],
        };
        assert_eq!([idempotent, other], expected, "{error}");
    }
}

#[test]
fn a_retry_is_charged_only_when_it_is_made() {
    let now = epoch();
    let budget = RetryBudget::new(Timeline::starting(now));
    let judge = |attempt| RetryPolicy::default().verdict(&attempt, &budget, &mut rng(1), now);
    for left in (0..10).rev() {
        _ = judge(Attempt { idempotent: false, ..TRY });
        _ = judge(Attempt { left: Duration::ZERO, ..TRY });
        assert!(matches!(judge(TRY), Verdict::Retry { .. }));
        assert_eq!(budget.remaining(now), left);
    }
    assert_eq!(judge(TRY), Verdict::GiveUp(GiveUp::BudgetSpent));
}

#[test]
fn a_caller_says_how_many_retries_it_wants_within_reason() {
    for (value, policy) in [
        ("0", Some(RetryPolicy { retries: 0 })),
        ("1", Some(RetryPolicy { retries: 1 })),
        ("9", Some(RetryPolicy { retries: 2 })),
        ("", None),
        ("10", None),
        ("-1", None),
        ("x", None),
    ] {
        assert_eq!(RetryPolicy::parse(value.as_bytes()), policy, "'{value}'");
    }
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let numbers = (0u32..5, 0..ErrorCode::ALL.len(), 0usize..6, 0u64..1_000, 0u64..20_000);
    (flags, numbers).prop_map(|((idempotent, replayable, elsewhere), (number, error, endpoints, pause, left))| {
        Attempt {
            number,
            error: ErrorCode::ALL[error],
            idempotent,
            replayable,
            elsewhere,
            endpoints,
            pause: Duration::from_millis(pause),
            left: Duration::from_millis(left),
        }
    })
}

proptest! {
    #[test]
    fn what_may_have_been_processed_is_never_sent_twice_unless_it_is_idempotent(attempt in any_attempt(), retries in 0u32..9) {
        let attempt = Attempt { idempotent: false, ..attempt };
        let retried = !matches!(judge(RetryPolicy::with_retries(retries), &attempt), Expect::Not(_));
        prop_assert!(!retried || attempt.error.processed() == Processed::No);
    }

    #[test]
    fn a_retry_begins_before_the_deadline_and_there_are_never_more_than_three_tries(attempt in any_attempt(), retries in 0u32..9, seed: u64) {
        let now = epoch();
        let budget = RetryBudget::new(Timeline::starting(now));
        let verdict = RetryPolicy::with_retries(retries).verdict(&attempt, &budget, &mut rng(seed), now);
        if let Verdict::Retry { after, elsewhere } = verdict {
            prop_assert!(after < attempt.left);
            prop_assert!(after.is_zero() || (BACKOFF_MIN..=BACKOFF_MAX).contains(&after));
            prop_assert!(attempt.number + 2 <= ATTEMPTS_MAX);
            prop_assert!(attempt.replayable && retries > 0);
            let may_be_same = attempt.error.processed() == Processed::No || attempt.error == ErrorCode::ConnectionLost;
            prop_assert!(elsewhere || may_be_same);
            prop_assert_eq!(budget.remaining(now), 9);
        } else {
            prop_assert_eq!(budget.remaining(now), 10);
        }
    }
}
