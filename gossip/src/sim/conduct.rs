//! What a member may do how often, and that others are served meanwhile.

use std::time::Duration;

use bytes::Bytes;
use foca::Member;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeAddress, NodeId};

use super::adversary::Forged;
use super::{World, credential, spiffe};
use crate::swim::SwimIdentity;
use crate::{Input, Offence, Output, Rejection, SigningKey};

fn offences(world: &World, at: usize, of: usize) -> Vec<Offence> {
    let all = world.nodes[at].engine.offenders();
    all.get(&world.nodes[of].id).map_or_else(Vec::new, |offences| offences.keys().copied().collect())
}

#[test]
fn one_who_exchanges_states_all_the_time_is_told_to_wait_and_others_are_not() {
    let mut world = World::mesh(1, 3);
    world.run_for(Duration::from_secs(20));
    let state = world.nodes[1].engine.join_state(None);
    for _ in 0..100 {
        world.input(0, Input::Joined { peer: spiffe("n1"), state: state.clone() });
    }
    assert_eq!(world.nodes[0].engine.counters().refused, [("too-often", 68)].into());
    assert!(offences(&world, 0, 1).contains(&Offence::JoinFlood));
    let other = world.nodes[2].engine.join_state(None);
    world.input(0, Input::Joined { peer: spiffe("n2"), state: other });
    world.run_for(Duration::from_secs(1));
    world.input(0, Input::Joined { peer: spiffe("n1"), state });
    assert_eq!(world.nodes[0].engine.counters().refused["too-often"], 68);
    assert_eq!(offences(&world, 0, 2), []);
}

#[test]
fn a_flood_of_good_packets_is_dropped_unread_and_others_are_heard() {
    let mut world = World::mesh(1, 3);
    world.run_for(Duration::from_secs(5));
    let mut forged = Forged::new(&world, 1, 0);
    let from = world.gossip(1);
    for _ in 0..3_000 {
        forged.packet.counter += 1;
        let outputs = world.nodes[0].engine.handle(Input::Datagram { from, bytes: forged.seal() }, world.now);
        assert!(outputs.len() <= 1);
    }
    let flood = world.nodes[0].engine.counters().rejected[&Rejection::Flood];
    assert!((1_970..=1_990).contains(&flood), "{flood}");
    // Another is heard, and so is the flooder once it stopped.
    let (from, bytes) = (world.gossip(2), Forged::new(&world, 2, 0).seal());
    world.input(0, Input::Datagram { from, bytes });
    assert_eq!(world.nodes[0].engine.counters().rejected[&Rejection::Flood], flood);
    world.run_for(Duration::from_secs(5));
    assert!(world.all_alive(), "{}", world.table());
}

#[test]
fn a_flood_in_anothers_name_from_elsewhere_costs_that_one_nothing() {
    let mut world = World::mesh(1, 3);
    let mut forged = Forged::new(&world, 1, 0);
    forged.key = World::key(2);
    let from = world.gossip(2);
    for _ in 0..10_000 {
        forged.packet.counter += 1;
        world.input(0, Input::Datagram { from, bytes: forged.seal() });
    }
    let rejected = world.nodes[0].engine.counters().rejected;
    assert_eq!(rejected[&Rejection::BadSignature] + rejected[&Rejection::Flood], 10_000);
    assert!(rejected[&Rejection::BadSignature] <= 4_096);
    let (from, bytes) = (world.gossip(1), Forged::new(&world, 1, 0).seal());
    world.input(0, Input::Datagram { from, bytes });
    assert_eq!(world.nodes[0].engine.counters().rejected, rejected);
    assert!(world.nodes[0].engine.offenders().is_empty());
}

#[test]
fn datagrams_to_where_a_member_likes_are_few() {
    let mut world = World::mesh(1, 4);
    let target = NodeAddress { ip: [192, 0, 2, 1].into(), gossip_port: 53, quic_port: 53 };
    let two = *world.nodes[2].engine.identity();
    let mut sent = 0;
    let mut generation = 10_000;
    let start = world.now;
    for round in 0..600 {
        let claims = (0..16).map(|n| {
            generation += 1;
            let claim = MemberIdentity { generation: Generation(generation), address: target, ..two };
            Member::alive(SwimIdentity(MemberIdentity { rejoin: n, ..claim }))
        });
        let updates = claims.collect();
        let mut forged = Forged::new(&world, 1, 0).saying(&world, 1, 0, updates);
        forged.packet.counter += round;
        world.tap = Some(Vec::new());
        let from = world.gossip(1);
        world.input(0, Input::Datagram { from, bytes: forged.seal() });
        world.run_for(Duration::from_millis(100));
        let tapped = world.tap.take().unwrap();
        sent += tapped.iter().filter(|(_, to, _)| *to == target.gossip()).count();
    }
    let took = (world.now - start).as_secs();
    assert!((59..=61).contains(&took), "{took}");
    // 9,600 claims: each of 512 and one in ten seconds, of which most were replaced before anything was sent.
    assert!(sent <= 600, "{sent}");
    assert_eq!(offences(&world, 0, 1), [Offence::Phantoms]);
    assert_eq!((offences(&world, 0, 2), offences(&world, 0, 3)), (vec![], vec![]));
    assert!(world.all_alive(), "{}", world.table());
}

