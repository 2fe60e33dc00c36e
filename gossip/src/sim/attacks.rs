//! Whatever should be refused is refused, counted by its reason, and changes nothing.

use std::time::Duration;

use bytes::Bytes;
use foca::{Member, State as SwimState};
use starling_proto::{Generation, MemberIdentity, NodeId};

use super::World;
use super::adversary::{Forged, gossip};
use crate::swim::SwimIdentity;
use crate::{Event, Input, Keyring, Rejection, State, envelope};

/// Feeds node 0 one datagram and checks that it is refused for this reason and nothing else happens.
fn refused(world: &mut World, from: usize, bytes: Bytes, reason: Rejection) {
    let from = world.gossip(from);
    refused_from(world, from, bytes, reason);
}

fn refused_from(world: &mut World, from: std::net::SocketAddr, bytes: Bytes, reason: Rejection) {
    let engine = &mut world.nodes[0].engine;
    let (view, state, counters) = (engine.view(), engine.join_state(None), engine.counters());
    let outputs = engine.handle(Input::Datagram { from, bytes }, world.now);
    // That an offender is named too, and keys compared, is looked at elsewhere.
    let apart = |output: &&crate::Output| {
        matches!(output, crate::Output::Event(Event::Offender { .. }) | crate::Output::ExchangeKeys { .. })
    };
    let events: Vec<_> = outputs.iter().filter(|o| !apart(o)).map(|output| format!("{output:?}")).collect();
    let expected = crate::Output::Event(Event::Rejected { from, reason });
    assert_eq!(events, [format!("{expected:?}")]);
    assert_eq!(engine.view(), view);
    assert_eq!(engine.join_state(None), state);
    let before = counters.rejected.get(&reason).copied().unwrap_or(0);
    assert_eq!(engine.counters().rejected[&reason], before + 1);
}

#[test]
fn every_captured_packet_is_refused_the_second_time() {
    let mut world = World::mesh(1, 3);
    world.tap = Some(Vec::new());
    world.run_for(Duration::from_secs(10));
    let captured = world.tap.take().unwrap();
    // What was sent last may still be on its way.
    world.run_for(Duration::from_millis(10));
    let to_zero: Vec<_> = captured.into_iter().filter(|(_, to, _)| *to == world.gossip(0)).collect();
    assert!(to_zero.len() > 20);
    for (from, _, bytes) in to_zero {
        refused_from(&mut world, from, bytes, Rejection::Replay);
    }
}

#[test]
fn a_packet_for_another_node_is_refused() {
    let mut world = World::mesh(1, 3);
    world.tap = Some(Vec::new());
    world.run_for(Duration::from_secs(2));
    let captured = world.tap.take().unwrap();
    let (one, two) = (world.gossip(1), world.gossip(2));
    let (from, _, bytes) = captured.into_iter().find(|(from, to, _)| *from == one && *to == two).unwrap();
    refused_from(&mut world, from, bytes, Rejection::WrongDestination);
}

#[test]
fn after_a_restart_of_the_receiver_old_packets_are_below_the_floor() {
    let mut world = World::mesh(4, 3);
    world.tap = Some(Vec::new());
    world.run_for(Duration::from_secs(3));
    let captured = world.tap.take().unwrap();
    world.kill(0);
    world.restart(0, 2_000, 1);
    assert!(world.run_until(Duration::from_secs(5), World::all_alive).is_some());
    let to_zero: Vec<_> = captured.into_iter().filter(|(_, to, _)| *to == world.gossip(0)).collect();
    assert!(to_zero.len() > 10);
    for (from, _, bytes) in to_zero {
        refused_from(&mut world, from, bytes, Rejection::Replay);
    }
}

