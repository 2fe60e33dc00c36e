use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::timeline::nanos;

/// Time constant of the latency estimate: what was seen this long ago weighs 1/e.
pub const TAU: Duration = Duration::from_secs(10);
/// The least that a failure counts as.
pub const PENALTY_MIN: Duration = Duration::from_millis(10);
/// The most that a failure counts as.
pub const PENALTY_MAX: Duration = Duration::from_secs(5);
/// How long a failure counts: then the endpoint is unknown, and worth one request. Under little load nothing else would
/// show that it works again, and it should not wait longer after one failure than after the five that eject it
/// ([`EJECTION_MIN`](crate::EJECTION_MIN)).
pub const PENALTY_LASTS: Duration = Duration::from_secs(1);
/// A failure counts as this many times the estimate, so that failures in a row outgrow any latency of a healthy one.
const PENALTY_FACTOR: f64 = 4.0;
/// What an endpoint costs that has a first request under way and has not answered yet: more than a healthy one, so that
/// it gets one request, not all of them.
const UNPROVEN: f64 = 1e9;

const TAU_NANOS: f64 = 10e9;

/// An endpoint's latency: a peak-sensitive, exponentially weighted moving average (as in Finagle's `PeakEwma`).
///
/// It jumps up at once and comes down slowly. A sample that is [`TAU`] old, or a failure that is [`PENALTY_LASTS`] old,
/// says nothing any more: the endpoint is unknown again and worth a try.
///
/// Three atomics without a lock: of two shards that report at the same moment one sample may be lost, and a value may be
/// paired with the other's time, microseconds off. An average bears both.
#[derive(Debug, Default)]
pub(crate) struct PeakEwma {
    /// Nanoseconds.
    estimate: AtomicU64,
    /// When it was last fed, on the timeline.
    fed_at: AtomicU64,
    /// When it says nothing any more; 0: it never did.
    until: AtomicU64,
}

impl PeakEwma {
    /// The estimate as of `now`, in nanoseconds, drifting down while nothing feeds it; `None`: unknown.
    pub(crate) fn at(&self, now: u64) -> Option<f64> {
        self.fresh(now).map(|(estimate, age)| estimate * (-float(age) / TAU_NANOS).exp())
    }

    /// What one more request would cost, in nanoseconds: (`in_flight` + 1) x latency. An unknown endpoint costs nothing
    /// until its first request is under way.
    pub(crate) fn cost(&self, in_flight: u32, now: u64) -> f64 {
        let queue = f64::from(in_flight) + 1.0;
        match self.at(now) {
            Some(latency) => latency * queue,
            None if in_flight == 0 => 0.0,
            None => UNPROVEN * queue,
        }
    }

    /// A request was answered after `sample` nanoseconds.
    pub(crate) fn on_answer(&self, sample: u64, now: u64) {
        let known = self.fresh(now);
        let next = match known {
            Some((estimate, age)) if float(sample) < estimate => {
                let weight = (-float(age) / TAU_NANOS).exp();
                estimate * weight + float(sample) * (1.0 - weight)
            }
            _ => float(sample),
        };
        // An answer that comes after a failure does not make the penalty last longer.
        let until = self.until.load(Relaxed);
        let is_penalty = known.is_some() && until < self.fed_at.load(Relaxed) + nanos(TAU);
        self.feed(next, now, if is_penalty { until } else { now + nanos(TAU) });
    }

    /// A request failed after `sample` nanoseconds: it counts as a slow one, however fast it failed (sinkhole guard).
    pub(crate) fn on_failure(&self, sample: u64, now: u64) {
        let estimate = self.fresh(now).map_or(0.0, |(estimate, _)| estimate);
        let penalty = (estimate * PENALTY_FACTOR).clamp(float(nanos(PENALTY_MIN)), float(nanos(PENALTY_MAX)));
        self.feed(penalty.max(estimate).max(float(sample)), now, now + nanos(PENALTY_LASTS));
    }

    /// A request was given up after `sample` nanoseconds without an answer: its latency is at least that.
    pub(crate) fn on_silence(&self, sample: u64, now: u64) {
        if self.at(now).is_none_or(|estimate| float(sample) > estimate) {
            self.feed(float(sample), now, now + nanos(TAU));
        }
    }

    /// Nothing is known any more.
    pub(crate) fn forget(&self) {
        self.until.store(0, Relaxed);
    }

    /// What it was when it was fed, and how long ago that is; `None`: unknown.
    fn fresh(&self, now: u64) -> Option<(f64, u64)> {
        (now < self.until.load(Relaxed)).then(|| (self.stored(), now.saturating_sub(self.fed_at.load(Relaxed))))
    }

    fn stored(&self) -> f64 {
        float(self.estimate.load(Relaxed))
    }

    fn feed(&self, estimate: f64, now: u64, until: u64) {
        // At most the 584 years that a u64 holds; never negative.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.estimate.store(estimate as u64, Relaxed);
        self.fed_at.store(now, Relaxed);
        self.until.store(until, Relaxed);
    }
}

