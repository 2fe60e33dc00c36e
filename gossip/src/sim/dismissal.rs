//! Members that an operator dismisses.

use std::time::Duration;

use super::World;
use crate::{Event, Input, State};

fn dismiss(world: &mut World, by: usize, whom: usize, prune: bool) {
    let node = world.nodes[whom].id;
    world.input(by, Input::Dismiss { node, prune, reason: "its disk is gone".to_owned() });
}

/// A mesh of five whose last node is dead and known to be.
fn with_a_dead_one(seed: u64) -> World {
    let mut world = World::mesh(seed, 5);
    world.kill(4);
    assert!(world.run_until(Duration::from_mins(1), |world| world.all_see(4, State::Down)).is_some());
    world
}

#[test]
fn a_dismissed_member_is_listed_as_left_everywhere_and_not_dialed_any_more() {
    let mut world = with_a_dead_one(1);
    dismiss(&mut world, 0, 4, false);
    let took = world.run_until(Duration::from_secs(3), |world| world.all_see(4, State::Left));
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
    for n in 0..4 {
        let by = world.nodes[0].id;
        let said = |(_, event): &(Duration, Event)| matches!(event, Event::Dismissed { by: who, reason, pruned: false, .. } if *who == by && reason == "its disk is gone");
        assert_eq!(world.nodes[n].events.iter().filter(|event| said(event)).count(), 1, "{n}");
        world.run_for(Duration::from_secs(6));
        let remembered = world.nodes[n].remembered.as_ref().unwrap();
        assert!(remembered.members.iter().all(|member| member.id != world.nodes[4].id));
    }
    world.tap = Some(Vec::new());
    world.run_for(Duration::from_mins(1));
    let to = world.gossip(4);
    assert!(world.tap.take().unwrap().iter().all(|(_, at, _)| *at != to));
}

#[test]
fn a_pruned_member_is_not_listed_at_all() {
    let mut world = with_a_dead_one(2);
    dismiss(&mut world, 1, 4, true);
    let gone = |world: &World| (0..4).all(|n| world.sees(n, 4).is_none());
    assert!(world.run_until(Duration::from_secs(1), gone).is_some(), "{}", world.table());
    world.run_for(Duration::from_mins(1));
    assert!(gone(&world), "{}", world.table());
    // It is no stranger to the mesh for that.
    world.restart(4, 2_000, 0);
    assert!(world.run_until(Duration::from_secs(10), World::all_alive).is_some(), "{}", world.table());
}

#[test]
fn nobody_dismisses_a_member_that_is_there() {
    let mut world = World::mesh(3, 5);
    dismiss(&mut world, 0, 4, true);
    world.run_for(Duration::from_secs(5));
    assert!(world.all_alive(), "{}", world.table());
    assert!(world.nodes.iter().all(|node| !node.events.iter().any(|(_, e)| matches!(e, Event::Dismissed { .. }))));
}

#[test]
fn a_member_that_was_dismissed_and_is_there_all_the_same_comes_back() {
    for prune in [false, true] {
        let mut world = World::mesh(4, 5);
        world.cut(&[4], &[0, 1, 2, 3]);
        let down = |world: &World| (0..4).all(|n| world.sees(n, 4) == Some(State::Down));
        assert!(world.run_until(Duration::from_mins(1), down).is_some(), "{}", world.table());
        dismiss(&mut world, 0, 4, prune);
        world.run_for(Duration::from_secs(30));
        world.heal();
        // It dials the others itself: it holds them for down.
        let took = world.run_until(Duration::from_mins(1), World::all_alive);
        assert!(took.is_some(), "prune {prune}: {}", world.table());
    }
}

#[test]
fn one_who_dismisses_many_is_named_and_the_rest_of_it_is_not_done() {
    let mut world = World::mesh(6, 50);
    let dead: Vec<usize> = (8..50).collect();
    for n in &dead {
        world.kill(*n);
    }
    let all_down = |world: &World| (8..50).all(|n| world.all_see(n, State::Down));
    assert!(world.run_until(Duration::from_mins(3), all_down).is_some(), "{}", world.table());
    for n in &dead {
        dismiss(&mut world, 0, *n, false);
    }
    world.run_for(Duration::from_secs(5));
    let left = dead.iter().filter(|n| world.sees(1, **n) == Some(State::Left)).count();
    assert!((32..=40).contains(&left), "{left}");
    let id = world.nodes[0].id;
    let named = |(_, event): &(Duration, Event)| matches!(event, Event::Offender { node, .. } if *node == id);
    assert!(world.nodes[1].events.iter().any(named));
}

#[test]
fn a_restarted_member_is_not_the_one_that_was_dismissed() {
    let mut world = with_a_dead_one(5);
    dismiss(&mut world, 0, 4, false);
    world.run_for(Duration::from_secs(2));
    world.restart(4, 2_000, 0);
    assert!(world.run_until(Duration::from_secs(10), World::all_alive).is_some(), "{}", world.table());
}
