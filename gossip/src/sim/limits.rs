//! What is refused at the door.

use std::time::Duration;

use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeAddress};

use super::{World, credential, spiffe};
use crate::{Event, Input, Refusal, State};

#[test]
fn the_member_over_the_limit_is_refused_with_an_error_that_names_it() {
    let mut world = World::new(1);
    world.member_limit = 3;
    for n in 0..4 {
        world.add(&format!("n{n}"));
    }
    world.dial(1, 0);
    world.dial(2, 0);
    world.run_for(Duration::from_secs(2));
    world.dial(3, 0);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[0].refused, [Refusal::MemberLimit { limit: 3 }]);
    assert!(world.nodes[0].refused[0].to_string().contains("3 members"));
    assert_eq!(world.sees(0, 3), None);
    // A member that is down makes room.
    world.kill(2);
    world.run_for(Duration::from_secs(8));
    world.dial(3, 0);
    assert!(world.run_until(Duration::from_secs(3), World::all_alive).is_some(), "{}", world.table());
}

#[test]
fn a_mesh_of_five_hundred_is_full_and_its_members_may_join_again() {
    let mut world = World::new(1);
    let joining: Vec<_> = (0..501).map(|n| world.add(&format!("n{n}"))).collect();
    let join = |world: &mut World, n: usize| {
        let state = world.nodes[n].engine.join_state(None);
        world.input(0, Input::Joined { peer: spiffe(&format!("n{n}")), state });
        world.nodes[0].refused.len()
    };
    for n in &joining[1..500] {
        assert_eq!(join(&mut world, *n), 0, "member {}", n + 1);
    }
    assert_eq!(join(&mut world, 500), 1);
    assert_eq!(world.nodes[0].refused, [Refusal::MemberLimit { limit: 500 }]);
    assert_eq!((world.sees(0, 499), world.sees(0, 500)), (Some(State::Alive), None));
    assert_eq!((join(&mut world, 1), join(&mut world, 499)), (1, 1));
    assert_eq!(world.nodes[0].engine.view().members.len(), 500);
}

#[test]
fn a_second_node_with_the_name_of_a_live_one_is_refused() {
    let mut world = World::new(1);
    let (a, b, c) = (world.add("a"), world.add("b"), world.add("b"));
    world.dial(b, a);
    world.run_for(Duration::from_secs(1));
    world.dial(c, a);
    world.run_for(Duration::from_secs(1));
    let address = world.nodes[b].address.quic();
    let refusal = Refusal::NameTaken { name: spiffe("b"), holder: world.nodes[b].id, address };
    assert_eq!(world.nodes[a].refused, std::slice::from_ref(&refusal));
    assert!(refusal.to_string().starts_with("two nodes with one name"));
    assert_eq!((world.sees(a, c), world.sees(a, b)), (None, Some(State::Alive)));
    // Nor our own name.
    let twin = world.add("a");
    world.dial(twin, a);
    world.run_for(Duration::from_secs(1));
    assert!(matches!(&world.nodes[a].refused[1], Refusal::NameTaken { holder, .. } if *holder == world.nodes[a].id));
}

#[test]
fn the_name_of_one_that_is_down_is_free() {
    let mut world = World::new(1);
    let (a, b, c) = (world.add("a"), world.add("b"), world.add("b"));
    world.dial(b, a);
    world.run_for(Duration::from_secs(1));
    world.kill(b);
    world.run_for(Duration::from_secs(8));
    world.dial(c, a);
    assert!(world.run_until(Duration::from_secs(1), World::all_alive).is_some(), "{}", world.table());
}

