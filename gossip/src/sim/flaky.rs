//! Members that are neither dead nor well.

use std::time::Duration;

use super::World;
use crate::{Event, State};

const SEEDS: std::ops::Range<u64> = 0..4;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Who is flaky, as a node sees it.
fn flaky(world: &World, n: usize) -> Vec<usize> {
    let view = world.nodes[n].engine.view();
    (0..world.nodes.len()).filter(|of| view.members[&world.nodes[*of].id].flaky).collect()
}

/// Does a node take an owner's endpoint for healthy?
fn healthy(world: &World, n: usize, name: &str, owner: usize) -> bool {
    let view = world.nodes[n].engine.view();
    let of_owner = |endpoint: &&starling_proto::Endpoint| endpoint.key.node == world.nodes[owner].id;
    view.services[&name.parse().unwrap()].iter().find(of_owner).is_some_and(|endpoint| endpoint.healthy)
}

#[test]
fn one_that_loses_most_of_what_is_sent_to_it_is_used_only_where_no_other_can_serve() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 8);
        for n in [6, 7] {
            world.offer(n, "orders");
        }
        world.offer(7, "billing");
        world.run_for(secs(2));
        world.lossy.insert(7, 0.8);
        let out = |world: &World| (0..7).all(|n| flaky(world, n) == [7] || world.sees(n, 7) == Some(State::Down));
        let took = world.run_until(secs(60), out);
        assert!(took.is_some_and(|took| took < secs(30)), "seed {seed}: {took:?}");
        let mut listed = 0;
        for _ in 0..30 {
            world.run_for(secs(1));
            for n in 0..7 {
                assert_eq!(flaky(&world, n), [7], "seed {seed}, node {n}");
                if world.sees(n, 7).is_some_and(State::is_up) {
                    listed += 1;
                    assert!(!healthy(&world, n, "orders", 7) && healthy(&world, n, "orders", 6), "seed {seed}");
                    assert!(healthy(&world, n, "billing", 7), "nobody else offers it");
                }
            }
        }
        assert!(listed > 0, "it is not dead");
        let counters = world.nodes[0].engine.counters().liveness;
        assert_eq!((counters.flaky, world.nodes[0].engine.sizes().flaky), (1, 1), "seed {seed}");
        world.lossy.clear();
        let steady = |world: &World| (0..7).all(|n| flaky(world, n).is_empty() && healthy(world, n, "orders", 7));
        let took = world.run_until(secs(60), steady);
        assert!(took.is_some_and(|took| took < secs(35)), "seed {seed}: {took:?}");
        let named = |event: &Event| matches!(event, Event::MemberSteady { name, .. } if name == "n7");
        assert!(world.nodes[0].events.iter().any(|(_, event)| named(event)));
    }
}

#[test]
fn nobody_is_flaky_for_what_one_does_that_hears_nothing_or_stands_still() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 12);
        let others: Vec<_> = (0..10).collect();
        // One hears nothing, by whatever way; another stands still again and again.
        world.lossy.insert(11, 1.0);
        for _ in 0..6 {
            world.suspend(10);
            world.run_for(secs(8));
            world.resume(10);
            world.run_for(secs(3));
        }
        for n in others {
            assert!(flaky(&world, n).iter().all(|flaky| *flaky >= 10), "seed {seed}: {:?}", flaky(&world, n));
        }
    }
}

#[test]
fn where_many_would_be_flaky_it_is_the_network_and_nobody_is_left_out() {
    let mut world = World::mesh(1, 9);
    world.lossy = (5..9).map(|n| (n, 0.8)).collect();
    let mut most = 0;
    for _ in 0..90 {
        world.run_for(secs(1));
        for n in 0..5 {
            assert!(flaky(&world, n).len() <= 3, "{:?}", flaky(&world, n));
            most = most.max(world.nodes[n].engine.sizes().flaky);
        }
    }
    assert!(most > 3, "{most}");
}

#[test]
fn one_that_restarted_is_not_what_its_last_process_was() {
    let mut world = World::mesh(2, 8);
    world.lossy.insert(7, 0.8);
    assert!(world.run_until(secs(30), |world| flaky(world, 0) == [7]).is_some());
    world.lossy.clear();
    world.kill(7);
    world.restart(7, 2_000, 0);
    assert!(
        world.run_until(secs(5), |world| world.all_alive() && (0..7).all(|n| flaky(world, n).is_empty())).is_some()
    );
}
