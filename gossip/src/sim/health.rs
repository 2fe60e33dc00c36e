//! Health and load, told the moment they change.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use starling_proto::mesh::v1;

use super::World;
use crate::{Event, Input};

/// A record that is too large to ride in a notice: it would travel by anti-entropy.
fn large(name: &str, healthy: bool) -> (String, Bytes) {
    let record = v1::ServiceRecord {
        service: format!("ns/default/svc/{name}"),
        port: 80,
        protocol: v1::Protocol::Http.into(),
        labels: [("note".to_owned(), "x".repeat(2_000))].into(),
        healthy,
        ..Default::default()
    };
    (format!("svc/default/{name}/0"), record.encode_to_vec().into())
}

/// What each node's view says of the health of the first endpoint.
fn healthy(world: &World, name: &str) -> Vec<Option<bool>> {
    let of = |n: usize| {
        let view = world.nodes[n].engine.view();
        view.services.get(&name.parse().unwrap()).map(|endpoints| endpoints[0].healthy)
    };
    (0..world.nodes.len()).map(of).collect()
}

/// A mesh in which the last node offers a service and all know the record.
fn offering(seed: u64, size: usize) -> World {
    let mut world = World::mesh(seed, size);
    let (key, body) = large("orders", true);
    world.input(size - 1, Input::Register { key, body });
    spread_record(&mut world, size - 1);
    assert_eq!(healthy(&world, "orders"), vec![Some(true); size]);
    world
}

/// What anti-entropy would do.
fn spread_record(world: &mut World, owner: usize) {
    let key = "svc/default/orders/0".to_owned();
    let (id, value) = (world.nodes[owner].id, world.nodes[owner].values[&key].clone());
    for n in (0..world.nodes.len()).filter(|n| *n != owner) {
        world.input(n, Input::Value { owner: id, key: key.clone(), value: value.clone() });
    }
}

fn flip(world: &mut World, n: usize, healthy: bool) {
    world.input(n, Input::Health { service: "orders".parse().unwrap(), instance: 0, healthy });
}

#[test]
fn a_failing_instance_is_known_everywhere_within_a_second_however_large_its_record() {
    let mut world = offering(1, 20);
    flip(&mut world, 19, false);
    let all = |world: &World| healthy(world, "orders").iter().all(|healthy| *healthy == Some(false));
    let took = world.run_until(Duration::from_secs(3), all);
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
    let told = |(_, event): &(Duration, Event)| matches!(event, Event::HealthChanged { healthy: false, .. });
    assert!((0..19).all(|n| world.nodes[n].events.iter().filter(|event| told(event)).count() == 1));
    // And every packet says how many of the sender's instances fail.
    let node = world.nodes[19].id;
    let known = |world: &World| (0..20).all(|n| world.nodes[n].engine.view().members[&node].load.unhealthy == 1);
    assert!(world.run_until(Duration::from_mins(1), known).is_some());
}

#[test]
fn the_record_that_says_the_same_takes_over_and_what_it_says_later_counts() {
    let mut world = offering(2, 5);
    flip(&mut world, 4, false);
    world.run_for(Duration::from_secs(2));
    spread_record(&mut world, 4);
    assert_eq!(healthy(&world, "orders"), vec![Some(false); 5]);
    let (key, body) = large("orders", true);
    world.input(4, Input::Register { key, body });
    spread_record(&mut world, 4);
    assert_eq!(healthy(&world, "orders"), vec![Some(true); 5]);
}

#[test]
fn a_flip_that_is_older_than_the_record_changes_nothing() {
    let mut world = offering(3, 3);
    world.tap = Some(Vec::new());
    flip(&mut world, 2, false);
    let (key, body) = large("orders", true);
    world.input(2, Input::Register { key, body });
    // The newest record is there before the notice is.
    spread_record(&mut world, 2);
    world.run_for(Duration::from_secs(2));
    assert_eq!(healthy(&world, "orders"), vec![Some(true); 3]);
}

#[test]
fn an_instance_that_flaps_is_told_of_once_a_second() {
    let mut world = offering(4, 3);
    for n in 0..40 {
        flip(&mut world, 2, n % 2 == 1);
        world.run_for(Duration::from_millis(50));
    }
    let told = |(_, event): &&(Duration, Event)| matches!(event, Event::HealthChanged { .. });
    let heard = world.nodes[0].events.iter().filter(told).count();
    assert!((1..=3).contains(&heard), "{heard}");
}

#[test]
fn nothing_is_said_of_a_service_that_is_not_offered_or_did_not_change() {
    let mut world = offering(5, 2);
    let before = world.nodes[1].values.len();
    flip(&mut world, 1, true);
    world.input(1, Input::Health { service: "nothing".parse().unwrap(), instance: 0, healthy: false });
    assert_eq!(world.nodes[1].values.len(), before);
    assert_eq!(healthy(&world, "orders"), [Some(true), Some(true)]);
}

fn overload(world: &mut World, n: usize, overload: u32) {
    world.input(n, Input::Load(v1::LoadSummary { overload, in_flight: 7, ..Default::default() }));
}

#[test]
fn an_overloaded_node_is_known_everywhere_within_a_second() {
    let mut world = World::mesh(6, 20);
    let node = world.nodes[19].id;
    let level = move |world: &World, level: u32| {
        (0..20).all(|n| world.nodes[n].engine.view().members[&node].load.overload == level)
    };
    overload(&mut world, 19, 95);
    let took = world.run_until(Duration::from_secs(3), |world| level(world, 95));
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
    world.run_for(Duration::from_secs(2));
    overload(&mut world, 19, 10);
    let took = world.run_until(Duration::from_secs(3), |world| level(world, 10));
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
}

#[test]
fn a_node_at_the_edge_of_overload_does_not_tell_all_of_it_every_second() {
    let mut world = World::mesh(7, 3);
    for n in 0..20 {
        overload(&mut world, 2, if n % 2 == 0 { 81 } else { 79 });
        world.run_for(Duration::from_secs(1));
    }
    let told = |(_, event): &&(Duration, Event)| matches!(event, Event::OverloadChanged { .. });
    assert!(world.nodes[0].events.iter().filter(told).count() <= 1);
}

#[test]
fn an_old_word_of_overload_does_not_replace_what_the_node_said_since() {
    let mut world = World::mesh(8, 3);
    world.tap = Some(Vec::new());
    overload(&mut world, 2, 95);
    world.run_for(Duration::from_secs(5));
    // Cool again, and everyone has it from the node itself.
    overload(&mut world, 2, 10);
    world.run_for(Duration::from_secs(5));
    let node = world.nodes[2].id;
    // A node that comes now is told all that still goes round.
    let late = world.add("late");
    world.dial(late, 0);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.nodes[late].engine.view().members[&node].load.overload, 10);
}

#[test]
fn a_nudge_is_heard() {
    let mut world = World::mesh(9, 2);
    let (from, to) = (world.nodes[0].id, world.nodes[1].id);
    world.run_for(Duration::from_secs(5));
    world.cut(&[0], &[1]);
    world.run_for(Duration::from_millis(100));
    let before = world.now;
    assert!(world.nodes[1].engine.heard(from).is_some_and(|at| at < before));
    world.heal();
    world.input(0, Input::Nudge { node: to });
    world.run_for(Duration::from_millis(5));
    assert!(world.nodes[1].engine.heard(from).is_some_and(|at| at >= before));
}