#[test]
fn a_state_that_does_not_hold_together_is_refused() {
    let mut world = World::new(1);
    let (a, b, c) = (world.add("a"), world.add("b"), world.add("c"));
    let good = world.nodes[b].engine.join_state(None);
    let other = world.nodes[c].engine.join_state(None);
    let own = world.nodes[a].engine.join_state(None);
    let mut refuse = |change: &dyn Fn(&mut starling_proto::mesh::v1::JoinState), peer: &str, code: &str| {
        let mut state = good.clone();
        change(&mut state);
        world.input(a, Input::Joined { peer: spiffe(peer), state });
        assert_eq!(world.nodes[a].refused.last().map(Refusal::code), Some(code));
    };
    refuse(&|state| state.version = 2, "b", "version");
    refuse(&|state| state.identity = None, "b", "malformed");
    refuse(&|state| state.incarnation = 1 << 20, "b", "malformed");
    refuse(&|state| state.credential = b"bad".as_slice().into(), "b", "credential");
    refuse(&|state| state.credential = credential(&World::key(2), "c"), "b", "credential");
    refuse(&|state| state.identity = other.identity.clone(), "b", "credential");
    refuse(&|_| {}, "c", "other-name");
    refuse(&|state| *state = own.clone(), "a", "self");
    assert_eq!(world.nodes[a].engine.view().members.len(), 1);
    let codes: Vec<_> = world.nodes[a].engine.counters().refused.into_iter().collect();
    assert_eq!(codes, [("credential", 3), ("malformed", 2), ("other-name", 1), ("self", 1), ("version", 1)]);
}

#[test]
fn a_claim_of_a_remembered_generation_needs_proof() {
    let mut world = World::mesh(1, 2);
    let before = *world.nodes[0].engine.identity();
    let mut state = world.nodes[1].engine.join_state(None);
    state.remembered_generation = u32::MAX;
    world.input(0, Input::Joined { peer: spiffe("n1"), state });
    assert_eq!(*world.nodes[0].engine.identity(), before);
}

/// A state of node 1 that holds a record which node 0 signed in a generation.
fn remembering(world: &World, generation: u32) -> Input {
    let mut state = world.nodes[1].engine.join_state(None);
    let mut catalog = crate::catalog::Catalog::new(world.nodes[0].id, Generation(generation));
    let value = catalog.set("node", v1::NodeRecord::default().encode_to_vec().into(), &World::key(0)).unwrap();
    state.records.push(v1::SignedValue::decode(value).unwrap());
    state.remembered_generation = generation;
    Input::Joined { peer: spiffe("n1"), state }
}

#[test]
fn two_nodes_with_one_key_do_not_outbid_each_other() {
    let mut world = World::mesh(1, 2);
    let first = remembering(&world, 5_000);
    world.input(0, first);
    assert_eq!(world.nodes[0].engine.identity().generation, Generation(5_001));
    let second = remembering(&world, 6_000);
    world.input(0, second);
    assert_eq!(world.nodes[0].engine.identity().generation, Generation(5_001));
    let named = Event::KeyInUse { generation: Generation(6_000), address: None };
    assert!(world.nodes[0].events.iter().any(|(_, event)| *event == named));
}

#[test]
fn a_node_whose_key_runs_elsewhere_is_told_so_by_those_it_asks() {
    let mut world = World::mesh(1, 2);
    let own = *world.nodes[0].engine.identity();
    let at = |quic_port, generation| MemberIdentity {
        generation: Generation(generation),
        address: NodeAddress { quic_port, ..own.address },
        ..own
    };
    let (port, generation) = (own.address.quic_port, own.generation.0);
    let told = |world: &World| {
        world.nodes[0].events.iter().filter(|(_, event)| matches!(event, Event::KeyInUse { .. })).count()
    };
    // (known as, how often it was told after that)
    for (known, times) in [
        (at(port, generation), 0),
        (at(port + 1, generation - 1), 0),
        // Its own, of before its clock was set back: states that are exchanged will raise it.
        (at(port, generation + 1), 0),
        (at(port + 1, generation + 1), 1),
        (at(port + 1, generation + 1), 1),
    ] {
        let pong = v1::Pong { asker: Some((&known).into()), ..world.nodes[1].engine.pong(None) };
        let node = world.nodes[1].id;
        world.input(0, Input::Pong { node, pong: Some(pong) });
        assert_eq!(told(&world), times, "{known:?}");
    }
    assert_eq!(*world.nodes[0].engine.identity(), own, "nothing is done about it");
    let knows = world.nodes[1].engine.pong(Some(own.node_id)).asker.map(|wire| MemberIdentity::try_from(&wire));
    assert_eq!(knows.unwrap().unwrap(), own);
}

