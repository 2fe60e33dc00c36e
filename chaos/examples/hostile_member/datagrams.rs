//! What it sends to gossip ports. Each says how often it did it.

use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use rand::RngExt;
use starling_gossip::raw::{self, SwimState};
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity};

use crate::PAUSE;
use crate::member::Member;
use crate::mint::Minted;

/// Packets of one flood: more than a node looks into of one member at once.
const FLOOD: usize = 1_200;
/// Packets of accusations at a time.
const ACCUSATIONS: usize = 80;
/// Identities that greet between two pauses.
const SLICE: usize = 20;

pub(crate) async fn lie(member: &mut Member, to: MemberIdentity) -> u64 {
    let own = *member.engine.identity();
    let choice = member.rng.random_range(0..4);
    let lies = member.others().into_iter().map(|other| match choice {
        0 => {
            let moved =
                MemberIdentity { generation: Generation(u32::MAX), rejoin: u16::MAX, address: own.address, ..other };
            (moved, 0, SwimState::Alive)
        }
        1 => (other, u16::MAX, SwimState::Down),
        2 => (other, 0, SwimState::Down),
        _ => (other, u16::MAX, SwimState::Suspect),
    });
    let lies = lies.collect::<Vec<_>>();
    let mut packet = member.packet(to.node_id);
    packet.swim = raw::gossip(own, to, &lies).unwrap_or_default();
    member.send(to.address.gossip(), &packet).await
}

pub(crate) async fn threaten(member: &mut Member, to: MemberIdentity) -> u64 {
    let own = *member.engine.identity();
    let mut packet = member.packet(to.node_id);
    packet.swim = raw::gossip(own, to, &[(to, u16::MAX, SwimState::Down)]).unwrap_or_default();
    packet.suspect_flag = true;
    packet.catalog_hash = 1;
    packet.keyring = u64::MAX;
    packet.load = Some(v1::LoadSummary { in_flight: u32::MAX, overload: u32::MAX, ..Default::default() });
    member.send(to.address.gossip(), &packet).await
}

fn notice(member: &mut Member, kind: v1::NoticeKind, body: &impl Message) -> v1::Notice {
    member.notices += 1;
    let own = member.engine.identity();
    let mut notice = v1::Notice {
        kind: kind.into(),
        author: own.node_id.to_bytes(),
        generation: own.generation.0,
        seq: member.notices,
        body: body.encode_to_vec().into(),
        signature: Bytes::new(),
    };
    raw::sign_notice(&mut notice, &member.key);
    notice
}

/// More than it may: each of others, again and again.
pub(crate) async fn accuse(member: &mut Member, to: MemberIdentity) -> u64 {
    let mut told = 0;
    for _ in 0..ACCUSATIONS {
        let mut packet = member.packet(to.node_id);
        for other in member.others().into_iter().filter(|other| other.node_id != to.node_id).take(3) {
            let body = v1::Accusation {
                accused: Some((&other).into()),
                incarnation: u16::MAX.into(),
                reason: v1::AccusationReason::ProbeFailed.into(),
                failed: 1,
                observed: 1,
            };
            packet.notices.push(notice(member, v1::NoticeKind::Accusation, &body));
        }
        told += member.send(to.address.gossip(), &packet).await;
    }
    told
}

/// In the name of another, whom it tells its victim of.
pub(crate) async fn forge(member: &mut Member, to: MemberIdentity) -> u64 {
    let others = member.others();
    let Some(other) = others.iter().find(|other| other.node_id != to.node_id) else { return 0 };
    let body = v1::Departure { identity: Some(other.into()), reason: "bye".to_owned() };
    let own = notice(member, v1::NoticeKind::Departure, &body);
    let mut forged = own.clone();
    forged.author = other.node_id.to_bytes();
    forged.generation = other.generation.0;
    let dismissal = v1::Dismissal { identity: Some(other.into()), prune: true, reason: String::new() };
    let dismissal = notice(member, v1::NoticeKind::Dismissal, &dismissal);
    let mut packets = Vec::new();
    for said in [own, forged, dismissal] {
        let mut packet = member.packet(to.node_id);
        packet.notices.push(said);
        packets.push(packet);
    }
    let mut packet = member.packet(to.node_id);
    packet.sender = other.node_id.to_bytes();
    packet.generation = other.generation.0;
    packet.counter = u64::MAX;
    packets.push(packet);
    let mut packet = member.packet(to.node_id);
    packet.swim = raw::gossip(*other, to, &[]).unwrap_or_default();
    packets.push(packet);
    let mut packet = member.packet(to.node_id);
    packet.swim = (0..200).map(|_| member.rng.random::<u8>()).collect();
    packets.push(packet);
    let mut told = 0;
    for packet in &packets {
        told += member.send(to.address.gossip(), packet).await;
    }
    told
}

/// What others sent to it goes to a third, and back; and what it sent itself once more.
pub(crate) async fn replay(member: &mut Member, to: MemberIdentity) -> u64 {
    let at = to.address.gossip();
    let packet = member.packet(to.node_id);
    let own = member.seal(&packet);
    if let Some(own) = &own {
        member.send_bytes(at, own).await;
    }
    let captured: Vec<Bytes> = member.captured.iter().rev().take(30).cloned().collect();
    let mut replayed = 0;
    for bytes in own.iter().chain(&captured) {
        replayed += member.send_bytes(at, bytes).await;
    }
    replayed
}

/// More than is looked into of one.
pub(crate) async fn flood(member: &mut Member, to: MemberIdentity) -> u64 {
    let mut sent = 0;
    for _ in 0..FLOOD {
        let packet = member.packet(to.node_id);
        sent += member.send(to.address.gossip(), &packet).await;
    }
    sent
}

/// Identities it made up greet a node from its own address, each with a good certificate and a signature of its own.
pub(crate) async fn greet(member: &mut Member, to: MemberIdentity, minted: &[Minted]) -> u64 {
    let mut sent = 0;
    for slice in minted.chunks(SLICE) {
        for one in slice {
            let identity = one.identity(member.engine.identity());
            let packet = v1::Packet {
                version: 1,
                sender: identity.node_id.to_bytes(),
                destination: to.node_id.to_bytes(),
                generation: identity.generation.0,
                counter: 1,
                swim: raw::gossip(identity, to, &[]).unwrap_or_default(),
                credential: one.credential.clone(),
                ..Default::default()
            };
            let nonce = member.rng.random();
            if let Some(bytes) = raw::seal(&packet, &one.key, &member.keyring, nonce) {
                sent += member.send_bytes(to.address.gossip(), &bytes).await;
            }
        }
        // The victim's socket has no room for all at once.
        member.run_until(Instant::now() + PAUSE).await;
    }
    sent
}