/// A node that a certificate vouches for, made up by who holds that certificate.
fn minted(n: u32, name: &str) -> v1::MemberState {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    let key = SigningKey::from_seed(seed).unwrap();
    let [_, _, high, low] = n.to_be_bytes();
    let identity = MemberIdentity {
        node_id: key.node_id(),
        address: NodeAddress { ip: [10, 9, high, low].into(), gossip_port: 1, quic_port: 2 },
        generation: Generation(1),
        rejoin: 0,
        cell: 0,
    };
    v1::MemberState {
        identity: Some((&identity).into()),
        status: v1::MemberStatus::Alive.into(),
        credential: credential(&key, name),
        ..Default::default()
    }
}

#[test]
fn thousands_of_identities_minted_from_one_certificate_take_the_room_of_one() {
    let mut world = World::new(1);
    world.member_limit = 20;
    for n in 0..5 {
        world.add(&format!("n{n}"));
        if n > 0 {
            world.dial(n, 0);
        }
    }
    assert!(world.run_until(Duration::from_secs(10), World::all_alive).is_some());
    // It left, so that its name is free, and yet its certificate is good.
    world.input(4, Input::Leave { reason: String::new() });
    world.run_for(Duration::from_secs(2));
    let mut state = world.nodes[4].engine.join_state(None);
    state.members = (0..5_000).map(|n| minted(n, "n4")).collect();
    for _ in 0..10 {
        world.input(0, Input::Joined { peer: spiffe("n4"), state: state.clone() });
        world.input(0, Input::Resolved { members: state.members.clone() });
    }
    assert!(world.nodes[0].engine.sizes().contacts <= 1, "{:?}", world.nodes[0].engine.sizes());
    let newcomer = world.add("newcomer");
    world.dial(newcomer, 0);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.sees(0, newcomer), Some(crate::State::Alive));
}

#[test]
fn candidates_that_others_vouch_for_do_not_keep_one_out_who_comes_itself() {
    let mut world = World::new(1);
    world.member_limit = 8;
    let (seed, member) = (world.add("seed"), world.add("member"));
    world.dial(member, seed);
    world.run_for(Duration::from_secs(2));
    // Credentials of nodes that are long gone are good, too.
    let mut state = world.nodes[member].engine.join_state(None);
    state.members = (0..30).map(|n| minted(n, &format!("gone-{n}"))).collect();
    world.input(seed, Input::Joined { peer: spiffe("member"), state });
    let contacts = world.nodes[seed].engine.sizes().contacts;
    assert_eq!(contacts, 6, "as many as there is room for");
    let newcomer = world.add("newcomer");
    world.dial(newcomer, seed);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.sees(seed, newcomer), Some(crate::State::Alive));
}

#[test]
fn one_who_names_strangers_without_end_keeps_nobody_from_being_heard_of() {
    let mut world = World::mesh(1, 3);
    let stranger = |n: u32| {
        let identity =
            MemberIdentity { node_id: NodeId::of_key(&n.to_be_bytes()), ..*world.nodes[2].engine.identity() };
        Member::alive(SwimIdentity(identity))
    };
    let mut packets: Vec<Bytes> = Vec::new();
    for round in 0..200 {
        let updates = (0..20).map(|n| stranger(round * 20 + n)).collect();
        let mut forged = Forged::new(&world, 1, 0).saying(&world, 1, 0, updates);
        forged.packet.counter += u64::from(round);
        packets.push(forged.seal());
    }
    let honest = Forged::new(&world, 2, 0).saying(&world, 2, 0, vec![stranger(1_000_000)]).seal();
    let (hostile, other) = (world.gossip(1), world.gossip(2));
    let mut asked = 0;
    for bytes in packets {
        for output in world.nodes[0].engine.handle(Input::Datagram { from: hostile, bytes }, world.now) {
            asked += if let Output::Resolve { ids, .. } = output { ids.len() } else { 0 };
        }
    }
    assert_eq!(asked, 512);
    let outputs = world.nodes[0].engine.handle(Input::Datagram { from: other, bytes: honest }, world.now);
    assert!(outputs.iter().any(|output| matches!(output, Output::Resolve { .. })));
}

#[test]
fn what_nobody_asked_for_is_no_answer() {
    let mut world = World::mesh(1, 2);
    world.input(0, Input::Resolved { members: vec![minted(1, "stranger")] });
    assert_eq!(world.nodes[0].engine.sizes().contacts, 0);
}

#[test]
fn one_who_writes_notices_without_end_is_not_passed_on_and_named() {
    let mut world = World::mesh(1, 3);
    let generation = world.nodes[1].engine.identity().generation;
    let mut forged = Forged::new(&world, 1, 0);
    for seq in 0..500 {
        let body = v1::HealthFlip { service: "ns/default/svc/orders".to_owned(), ..Default::default() };
        let notice = crate::notice::sign(v1::NoticeKind::Health, generation, 10_000 + seq, &body, &World::key(1));
        forged.packet.counter += 1;
        forged.packet.notices = vec![notice.unwrap()];
        let from = world.gossip(1);
        world.nodes[0].engine.handle(Input::Datagram { from, bytes: forged.seal() }, world.now);
    }
    assert_eq!(offences(&world, 0, 1), [Offence::NoticeFlood]);
    assert!(world.nodes[0].engine.sizes().notices <= 256);
    // What another says is told first all the same.
    world.input(0, Input::Register { key: "mine".to_owned(), body: Bytes::from_static(b"x") });
    let took = world.run_until(Duration::from_secs(2), |world| {
        world.nodes[2].engine.catalog().values().any(|value| value.key == "mine")
    });
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
}