#[test]
fn a_flood_of_members_and_records_is_left_unread() {
    let mut world = World::mesh(1, 2);
    let mut state = world.nodes[1].engine.join_state(None);
    let stranger = world.add("stranger");
    let mut member = world.nodes[1].engine.resolve(&[world.nodes[0].id]).members[0].clone();
    member.identity = world.nodes[stranger].engine.join_state(None).identity;
    state.members = vec![member; 10_000];
    state.records = vec![v1::SignedValue::default(); 10_000];
    world.input(0, Input::Joined { peer: spiffe("n1"), state });
    let counters = world.nodes[0].engine.counters();
    assert_eq!(counters.refused, [("credential", 17)].into());
    assert_eq!(counters.records_rejected, 257);
    assert_eq!(world.sees(0, 1), Some(State::Alive));
}

#[test]
fn more_records_of_one_owner_than_it_can_have_are_left_unread() {
    let mut world = World::mesh(1, 2);
    let mut state = world.nodes[1].engine.join_state(None);
    let owner = *world.nodes[1].engine.identity();
    let mut catalog = crate::catalog::Catalog::new(owner.node_id, owner.generation);
    let body = |n: u32| v1::NodeRecord { shards: n, ..Default::default() }.encode_to_vec().into();
    let mut sign = |n| v1::SignedValue::decode(catalog.set("node", body(n), &World::key(1)).unwrap()).unwrap();
    state.records = (1..=1_000).map(&mut sign).collect();
    world.input(0, Input::Joined { peer: spiffe("n1"), state });
    let counters = world.nodes[0].engine.counters();
    assert_eq!(counters.records_rejected, 1);
    let known = world.nodes[0].engine.catalog().values_of(owner.node_id).map(|value| value.sequence).max();
    assert_eq!(known, Some(crate::catalog::MAX_KEYS as u64));
    // The rest comes the usual way.
    let newest = sign(1_001).encode_to_vec().into();
    world.input(0, Input::Value { owner: owner.node_id, key: "node".to_owned(), value: newest });
    let known = world.nodes[0].engine.catalog().values_of(owner.node_id).find(|value| value.key == "node").unwrap();
    assert_eq!(known.sequence, 1_001);
}

#[test]
fn a_claimed_floor_of_a_third_party_freezes_nobody() {
    let mut world = World::mesh(1, 2);
    let c = world.add("c");
    world.dial(c, 1);
    world.run_for(Duration::from_millis(50));
    // Node 1 tells a newcomer that all counters of node 0 are used up.
    let d = world.add("d");
    let mut state = world.nodes[1].engine.join_state(None);
    for member in &mut state.members {
        member.counter_floor = u64::MAX;
    }
    world.input(d, Input::Joined { peer: spiffe("n1"), state });
    world.dial(d, 1);
    let took = world.run_until(Duration::from_secs(10), World::all_alive);
    assert!(took.is_some(), "{}", world.table());
}

#[test]
fn joining_again_changes_nothing() {
    let mut world = World::mesh(1, 2);
    world.run_for(Duration::from_secs(1));
    let view = world.nodes[0].engine.view();
    for _ in 0..5 {
        world.dial(1, 0);
        world.run_for(Duration::from_millis(100));
    }
    assert_eq!(world.nodes[0].engine.view(), view);
    let up = |event: &Event| matches!(event, Event::MemberUp { .. });
    assert_eq!(world.nodes[0].events.iter().filter(|(_, event)| up(event)).count(), 1);
}
