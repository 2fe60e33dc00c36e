//! Joining, dying, leaving, coming back.

use std::time::Duration;

use starling_proto::Generation;

use super::World;
use crate::{Event, Input, State};

const SEEDS: std::ops::Range<u64> = 0..12;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn two_nodes_join() {
    let mut world = World::new(1);
    let (a, b) = (world.add("a"), world.add("b"));
    world.run_for(secs(1));
    assert_eq!(world.sees(a, b), None);
    world.dial(b, a);
    let took = world.run_until(secs(1), World::all_alive).expect("both list both");
    assert!(took < Duration::from_millis(20), "{took:?}");
    world.run_for(secs(20));
    assert!(world.all_alive(), "{}", world.table());
    for node in &world.nodes {
        assert_eq!(node.engine.counters().rejected, [].into());
        assert_eq!(node.engine.counters().swim_errors, 0);
    }
}

#[test]
fn five_nodes_that_all_dial_one_seed_know_one_another_within_a_second() {
    for seed in SEEDS {
        let mut world = World::new(seed);
        for n in 0..5 {
            world.add(&format!("n{n}"));
        }
        (1..5).for_each(|n| world.dial(n, 0));
        let took = world.run_until(secs(5), World::all_alive);
        assert!(took.is_some_and(|took| took < secs(1)), "seed {seed}: {took:?}{}", world.table());
        world.run_for(secs(10));
        assert!(world.all_alive(), "seed {seed}{}", world.table());
        assert!(world.nodes.iter().all(|node| node.engine.counters().swim_errors == 0));
    }
}

#[test]
fn a_chain_of_joins_converges() {
    let mut world = World::new(3);
    for n in 0..20 {
        world.add(&format!("n{n}"));
        if n > 0 {
            world.dial(n, n - 1);
        }
    }
    let took = world.run_until(secs(5), World::all_alive);
    assert!(took.is_some_and(|took| took < secs(3)), "{took:?}{}", world.table());
}

#[test]
fn a_crash_is_listed_down_by_all_within_seven_seconds_at_five_nodes() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.run_for(Duration::from_millis(seed * 137));
        world.kill(4);
        let took = world.run_until(secs(10), |world| world.all_see(4, State::Down));
        assert!(took.is_some_and(|took| took <= secs(7)), "seed {seed}: {took:?}{}", world.table());
        world.run_for(secs(5));
        let others = (0..4).all(|n| world.all_see(n, State::Alive));
        assert!(others, "seed {seed}{}", world.table());
    }
}

#[test]
fn a_crash_is_accused_by_those_who_saw_it() {
    let mut world = World::mesh(2, 5);
    world.kill(4);
    world.run_for(secs(8));
    let accused = world.nodes[0].events.iter().any(|(_, event)| {
        matches!(event, Event::Accused { node, accusers, .. } if *node == world.nodes[4].id && *accusers > 0)
    });
    assert!(accused, "{:?}", world.nodes[0].events);
}

#[test]
fn a_leave_is_known_to_all_within_a_second() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.input(2, Input::Leave { reason: "upgrade".to_owned() });
        let took = world.run_until(secs(5), |world| world.all_see(2, State::Left));
        assert!(took.is_some_and(|took| took < secs(1)), "seed {seed}: {took:?}{}", world.table());
        world.kill(2);
        world.run_for(secs(20));
        assert!(world.all_see(2, State::Left), "seed {seed}{}", world.table());
        let told = |event: &Event| matches!(event, Event::MemberLeft { reason, .. } if reason == "upgrade");
        assert_eq!(world.nodes[0].events.iter().filter(|(_, event)| told(event)).count(), 1);
        let down = |event: &Event| matches!(event, Event::MemberDown { .. });
        assert!(!world.nodes[0].events.iter().any(|(_, event)| down(event)));
    }
}

#[test]
fn one_that_left_may_come_back() {
    let mut world = World::mesh(7, 3);
    world.input(2, Input::Leave { reason: String::new() });
    world.run_for(secs(2));
    world.kill(2);
    world.restart(2, 2_000, 0);
    let took = world.run_until(secs(5), World::all_alive);
    assert!(took.is_some_and(|took| took < secs(1)), "{took:?}{}", world.table());
}

#[test]
fn a_host_that_was_cut_off_is_back_within_three_seconds_of_its_return() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.cut(&[4], &[0, 1, 2, 3]);
        // The one that is cut off doubts itself, and gives the others more time.
        let took = world.run_until(secs(10), |world| world.all_see(4, State::Down));
        assert!(took.is_some(), "seed {seed}{}", world.table());
        world.run_for(Duration::from_millis(5_000 + seed * 211));
        let healed = world.now - world.start;
        world.heal();
        let took = world.run_until(secs(15), World::all_alive);
        assert!(took.is_some_and(|took| took < secs(3)), "seed {seed}: {took:?}{}", world.table());
        world.run_for(secs(20));
        assert!(world.all_alive(), "seed {seed}{}", world.table());
        // Those who were never cut from one another never doubted one another.
        let others: Vec<_> = world.nodes[..4].iter().map(|node| node.id).collect();
        for node in &world.nodes[..4] {
            let wrong = node.events.iter().find(|(at, event)| {
                *at > healed && matches!(event, Event::MemberDown { node, .. } if others.contains(node))
            });
            assert_eq!(wrong, None, "seed {seed}");
        }
    }
}

#[test]
fn a_host_that_was_cut_off_for_long_is_back_as_fast() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.cut(&[4], &[0, 1, 2, 3]);
        world.run_for(secs(300 + seed));
        world.heal();
        let took = world.run_until(secs(15), World::all_alive);
        assert!(took.is_some_and(|took| took < secs(3)), "seed {seed}: {took:?}{}", world.table());
    }
}

