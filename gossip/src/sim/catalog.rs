//! Records arrive, and a view shows them as long as their owner is there.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use starling_proto::mesh::v1;

use super::World;
use crate::{Input, State};

/// The key and the body of a record of a service that is well.
pub(super) fn service(name: &str) -> (String, Bytes) {
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

/// A service whose record is too large to ride on a packet.
fn large_service(name: &str) -> (String, Bytes) {
    let (key, body) = service(name);
    let mut record = v1::ServiceRecord::decode(body).unwrap();
    record.labels = (0..20).map(|n| (format!("label-{n}"), "x".repeat(100))).collect();
    (key, record.encode_to_vec().into())
}

#[test]
fn a_change_of_a_large_record_is_pulled_everywhere_within_two_seconds() {
    let mut world = World::mesh(2, 25);
    let (key, body) = large_service("orders");
    assert!(body.len() > 2_000);
    world.input(3, Input::Register { key: key.clone(), body });
    let took = world.run_until(Duration::from_secs(5), |world| (0..25).all(|n| endpoints(world, n, "orders") == 1));
    assert!(took.is_some_and(|took| took < Duration::from_secs(2)), "{took:?}");
    world.input(3, Input::Withdraw { key });
    let took = world.run_until(Duration::from_secs(5), |world| (0..25).all(|n| endpoints(world, n, "orders") == 0));
    assert!(took.is_some_and(|took| took < Duration::from_secs(2)), "{took:?}");
}

#[test]
fn one_who_announces_what_it_does_not_give_costs_a_few_questions() {
    let mut world = World::mesh(2, 3);
    let owner = *world.nodes[1].engine.identity();
    let mut asked = 0;
    for seq in 0..200 {
        let body = v1::RecordAnnouncement { key: format!("k{seq}"), version: 1_000 };
        let kind = v1::NoticeKind::RecordAnnouncement;
        let notice = crate::notice::sign(kind, owner.generation, 1_000 + seq, &body, &World::key(1)).unwrap();
        let mut forged = super::adversary::Forged::new(&world, 1, 0);
        forged.packet.counter += seq;
        forged.packet.notices.push(notice);
        let from = world.gossip(1);
        let outputs = world.nodes[0].engine.handle(Input::Datagram { from, bytes: forged.seal() }, world.now);
        asked += outputs.iter().filter(|output| matches!(output, crate::Output::Pull { .. })).count();
    }
    assert_eq!(asked, 32);
    world.run_for(Duration::from_secs(5));
    assert!(world.all_alive(), "{}", world.table());
}

#[test]
fn a_service_that_its_owners_certificate_does_not_name_is_shown_to_nobody_and_its_owner_is_named() {
    let mut world = World::mesh(2, 3);
    world.certified = (&["default/orders"], 1);
    let liar = world.add("liar");
    world.dial(liar, 0);
    assert!(world.run_until(Duration::from_secs(5), World::all_alive).is_some());
    for name in ["orders", "billing"] {
        let (key, body) = service(name);
        world.input(liar, Input::Register { key, body });
    }
    world.run_for(Duration::from_secs(3));
    let node = world.nodes[liar].id;
    assert!(world.nodes[0].engine.offenders().is_empty(), "it may have a newer certificate");
    world.run_for(Duration::from_secs(10));
    world.level();
    for n in 0..3 {
        assert_eq!((endpoints(&world, n, "orders"), endpoints(&world, n, "billing")), (1, 0));
        let offences = world.nodes[n].engine.offenders();
        assert_eq!(offences[&node].keys().copied().collect::<Vec<_>>(), [crate::Offence::ServiceNotNamed]);
        let said = |event: &crate::Event| match event {
            crate::Event::RejectedRecord { owner, reason } => *owner == node && reason.contains("billing"),
            _ => false,
        };
        assert!(world.nodes[n].events.iter().any(|(_, event)| said(event)));
        assert_eq!(world.nodes[n].engine.differing(), [], "catalogs are equal all the same");
    }
}

#[test]
fn a_newer_certificate_that_names_the_service_counts_on_nodes_that_never_met_its_owner() {
    let mut world = World::mesh(2, 6);
    world.certified = (&["default/orders"], 1);
    let owner = world.add("owner");
    world.dial(owner, 0);
    assert!(world.run_until(Duration::from_secs(5), World::all_alive).is_some());
    world.certified = (&["default/orders", "default/billing"], 2);
    world.kill(owner);
    world.restart(owner, 2_000, 0);
    assert!(world.run_until(Duration::from_secs(5), World::all_alive).is_some());
    let (key, body) = service("billing");
    world.input(owner, Input::Register { key, body });
    let took = world.run_until(Duration::from_secs(10), |world| (0..6).all(|n| endpoints(world, n, "billing") == 1));
    assert!(took.is_some_and(|took| took < Duration::from_secs(3)), "{took:?}");
    world.run_for(Duration::from_secs(15));
    assert!((0..6).all(|n| world.nodes[n].engine.offenders().is_empty()), "nobody honest is blamed");
}

#[test]
fn a_certificate_that_names_less_takes_services_away() {
    let mut world = World::mesh(2, 2);
    let (key, body) = service("orders");
    world.input(1, Input::Register { key, body });
    world.run_for(Duration::from_secs(1));
    assert_eq!(endpoints(&world, 0, "orders"), 1);
    let mut state = world.nodes[1].engine.join_state(None);
    state.credential = super::credential_for(&World::key(1), "n1", &["default/other"], 2);
    world.input(0, Input::Joined { peer: super::spiffe("n1"), state });
    assert_eq!(endpoints(&world, 0, "orders"), 0);
}

#[test]
fn the_lease_of_a_record_is_its_owners_life_and_a_suspicion_does_not_end_it() {
    let mut world = World::mesh(7, 4);
    let (key, body) = service("orders");
    world.input(3, Input::Register { key, body });
    world.run_for(Duration::from_secs(1));
    world.cut(&[3], &[0, 1, 2]);
    let took = world.run_until(Duration::from_secs(10), |world| world.sees(0, 3) == Some(State::Suspect));
    assert!(took.is_some());
    assert_eq!(endpoints(&world, 0, "orders"), 1, "not while it is merely suspected");
    assert!(world.run_until(Duration::from_secs(15), |world| world.all_see(3, State::Down)).is_some());
    assert_eq!((0..3).map(|n| endpoints(&world, n, "orders")).collect::<Vec<_>>(), [0, 0, 0]);
    // Its records were kept: when it is back, nothing has to be sent again.
    world.heal();
    assert!(world.run_until(Duration::from_secs(20), World::all_alive).is_some());
    assert_eq!((0..3).map(|n| endpoints(&world, n, "orders")).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn of_whom_a_value_is_missing_is_known_whatever_others_hold() {
    let mut world = World::mesh(5, 4);
    world.run_for(Duration::from_secs(3));
    assert!((0..4).all(|n| world.nodes[n].engine.differing().is_empty()));
    // Node 2 hears nothing of a change, but for the packets that say that there was one.
    let (key, body) = service("orders");
    let before = world.nodes[1].engine.catalog().hash();
    let outputs = world.nodes[1].engine.handle(Input::Register { key, body }, world.now);
    assert!(!outputs.is_empty());
    let silent = |packet: &mut v1::Packet| packet.notices.clear();
    let mut forged = super::adversary::Forged::new(&world, 1, 2);
    silent(&mut forged.packet);
    forged.packet.catalog_hash = world.nodes[1].engine.catalog().hash_of(world.nodes[1].id);
    assert_ne!(world.nodes[1].engine.catalog().hash(), before);
    let from = world.gossip(1);
    world.input(2, Input::Datagram { from, bytes: forged.seal() });
    let node = world.nodes[1].id;
    assert_eq!(world.nodes[2].engine.differing().iter().map(|(node, _)| *node).collect::<Vec<_>>(), [node]);
    // The owner gives what is missing.
    for value in world.nodes[1].engine.pulled(node, &[]) {
        let (key, value) = (value.key.clone(), value.encode_to_vec().into());
        world.input(2, Input::Value { owner: node, key, value });
    }
    assert_eq!(world.nodes[2].engine.differing(), []);
    assert_eq!(endpoints(&world, 2, "orders"), 1);
}

#[test]
fn what_a_state_has_no_room_for_is_asked_for_after_it() {
    let mut world = World::mesh(3, 6);
    for n in 0..6 {
        for k in 0..15 {
            let (key, body) = (format!("filler{k}"), Bytes::from(vec![0x5a; 3_800]));
            world.input(n, Input::Register { key, body });
        }
    }
    world.level();
    assert!((0..6).all(|n| whole(&world, n, 6)));
    let newcomer = world.add("newcomer");
    let state = world.nodes[0].engine.join_state(Some(world.nodes[newcomer].id));
    assert_eq!(state.left_out.len(), 4, "two of six shares fit into a state of the tests");
    world.dial(newcomer, 0);
    let took = world.run_until(Duration::from_secs(10), |world| whole(world, newcomer, 7));
    assert!(took.is_some_and(|took| took < Duration::from_secs(2)), "{took:?}");
}

/// Does a node hold all that each of so many has?
fn whole(world: &World, n: usize, nodes: usize) -> bool {
    let hash = |at: usize, of: usize| world.nodes[at].engine.catalog().hash_of(world.nodes[of].id);
    (0..nodes).all(|of| hash(n, of) == hash(of, of))
}

#[test]
fn one_that_withdraws_without_end_begins_a_new_generation_and_still_offers_what_it_did() {
    let mut world = World::mesh(4, 3);
    let (key, body) = service("orders");
    world.input(1, Input::Register { key, body });
    for n in 0..140 {
        let (key, body) = service(&format!("passing{n}"));
        world.input(1, Input::Register { key: key.clone(), body });
        world.input(1, Input::Withdraw { key });
        if n % 10 == 0 {
            world.run_for(Duration::from_millis(500));
        }
    }
    world.run_for(Duration::from_secs(5));
    world.level();
    let generation = world.nodes[1].engine.identity().generation;
    assert_eq!(generation, starling_proto::Generation(1_001));
    let mine = |n: usize| {
        let values = world.nodes[n].engine.catalog().values_of(world.nodes[1].id);
        values.filter(|value| !value.withdrawn && value.generation == generation.0).count()
    };
    assert_eq!((0..3).map(mine).collect::<Vec<_>>(), [2, 2, 2], "its own record, and the service");
    assert_eq!((0..3).map(|n| endpoints(&world, n, "orders")).collect::<Vec<_>>(), [1, 1, 1]);
    assert!(world.all_alive(), "{}", world.table());
    let down = |event: &crate::Event| matches!(event, crate::Event::MemberDown { .. });
    assert!((0..3).all(|n| !world.nodes[n].events.iter().any(|(_, event)| down(event))));
    assert!((0..3).all(|n| world.nodes[n].engine.offenders().is_empty()), "nobody honest is blamed");
}