#[test]
fn garbage_and_outsiders_are_refused_before_anything_is_parsed() {
    let mut world = World::mesh(1, 2);
    refused(&mut world, 1, Bytes::new(), Rejection::Size);
    refused(&mut world, 1, Bytes::from(vec![1; 1_233]), Rejection::Size);
    refused(&mut world, 1, Bytes::from(vec![9; 100]), Rejection::Version);
    refused(&mut world, 1, Bytes::from(vec![1; 100]), Rejection::Epoch);
    let mut forged = Forged::new(&world, 1, 0);
    forged.keyring = Keyring::try_new(vec![(1, [1; 32])]).unwrap();
    refused(&mut world, 1, forged.seal(), Rejection::Unsealed);
    forged.keyring = Keyring::try_new(vec![(9, super::GROUP_KEY)]).unwrap();
    refused(&mut world, 1, forged.seal(), Rejection::Epoch);
}

#[test]
fn a_member_can_not_speak_for_another() {
    let mut world = World::mesh(1, 3);
    let mut forged = Forged::new(&world, 1, 0);
    forged.key = World::key(2);
    refused(&mut world, 1, forged.seal(), Rejection::BadSignature);
    // Signed by 1, but in foca's header it is 2.
    let (two, zero) = (*world.nodes[2].engine.identity(), *world.nodes[0].engine.identity());
    let mut forged = Forged::new(&world, 1, 0);
    forged.packet.swim = gossip(two, zero, vec![]);
    refused(&mut world, 1, forged.seal(), Rejection::BadSwim);
}

#[test]
fn a_spoofed_source_is_refused() {
    let mut world = World::mesh(1, 3);
    let forged = Forged::new(&world, 1, 0).saying(&world, 1, 0, vec![]);
    refused(&mut world, 2, forged.seal(), Rejection::WrongSource);
    // Nor can the signer move without a new generation.
    let mut moved = *world.nodes[1].engine.identity();
    moved.address.gossip_port += 1;
    let zero = *world.nodes[0].engine.identity();
    let mut forged = Forged::new(&world, 1, 0);
    forged.packet.swim = gossip(moved, zero, vec![]);
    refused_from(&mut world, moved.address.gossip(), forged.seal(), Rejection::WrongSource);
}

#[test]
fn an_unknown_sender_is_refused_though_it_has_the_group_key() {
    let mut world = World::mesh(1, 2);
    let stranger = world.add("stranger");
    let forged = Forged::new(&world, stranger, 0).saying(&world, stranger, 0, vec![]);
    refused(&mut world, stranger, forged.seal(), Rejection::UnknownSender);
    let mut forged = Forged::new(&world, 1, 0);
    forged.packet.sender = world.nodes[0].id.to_bytes();
    refused(&mut world, 1, forged.seal(), Rejection::Ourselves);
}

#[test]
fn a_stranger_that_shows_its_certificate_is_spoken_to_and_counts_once_it_answers() {
    let mut world = World::mesh(1, 3);
    let stranger = world.add("stranger");
    let credential = world.nodes[stranger].engine.join_state(None).credential;
    let greet = |world: &World, change: &dyn Fn(&mut Forged)| {
        let mut forged = Forged::new(world, stranger, 0).saying(world, stranger, 0, vec![]);
        forged.packet.credential = credential.clone();
        change(&mut forged);
        forged.seal()
    };
    // What it did not sign, what is another's, and what comes from elsewhere is no greeting.
    let bytes = greet(&world, &|forged| forged.key = World::key(1));
    refused(&mut world, stranger, bytes, Rejection::UnknownSender);
    let others = world.nodes[1].engine.join_state(None).credential;
    let bytes = greet(&world, &|forged| forged.packet.credential = others.clone());
    refused(&mut world, stranger, bytes, Rejection::UnknownSender);
    let bytes = greet(&world, &|_| ());
    refused(&mut world, 1, bytes.clone(), Rejection::UnknownSender);
    assert_eq!(world.nodes[0].engine.sizes().contacts, 0);
    refused(&mut world, stranger, bytes, Rejection::UnknownSender);
    assert_eq!(world.nodes[0].engine.sizes().contacts, 1);
    // It never answers.
    world.nodes[stranger].up = false;
    world.run_for(Duration::from_secs(30));
    assert_eq!((world.nodes[0].engine.sizes().contacts, world.sees(0, stranger)), (0, None));
}