/// Exact up to 2^53 ns (104 days), and close enough after.
#[allow(clippy::cast_precision_loss)]
const fn float(nanos: u64) -> f64 {
    nanos as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;

    fn fed(latency: u64, at: u64) -> PeakEwma {
        let ewma = PeakEwma::default();
        ewma.on_answer(latency, at);
        ewma
    }

    #[track_caller]
    fn assert_close(ewma: &PeakEwma, now: u64, millis: f64) {
        let at = ewma.at(now).expect("known") / 1e6;
        assert!((at - millis).abs() < millis * 0.01, "{at} ms, not {millis} ms");
    }

    #[test]
    fn every_input_moves_a_known_and_an_unknown_estimate_as_the_table_says() {
        #[derive(Clone, Copy)]
        enum Input {
            Answer(u64),
            Failure(u64),
            Silence(u64),
        }
        let unknown = || PeakEwma::default();
        let known = || fed(20 * MS, S); // read 1 s later
        let stale = || fed(20 * MS, 1);
        let now = 2 * S;
        let decayed = 20.0 * (-0.1f64).exp();
        let mixed = decayed + 5.0 * (1.0 - (-0.1f64).exp());
        for (name, ewma, at, input, millis) in [
            ("unknown, answer", unknown(), now, Input::Answer(5 * MS), 5.0),
            ("unknown, failure", unknown(), now, Input::Failure(MS), 10.0),
            ("unknown, slow failure", unknown(), now, Input::Failure(700 * MS), 700.0),
            ("unknown, silence", unknown(), now, Input::Silence(5 * MS), 5.0),
            ("known, faster answer", known(), now, Input::Answer(5 * MS), mixed),
            ("known, slower answer", known(), now, Input::Answer(50 * MS), 50.0),
            ("known, failure", known(), now, Input::Failure(MS), 80.0),
            ("known, slow failure", known(), now, Input::Failure(700 * MS), 700.0),
            ("known, short silence", known(), now, Input::Silence(5 * MS), decayed),
            ("known, long silence", known(), now, Input::Silence(500 * MS), 500.0),
            ("stale, answer", stale(), 12 * S, Input::Answer(5 * MS), 5.0),
            ("stale, failure", stale(), 12 * S, Input::Failure(MS), 10.0),
            ("stale, silence", stale(), 12 * S, Input::Silence(MS), 1.0),
        ] {
            match input {
                Input::Answer(sample) => ewma.on_answer(sample, at),
                Input::Failure(sample) => ewma.on_failure(sample, at),
                Input::Silence(sample) => ewma.on_silence(sample, at),
            }
            let got = ewma.at(at).map_or(-1.0, |nanos| nanos / 1e6);
            assert!((got - millis).abs() < 0.01, "{name}: {got} ms, not {millis} ms");
        }
    }

    #[test]
    fn an_estimate_drifts_down_and_is_forgotten_after_tau() {
        let ewma = fed(100 * MS, S);
        assert_close(&ewma, S, 100.0);
        assert_close(&ewma, 6 * S, 100.0 * (-0.5f64).exp());
        assert_eq!(ewma.at(11 * S), None);
        ewma.on_answer(MS, 30 * S);
        ewma.forget();
        assert_eq!(ewma.at(30 * S), None);
    }

    #[test]
    fn a_failure_is_forgotten_sooner_and_no_answer_makes_it_last() {
        let ewma = fed(20 * MS, S);
        ewma.on_failure(MS, S);
        assert_close(&ewma, S, 80.0);
        // It had begun before, or the endpoint fails now and then.
        ewma.on_answer(20 * MS, S + S / 2);
        assert!(ewma.at(2 * S - 1).expect("known") > 60e6);
        assert_eq!(ewma.at(2 * S), None);
        ewma.on_answer(5 * MS, 2 * S);
        assert_close(&ewma, 2 * S, 5.0);
        assert!(ewma.at(11 * S).is_some(), "an answer lasts as ever");
    }

    #[test]
    fn failures_in_a_row_outgrow_any_healthy_latency_up_to_a_bound() {
        let ewma = PeakEwma::default();
        let estimates: Vec<_> = (0..8)
            .map(|_| {
                ewma.on_failure(1, S);
                ewma.stored() / 1e6
            })
            .collect();
        assert_eq!(estimates, [10.0, 40.0, 160.0, 640.0, 2_560.0, 5_000.0, 5_000.0, 5_000.0]);
    }

    #[test]
    fn an_unknown_endpoint_is_worth_one_request_and_not_all() {
        let ewma = PeakEwma::default();
        assert!(ewma.cost(0, S) < fed(1, S).cost(0, S));
        assert!(ewma.cost(1, S) > fed(100 * MS, S).cost(5, S));
        assert!(ewma.cost(2, S) > ewma.cost(1, S));
    }

    proptest! {
        #[test]
        fn an_answer_never_leaves_the_estimate_outside_what_was_seen(samples in prop::collection::vec((1u64..10 * S, 0u64..9 * S), 1..50)) {
            let ewma = PeakEwma::default();
            let (mut low, mut high, mut now) = (u64::MAX, 0, S);
            for (sample, pause) in samples {
                now += pause;
                (low, high) = (low.min(sample), high.max(sample));
                ewma.on_answer(sample, now);
                let stored = ewma.estimate.load(Relaxed);
                prop_assert!((low..=high).contains(&(stored + 1)) || (low..=high).contains(&stored), "{} not in {}..={}", stored, low, high);
            }
        }

        #[test]
        fn a_failure_never_makes_an_endpoint_look_better(latency in 1u64..20 * S, sample in 0u64..S) {
            let ewma = fed(latency, S);
            let before = ewma.at(2 * S);
            ewma.on_failure(sample, 2 * S);
            let after = ewma.at(2 * S);
            prop_assert!(after >= before, "{:?} after {:?}", after, before);
        }
    }
}
