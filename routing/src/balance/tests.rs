use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::testing::{cluster, cluster_of, endpoint, epoch, rng};
use crate::{Outcome, PENALTY_LASTS};

/// How often each of the nodes 1, 2, … was chosen in `n` picks that are over at once.
fn chosen(
    cluster: &Cluster,
    exclude: &[EndpointKey],
    avoid: impl Fn(&Endpoint) -> bool,
    n: usize,
    now: Instant,
) -> Vec<usize> {
    let mut rng = rng(3);
    let mut counts = vec![0; cluster.len()];
    for _ in 0..n {
        let pick = cluster.pick(exclude, &avoid, &mut rng, now).unwrap();
        counts[node(pick.endpoint()) - 1] += 1;
    }
    counts
}

fn node(endpoint: &Endpoint) -> usize {
    endpoint.key.node.as_bytes()[0].into()
}

fn entry(cluster: &Cluster, n: usize) -> &Entry {
    cluster.entries().iter().find(|entry| node(entry.endpoint()) == n).unwrap()
}

/// Ejects node `n` by five failures at `now`.
fn eject(cluster: &Cluster, n: usize, now: Instant) {
    for _ in 0..5 {
        Pick::new(entry(cluster, n).clone(), cluster.timeline, cluster.timeline.nanos(now), 0)
            .finish(Outcome::Failed, now);
    }
    assert!(cluster.snapshot(entry(cluster, n), now).ejected_for.is_some());
}