#[test]
fn a_cut_heals_by_datagrams_alone() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.no_connections = true;
        world.cut(&[4], &[0, 1, 2, 3]);
        world.run_for(secs(20 + seed));
        world.heal();
        let took = world.run_until(secs(15), World::all_alive);
        assert!(took.is_some_and(|took| took < secs(5)), "seed {seed}: {took:?}{}", world.table());
    }
}

#[test]
fn two_halves_heal_without_help() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.cut(&[0, 1], &[2, 3, 4]);
        world.run_for(secs(20 + seed));
        assert_eq!(world.sees(0, 2), Some(State::Down));
        assert_eq!(world.sees(0, 1), Some(State::Alive));
        world.heal();
        let took = world.run_until(secs(15), World::all_alive);
        assert!(took.is_some_and(|took| took < secs(3)), "seed {seed}: {took:?}{}", world.table());
        let renewals = world.nodes.iter().map(|node| node.engine.identity().rejoin).max();
        world.run_for(secs(30));
        assert!(world.all_alive(), "seed {seed}{}", world.table());
        assert_eq!(renewals, world.nodes.iter().map(|node| node.engine.identity().rejoin).max(), "no storm follows");
    }
}

#[test]
fn a_short_cut_is_forgiven_by_a_refutation() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.cut(&[4], &[0, 1, 2, 3]);
        world.run_for(Duration::from_millis(1_800));
        world.heal();
        let took = world.run_until(secs(5), World::all_alive);
        assert!(took.is_some(), "seed {seed}{}", world.table());
        assert_eq!(world.nodes[4].engine.identity().rejoin, 0, "seed {seed}");
    }
}

#[test]
fn a_restart_with_a_higher_generation_replaces_the_old() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.kill(3);
        // At once, when nobody noticed yet; or after all noticed.
        world.run_for(secs(if seed % 2 == 0 { 0 } else { 9 }));
        world.restart(3, 2_000, 1);
        let fresh = |world: &World| {
            let id = world.nodes[3].id;
            let generation = |n: usize| world.nodes[n].engine.view().members.get(&id).map(|member| member.generation);
            world.all_alive() && (0..5).all(|n| generation(n) == Some(Generation(2_000)))
        };
        let took = world.run_until(secs(10), fresh);
        assert!(took.is_some_and(|took| took < secs(2)), "seed {seed}: {took:?}{}", world.table());
        world.run_for(secs(10));
        assert!(fresh(&world), "seed {seed}{}", world.table());
        let told = |event: &Event| matches!(event, Event::MemberRestarted { node, .. } if *node == world.nodes[3].id);
        assert_eq!(world.nodes[0].events.iter().filter(|(_, event)| told(event)).count(), 1);
    }
}

#[test]
fn a_restart_below_the_remembered_generation_is_raised_above_it() {
    let mut world = World::mesh(5, 3);
    world.kill(2);
    world.run_for(secs(1));
    world.restart(2, 500, 0);
    let took = world.run_until(secs(10), World::all_alive);
    assert!(took.is_some_and(|took| took < secs(2)), "{took:?}{}", world.table());
    assert_eq!(world.nodes[2].engine.identity().generation, Generation(1_001));
    let raised = Event::GenerationRaised { from: Generation(500), to: Generation(1_001), remembered: true };
    assert!(world.nodes[2].events.iter().any(|(_, event)| *event == raised));
    assert!(world.nodes[2].remembered.as_ref().is_some_and(|kept| kept.generation == Generation(1_001)));
}

#[test]
fn a_second_after_it_met_members_a_node_remembers_them_and_then_seldom_writes() {
    let mut world = World::new(3);
    for n in 0..4 {
        world.add(&format!("n{n}"));
    }
    (1..4).for_each(|n| world.dial(n, 0));
    let kept = |world: &World, n: usize| world.nodes[n].remembered.as_ref().map_or(0, |kept| kept.members.len());
    let took = world.run_until(secs(5), |world| (0..4).all(|n| kept(world, n) == 3));
    assert!(took.is_some_and(|took| took <= secs(1)), "{took:?}");
    // What changes next is held back, so that a mesh in turmoil does not wear out a disk.
    let late = world.add("late");
    world.dial(late, 0);
    world.run_for(secs(2));
    assert_eq!((kept(&world, late), kept(&world, 1)), (4, 3));
    world.run_for(secs(4));
    assert_eq!(kept(&world, 1), 4);
}

#[test]
fn a_lossy_network_brings_nobody_down() {
    let mut world = World::mesh(11, 5);
    world.loss = 0.1;
    world.run_for(secs(60));
    let down = |event: &Event| matches!(event, Event::MemberDown { .. });
    for node in &world.nodes {
        assert!(!node.events.iter().any(|(_, event)| down(event)), "{:?}", node.events);
    }
}

#[test]
fn a_member_that_is_down_for_a_day_is_forgotten() {
    let mut world = World::mesh(1, 2);
    world.kill(1);
    world.run_for(secs(60));
    assert_eq!(world.sees(0, 1), Some(State::Down));
    world.run_for(secs(24 * 3_600));
    assert_eq!(world.sees(0, 1), None);
    let id = world.nodes[1].id;
    assert!(world.nodes[0].events.iter().any(|(_, event)| *event == Event::MemberForgotten { node: id }));
}

#[test]
fn one_seed_gives_one_run() {
    let run = || {
        let mut world = World::mesh(77, 5);
        world.kill(2);
        world.loss = 0.05;
        world.run_for(secs(15));
        world.nodes.into_iter().map(|node| node.events).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