#[test]
fn an_announce_makes_its_sender_known_without_a_question() {
    let mut world = World::mesh(1, 3);
    let newcomer = world.add("newcomer");
    world.dial(newcomer, 0);
    // Time for the seed's answer, and for no question yet.
    world.run_for(Duration::from_millis(4));
    world.no_connections = true;
    let met = |world: &World| (0..3).all(|n| world.sees(n, newcomer) == Some(State::Alive));
    let took = world.run_until(Duration::from_secs(5), met);
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}{}", world.table());
}

#[test]
fn a_packet_of_another_boot_is_refused() {
    let mut world = World::mesh(1, 2);
    let mut forged = Forged::new(&world, 1, 0);
    forged.packet.generation -= 1;
    refused(&mut world, 1, forged.seal(), Rejection::StaleGeneration);
    forged.packet.generation += 2;
    refused(&mut world, 1, forged.seal(), Rejection::UnknownGeneration);
}

#[test]
fn a_packet_with_damaged_swim_is_refused() {
    let mut world = World::mesh(1, 2);
    let mut forged = Forged::new(&world, 1, 0);
    forged.packet.swim = Bytes::from_static(b"nonsense");
    refused(&mut world, 1, forged.seal(), Rejection::BadSwim);
}

fn stranger() -> MemberIdentity {
    let key = World::key(99);
    let mut identity = MemberIdentity {
        node_id: key.node_id(),
        address: starling_proto::NodeAddress { ip: [10, 0, 0, 99].into(), gossip_port: 1, quic_port: 2 },
        generation: Generation(1),
        rejoin: 0,
        cell: 0,
    };
    identity.cell = 0;
    identity
}

#[test]
fn hearsay_introduces_moves_restarts_and_renews_nobody() {
    let mut world = World::mesh(1, 3);
    let two = *world.nodes[2].engine.identity();
    let moved = MemberIdentity { address: stranger().address, ..two };
    let claims = [
        stranger(),
        MemberIdentity { generation: Generation(9_000), ..two },
        MemberIdentity { generation: Generation(9_000), ..moved },
        MemberIdentity { rejoin: 9, ..two },
        moved,
    ];
    let updates = claims.map(|claim| Member::alive(SwimIdentity(claim))).to_vec();
    let forged = Forged::new(&world, 1, 0).saying(&world, 1, 0, updates);
    let view = world.nodes[0].engine.view();
    let from = world.gossip(1);
    world.input(0, Input::Datagram { from, bytes: forged.seal() });
    assert_eq!(world.nodes[0].engine.view().members, view.members);
    world.run_for(Duration::from_mins(1));
    let members = world.nodes[0].engine.view();
    let addresses: Vec<_> = members.members.values().map(|member| (member.id, member.address)).collect();
    let before: Vec<_> = view.members.values().map(|member| (member.id, member.address)).collect();
    assert_eq!(addresses, before);
    assert!(world.all_alive(), "{}", world.table());
    assert_eq!(members.members[&two.node_id].generation, two.generation);
}

#[test]
fn a_hint_of_a_stranger_is_asked_after_once() {
    let mut world = World::mesh(1, 2);
    let ask = |world: &mut World| {
        let mut forged = Forged::new(world, 1, 0).saying(world, 1, 0, vec![Member::alive(SwimIdentity(stranger()))]);
        let floor = world.nodes[0].engine.resolve(&[world.nodes[1].id]).members[0].counter_floor;
        forged.packet.counter = forged.packet.counter.max(floor + 1);
        let from = world.gossip(1);
        let outputs = world.nodes[0].engine.handle(Input::Datagram { from, bytes: forged.seal() }, world.now);
        outputs.into_iter().filter(|output| matches!(output, crate::Output::Resolve { .. })).count()
    };
    assert_eq!(ask(&mut world), 1);
    assert_eq!(ask(&mut world), 0);
    world.now += Duration::from_secs(3);
    assert_eq!(ask(&mut world), 1);
}