fn answer(cluster: &Cluster, n: usize, latency: Duration, now: Instant) {
    let pick = Pick::new(entry(cluster, n).clone(), cluster.timeline, cluster.timeline.nanos(now), 0);
    pick.finish(Outcome::Served, now + latency);
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn equals_share_the_load_evenly() {
    let now = epoch();
    for n in [2, 3, 7] {
        let counts = chosen(&cluster(n, now), &[], |_| false, 7_000, now);
        let fair = 7_000 / usize::from(n);
        assert!(counts.iter().all(|count| count.abs_diff(fair) < fair / 5), "{counts:?}");
    }
}

#[test]
fn of_two_the_faster_and_less_busy_is_chosen() {
    let now = epoch();
    let cluster = cluster(2, now);
    answer(&cluster, 1, MS, now);
    answer(&cluster, 2, 3 * MS, now);
    let now = now + 3 * MS;
    assert_eq!(chosen(&cluster, &[], |_| false, 100, now), [100, 0]);
    let _busy: Vec<_> = (0..4).map(|_| Pick::new(entry(&cluster, 1).clone(), cluster.timeline, 1, 0)).collect();
    assert_eq!(chosen(&cluster, &[], |_| false, 100, now), [0, 100]);
}

#[test]
fn an_endpoint_that_failed_once_is_tried_again_after_a_second_however_little_is_asked() {
    let now = epoch();
    let cluster = cluster(4, now);
    for n in 1..=4 {
        answer(&cluster, n, 4 * MS, now);
    }
    let failed = now + 10 * MS;
    Pick::new(entry(&cluster, 4).clone(), cluster.timeline, cluster.timeline.nanos(failed), 0)
        .finish(Outcome::Failed, failed);
    assert_eq!(chosen(&cluster, &[], |_| false, 100, failed + PENALTY_LASTS.mul_f64(0.9))[3], 0);
    let after = chosen(&cluster, &[], |_| false, 100, failed + PENALTY_LASTS);
    assert!(after[3] > 30, "each time that it is drawn: {after:?}");
}

#[test]
fn twice_the_weight_bears_twice_the_cost() {
    let now = epoch();
    let heavy = Endpoint { weight: 400, ..endpoint("orders", 1) };
    let cluster = cluster_of(vec![heavy, endpoint("orders", 2)], now);
    answer(&cluster, 1, 3 * MS, now);
    answer(&cluster, 2, MS, now);
    assert_eq!(chosen(&cluster, &[], |_| false, 100, now + 3 * MS), [100, 0]);
}

/// Every rank against every other: with one endpoint of each, only the best is chosen; without it, the next.
#[test]
fn an_endpoint_of_a_worse_rank_is_chosen_only_when_no_better_is_left() {
    let now = epoch();
    let draining = Endpoint { draining: true, ..endpoint("orders", 3) };
    let unhealthy = Endpoint { healthy: false, ..endpoint("orders", 4) };
    let both = Endpoint { healthy: false, draining: true, ..endpoint("orders", 5) };
    let all = vec![endpoint("orders", 1), endpoint("orders", 2), draining, unhealthy, both, endpoint("orders", 6)];
    let cluster = cluster_of(all, now);
    eject(&cluster, 2, now);
    let silent = |endpoint: &Endpoint| node(endpoint) == 6;
    let ranks: [&[usize]; 5] = [&[1], &[2], &[3], &[4, 5], &[6]];
    let mut tried = Vec::new();
    for rank in ranks {
        let counts = chosen(&cluster, &tried, silent, 100, now);
        for (n, count) in (1..).zip(counts) {
            assert_eq!(count > 0, rank.contains(&n), "node {n} was chosen {count} times of rank {rank:?}");
        }
        tried.extend(rank.iter().map(|n| entry(&cluster, *n).endpoint().key.clone()));
    }
    let none = cluster.pick(&tried, silent, &mut rng(1), now).unwrap_err();
    assert_eq!((none, none.code()), (PickError::AllTried, starling_proto::ErrorCode::NoEndpoint));
}

#[test]
fn a_service_without_endpoints_says_so() {
    let now = epoch();
    let error = cluster_of(vec![], now).pick(&[], |_| false, &mut rng(1), now).unwrap_err();
    assert_eq!(error, PickError::Empty);
}

#[test]
fn the_only_endpoint_is_used_whatever_is_wrong_with_it() {
    let now = epoch();
    let cluster = cluster(1, now);
    eject(&cluster, 1, now);
    assert!(cluster.is_panicking(now));
    assert_eq!(chosen(&cluster, &[], |_| true, 10, now), [10]);
}

#[test]
fn half_of_the_endpoints_can_be_ejected_and_with_one_more_all_are_used() {
    let now = epoch();
    let cluster = cluster(4, now);
    eject(&cluster, 1, now);
    eject(&cluster, 2, now);
    assert!(!cluster.is_panicking(now));
    let counts = chosen(&cluster, &[], |_| false, 1_000, now);
    assert_eq!((counts[0], counts[1]), (0, 0));
    eject(&cluster, 3, now);
    assert!(cluster.is_panicking(now));
    let counts = chosen(&cluster, &[], |_| false, 1_000, now);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

#[test]
fn an_ejected_endpoint_comes_back_with_one_request_until_it_has_answered() {
    let now = epoch();
    let cluster = cluster(3, now);
    eject(&cluster, 1, now);
    for n in [2, 3] {
        answer(&cluster, n, MS, now);
    }
    let back = now + Duration::from_millis(1_300);
    let mut rng = rng(5);
    let picks: Vec<_> = (0..50).map(|_| cluster.pick(&[], |_| false, &mut rng, back).unwrap()).collect();
    let probes: Vec<_> = picks.into_iter().filter(|pick| node(pick.endpoint()) == 1).collect();
    assert_eq!(probes.len(), 1);
    for probe in probes {
        probe.finish(Outcome::Failed, back + MS);
    }
    let seen = cluster.snapshot(entry(&cluster, 1), back + MS);
    assert!(seen.ejected_for.unwrap() >= Duration::from_millis(1_999), "{seen:?}");
}

#[test]
fn failing_fast_attracts_no_load() {
    let start = epoch();
    for failing_percent in [50, 100] {
        let cluster = cluster(2, start);
        let (mut rng, mut now) = (rng(11), start);
        let mut sent_to_failing = 0;
        for n in 0..2_000 {
            now += 5 * MS;
            let pick = cluster.pick(&[], |_| false, &mut rng, now).unwrap();
            if node(pick.endpoint()) == 1 {
                sent_to_failing += 1;
                let fails = n % 100 < failing_percent;
                let outcome = if fails { Outcome::Failed } else { Outcome::Served };
                pick.finish(outcome, now + MS / 10);
            } else {
                pick.finish(Outcome::Served, now + 20 * MS);
            }
        }
        assert!(sent_to_failing < 100, "{failing_percent} % failing got {sent_to_failing} of 2000 in 10 s");
    }
}

proptest! {
    #[test]
    fn an_ejected_endpoint_is_chosen_only_in_panic_and_the_ejected_are_never_over_the_cap(
        n in 1u8..9,
        ejected in prop::collection::btree_set(1usize..9, 0..9),
        silent in prop::collection::btree_set(1usize..9, 0..3),
        tried in prop::collection::btree_set(1usize..9, 0..3),
        seed: u64,
    ) {
        let now = epoch();
        let cluster = cluster(n, now);
        let here = |set: &std::collections::BTreeSet<usize>| set.iter().copied().filter(|at| *at <= n.into()).collect::<Vec<_>>();
        let (ejected, silent, tried) = (here(&ejected), here(&silent), here(&tried));
        for at in &ejected {
            eject(&cluster, *at, now);
        }
        let exclude: Vec<_> = tried.iter().map(|at| entry(&cluster, *at).endpoint().key.clone()).collect();
        let panic = cluster.is_panicking(now);
        prop_assert_eq!(panic, ejected.len() * 2 > n.into());
        let avoided = Cell::new(0);
        let avoid = |endpoint: &Endpoint| { avoided.set(avoided.get() + 1); silent.contains(&node(endpoint)) };
        let result = cluster.pick(&exclude, avoid, &mut rng(seed), now);
        prop_assert!(avoided.get() <= usize::from(n) + 2);
        let Ok(pick) = result else {
            prop_assert_eq!(exclude.len(), usize::from(n));
            return Ok(());
        };
        let chosen = node(pick.endpoint());
        let usable = |at: usize| !tried.contains(&at) && !silent.contains(&at) && (panic || !ejected.contains(&at));
        prop_assert!(!tried.contains(&chosen));
        if (1..=n.into()).any(usable) {
            prop_assert!(usable(chosen), "{} was chosen: ejected {:?}, silent {:?}, tried {:?}", chosen, ejected, silent, tried);
        }
        // Silence is avoided as long as anything else is left.
        if (1..=n.into()).any(|at| !tried.contains(&at) && !silent.contains(&at)) {
            prop_assert!(!silent.contains(&chosen));
        }
    }

    #[test]
    fn in_flight_returns_to_zero_whatever_becomes_of_the_picks(outcomes in prop::collection::vec(0u8..5, 0..60), seed: u64) {
        let mut now = epoch();
        let cluster = cluster(3, now);
        let mut rng = rng(seed);
        let picks: Vec<_> = outcomes.iter().map(|_| cluster.pick(&[], |_| false, &mut rng, now).unwrap()).collect();
        let in_flight = || cluster.entries().iter().map(|entry| entry.stats().in_flight()).sum::<u32>() as usize;
        prop_assert_eq!(in_flight(), outcomes.len());
        for (pick, outcome) in picks.into_iter().zip(outcomes) {
            now += MS;
            match outcome {
                0 => pick.finish(Outcome::Served, now),
                1 => pick.finish(Outcome::Failed, now),
                2 => pick.finish(Outcome::Unanswered, now),
                3 => pick.finish(Outcome::Unrelated, now),
                _ => drop(pick),
            }
        }
        prop_assert_eq!(in_flight(), 0);
    }
}

#[test]
fn shards_that_share_a_cluster_lose_no_count() {
    let now = epoch();
    let cluster = Arc::new(cluster(4, now));
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let cluster = cluster.clone();
            scope.spawn(move || {
                let mut rng = rng(seed);
                for _ in 0..5_000 {
                    cluster.pick(&[], |_| false, &mut rng, now).unwrap().finish(Outcome::Served, now + MS);
                }
            });
        }
    });
    let seen: Vec<_> = cluster.entries().iter().map(|entry| cluster.snapshot(entry, now)).collect();
    assert_eq!(seen.iter().map(|seen| seen.chosen).sum::<u64>(), 20_000);
    assert!(seen.iter().all(|seen| seen.in_flight == 0));
}
