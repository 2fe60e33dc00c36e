//! Records arrive, and a view shows them as long as their owner is there.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use starling_proto::mesh::v1;

use super::World;
use crate::{Input, State};

fn service(name: &str) -> (String, Bytes) {
    let record = v1::ServiceRecord {
        service: format!("ns/default/svc/{name}"),
        instance: 0,
        port: 80,
        protocol: v1::Protocol::Http.into(),
        healthy: true,
        ..Default::default()
    };
    (format!("svc/default/{name}/0"), record.encode_to_vec().into())
}

fn endpoints(world: &World, n: usize, name: &str) -> usize {
    world.nodes[n].engine.view().services.get(&name.parse().unwrap()).map_or(0, |endpoints| endpoints.len())
}

#[test]
fn a_record_arrives_with_a_join() {
    let mut world = World::new(1);
    let (a, b) = (world.add("a"), world.add("b"));
    let (key, body) = service("orders");
    world.input(a, Input::Register { key, body });
    assert_eq!(endpoints(&world, a, "orders"), 1);
    world.dial(b, a);
    let took = world.run_until(Duration::from_secs(1), |world| endpoints(world, b, "orders") == 1);
    assert!(took.is_some(), "{:?}", world.nodes[b].events);
    let view = world.nodes[b].engine.view();
    let endpoint = &view.services[&"orders".parse().unwrap()][0];
    assert_eq!(endpoint.key.node, world.nodes[a].id);
    assert_eq!(endpoint.spiffe.node(), "a");
    assert_eq!(endpoint.address, world.nodes[a].address.quic());
    let member = &view.members[&world.nodes[a].id];
    assert_eq!((&*member.zone, &*member.version, &*member.name), ("zone-0", "0.1.0", "a"));
}

#[test]
fn a_change_is_known_everywhere_within_a_second() {
    let mut world = World::mesh(2, 5);
    let (key, body) = service("orders");
    world.input(3, Input::Register { key: key.clone(), body });
    let took = world.run_until(Duration::from_secs(3), |world| (0..5).all(|n| endpoints(world, n, "orders") == 1));
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
    world.input(3, Input::Withdraw { key });
    let took = world.run_until(Duration::from_secs(3), |world| (0..5).all(|n| endpoints(world, n, "orders") == 0));
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
}

#[test]
fn a_value_that_came_by_chitchat_counts_if_its_owner_signed_it() {
    let mut world = World::mesh(2, 2);
    let (key, body) = service("orders");
    world.cut(&[0], &[1]);
    world.input(1, Input::Register { key: key.clone(), body });
    let value = world.nodes[1].values[&key].clone();
    let owner = world.nodes[1].id;
    let wrong = world.nodes[0].id;
    world.input(0, Input::Value { owner: wrong, key: key.clone(), value: value.clone() });
    assert_eq!(endpoints(&world, 0, "orders"), 0);
    let mut forged = value.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    world.input(0, Input::Value { owner, key: key.clone(), value: forged.into() });
    assert_eq!(endpoints(&world, 0, "orders"), 0);
    assert_eq!(world.nodes[0].engine.counters().records_rejected, 1);
    world.input(0, Input::Value { owner, key, value });
    assert_eq!(endpoints(&world, 0, "orders"), 1);
}

#[test]
fn endpoints_of_a_dead_owner_go_unless_a_live_connection_exists() {
    let mut world = World::mesh(3, 3);
    let (key, body) = service("orders");
    world.input(2, Input::Register { key, body });
    let node = world.nodes[2].id;
    world.run_for(Duration::from_secs(1));
    world.input(0, Input::Link { node, up: true });
    world.kill(2);
    assert!(world.run_until(Duration::from_secs(8), |world| world.all_see(2, State::Down)).is_some());
    assert_eq!((endpoints(&world, 0, "orders"), endpoints(&world, 1, "orders")), (1, 0));
    world.input(0, Input::Link { node, up: false });
    assert_eq!(endpoints(&world, 0, "orders"), 0);
}

#[test]
fn endpoints_of_one_that_left_go_at_once_though_a_connection_exists() {
    let mut world = World::mesh(3, 2);
    let (key, body) = service("orders");
    world.input(1, Input::Register { key, body });
    world.run_for(Duration::from_secs(1));
    let node = world.nodes[1].id;
    world.input(0, Input::Link { node, up: true });
    assert_eq!(endpoints(&world, 0, "orders"), 1);
    world.input(1, Input::Leave { reason: String::new() });
    world.run_for(Duration::from_secs(1));
    assert_eq!(endpoints(&world, 0, "orders"), 0);
}

#[test]
fn one_that_restarts_no_longer_offers_what_it_offered_before() {
    let mut world = World::mesh(3, 3);
    let (key, body) = service("orders");
    world.input(2, Input::Register { key, body });
    world.run_for(Duration::from_secs(1));
    assert_eq!(endpoints(&world, 0, "orders"), 1);
    world.kill(2);
    world.restart(2, 2_000, 1);
    assert!(world.run_until(Duration::from_secs(3), World::all_alive).is_some());
    world.run_for(Duration::from_secs(1));
    assert_eq!((0..3).map(|n| endpoints(&world, n, "orders")).collect::<Vec<_>>(), [0, 0, 0]);
}

#[test]
fn a_load_is_told_to_others_and_makes_at_most_one_view_a_second() {
    let mut world = World::mesh(3, 2);
    world.run_for(Duration::from_secs(3));
    let before = world.nodes[0].engine.view().version;
    for n in 0..100 {
        world.input(1, Input::Load(v1::LoadSummary { in_flight: n, ..Default::default() }));
        world.run_for(Duration::from_millis(50));
    }
    world.run_for(Duration::from_secs(2));
    let view = world.nodes[0].engine.view();
    assert_eq!(view.members[&world.nodes[1].id].load.in_flight, 99);
    assert!(view.version - before <= 7, "{}", view.version - before);
}