#[test]
fn one_that_is_told_that_it_is_down_refutes_and_one_that_is_not_believed_renews_at_most_once_in_ten_seconds() {
    let mut world = World::mesh(1, 3);
    let told = |world: &mut World| {
        let this = *world.nodes[0].engine.identity();
        let update = Member::new(SwimIdentity(this), 0, SwimState::Down);
        let mut forged = Forged::new(world, 1, 0).saying(world, 1, 0, vec![update]);
        let floor = world.nodes[0].engine.resolve(&[world.nodes[1].id]).members[0].counter_floor;
        forged.packet.counter = forged.packet.counter.max(floor + 1);
        let from = world.gossip(1);
        world.input(0, Input::Datagram { from, bytes: forged.seal() });
    };
    let rejoin = |world: &World| world.nodes[0].engine.identity().rejoin;
    for _ in 0..50 {
        told(&mut world);
        world.run_for(Duration::from_millis(1));
    }
    let refuted = world.nodes[0].engine.join_state(None).incarnation;
    assert_eq!((rejoin(&world), refuted), (0, 1));
    for _ in 0..300 {
        told(&mut world);
        world.run_for(Duration::from_millis(50));
    }
    assert!((1..=2).contains(&rejoin(&world)), "{}", rejoin(&world));
    assert!(world.run_until(Duration::from_secs(3), World::all_alive).is_some(), "{}", world.table());
}

#[test]
fn a_flood_of_suspicions_takes_one_number_a_probe_period() {
    let mut world = World::mesh(1, 3);
    let before = *world.nodes[0].engine.identity();
    for n in 0..100 {
        let update = Member::new(SwimIdentity(before), u16::MAX - n, SwimState::Suspect);
        let mut forged = Forged::new(&world, 1, 0).saying(&world, 1, 0, vec![update]);
        let floor = world.nodes[0].engine.resolve(&[world.nodes[1].id]).members[0].counter_floor;
        forged.packet.counter = forged.packet.counter.max(floor + 1);
        forged.packet.suspect_flag = true;
        let from = world.gossip(1);
        world.input(0, Input::Datagram { from, bytes: forged.seal() });
        world.now += Duration::from_millis(10);
    }
    assert_eq!(*world.nodes[0].engine.identity(), before);
    let incarnation = world.nodes[0].engine.join_state(None).incarnation;
    assert!((1..=3).contains(&incarnation), "{incarnation}");
}

#[test]
fn a_forged_departure_takes_nobody_out() {
    use prost::Message;
    use starling_proto::mesh::v1;
    let mut world = World::mesh(1, 3);
    let two = *world.nodes[2].engine.identity();
    let body = v1::Departure { identity: Some((&two).into()), reason: String::new() };
    let mut notice = crate::notice::sign(v1::NoticeKind::Departure, two.generation, 77, &body, &World::key(1)).unwrap();
    for (author, reason) in [
        (two.node_id, Rejection::ForgedNotice),
        (world.nodes[1].id, Rejection::BadNotice),
        (NodeId::of_key(b"nobody"), Rejection::UnknownAuthor),
    ] {
        notice.author = author.to_bytes();
        let mut forged = Forged::new(&world, 1, 0);
        let floor = world.nodes[0].engine.resolve(&[world.nodes[1].id]).members[0].counter_floor;
        forged.packet.counter = forged.packet.counter.max(floor + 1);
        forged.packet.notices.push(notice.clone());
        assert!(forged.packet.encoded_len() < envelope::MAX_PACKET);
        let from = world.gossip(1);
        world.input(0, Input::Datagram { from, bytes: forged.seal() });
        assert_eq!(world.nodes[0].engine.counters().rejected.get(&reason), Some(&1), "{reason}");
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.sees(0, 2), Some(State::Alive));
}

#[test]
fn an_announce_is_padded_to_the_size_of_a_datagram() {
    let mut world = World::new(1);
    let (a, b, c) = (world.add("a"), world.add("b"), world.add("c"));
    world.dial(b, a);
    world.run_for(Duration::from_millis(100));
    world.tap = Some(Vec::new());
    world.dial(c, a);
    world.run_for(Duration::from_millis(100));
    let largest = world.tap.unwrap().iter().map(|(_, _, bytes)| bytes.len()).max();
    assert_eq!(largest, Some(envelope::MAX_DATAGRAM));
}
